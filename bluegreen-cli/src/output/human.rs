//! Progress for people: one line a step, and on a terminal a line that moves.

use std::sync::Mutex;
use std::time::Duration;

use bluegreen_core::event::{Event, Observer};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal::Terminal;
use super::{Out, plain};
use crate::duration;

/// Prints events as lines.
#[derive(Debug)]
pub(super) struct Human {
    out: Out,
    /// The moving line, on a terminal.
    bar: Mutex<Option<ProgressBar>>,
}

impl Human {
    pub(super) fn new(out: Out) -> Self {
        Self { out, bar: Mutex::new(None) }
    }

    /// Shows what goes on now, in place of what went on before.
    fn moving(&self, message: Option<String>) {
        if !self.out.progress {
            return;
        }
        let mut bar = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match message {
            Some(message) => {
                let bar = bar.get_or_insert_with(new_bar);
                bar.set_message(message);
            }
            None => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }

    fn line(&self, text: &str) {
        self.moving(None);
        self.out.mention(text);
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_draw_target(ProgressDrawTarget::term_like(Box::<Terminal>::default()));
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {wide_msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

impl Observer for Human {
    fn on_event(&self, event: &Event) {
        match event {
            Event::StepStarted { step, detail } => {
                if self.out.verbose {
                    self.line(&format!("  {step:<8} … {}", plain(detail)));
                }
                self.moving(Some(format!("{step:<8} {}", plain(detail))));
            }
            Event::Pulling { layers_done, layers, bytes, total_bytes } => self.moving(Some(format!(
                "pull     {layers_done}/{layers} layers, {} of {} MB",
                bytes / 1_000_000,
                total_bytes / 1_000_000
            ))),
            Event::Draining { connections, stale_workers } => {
                self.moving(Some(format!(
                    "drain    {connections} connections, {stale_workers} earlier workers"
                )));
            }
            // It is part of the verdict, which comes last and is kept.
            Event::Receipt { .. } => {}
            Event::Warning { message } => {
                self.moving(None);
                self.out.warn(message);
            }
            // A reason that changes at every attempt is for those who ask for it.
            Event::NotHealthyYet { check, reason } if !self.out.verbose => {
                self.moving(Some(format!("gate     {}: {}", plain(check), plain(reason))));
            }
            event => {
                if let Some(line) = line(event) {
                    self.line(&line);
                }
            }
        }
    }
}

/// An event as a line, if it is worth one.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Waiting { holder: Some(holder) } => format!("waiting for another run to end: {holder}"),
        Event::Waiting { holder: None } => "waiting for another run to end".to_owned(),
        Event::Recovering { deployment, forward: true } => {
            format!("finishing {deployment}, which was interrupted after its commit point")
        }
        Event::Recovering { deployment, forward: false } => {
            format!("rolling back {deployment}, which was interrupted before its commit point")
        }
        Event::Begun { deployment, app, verb, image, candidate, previous } => {
            let from = previous.map_or_else(|| "nothing".to_owned(), |color| color.to_string());
            format!("{verb} {app}: {} on {candidate}, from {from} ({deployment})", plain(image))
        }
        Event::StepSucceeded { step, detail, elapsed } => {
            let detail = plain(detail);
            let gap = if detail.is_empty() { "" } else { "  " };
            format!("  {step:<8} done in {}{gap}{detail}", duration::short(*elapsed))
        }
        Event::StepFailed { step, error } => format!("  {step:<8} FAILED  {}", plain(error)),
        Event::NotHealthyYet { check, reason } => format!("  gate     {}: {}", plain(check), plain(reason)),
        Event::Undoing { step } => format!("  undoing {step}"),
        Event::Undone { step } => format!("  {step:<8} undone"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bluegreen_core::model::{AppName, Color, DeploymentId};
    use bluegreen_core::plan::Step;
    use bluegreen_core::state::Verb;

    #[test]
    fn a_step_is_one_line() {
        let begun = Event::Begun {
            deployment: DeploymentId::new("d-1").unwrap(),
            app: AppName::new("web").unwrap(),
            verb: Verb::Deploy,
            image: "r.io/web:2".into(),
            candidate: Color::Green,
            previous: Some(Color::Blue),
        };
        let events = [
            begun,
            Event::StepSucceeded {
                step: Step::Pull,
                detail: String::new(),
                elapsed: Duration::from_millis(1_250),
            },
            Event::StepSucceeded {
                step: Step::Gate,
                detail: "TCP :3000".into(),
                elapsed: Duration::from_millis(9),
            },
            Event::StepFailed { step: Step::Switch, error: "a\nb".into() },
            Event::Undoing { step: Step::Start },
            Event::Undone { step: Step::Start },
        ];
        let lines: Vec<String> = events.iter().filter_map(line).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
