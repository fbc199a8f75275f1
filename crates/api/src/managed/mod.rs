//! Who owns which field: `metadata.managedFields`, and the server-side apply
//! that is built on it, after structured-merge-diff's rules.
//!
//! It knows schemas, not kinds, and no clock: the caller says what time it is.
//! Start reading in [`Ownership`], then [`FieldSet`] for what a set of fields is.

mod apply;
mod atom;
mod compare;
mod entry;
mod merge;
mod overlay;
mod ownership;
mod remove;
mod set;
#[cfg(test)]
mod tests;

pub use apply::{Applied, ApplyError, Conflict};
pub use entry::{Entry, Identity, Operation};
pub use overlay::{OverlayError, overlay};
pub use ownership::{Ownership, Typed};
pub use set::FieldSet;
