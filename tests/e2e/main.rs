//! The real command against a real Docker Engine, a real nginx and a real registry.
//!
//! Each test makes its own stage and leaves nothing behind. None runs without Docker: `./scripts/test` runs them.

mod luck;
mod stage;

mod bad_luck_app;
mod bad_luck_host;
mod bad_luck_nginx;
mod interrupted;
mod main_job;
mod memory;
mod outputs;
