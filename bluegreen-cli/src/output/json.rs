//! Events for machines: JSON Lines on stdout, each with the version of its format.

use bluegreen_core::event::{Event, Observer};
use serde::Serialize;

use super::Out;

/// The version of everything that is written as JSON. It changes when a reader would misread.
pub(super) const VERSION: u32 = 2;

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

fn line(event: &Event) -> serde_json::Result<String> {
    serde_json::to_string(&Line { version: VERSION, event })
}

impl Json {
    pub(super) fn new(out: Out) -> Self {
        Self { out }
    }
}

impl Observer for Json {
    fn on_event(&self, event: &Event) {
        // A value that cannot be written as JSON is a lost event, which is allowed.
        if let Ok(line) = line(event) {
            self.out.event(&line);
        }
    }
}

/// What a machine is told of lines that had to go, as nobody read them.
pub(super) fn unread(lines: u64) -> String {
    format!("{{\"version\":{VERSION},\"event\":\"missing\",\"lines\":{lines}}}\n")
}

#[cfg(test)]
mod tests {
    use bluegreen_core::model::AppName;
    use bluegreen_core::plan::Step;

    use super::*;

    #[test]
    fn events_are_what_their_schema_says() {
        let begun = Event::Begun {
            deployment: "d-1".parse().unwrap(),
            app: AppName::new("web").unwrap(),
            verb: bluegreen_core::state::Verb::Deploy,
            image: "r.io/web:2".into(),
            candidate: bluegreen_core::model::Color::Green,
            previous: None,
        };
        let elapsed = std::time::Duration::from_millis(9);
        for event in [
            begun,
            Event::Waiting { holder: None },
            Event::StepStarted { step: Step::Pull, detail: String::new() },
            Event::StepSucceeded { step: Step::Pull, detail: String::new(), elapsed },
            Event::StepFailed { step: Step::Gate, error: "status 500".into() },
            Event::Draining { connections: 1, stale_workers: 0 },
            Event::Undoing { step: Step::Switch },
            Event::Undone { step: Step::Switch },
            Event::Warning { message: "look".into() },
        ] {
            crate::output::schema::assert_event(&serde_json::from_str(&line(&event).unwrap()).unwrap());
        }
    }
}
