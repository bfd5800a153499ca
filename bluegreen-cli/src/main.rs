//! The `bluegreen` command. See the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    bluegreen_cli::run()
}
