//! Between etcd's messages and the store's types.

use super::error::{no_key, unsupported};
use crate::types::key_end;
use crate::{
    Compare, KeyValue, Operation, OperationResult, RangeRequest, RangeResponse, Relation, Target, Txn,
    TxnResponse,
};
use bytes::Bytes;
use std::cmp::Ordering;
use tonic::Status;
use wire::etcd::{etcdserverpb as pb, mvccpb};

/// What an operation of the request asked for, so that its result can be shown as etcd does.
pub(super) enum Shape {
    Range(Box<pb::RangeRequest>),
    Put,
    /// A read of the previous value and the put itself.
    PutWithPrevious,
    Delete {
        with_previous: bool,
    },
}

/// The shapes of both branches.
pub(super) struct Plan {
    success: Vec<Shape>,
    failure: Vec<Shape>,
}

/// etcd counts in signed numbers.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// etcd's range end: nothing is one key, a zero byte is no end.
fn end(key: &Bytes, range_end: &Bytes) -> Bytes {
    match &range_end[..] {
        [] => key_end(key),
        [0] => Bytes::new(),
        _ => range_end.clone(),
    }
}

fn is_filtered(request: &pb::RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn is_sorted(request: &pb::RangeRequest) -> bool {
    let is_key = request.sort_target() == pb::range_request::SortTarget::Key;
    match request.sort_order() {
        pb::range_request::SortOrder::None => !is_key,
        pb::range_request::SortOrder::Ascend => !is_key,
        pb::range_request::SortOrder::Descend => true,
    }
}

/// What to read so that the answer can be made of it.
pub(super) fn range(request: &pb::RangeRequest) -> Result<RangeRequest, Status> {
    if request.key.is_empty() {
        return Err(no_key());
    }
    let needs_all = is_filtered(request) || is_sorted(request);
    let limit = match () {
        () if request.count_only => 1,
        () if needs_all => 0,
        () => usize::try_from(request.limit).unwrap_or(0),
    };
    let needs_values = is_sorted(request) && request.sort_target() == pb::range_request::SortTarget::Value;
    Ok(RangeRequest {
        start: request.key.clone(),
        end: end(&request.key, &request.range_end),
        limit,
        revision: unsigned(request.revision),
        keys_only: (request.keys_only && !needs_values) || request.count_only,
    })
}

/// The answer to a range request.
pub(super) fn range_response(
    request: &pb::RangeRequest,
    found: RangeResponse,
    header: Option<pb::ResponseHeader>,
) -> pb::RangeResponse {
    let count = signed(found.count);
    if request.count_only {
        return pb::RangeResponse { header, count, ..pb::RangeResponse::default() };
    }
    let mut more = found.more;
    let mut kvs = found.kvs;
    if is_filtered(request) {
        let within = |number: u64, min: i64, max: i64| {
            (min == 0 || number >= unsigned(min)) && (max == 0 || number <= unsigned(max))
        };
        kvs.retain(|kv| {
            within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
                && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
        });
    }
    if is_sorted(request) {
        kvs.sort_by(|a, b| compare_by(request.sort_target(), a, b));
        if request.sort_order() == pb::range_request::SortOrder::Descend {
            kvs.reverse();
        }
    }
    let limit = usize::try_from(request.limit).unwrap_or(0);
    if limit > 0 && kvs.len() > limit {
        kvs.truncate(limit);
        more = true;
    }
    let kvs = kvs
        .into_iter()
        .map(|kv| {
            let mut kv = key_value(kv);
            if request.keys_only {
                kv.value = Bytes::new();
            }
            kv
        })
        .collect();
    pb::RangeResponse { header, kvs, more, count }
}

fn compare_by(target: pb::range_request::SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    use pb::range_request::SortTarget;
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}

fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: signed(kv.create_revision),
        mod_revision: signed(kv.mod_revision),
        version: signed(kv.version),
        value: kv.value,
        lease: signed(kv.lease),
    }
}

/// The operations that a put takes.
pub(super) fn put(request: pb::PutRequest) -> Result<Vec<Operation>, Status> {
    if request.key.is_empty() {
        return Err(no_key());
    }
    if request.ignore_value || request.ignore_lease {
        return Err(unsupported("a put that keeps the value or the lease"));
    }
    let mut operations = Vec::with_capacity(2);
    if request.prev_kv {
        operations.push(Operation::get(request.key.clone()));
    }
    operations.push(Operation::Put {
        key: request.key,
        value: request.value,
        lease: unsigned(request.lease),
    });
    Ok(operations)
}

/// The key that was there before a put that asked for it.
pub(super) fn previous(results: Vec<OperationResult>) -> Option<mvccpb::KeyValue> {
    results.into_iter().find_map(|result| match result {
        OperationResult::Range(found) => found.kvs.into_iter().next().map(key_value),
        _ => None,
    })
}

/// A deletion.
pub(super) fn delete(request: pb::DeleteRangeRequest) -> Result<Operation, Status> {
    if request.key.is_empty() {
        return Err(no_key());
    }
    let end = end(&request.key, &request.range_end);
    Ok(Operation::Delete { start: request.key, end })
}

/// The answer to a deletion.
pub(super) fn delete_response(result: OperationResult, with_previous: bool) -> pb::DeleteRangeResponse {
    let OperationResult::Delete { deleted } = result else {
        return pb::DeleteRangeResponse::default();
    };
    let count = signed(deleted.len() as u64);
    let prev_kvs = match with_previous {
        true => deleted.into_iter().map(key_value).collect(),
        false => Vec::new(),
    };
    pb::DeleteRangeResponse { header: None, deleted: count, prev_kvs }
}

/// A transaction, and how to show its results.
pub(super) fn txn(request: pb::TxnRequest) -> Result<(Txn, Plan), Status> {
    let compare = request.compare.into_iter().map(compare).collect::<Result<_, _>>()?;
    let (success, success_shapes) = branch(request.success)?;
    let (failure, failure_shapes) = branch(request.failure)?;
    let plan = Plan { success: success_shapes, failure: failure_shapes };
    Ok((Txn { compare, success, failure }, plan))
}

fn branch(requests: Vec<pb::RequestOp>) -> Result<(Vec<Operation>, Vec<Shape>), Status> {
    use pb::request_op::Request;
    let mut operations = Vec::with_capacity(requests.len());
    let mut shapes = Vec::with_capacity(requests.len());
    for request in requests {
        match request.request {
            Some(Request::RequestRange(request)) => {
                operations.push(Operation::Range(range(&request)?));
                shapes.push(Shape::Range(Box::new(request)));
            }
            Some(Request::RequestPut(request)) => {
                let shape = if request.prev_kv { Shape::PutWithPrevious } else { Shape::Put };
                shapes.push(shape);
                operations.extend(put(request)?);
            }
            Some(Request::RequestDeleteRange(request)) => {
                shapes.push(Shape::Delete { with_previous: request.prev_kv });
                operations.push(delete(request)?);
            }
            Some(Request::RequestTxn(_)) => return Err(unsupported("a transaction in a transaction")),
            None => return Err(no_key()),
        }
    }
    Ok((operations, shapes))
}

fn compare(request: pb::Compare) -> Result<Compare, Status> {
    use pb::compare::TargetUnion;
    if request.key.is_empty() {
        return Err(no_key());
    }
    let relation = match request.result() {
        pb::compare::CompareResult::Equal => Relation::Equal,
        pb::compare::CompareResult::NotEqual => Relation::NotEqual,
        pb::compare::CompareResult::Greater => Relation::Greater,
        pb::compare::CompareResult::Less => Relation::Less,
    };
    let number =
        |number: i64| u64::try_from(number).map_err(|_| unsupported("a comparison with a negative number"));
    let default = request.target();
    let target = match (request.target_union, default) {
        (Some(TargetUnion::Version(version)), _) => Target::Version(number(version)?),
        (Some(TargetUnion::CreateRevision(revision)), _) => Target::CreateRevision(number(revision)?),
        (Some(TargetUnion::ModRevision(revision)), _) => Target::ModRevision(number(revision)?),
        (Some(TargetUnion::Value(value)), _) => Target::Value(value),
        (Some(TargetUnion::Lease(lease)), _) => Target::Lease(number(lease)?),
        (None, pb::compare::CompareTarget::Version) => Target::Version(0),
        (None, pb::compare::CompareTarget::Create) => Target::CreateRevision(0),
        (None, pb::compare::CompareTarget::Mod) => Target::ModRevision(0),
        (None, pb::compare::CompareTarget::Value) => Target::Value(Bytes::new()),
        (None, pb::compare::CompareTarget::Lease) => Target::Lease(0),
    };
    let end = end(&request.key, &request.range_end);
    Ok(Compare::Field { start: request.key, end, relation, target })
}

/// The answer to a transaction.
pub(super) fn txn_response(
    response: TxnResponse,
    plan: Plan,
    header: Option<pb::ResponseHeader>,
) -> pb::TxnResponse {
    use pb::response_op::Response;
    let shapes = if response.succeeded { plan.success } else { plan.failure };
    let mut results = response.results.into_iter();
    let mut responses = Vec::with_capacity(shapes.len());
    for shape in shapes {
        let Some(result) = results.next() else { break };
        let shown = match shape {
            Shape::Range(request) => {
                let OperationResult::Range(found) = result else { break };
                Response::ResponseRange(range_response(&request, found, header))
            }
            Shape::Put => Response::ResponsePut(pb::PutResponse { header, prev_kv: None }),
            Shape::PutWithPrevious => {
                let prev_kv = previous(vec![result]);
                results.next();
                Response::ResponsePut(pb::PutResponse { header, prev_kv })
            }
            Shape::Delete { with_previous } => {
                let response = delete_response(result, with_previous);
                Response::ResponseDeleteRange(pb::DeleteRangeResponse { header, ..response })
            }
        };
        responses.push(pb::ResponseOp { response: Some(shown) });
    }
    pb::TxnResponse { header, succeeded: response.succeeded, responses }
}
