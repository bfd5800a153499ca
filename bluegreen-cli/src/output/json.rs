//! Events for machines: JSON Lines on stdout, each with the version of its format.

use bluegreen_core::event::{Event, Observer};
use serde::Serialize;

use super::Out;

/// The version of everything that is written as JSON. It changes when a reader would misread.
pub(super) const VERSION: u32 = 1;

/// Prints events as JSON.
#[derive(Debug)]
pub(super) struct Json {
    out: Out,
}

#[derive(Serialize)]
struct Line<'e> {
    version: u32,
    #[serde(flatten)]
    event: &'e Event,
}

impl Json {
    pub(super) fn new(out: Out) -> Self {
        Self { out }
    }
}

impl Observer for Json {
    fn on_event(&self, event: &Event) {
        // A value that cannot be written as JSON is a lost event, which is allowed.
        if let Ok(line) = serde_json::to_string(&Line { version: VERSION, event }) {
            self.out.event(&line);
        }
    }
}

/// What a machine is told of lines that had to go, as nobody read them.
pub(super) fn unread(lines: u64) -> String {
    format!("{{\"version\":{VERSION},\"event\":\"missing\",\"lines\":{lines}}}\n")
}
