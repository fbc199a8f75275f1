//! The replicated multi-version key-value store.
