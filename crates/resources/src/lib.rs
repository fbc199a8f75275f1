//! The catalogue: one declaration per kind.
