//! Webhooks over real TLS: of admission, and of conversion.

mod admission;
mod conversion;
mod equivalent;
mod server;
