//! The one runtime under every control loop.
