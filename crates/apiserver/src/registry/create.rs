//! Create.

use api::{Object, Reason, Status};
use resources::metadata;
use store::{Compare, Operation, Txn};

use super::owners::Owners;
use super::{Address, Caller, Registry, Written, store_failed};
use crate::admission::{Late, Operation as Admitted, Request};

/// Tries for a free generated name, and for companions that others took.
const ATTEMPTS: u32 = 8;
/// The longest prefix of a generated name.
const MAX_PREFIX: usize = 63 - 5;

/// How a create is done.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Everything but the store.
    pub dry_run: bool,
    /// What happens to the owners of fields.
    pub owners: Owners,
}

impl Registry {
    /// Creates an object.
    ///
    /// # Errors
    /// Why the object is refused, or why it cannot be stored.
    pub async fn create(
        &self,
        caller: &Caller,
        mut address: Address,
        mut object: Object,
        options: &CreateOptions,
        mut warnings: Vec<String>,
    ) -> Result<Written, Status> {
        let kind = address.kind.clone();
        if object.kind().is_empty() {
            // The server's own objects come without.
            object.set("apiVersion", kind.api_version());
            object.set("kind", kind.kind.as_str());
        }
        self.fill_metadata(&mut address, &mut object)?;
        kind.strategy.default(&mut object);
        if options.owners != Owners::Settled {
            self.track(&kind, caller, "", None, &mut object);
        }
        let mut request = Request {
            kind: &kind,
            requested: None,
            subresource: "",
            operation: Admitted::Create,
            namespace: &address.namespace,
            name: &address.name.clone(),
            caller,
            object: Some(object),
            old: None,
            dry_run: options.dry_run,
            warnings: Vec::new(),
            late: Late::default(),
        };
        self.admission.mutate(&mut request).await?;
        if let Some(object) = &mut request.object {
            kind.strategy.prepare_create(object);
        }
        let template = request.object.take().ok_or_else(|| Status::internal("admission lost the object"))?;
        let generated = !template.text(&["metadata", "generateName"]).is_empty();
        for attempt in 0..ATTEMPTS {
            let mut object = template.clone();
            if attempt > 0 && generated {
                address.name = generate_name(template.text(&["metadata", "generateName"]));
                object.set_at(&["metadata", "name"], address.name.as_str());
            }
            let companions = self.companions(&kind, None, Some(&mut object), attempt).await?;
            self.check_new(&address, &object)?;
            request.object = Some(object);
            self.admission.validate(&mut request).await?;
            let charge = self.charge(&request).await?;
            let object =
                request.object.take().ok_or_else(|| Status::internal("admission lost the object"))?;
            if attempt == 0 {
                warnings.extend(kind.strategy.warnings(&object, None));
                warnings.append(&mut request.warnings);
            }
            let key = address.key();
            let value = self.encode_value(&kind, &object).await?;
            if options.dry_run {
                if self.cached(&address).is_some() {
                    return Err(Status::already_exists(&kind.group, &kind.resource, &address.name));
                }
                return Ok(Written { json: object.to_vec().into(), revision: 0, warnings, created: true });
            }
            let has_companions = !companions.compare.is_empty() || !charge.compare.is_empty();
            let mut compare = vec![Compare::absent(key.clone())];
            compare.extend(companions.compare.into_iter().chain(charge.compare));
            let mut success = vec![Operation::put(key.clone(), value.clone())];
            success.extend(companions.operations.into_iter().chain(charge.operations));
            // On failure, learn whether it was the name or a companion.
            let failure = vec![Operation::get(key.clone())];
            let outcome = self
                .store
                .txn(Txn { compare, success, failure })
                .await
                .map_err(|error| store_failed(&error))?;
            if outcome.succeeded {
                let json = self.show(&kind, &key, &value, outcome.revision).await?;
                return Ok(Written { json, revision: outcome.revision, warnings, created: true });
            }
            let taken = matches!(outcome.results.first(), Some(store::OperationResult::Range(found)) if !found.kvs.is_empty());
            if taken && !generated || !taken && !has_companions {
                return Err(Status::already_exists(&kind.group, &kind.resource, &address.name));
            }
        }
        Err(all_taken(&address, generated))
    }

    fn fill_metadata(&self, address: &mut Address, object: &mut Object) -> Result<(), Status> {
        if !object.as_map().get("metadata").is_some_and(serde_json::Value::is_object) {
            object.set("metadata", serde_json::Map::new());
        }
        settle_namespace(address, object)?;
        if !object.resource_version().is_empty() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            object.remove_at(&["metadata", field]);
        }
        if object.name().is_empty() {
            let prefix = object.text(&["metadata", "generateName"]);
            if !prefix.is_empty() {
                let name = generate_name(prefix);
                object.set_at(&["metadata", "name"], name);
            }
        }
        object.name().clone_into(&mut address.name);
        object.set_at(&["metadata", "uid"], uuid::Uuid::new_v4().to_string());
        object.set_at(&["metadata", "creationTimestamp"], api::time::format(self.clock.now()));
        Ok(())
    }

    fn check_new(&self, address: &Address, object: &Object) -> Result<(), Status> {
        let kind = &address.kind;
        let mut errors = metadata::validate(kind, object);
        errors.extend(kind.strategy.validate(object));
        errors.extend(kind.strategy.validate_create(object));
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Status::invalid(&kind.group, &kind.kind, object.name(), &errors))
        }
    }
}

/// Every name, or every address, that was tried is somebody else's.
fn all_taken(address: &Address, generated: bool) -> Status {
    if !generated {
        return Status::new(
            Reason::ServerTimeout,
            "others changed the addresses or quotas that it needs at every try, try again",
        );
    }
    let resource = address.kind.qualified_resource();
    let message = format!(
        "{resource} {:?} already exists, the server was not able to generate a unique name for the object",
        address.name
    );
    Status::new(Reason::AlreadyExists, message)
}

/// Brings the namespace of the path and of the object together.
pub(super) fn settle_namespace(address: &mut Address, object: &mut Object) -> Result<(), Status> {
    if !address.kind.namespaced {
        if !object.namespace().is_empty() {
            object.remove_at(&["metadata", "namespace"]);
        }
        return Ok(());
    }
    if object.namespace().is_empty() {
        object.set_at(&["metadata", "namespace"], address.namespace.as_str());
    } else if object.namespace() != address.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// A prefix and a random suffix.
pub(super) fn generate_name(prefix: &str) -> String {
    let prefix: String = prefix.chars().take(MAX_PREFIX).collect();
    format!("{prefix}{}", random_suffix())
}

/// Five letters and digits, without vowels.
#[must_use]
pub fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}
