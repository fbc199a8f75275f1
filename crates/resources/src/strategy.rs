//! What differs in behaviour between kinds, as pure functions of objects.

use api::schema::{Conformed, Schema, StructId, TypeMismatch};
use api::{ErrorList, Object};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::names;

/// The part of an object that a request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The main resource.
    Main,
    /// `/status`.
    Status,
    /// Another subresource that takes the whole object: `resize`,
    /// `ephemeralcontainers`, `approval`, `finalize`.
    Other(&'a str),
}

/// How long an object lives on after its deletion was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// Deleted at once (unless finalizers hold it).
    None,
    /// Somebody ends it and then deletes it for good, within this many seconds.
    Seconds(i64),
}

/// The behaviour of a kind. Objects arrive decoded, pruned and conformed to the
/// kind's schema; metadata common to all kinds is looked after elsewhere.
pub trait Strategy: Send + Sync + 'static {
    /// Brings decoded JSON into the kind's shape: what it does not have is removed
    /// and named.
    ///
    /// # Errors
    /// A value of the wrong type, where types are not left to [`Self::validate`].
    fn conform(
        &self,
        schema: &Schema,
        shape: StructId,
        object: &mut Map<String, Value>,
    ) -> Result<Conformed, TypeMismatch> {
        api::schema::conform(schema, shape, object)
    }

    /// Fills in what the client left to the server.
    fn default(&self, _object: &mut Object) {}

    /// Removes what a client may not set when it creates, and sets what the
    /// server owns, such as the first generation.
    fn prepare_create(&self, _object: &mut Object) {}

    /// Keeps what the written part may not change from the old object: a write
    /// to the main resource keeps the status, one to the status all the rest.
    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        crate::metadata::keep_other_parts(part, new, old);
    }

    /// Rules for the object by itself.
    fn validate(&self, _object: &Object) -> ErrorList {
        ErrorList::new()
    }

    /// Rules for a new object, beside those of [`Self::validate`], that an update asks
    /// as part of [`Self::validate_update`].
    fn validate_create(&self, _object: &Object) -> ErrorList {
        ErrorList::new()
    }

    /// Rules for a change; those of [`Self::validate`] are not included: they are
    /// asked separately for a write to the main resource.
    fn validate_update(&self, _part: Part<'_>, _new: &Object, _old: &Object) -> ErrorList {
        ErrorList::new()
    }

    /// Advice for the client on what it wrote; `old` is absent on a create.
    fn warnings(&self, _new: &Object, _old: Option<&Object>) -> Vec<String> {
        Vec::new()
    }

    /// Why a name is none for this kind; `prefix` asks about a generateName.
    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns_subdomain(name, prefix)
    }

    /// How a deletion with `asked` seconds of grace treats the object.
    fn grace(&self, _object: &Object, _asked: Option<i64>) -> Grace {
        Grace::None
    }

    /// Whether something besides `metadata.finalizers` keeps a terminating object
    /// from going, such as a namespace's own finalizers.
    fn is_held(&self, _object: &Object) -> bool {
        false
    }

    /// What changes in an object when its deletion begins.
    fn prepare_delete(&self, _object: &mut Object) {}

    /// Whether an update of an absent object creates it.
    fn creates_on_update(&self) -> bool {
        false
    }

    /// Whether an update without a resource version is taken.
    fn updates_unconditionally(&self) -> bool {
        true
    }

    /// Fields besides name and namespace that a field selector can name, with
    /// the object's values, in an order that is the same for every object.
    fn selectable(&self, _object: &Object) -> Vec<(&str, String)> {
        Vec::new()
    }

    /// The names of selectable fields in selectors, known without an object.
    fn selectable_names(&self) -> Vec<&str> {
        Vec::new()
    }

    /// What tells objects that were stored in this very version, by the rules of today:
    /// they are shown as they are stored, though the kind [converts](Self::converts).
    fn form(&self) -> Option<&str> {
        None
    }

    /// What a field of a selector is called among [`Self::selectable`].
    fn stored_field<'n>(&self, name: &'n str) -> std::borrow::Cow<'n, str> {
        name.into()
    }

    /// The cells of the object's row, one per column of the descriptor.
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), crate::metadata::age(object, now).into()]
    }

    /// Turns the stored form into this version's form, where several versions
    /// share a stored form.
    #[expect(clippy::wrong_self_convention, reason = "the object is converted, not the strategy")]
    fn from_stored(&self, _object: &mut Object) {}

    /// The opposite of [`Self::from_stored`].
    fn to_stored(&self, _object: &mut Object) {}

    /// Whether [`Self::from_stored`] changes anything.
    fn converts(&self) -> bool {
        false
    }

    /// Whether strategic merge patches are taken.
    fn merges_strategically(&self) -> bool {
        true
    }

    /// The OpenAPI schema of the kind, in JSON, where it does not follow from its shape.
    fn document(&self) -> Option<&str> {
        None
    }
}
