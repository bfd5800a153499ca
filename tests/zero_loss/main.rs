//! Zero lost requests: every kind of client, over many switches, with nginx on the host and in a container.
//!
//! Both colours run, and the library switches, proves and drains. Whole deploys by the command are in `deploys`.
//! `scripts/test` runs a short pass of it, `scripts/zero-loss` as many switches as it is told.

#![allow(clippy::print_stderr, reason = "figures that were measured, shown with --no-capture")]

mod clients;
mod deploys;
#[path = "../e2e/stage.rs"]
mod e2e;
mod stage;
mod switches;

/// How many, as `scripts/zero-loss` says, or few.
#[expect(clippy::disallowed_methods, reason = "a script says how long the tests run")]
fn count(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}
