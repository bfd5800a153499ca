//! The real command against a real Docker Engine, a real nginx and a real registry.
//!
//! Each test makes its own stage and leaves nothing behind. None runs without Docker: `./scripts/test` runs them.

#![allow(clippy::disallowed_methods, reason = "a test writes its own files and waits by the clock")]

mod api;
mod ecr_stage;
mod script_stage;
mod stage;
mod walk;

mod credentials;
mod drain;
mod main_job;
mod memory;
mod neighbours;
mod nginx_verbs;
mod other_registries;
mod other_sites;
mod pull;
mod receipt;
mod registry;
mod script_compat;
mod script_drop_in;
mod script_refusals;
mod warm;

mod luck;
mod nginx_life;
mod rounds;

mod bad_luck_app;
mod bad_luck_host;
mod bad_luck_nginx;
mod cancel;
mod clock;
mod cut_off;
mod displaced;
mod doctor;
mod emergency;
mod engine;
mod foreseen;
mod full_disk;
mod host;
mod init;
mod interrupted;
mod kill_storm;
mod killed;
mod nginx_killed;
mod outputs;
mod reboot;
mod said;
mod touches_nothing;
mod two_states;
mod typed;
mod unread;
mod walks;
