//! The process shell that every daemon shares.
