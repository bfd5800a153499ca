//! Programs that print tables, not tests: `scripts/zero-loss --matrix` and `scripts/foreign-load` run them.
//!
//! - `matrix`: nginx 1.18, 1.22, 1.26, 1.30 x host, container x live, reload, as Markdown.
//! - `foreign`: wrk, ab and oha over live switches, and over plain reloads as their control.
//!
//! Both end with 1 when a cell that must be zero is not, or when a control saw nothing.

#![allow(
    clippy::disallowed_methods,
    reason = "a program that measures: it reads its environment and the clock"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tables are what it is for")]

#[path = "../tests/zero_loss/clients.rs"]
#[allow(dead_code, reason = "shared with the suite, which uses all of it")]
mod clients;
#[path = "../tests/zero_loss/foreign.rs"]
mod foreign;
#[path = "../tests/zero_loss/matrix.rs"]
mod matrix;
#[path = "../tests/zero_loss/stage.rs"]
#[allow(dead_code, reason = "shared with the suite, which uses all of it")]
mod stage;

use std::process::ExitCode;

fn main() -> ExitCode {
    let switches = std::env::var("ZERO_LOSS_SWITCHES").ok().and_then(|text| text.parse().ok());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    // cargo adds `--bench`.
    let problems = match std::env::args().nth(1).as_deref() {
        Some("matrix") => runtime.block_on(matrix::run(switches.unwrap_or(30))),
        Some("foreign") => runtime.block_on(foreign::run(switches.unwrap_or(100))),
        _ => {
            eprintln!("nothing to do: scripts/zero-loss --matrix and scripts/foreign-load run this");
            return ExitCode::SUCCESS;
        }
    };
    for problem in &problems {
        eprintln!("{problem}");
    }
    ExitCode::from(u8::from(!problems.is_empty()))
}
