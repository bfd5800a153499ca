//! The real command against a real Docker Engine, a real nginx and a real registry.
//!
//! Each test makes its own stage and leaves nothing behind. None runs without Docker: `./scripts/test` runs them.

mod stage;

mod main_job;
mod nginx_verbs;
