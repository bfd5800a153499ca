//! What is told while a run goes on: progress for people and machines.
//!
//! Events are a courtesy and may be lost. The journal is the authority.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::model::{AppName, Color, DeploymentId, Receipt};
use crate::plan::Step;
use crate::port::{Holder, InFlight, PullProgress};
use crate::state::Verb;

/// Receives an event. Called from the run itself: it must neither block nor panic.
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: &Event);
}

/// An observer that does not care.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::exhaustive_structs, reason = "a unit struct that embedders construct")]
pub struct Silent;

impl Observer for Silent {
    fn on_event(&self, _: &Event) {}
}

/// Something that happened. Serializes as `{"event": "...", ...}`; durations are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// Another run is in progress; this one waits for its turn.
    Waiting {
        /// Who, if known.
        holder: Option<Holder>,
    },
    /// An unfinished earlier run is being settled first.
    Recovering {
        /// Which.
        deployment: DeploymentId,
        /// Whether it is finished; otherwise it is rolled back.
        forward: bool,
    },
    /// A run begins.
    Begun {
        /// Which.
        deployment: DeploymentId,
        /// The application.
        app: AppName,
        /// What was asked for.
        verb: Verb,
        /// What will serve, for people.
        image: String,
        /// Where it will serve.
        candidate: Color,
        /// Where the present release serves.
        previous: Option<Color>,
    },
    /// A step begins.
    StepStarted {
        /// Which.
        step: Step,
        /// In one line.
        detail: String,
    },
    /// A step is done.
    StepSucceeded {
        /// Which.
        step: Step,
        /// What came of it, in one line.
        detail: String,
        /// How long it took.
        #[serde(rename = "elapsed_ms", serialize_with = "millis")]
        elapsed: Duration,
    },
    /// A step failed.
    StepFailed {
        /// Which.
        step: Step,
        /// Why, with causes.
        error: String,
    },
    /// How far the pull is.
    Pulling {
        /// Layers that are completely here.
        layers_done: usize,
        /// Layers that are known of.
        layers: usize,
        /// Bytes downloaded.
        bytes: u64,
        /// Bytes that are known to be needed.
        total_bytes: u64,
    },
    /// The candidate is not healthy yet. Only when the reason changes.
    NotHealthyYet {
        /// Which check.
        check: String,
        /// What came instead.
        reason: String,
    },
    /// What is still in flight to the previous colour. Only when it changes.
    Draining {
        /// Connections.
        connections: u32,
        /// Proxy processes of the earlier configuration.
        stale_workers: u32,
    },
    /// A step's effect is being undone.
    Undoing {
        /// Which.
        step: Step,
    },
    /// A step's effect is undone.
    Undone {
        /// Which.
        step: Step,
    },
    /// What the availability probe measured.
    Receipt {
        /// What.
        receipt: Receipt,
    },
    /// Something that a person should know and that stops nothing.
    Warning {
        /// What.
        message: String,
    },
}

impl Event {
    pub(crate) fn pulling(progress: PullProgress) -> Self {
        let PullProgress { layers_done, layers, bytes, total_bytes, .. } = progress;
        Self::Pulling { layers_done, layers, bytes, total_bytes }
    }

    pub(crate) fn draining(in_flight: &InFlight) -> Self {
        Self::Draining { connections: in_flight.connections, stale_workers: in_flight.stale_workers }
    }
}

fn millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
