//! `matchPolicy: Equivalent`: who wants to see a kind in one version sees its writes in
//! the others too, turned into that version.

use std::sync::Arc;

use api::{Object, Status};
use resources::Descriptor;

use super::{Late, Request};
use crate::conversion::Converter;

/// As which kind a request is shown.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// As it is.
    Own,
    /// As another version of its kind.
    Other(Arc<Descriptor>),
}

/// Turns requests into those for other versions of their kinds.
#[derive(Clone)]
pub(super) struct Equivalents {
    converter: Arc<Converter>,
}

impl Equivalents {
    pub(super) const fn new(converter: Arc<Converter>) -> Self {
        Self { converter }
    }

    /// A request as another version of its kind has it.
    ///
    /// # Errors
    /// An object cannot be converted.
    pub(super) async fn request<'r>(
        &self,
        of: &Request<'r>,
        kind: &'r Descriptor,
    ) -> Result<Request<'r>, Status> {
        let object = self.part(of, (of.kind, kind), of.object.clone()).await?;
        let old = self.part(of, (of.kind, kind), of.old.clone()).await?;
        Ok(Request {
            kind,
            requested: Some(of.kind),
            subresource: of.subresource,
            operation: of.operation,
            namespace: of.namespace,
            name: of.name,
            caller: of.caller,
            object,
            old,
            dry_run: of.dry_run,
            warnings: Vec::new(),
            late: Late::default(),
        })
    }

    /// [`Self::request`], made once among `known`.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn among<'k, 'r>(
        &self,
        known: &'k mut Vec<Request<'r>>,
        of: &Request<'r>,
        kind: &'r Descriptor,
    ) -> Result<&'k Request<'r>, Status> {
        let found = known.iter().position(|one| one.kind.api_version() == kind.api_version());
        let at = match found {
            Some(at) => at,
            None => {
                known.push(self.request(of, kind).await?);
                known.len() - 1
            }
        };
        Ok(&known[at])
    }

    /// Takes over what became of the object of a request that was turned.
    ///
    /// # Errors
    /// It cannot be turned back.
    pub(super) async fn take_back(
        &self,
        request: &mut Request<'_>,
        turned: Request<'_>,
    ) -> Result<(), Status> {
        let object = self.part(request, (turned.kind, request.kind), turned.object).await?;
        request.object = object;
        request.warnings.extend(turned.warnings);
        request.late.is_changed |= turned.late.is_changed;
        Ok(())
    }

    /// An object of a request between two versions; what is no object of the kind, such as
    /// a scale or a connection's options, is the same in all of them.
    async fn part(
        &self,
        request: &Request<'_>,
        (from, to): (&Descriptor, &Descriptor),
        object: Option<Object>,
    ) -> Result<Option<Object>, Status> {
        let part = from.subresource(request.subresource);
        let is_of_kind = part.is_none_or(|part| part.group_version.is_none() && part.kind == from.kind);
        let Some(mut object) = object else { return Ok(None) };
        if !is_of_kind {
            return Ok(Some(object));
        }
        object = self.converter.object(from, object, &to.api_version()).await?;
        from.strategy.to_stored(&mut object);
        to.strategy.from_stored(&mut object);
        object.set("apiVersion", to.api_version());
        Ok(Some(object))
    }
}
