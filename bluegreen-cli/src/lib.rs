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
mod hook;
mod inputs;
mod nearest;
mod output;
mod ports;
mod settings;
mod signal;
mod size;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use clap::error::ErrorKind;

use exit::Exit;
use output::{Explained, Next, Out, Verdict};

/// How long the end of a command that changes something waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same of a command that only looks: somebody reads page by page, and a signal ends it.
const PATIENCE_OF_A_LOOK: Duration = Duration::from_hours(24);

/// The whole command: reads the process's arguments and environment and says how it ends.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = env::arguments().collect();
    let (exit, patience) = match args::Cli::try_parse_from(&arguments) {
        Ok(cli) => {
            let patience = if cli.command.changes() { PATIENCE } else { PATIENCE_OF_A_LOOK };
            (commands::execute(cli, env::Environment::read()), patience)
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // A reader that has gone away is no error.
            error.print().ok();
            (Exit::Success, PATIENCE)
        }
        Err(error) if wants_json(&arguments) => {
            (misused(&error).deliver(&Out::for_machines(), None), PATIENCE)
        }
        Err(error) => {
            error.print().ok();
            (Exit::Usage, PATIENCE)
        }
    };
    Out::finish(patience);
    exit.into()
}

/// Whether a machine reads the answer, as far as that can be told of what could not be understood.
fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().any(|argument| argument == "--output=json")
        || arguments.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json")
}

/// What was typed is no command of ours.
fn misused(error: &clap::Error) -> Verdict {
    let text = error.to_string();
    let (message, details) = text.split_once('\n').unwrap_or((&text, ""));
    let error = Explained {
        message: message.trim_start_matches("error: ").to_owned(),
        details: details.trim().to_owned(),
        ..Explained::default()
    };
    Verdict::failure("bluegreen", Exit::Usage, error, Some(Next::run(["bluegreen", "--help"])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_told_of_what_was_typed_wrong_in_its_own_form() {
        let typed = |words: &str| words.split(' ').map(OsString::from).collect::<Vec<_>>();
        for words in
            ["bluegreen deploy --output json --imag x", "bluegreen --output=json deploy --no-such-option"]
        {
            let words = typed(words);
            assert!(wants_json(&words));
            let error = args::Cli::try_parse_from(&words).unwrap_err();
            let said = misused(&error).json();
            assert_eq!((&said["exit_code"], &said["event"]), (&2.into(), &"report".into()));
            let message = said["cause"]["message"].as_str().unwrap();
            assert!(message.contains("unexpected argument"), "{message}");
            assert!(said["cause"]["details"].as_str().unwrap().contains("Usage: "), "{said:#}");
        }
        assert!(!wants_json(&typed("bluegreen deploy json --output human")));
    }
}
