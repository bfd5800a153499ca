//! The wait until nothing is in flight to a colour that gets no new requests.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{DrainReport, Orchestrator};
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
        let mut told = InFlight::default();
        loop {
            let left = match self.in_flight(from).await {
                Ok(left) => left,
                Err(cause) => {
                    let unknown = InFlight::new(u32::MAX, 0);
                    if told != unknown {
                        self.warn(super::failure::chain(&cause));
                    }
                    unknown
                }
            };
            let now = Instant::now();
            if left.is_none() {
                let since = *quiet_since.get_or_insert(now);
                if now.duration_since(since) >= policy.settle {
                    return DrainReport::new(began.elapsed(), &left);
                }
            } else {
                quiet_since = None;
                if left != told {
                    self.tell(&Event::draining(&left));
                    told = left.clone();
                }
                if began.elapsed() >= cap {
                    return DrainReport::new(began.elapsed(), &left);
                }
            }
            sleep(LOOK).await;
        }
    }
}
