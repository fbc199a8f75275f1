//! Pod workers: one task per pod, which decides by pure functions and acts.
//!
//! The diagram of a pod's stages is in [`stage`].

pub mod hooks;
pub mod plan;
pub mod pods;
pub mod stage;
mod start;
mod stop;
pub mod task;
#[cfg(test)]
pub(crate) mod tests;
