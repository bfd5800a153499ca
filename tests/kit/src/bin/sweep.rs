//! `sweep`: removes what test runs left that were killed before they could clean up; with `--all` also what
//! live runs use and the shared nginx images.

use std::process::ExitCode;

fn main() -> ExitCode {
    let swept = match std::env::args().nth(1).as_deref() {
        None => bluegreen_testkit::sweep(),
        Some("--all") => bluegreen_testkit::sweep().and_then(|()| bluegreen_testkit::docker::sweep_all()),
        Some(_) => {
            eprintln!("usage: sweep [--all]");
            return ExitCode::from(2);
        }
    };
    match swept {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sweep: {error}");
            ExitCode::FAILURE
        }
    }
}
