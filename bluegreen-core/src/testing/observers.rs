use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::event::{Event, Observer};
use crate::plan::Step;

/// An observer that keeps all it is told.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use std::sync::Arc;
///
/// use bluegreen_core::event::Event;
/// use bluegreen_core::orchestrator::{Orchestrator, Request};
/// use bluegreen_core::testing::{Recorder, World};
///
/// let (world, told) = (World::new(), Arc::new(Recorder::default()));
/// world.publish("registry.test/web:1");
/// let run = Orchestrator::new(world.ports(), world.spec()).observed_by(told.clone());
/// run.deploy(Request::new("registry.test/web:1".parse().unwrap(), "d".parse().unwrap())).await.unwrap();
/// assert!(matches!(told.events()[0], Event::Begun { .. }));
/// # });
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Recorder {
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    /// What it was told so far, in order.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Recorder {
    fn on_event(&self, event: &Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}

/// An observer that does something when it is told something: what is to happen in the middle of a run.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use std::sync::Arc;
///
/// use bluegreen_core::orchestrator::{Aftermath, Orchestrator, Request};
/// use bluegreen_core::plan::Step;
/// use bluegreen_core::testing::{OnEvent, World};
/// use tokio_util::sync::CancellationToken;
///
/// let (world, token) = (World::new(), CancellationToken::new());
/// world.publish("registry.test/web:1");
/// let stop = token.clone();
/// let run = Orchestrator::new(world.ports(), world.spec())
///     .cancelled_by(token)
///     .observed_by(Arc::new(OnEvent::at_step(Step::Gate, move || stop.cancel())));
/// let request = Request::new("registry.test/web:1".parse().unwrap(), "d".parse().unwrap());
/// assert_eq!(run.deploy(request).await.unwrap_err().aftermath, Aftermath::Cancelled);
/// # });
/// ```
#[non_exhaustive]
pub struct OnEvent {
    what: Box<dyn Fn(&Event) + Send + Sync>,
}

impl OnEvent {
    /// Calls `what` with all that it is told, in the run's own task: it must not block.
    pub fn new(what: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self { what: Box::new(what) }
    }

    /// Calls `what` when this step begins: its intent is on record, its effect has not been tried.
    pub fn at_step(step: Step, what: impl Fn() + Send + Sync + 'static) -> Self {
        Self::new(move |event| {
            if matches!(event, Event::StepStarted { step: begun, .. } if *begun == step) {
                what();
            }
        })
    }
}

impl fmt::Debug for OnEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnEvent").finish_non_exhaustive()
    }
}

impl Observer for OnEvent {
    fn on_event(&self, event: &Event) {
        (self.what)(event);
    }
}
