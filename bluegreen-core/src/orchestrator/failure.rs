//! What went wrong, and what that means for what serves.

use std::fmt;
use std::time::Duration;

use super::{CannotPass, GateFailure, NoRollback, Orchestrator, ServingNow};
use crate::model::{AppName, DeploymentId, Receipt, RequestErrors};
use crate::plan::Step;
use crate::port::{Holder, JournalError, ProbeError, ProxyError, RegistryError, RuntimeError};
use crate::state::IllegalRecord;

/// A run that did not do what was asked.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The application.
    pub app: AppName,
    /// The step that failed; `None` before the first.
    pub step: Option<Step>,
    /// Why.
    pub cause: Cause,
    /// What serves after it.
    pub aftermath: Aftermath,
    /// What serves now, if known.
    pub serving: Option<ServingNow>,
    /// The candidate's last log lines, oldest first.
    pub log: Vec<String>,
    /// The run, when one had begun.
    pub deployment: Option<DeploymentId>,
    /// What the availability probe measured, if a run had begun and the probe ran.
    pub receipt: Option<Receipt>,
}

/// What a failure left behind: the one question at 3 a.m.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Aftermath {
    /// Nothing was touched.
    Untouched,
    /// What was done is rolled back; what served before is what is served. That it runs, [`Failure::serving`] tells:
    /// a step that touched nothing does not start it again.
    RolledBack,
    /// Somebody asked to stop; what was done is rolled back, as with [`RolledBack`](Self::RolledBack).
    Cancelled,
    /// Taking it back failed: a person is needed, or a later [`recover`](Orchestrator::recover).
    Stuck {
        /// The step that could not be undone or finished.
        step: Step,
        /// Why not.
        error: String,
    },
    /// The candidate serves; what was left to do after that failed and will be done by the next run.
    Committed,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The container runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A probe that could not be made.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The journal or its lock.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal's records make no sense together.
    #[error("the journal cannot be understood")]
    IllegalJournal(#[from] IllegalRecord),
    /// The candidate did not become healthy.
    #[error(transparent)]
    Gate(#[from] Box<GateFailure>),
    /// No candidate of this image could become healthy.
    #[error(transparent)]
    CannotPass(#[from] CannotPass),
    /// The candidate stopped after it had been healthy.
    #[error("the candidate {name} is {state}")]
    CandidateLost {
        /// Its name.
        name: String,
        /// What it is now.
        state: String,
    },
    /// Clients' requests failed since the switch, more than the receipt's gate allows.
    #[error(
        "{} probe requests failed since the switch ({failures}); {allowed} are allowed", .failures.total()
    )]
    ClientsFailed {
        /// In which way.
        failures: RequestErrors,
        /// How many are allowed.
        allowed: u64,
    },
    /// The receipt has a gate, and nothing can be measured.
    #[error("`max_failures` is set, but the availability probe cannot run: {reason}")]
    NotMeasured {
        /// Why not.
        reason: String,
    },
    /// There is less room on the disk than a pull is to have.
    #[error("only {} MB are free where images are kept, and {} MB are wanted before a pull", .free / 1_000_000, .wanted / 1_000_000)]
    DiskLow {
        /// The bytes that are free.
        free: u64,
        /// How many are wanted.
        wanted: u64,
    },
    /// A call did not come back in time. Its effect may have happened.
    #[error("{operation} took longer than {}", seconds(*.after))]
    Timeout {
        /// What was being done.
        operation: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The run was asked to stop.
    #[error("stopped on request")]
    Cancelled,
    /// A later deploy asked for its turn while this one waited.
    #[error("a later deploy wants to run: {by}")]
    Overtaken {
        /// Which.
        by: Box<Holder>,
    },
    /// There is nothing to go back to.
    #[error(transparent)]
    NoRollback(#[from] NoRollback),
    /// This deployment was done before, and another one since.
    #[error("deployment {deployment} was completed before, and {current} has replaced it since")]
    Superseded {
        /// The one that was asked for.
        deployment: DeploymentId,
        /// The one that serves.
        current: DeploymentId,
    },
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) => write!(f, "{step} failed for {}", self.app),
            None => write!(f, "{} cannot be deployed", self.app),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl Cause {
    /// Whether it was seen that the candidate cannot serve. What could not be found out does not count against it.
    pub(super) const fn is_against_candidate(&self) -> bool {
        matches!(
            self,
            Self::Gate(_)
                | Self::CandidateLost { .. }
                | Self::CannotPass(_)
                | Self::Probe(_)
                | Self::Proxy(ProxyError::NotProven { .. })
        )
    }
}

impl Orchestrator {
    /// A failure before anything was touched.
    pub(super) fn untouched(&self, cause: Cause) -> Failure {
        Failure {
            app: self.spec.name.clone(),
            step: None,
            cause,
            aftermath: Aftermath::Untouched,
            serving: None,
            log: Vec::new(),
            deployment: None,
            receipt: None,
        }
    }
}

/// An error and everything that caused it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
