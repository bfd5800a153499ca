//! The nginx adapter against a real nginx of this host, in a directory of its own.
#![cfg(all(feature = "nginx", feature = "testing"))]
#![expect(clippy::unwrap_used, reason = "a test's helper fails by panicking")]
#![expect(clippy::print_stderr, reason = "figures that were measured, shown with --no-capture")]

mod adopt;
mod client;
mod earlier;
mod live;
mod other_sites;
mod rewrite;
mod rig;
mod sites;
mod ways;
