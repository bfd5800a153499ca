//! The wait until nothing is in flight to a colour that gets no new requests.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{DrainReport, Orchestrator, StillOpen};
use crate::event::Event;
use crate::model::{Backend, LongLived};
use crate::port::InFlight;

const LOOK: Duration = Duration::from_millis(10);

impl Orchestrator {
    /// Waits until nothing is in flight to `from`, up to the policy's cap. Counted, not slept. What cannot be
    /// counted counts as in flight: then the cap decides.
    pub(super) async fn drain(&self, from: &Backend) -> DrainReport {
        let policy = self.spec.drain;
        let began = Instant::now();
        let cap = match policy.long_lived {
            LongLived::Wait => policy.timeout,
            LongLived::Cut => policy.settle,
        };
        let mut quiet_since: Option<Instant> = None;
        let mut last: (Option<InFlight>, Instant) = (Some(InFlight::default()), began);
        loop {
            let left = match self.in_flight(from).await {
                Ok(left) => Some(left),
                Err(cause) => {
                    if last.0.is_some() {
                        self.warn(super::failure::chain(&cause));
                    }
                    None
                }
            };
            let now = Instant::now();
            if last.0 != left {
                if let Some(left) = left.as_ref().filter(|left| !left.is_none()) {
                    self.tell(&Event::draining(left));
                }
                last = (left.clone(), now);
            }
            if left.as_ref().is_some_and(InFlight::is_none) {
                let since = *quiet_since.get_or_insert(now);
                if now.duration_since(since) >= policy.settle {
                    return DrainReport::new(began.elapsed(), None);
                }
            } else {
                quiet_since = None;
                if began.elapsed() >= cap {
                    let left = StillOpen {
                        connections: left.as_ref().map(|left| left.connections),
                        stale_workers: left.as_ref().map_or(0, |left| left.stale_workers),
                        unchanged: now.duration_since(last.1),
                        policy: policy.long_lived,
                    };
                    return DrainReport::new(began.elapsed(), Some(left));
                }
            }
            sleep(LOOK).await;
        }
    }
}
