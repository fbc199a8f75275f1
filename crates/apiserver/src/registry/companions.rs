//! Keys that are written in the same transaction as an object: addresses and
//! ports that a service takes, so that two servers can never give out the same.

use api::{Object, Status};
use futures::future::BoxFuture;
use resources::Descriptor;
use store::{Compare, Operation};

/// What goes along with a write.
#[derive(Debug, Default)]
pub struct Companions {
    /// Must hold, or the write is planned again.
    pub compare: Vec<Compare>,
    /// Written with the object.
    pub operations: Vec<Operation>,
}

/// Plans companions for the kinds that have them.
pub trait Planner: Send + Sync + 'static {
    /// Whether it has to do with a kind.
    fn concerns(&self, kind: &Descriptor) -> bool;

    /// Plans for a change from `old` to `new`, filling in what it allocates.
    /// `attempt` counts plans that others beat to it.
    ///
    /// # Errors
    /// What cannot be allocated.
    fn plan<'a>(
        &'a self,
        old: Option<&'a Object>,
        new: Option<&'a mut Object>,
        attempt: u32,
    ) -> BoxFuture<'a, Result<Companions, Status>>;
}

impl super::Registry {
    pub(super) async fn companions(
        &self,
        kind: &Descriptor,
        old: Option<&Object>,
        mut new: Option<&mut Object>,
        attempt: u32,
    ) -> Result<Companions, Status> {
        let mut all = Companions::default();
        for planner in self.planners.iter().filter(|planner| planner.concerns(kind)) {
            let planned = planner.plan(old, new.as_deref_mut(), attempt).await?;
            all.compare.extend(planned.compare);
            all.operations.extend(planned.operations);
        }
        Ok(all)
    }
}
