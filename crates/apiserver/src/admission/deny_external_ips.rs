//! No service takes over an address that the cluster does not own (upstream's
//! `DenyServiceExternalIPs`; off unless it is asked for). Those that have one keep
//! it, and can give it up.

use std::collections::HashSet;

use api::{Object, Status};
use futures::future::BoxFuture;
use serde_json::Value;

use super::{Operation, Plugin, Request};

pub(super) struct DenyServiceExternalIps;

impl Plugin for DenyServiceExternalIps {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let changes = matches!(request.operation, Operation::Create | Operation::Update);
            let Some(new) = request.object.as_ref().filter(|_| changes && request.is("", "services", ""))
            else {
                return Ok(());
            };
            let before: HashSet<&Value> = request.old.iter().flat_map(addresses).collect();
            if addresses(new).all(|address| before.contains(address)) {
                return Ok(());
            }
            Err(request.forbidden("Use of external IPs is denied by admission control."))
        })
    }
}

fn addresses(service: &Object) -> impl Iterator<Item = &Value> {
    service.at(&["spec", "externalIPs"]).and_then(Value::as_array).into_iter().flatten()
}
