//! What the journal says: records, and their fold into what happened and what to do next. Pure.
//!
//! The journal is an intent log. A step's `Started` is durable before its effect, so a run that was cut off at
//! any moment leaves a record of everything that it may have done. The fold decides the *direction* in which an
//! unfinished run is settled; what is really there is looked at again when it is (observed beats remembered).

mod activity;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{AppName, Color, DeploymentId, Receipt, Release};
use crate::plan::{PLAN, Step};

pub use self::activity::{Activity, Verb};

/// One fact of a run, in the order in which they happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Record {
    /// A run begins: what will serve, and which colour to go back to when it does not.
    Begun {
        /// The run.
        deployment: DeploymentId,
        /// The application.
        app: AppName,
        /// What was asked for.
        verb: Verb,
        /// What will serve. Complete enough to make it again.
        candidate: Box<Release>,
        /// The colour that serves now, if any does.
        previous: Option<Color>,
        /// What serves now, if bluegreen did not create it: enough to bring it back. Since version 2 of the journal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        adopted: Option<Box<Release>>,
    },
    /// A step is about to have its effect.
    Started {
        /// Which.
        step: Step,
    },
    /// A step is done. For [`Step::Verify`] this is the commit point.
    Succeeded {
        /// Which.
        step: Step,
    },
    /// A step failed; its effect may have happened.
    Failed {
        /// Which.
        step: Step,
        /// Why, for a person.
        error: String,
    },
    /// A step's effect is about to be undone.
    UndoStarted {
        /// Which.
        step: Step,
    },
    /// A step's effect is undone.
    Undone {
        /// Which.
        step: Step,
    },
    /// Taking it back failed, several times.
    UndoFailed {
        /// Which.
        step: Step,
        /// Why, for a person.
        error: String,
    },
    /// What the availability probe measured. History: nothing is decided by it, and a run may lack it.
    Receipt {
        /// What.
        receipt: Receipt,
    },
    /// What a settled run had kept running beside what serves is about to be stopped.
    Retiring {
        /// Where it runs.
        color: Color,
    },
    /// The run is settled.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// How a settled run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// The candidate serves.
    Committed,
    /// What served before serves.
    RolledBack,
}

/// A record with its place and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When it was written, by this host's clock. For people, and for how long something is kept running: what serves
    /// is never decided by it.
    pub at: Timestamp,
    /// What happened.
    pub record: Record,
}

impl Entry {
    /// A record at a place and time.
    pub fn new(seq: u64, at: Timestamp, record: Record) -> Self {
        Self { seq, at, record }
    }
}

/// A record that cannot follow the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} cannot follow the records before it: {reason}")]
#[non_exhaustive]
pub struct IllegalRecord {
    /// Its number.
    pub seq: u64,
    /// Why not.
    pub reason: &'static str,
}

/// What a journal adds up to.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct AppState {
    /// Every run, oldest first.
    pub runs: Vec<Run>,
    /// The colour that was let go since the last run, which had kept it running.
    pub retiring: Option<Color>,
    /// How many records there were.
    pub records: u64,
}

/// One run, settled or not.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// Which.
    pub deployment: DeploymentId,
    /// What was asked for.
    pub verb: Verb,
    /// What was to serve.
    pub candidate: Release,
    /// The colour that served when it began.
    pub previous: Option<Color>,
    /// What served when it began, if bluegreen had not created it.
    pub adopted: Option<Release>,
    /// When it began.
    pub began: Timestamp,
    /// When its last record was written.
    pub last: Timestamp,
    /// When its commit point was passed: since then its candidate serves.
    pub committed: Option<Timestamp>,
    /// When the step was started that was started last.
    pub step_since: Option<Timestamp>,
    /// Every step that was started, in order; each may have had its effect.
    pub started: Vec<Step>,
    /// Every step that is done.
    pub done: Vec<Step>,
    /// Every step whose effect was undone.
    pub undone: Vec<Step>,
    /// Whether it is being rolled back.
    pub unwinding: bool,
    /// The step that failed and why.
    pub failure: Option<(Step, String)>,
    /// The undo that failed and why.
    pub stuck: Option<(Step, String)>,
    /// What the availability probe measured, if it ran.
    pub receipt: Option<Receipt>,
    /// How it ended, when it did.
    pub outcome: Option<Outcome>,
}

/// What to do with a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a run is settled, committed or not; recovery matches all three")]
pub enum Resume {
    /// It is settled.
    Nothing,
    /// It is committed: run these steps, then it is.
    Forward(Vec<Step>),
    /// It is not committed: take these steps back, in this order, then it is.
    Unwind(Vec<Step>),
}

impl Run {
    /// Whether the commit point was passed.
    pub fn is_committed(&self) -> bool {
        self.done.contains(&Step::Verify)
    }

    /// Whether its candidate was committed and was not rolled back since.
    pub fn is_serving(&self) -> bool {
        self.is_committed() && !self.unwinding && self.outcome != Some(Outcome::RolledBack)
    }

    /// What is to be done to settle it.
    pub fn resume(&self) -> Resume {
        if self.outcome.is_some() {
            Resume::Nothing
        } else if self.is_committed() && !self.unwinding {
            Resume::Forward(
                PLAN.into_iter().filter(|s| s.is_past_commit() && !self.done.contains(s)).collect(),
            )
        } else {
            Resume::Unwind(self.undoable())
        }
    }

    /// Every step that must be undone, in the order in which it is.
    ///
    /// What was started, not only what succeeded: a step that failed may have had its effect. Done undos are done
    /// again too: each tolerates that, and the world may have changed since.
    pub fn undoable(&self) -> Vec<Step> {
        self.started.iter().rev().copied().filter(|step| step.undo().is_some()).collect()
    }
}

impl AppState {
    /// Adds up a journal.
    ///
    /// # Errors
    ///
    /// When a record cannot follow the ones before it: then the journal's meaning must not be guessed.
    pub fn replay(entries: &[Entry]) -> Result<Self, IllegalRecord> {
        let mut state = Self::default();
        for entry in entries {
            state.push(entry)?;
        }
        Ok(state)
    }

    /// Adds one more record.
    ///
    /// # Errors
    ///
    /// When it cannot follow the ones before it; nothing is changed then.
    pub fn push(&mut self, entry: &Entry) -> Result<(), IllegalRecord> {
        self.apply(entry).map_err(|reason| IllegalRecord { seq: entry.seq, reason })?;
        self.records += 1;
        Ok(())
    }

    /// The release that serves as far as the journal knows: committed last, and not found rolled back since.
    pub fn current(&self) -> Option<&Release> {
        self.runs.iter().rfind(|run| run.is_serving()).map(|run| &run.candidate)
    }

    /// The release that was last committed in a colour's slot, or that bluegreen took over there; the run that is open does
    /// not count.
    pub fn release_in(&self, color: Color) -> Option<&Release> {
        let given = self.runs.iter().flat_map(|run| {
            let settled = run.outcome.is_some() && run.is_serving();
            run.adopted.iter().chain(settled.then_some(&run.candidate))
        });
        given.rev().find(|release| release.color() == color)
    }

    /// The last run, when it is not settled.
    pub fn open(&self) -> Option<&Run> {
        self.runs.last().filter(|run| run.outcome.is_none())
    }

    /// The run of a deployment, the latest if it ran more than once.
    pub fn run(&self, deployment: &DeploymentId) -> Option<&Run> {
        self.runs.iter().rfind(|run| run.deployment == *deployment)
    }

    /// What served one after the other and was not rolled back from, oldest first, the one that serves at the end. Each
    /// content is there once, at its last place.
    pub fn releases(&self) -> Vec<&Release> {
        let mut line: Vec<&Release> = Vec::new();
        let place = |line: &[&Release], release: &Release| {
            line.iter().position(|earlier| earlier.spec.content() == release.spec.content())
        };
        for run in self.runs.iter().filter(|run| run.is_serving()) {
            if let Some(adopted) = &run.adopted {
                place(&line, adopted).map(|at| line.remove(at));
                line.push(adopted);
            }
            match (run.verb, place(&line, &run.candidate)) {
                (Verb::Deploy, at) => drop(at.map(|at| line.remove(at))),
                // What came after it was gone back from.
                (Verb::Rollback, Some(at)) => line.truncate(at),
                // Where an earlier program went and this one would not go.
                (Verb::Rollback, None) => drop(line.pop()),
            }
            line.push(&run.candidate);
        }
        line
    }

    /// What a rollback goes to: what served before the one that serves, and was not rolled back from itself.
    pub fn rollback_target(&self) -> Option<&Release> {
        self.releases().into_iter().rev().nth(1)
    }

    /// Takes one record into account; the error says why it cannot be next.
    fn apply(&mut self, entry: &Entry) -> Result<(), &'static str> {
        if let Record::Begun { deployment, verb, candidate, previous, adopted, .. } = &entry.record {
            if self.open().is_some() {
                return Err("a run begins while another is unfinished");
            }
            self.retiring = None;
            self.runs.push(Run {
                deployment: deployment.clone(),
                verb: *verb,
                candidate: (**candidate).clone(),
                previous: *previous,
                adopted: adopted.as_deref().cloned(),
                began: entry.at,
                last: entry.at,
                committed: None,
                step_since: None,
                started: Vec::new(),
                done: Vec::new(),
                undone: Vec::new(),
                unwinding: false,
                failure: None,
                stuck: None,
                receipt: None,
                outcome: None,
            });
            return Ok(());
        }
        if let Record::Retiring { color } = entry.record {
            if self.open().is_some() {
                return Err("what was kept running is stopped while a run is unfinished");
            }
            self.retiring = Some(color);
            return Ok(());
        }
        let run = self.runs.last_mut().filter(|run| run.outcome.is_none()).ok_or("no run is open")?;
        run.apply(&entry.record)?;
        run.last = entry.at;
        match entry.record {
            Record::Started { .. } => run.step_since = Some(entry.at),
            Record::Succeeded { step: Step::Verify } => run.committed = Some(entry.at),
            _ => {}
        }
        Ok(())
    }
}

impl Run {
    fn apply(&mut self, record: &Record) -> Result<(), &'static str> {
        let committed = self.is_committed();
        match record {
            Record::Begun { .. } | Record::Retiring { .. } => Err("it belongs to no run"),
            Record::Started { step } if step.is_past_commit() != committed => {
                Err("a step starts on the wrong side of the commit point")
            }
            // A step may start again and again: recovery runs it once more.
            Record::Started { step } => {
                if !self.started.contains(step) {
                    self.started.push(*step);
                }
                Ok(())
            }
            Record::Succeeded { step } if !self.started.contains(step) => {
                Err("a step is done that never started")
            }
            Record::Succeeded { step } => {
                self.done.push(*step);
                Ok(())
            }
            Record::Failed { step, .. } if !self.started.contains(step) => {
                Err("a step failed that never started")
            }
            Record::Failed { step, error } => {
                self.failure = Some((*step, error.clone()));
                Ok(())
            }
            // Also past the commit point: a candidate that is lost while the previous colour still runs.
            Record::UndoStarted { .. } => {
                self.unwinding = true;
                Ok(())
            }
            Record::Undone { step } => {
                self.undone.push(*step);
                Ok(())
            }
            Record::UndoFailed { step, error } => {
                self.stuck = Some((*step, error.clone()));
                Ok(())
            }
            Record::Receipt { receipt } => {
                self.receipt = Some(receipt.clone());
                Ok(())
            }
            Record::Ended { outcome: Outcome::Committed } if !committed => {
                Err("a run ends as committed that never was")
            }
            // A committed run may end rolled back: its commit record was durable, but the run that wrote it never
            // learned that and took everything back. What is there decides (observed beats remembered).
            Record::Ended { outcome } => {
                self.outcome = Some(*outcome);
                self.stuck = None;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
