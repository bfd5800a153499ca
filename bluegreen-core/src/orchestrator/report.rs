//! What a verb has to say when it is done. All of it serializes; times are in milliseconds.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{Remedy, RollbackOffer};
use crate::model::{AppName, Color, DeploymentId, InstanceName, LongLived, Receipt, RequestError};
use crate::plan::Step;
use crate::port::{Holder, InFlight};
use crate::state::Verb;

/// A run that did what was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The run.
    pub deployment: DeploymentId,
    /// The application.
    pub app: AppName,
    /// What was asked for.
    pub verb: Verb,
    /// The image that serves, as it was asked for.
    pub image: String,
    /// Its digest.
    pub digest: String,
    /// The colour that serves.
    pub candidate: Color,
    /// The colour that served before.
    pub previous: Option<Color>,
    /// Whether it served already and nothing had to be done.
    pub unchanged: bool,
    /// An earlier run that was settled first.
    pub recovered: Option<DeploymentId>,
    /// How the switch was proven.
    pub proof: Option<String>,
    /// How the previous colour was drained.
    pub drain: Option<DrainReport>,
    /// What the availability probe measured; unset if it did not run.
    pub receipt: Option<Receipt>,
    /// What a rollback would do from here; unset if unknown.
    pub rollback: Option<RollbackOffer>,
    /// How long each step took.
    pub steps: Vec<StepTime>,
}

/// How long a step took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StepTime {
    /// Which.
    pub step: Step,
    /// How long.
    #[serde(rename = "elapsed_ms", serialize_with = "millis")]
    pub elapsed: Duration,
}

impl StepTime {
    pub(super) fn new(step: Step, elapsed: Duration) -> Self {
        Self { step, elapsed }
    }
}

/// How the previous colour was drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DrainReport {
    /// How long it took.
    #[serde(rename = "elapsed_ms", serialize_with = "millis")]
    pub elapsed: Duration,
    /// What was still there when it got its stop signal; `None` when everything had ended by itself.
    pub left: Option<StillOpen>,
}

/// What outlived a drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StillOpen {
    /// Connections from the proxy to the previous colour; `None` when they could not be counted. Idle ones that the
    /// proxy keeps for later requests are among them.
    pub connections: Option<u32>,
    /// Proxy processes of the earlier configuration.
    pub stale_workers: u32,
    /// How long it had been exactly this.
    #[serde(rename = "unchanged_ms", serialize_with = "millis")]
    pub unchanged: Duration,
    /// Why it was not waited for any longer: the cap, or because such connections are cut.
    pub policy: LongLived,
}

impl fmt::Display for StillOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.connections, self.stale_workers) {
            (None, _) => f.write_str("connections that could not be counted"),
            (Some(connections), workers) => InFlight::new(connections, workers).fmt(f),
        }
    }
}

impl DrainReport {
    pub(super) fn new(elapsed: Duration, left: Option<StillOpen>) -> Self {
        Self { elapsed, left }
    }

    /// Whether everything had ended by itself.
    pub fn is_clean(&self) -> bool {
        self.left.is_none()
    }
}

/// What serves, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServingNow {
    /// The colour; `None` when the proxy sends requests nowhere.
    pub color: Option<Color>,
    /// How that is known.
    pub evidence: String,
    /// Its image, when it is on record.
    pub image: Option<String>,
    /// Its digest, when it is on record.
    pub digest: Option<String>,
    /// The deployment that brought it.
    pub deployment: Option<DeploymentId>,
    /// Whether its container runs.
    pub running: bool,
}

/// What is known about an application now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The application.
    pub app: AppName,
    /// Its state, in one word.
    pub standing: Standing,
    /// What serves; the error in words when the proxy cannot be asked. Written as two fields, of which one is null.
    #[serde(flatten, serialize_with = "serving")]
    pub serving: Result<ServingNow, String>,
    /// What a client's request got.
    pub public: PublicLook,
    /// Since when it serves, by the journal: when it was committed.
    pub since: Option<Timestamp>,
    /// Its containers.
    pub instances: Vec<InstanceView>,
    /// What is kept running beside what serves.
    pub warm: Option<Warm>,
    /// What a rollback would do.
    pub rollback: RollbackOffer,
    /// Who is at work on it.
    pub at_work: Option<AtWork>,
    /// A run that was cut off and is not settled.
    pub unfinished: Option<RunView>,
    /// The last run.
    pub last: Option<RunView>,
    /// What a person should know: things that do not fit together.
    pub findings: Vec<String>,
    /// What they call for, where that is known. Not written: in JSON it is the command's `next`.
    #[serde(skip)]
    pub remedy: Option<Remedy>,
}

/// The state of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_enums, reason = "a script that asks wants one of three answers")]
pub enum Standing {
    /// Clients are answered and nothing is amiss.
    Serving,
    /// Clients are answered, or should be, and something needs a person.
    Degraded,
    /// Clients are not answered.
    NotServing,
}

/// What a client's request got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PublicLook {
    /// An answer.
    Answered {
        /// Where it asked.
        target: String,
        /// The HTTP status.
        status: u16,
    },
    /// None.
    Failed {
        /// Where it asked.
        target: String,
        /// In which way it failed.
        miss: RequestError,
    },
    /// None can be sent from here.
    NotAsked {
        /// Why not.
        reason: String,
    },
}

/// Who is at work on an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AtWork {
    /// Who, if known.
    pub holder: Option<Holder>,
    /// The run that is under way, if there is one.
    pub deployment: Option<DeploymentId>,
    /// The step that was started last.
    pub step: Option<Step>,
    /// When it was.
    pub step_since: Option<Timestamp>,
}

/// A container that is kept running beside what serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Warm {
    /// Its name.
    pub name: InstanceName,
    /// How long yet; zero when it is due to be stopped.
    #[serde(rename = "left_ms", serialize_with = "millis")]
    pub left: Duration,
}

impl Warm {
    pub(super) const fn new(name: InstanceName, left: Duration) -> Self {
        Self { name, left }
    }
}

/// What a look after what is kept warm did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Retired {
    /// The application.
    pub app: AppName,
    /// What was stopped.
    pub stopped: Option<InstanceName>,
    /// What is kept warm for some time yet.
    pub warm: Option<Warm>,
    /// An earlier run that was settled first.
    pub recovered: Option<DeploymentId>,
}

impl Retired {
    pub(super) const fn nothing(app: AppName) -> Self {
        Self { app, stopped: None, warm: None, recovered: None }
    }
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InstanceView {
    /// Its name.
    pub name: String,
    /// Its colour.
    pub color: Color,
    /// What it is doing.
    pub state: String,
    /// How often the runtime has restarted it.
    pub restarts: u32,
    /// What it runs.
    pub image: String,
    /// Whether it carries our label.
    pub owned: bool,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RunView {
    /// Which.
    pub deployment: DeploymentId,
    /// What was asked for.
    pub verb: Verb,
    /// What was to serve.
    pub image: String,
    /// When it began.
    pub began: Timestamp,
    /// When its last record was written.
    pub last: Timestamp,
    /// The last step that was started.
    pub step: Option<Step>,
    /// How it ended, or how it is left.
    pub ending: RunEnding,
    /// What the availability probe measured; unset if it did not run or the run was interrupted.
    pub receipt: Option<Receipt>,
}

/// How a run ended, or how it is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunEnding {
    /// Its candidate serves.
    Committed,
    /// Its candidate serves, and what is left to do after that is not done.
    CommittedUnfinished,
    /// It was rolled back.
    RolledBack {
        /// What failed; unset if the run was asked to stop or was interrupted.
        failed: Option<FailedStep>,
    },
    /// Taking it back failed.
    Stuck {
        /// What could not be rolled back.
        failed: FailedStep,
    },
    /// It stopped before its commit point and nothing was rolled back yet.
    CutOff,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FailedStep {
    /// Which.
    pub step: Step,
    /// Why, for a person.
    pub error: String,
}

impl RunEnding {
    /// Whether nothing is left to do.
    pub const fn is_complete(&self) -> bool {
        matches!(self, Self::Committed | Self::RolledBack { .. })
    }
}

impl fmt::Display for RunEnding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed => f.write_str("committed"),
            Self::CommittedUnfinished => f.write_str("committed, not finished"),
            Self::RolledBack { failed: None } => f.write_str("rolled back"),
            Self::RolledBack { failed: Some(FailedStep { step, error }) } => {
                write!(f, "rolled back: {step} failed: {error}")
            }
            Self::Stuck { failed: FailedStep { step, error } } => {
                write!(f, "stuck: undoing {step} failed: {error}")
            }
            Self::CutOff => f.write_str("interrupted before the commit point"),
        }
    }
}

/// What a deploy would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlanReport {
    /// The application.
    pub app: AppName,
    /// The image that would serve.
    pub image: String,
    /// Its digest.
    pub digest: String,
    /// The colour that would serve.
    pub candidate: Color,
    /// The colour that serves.
    pub previous: Option<Color>,
    /// Whether it serves already: then nothing would be done.
    pub unchanged: bool,
    /// A run that would be settled first.
    pub unfinished: Option<DeploymentId>,
    /// The steps.
    pub steps: Vec<PlannedStep>,
    /// What would change on the proxy's disk.
    pub changes: Vec<PlannedChange>,
}

/// One step that would be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedStep {
    /// Which.
    pub step: Step,
    /// In one line.
    pub detail: String,
}

impl PlannedStep {
    pub(super) fn new(step: Step, detail: String) -> Self {
        Self { step, detail }
    }
}

/// One file that would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedChange {
    /// Its path.
    pub path: String,
    /// In one line.
    pub summary: String,
    /// As a unified diff.
    pub diff: String,
}

impl From<crate::port::FileChange> for PlannedChange {
    fn from(change: crate::port::FileChange) -> Self {
        Self { path: change.path, summary: change.summary, diff: change.diff }
    }
}

fn serving<S: Serializer>(told: &Result<ServingNow, String>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Told<'t> {
        serving: Option<&'t ServingNow>,
        serving_error: Option<&'t str>,
    }
    let told = Told { serving: told.as_ref().ok(), serving_error: told.as_ref().err().map(String::as_str) };
    told.serialize(serializer)
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
