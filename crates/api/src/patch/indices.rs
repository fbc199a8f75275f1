//! Places in lists counted from the end, `/a/-1`: RFC 6902 has none, but upstream's
//! library takes them, so clients send them.

use json_patch::PatchOperation;
use json_patch::jsonptr::{Pointer, PointerBuf, Token};
use serde_json::Value;

/// The operation with all places counted from the front; nothing if it is that already.
pub(super) fn from_front(target: &Value, operation: &PatchOperation) -> Option<PatchOperation> {
    let from = match operation {
        PatchOperation::Move(one) => Some(&one.from),
        PatchOperation::Copy(one) => Some(&one.from),
        _ => None,
    };
    if !may_count_back(operation.path()) && !from.is_some_and(|from| may_count_back(from)) {
        return None;
    }
    let mut operation = operation.clone();
    // An addition can be one past the end.
    let is_changed = match &mut operation {
        PatchOperation::Add(one) => resolve(target, &mut one.path, 1),
        PatchOperation::Remove(one) => resolve(target, &mut one.path, 0),
        PatchOperation::Replace(one) => resolve(target, &mut one.path, 0),
        PatchOperation::Test(one) => resolve(target, &mut one.path, 0),
        PatchOperation::Move(one) => resolve(target, &mut one.from, 0) | resolve(target, &mut one.path, 1),
        PatchOperation::Copy(one) => resolve(target, &mut one.from, 0) | resolve(target, &mut one.path, 1),
    };
    is_changed.then_some(operation)
}

/// Whether a path may count from the end: cheap, so that all others cost nothing.
fn may_count_back(path: &Pointer) -> bool {
    path.as_str().split('/').any(|token| token.len() > 1 && token.starts_with('-'))
}

fn resolve(target: &Value, path: &mut PointerBuf, room: usize) -> bool {
    let last = path.count();
    let mut place = Some(target);
    let mut resolved = PointerBuf::new();
    for (number, token) in path.tokens().enumerate() {
        let length = place.and_then(Value::as_array).map(Vec::len);
        let room = if number + 1 == last { room } else { 0 };
        let token =
            length.and_then(|length| index(&token, length + room)).unwrap_or_else(|| token.into_owned());
        place = place.and_then(|place| match place {
            Value::Object(object) => object.get(token.decoded().as_ref()),
            Value::Array(list) => list.get(token.encoded().parse::<usize>().ok()?),
            _ => None,
        });
        resolved.push_back(token);
    }
    let is_changed = *path != resolved;
    *path = resolved;
    is_changed
}

fn index(token: &Token<'_>, length: usize) -> Option<Token<'static>> {
    let back: usize = token.encoded().strip_prefix('-')?.parse().ok()?;
    length.checked_sub(back).filter(|_| back > 0).map(|index| Token::from(index).into_owned())
}
