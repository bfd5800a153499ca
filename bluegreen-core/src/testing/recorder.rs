use std::sync::{Mutex, PoisonError};

use crate::event::{Event, Observer};

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
