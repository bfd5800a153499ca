//! The `bluegreen` command: a thin shell around `bluegreen-core`.
//!
//! It reads what was typed, what is configured and what the environment says, hands it to the core, and prints
//! what comes back. Everything that decides anything about a deployment is in the core.

#![allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "texts for people are built piece by piece; one allocation more is nothing here, and it reads better"
)]

mod args;
mod bounded;
mod commands;
mod config;
mod duration;
mod env;
mod exit;
mod explain;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod inputs;
mod nearest;
mod output;
mod ports;
mod settings;
mod signal;
mod size;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

/// The whole command: reads the process's arguments and environment and says how it ends.
pub fn run() -> ExitCode {
    match args::Cli::try_parse_from(env::arguments()) {
        Ok(cli) => commands::execute(cli, env::Environment::read()).into(),
        Err(error) => {
            // Help and version are no errors; a reader that has gone away is none either.
            error.print().ok();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit::Exit::Success.into(),
                _ => exit::Exit::Usage.into(),
            }
        }
    }
}
