//! The availability probe of a run: synthetic requests through the proxy, whose outcome is the run's receipt.
//!
//! One task, beside the run: half of the requests over connections of their own, half over one that is kept, at a
//! steady pace that takes nobody else's turn (`pace`), and never twice. The run only tells it which phase has begun.
//! Which colour answered is concluded from that: what was over before the switch began was the previous one's, what
//! began after its proof was the candidate's. So nothing has to be added to what users get to see.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::failure::chain;
pub(super) use super::tally::Phase;
use super::tally::Tally;
use super::{Cause, Deployment, Orchestrator, RunJournal};
use crate::event::Event;
use crate::model::{Color, Receipt, ReceiptGate, ReceiptPolicy};
use crate::port::{Client, Connection};
use crate::state::Record;

/// How many requests may be in flight. If none is answered, this many are enough to show it.
const UNDER_WAY: usize = 256;
/// How long the last ones may take: one that was cut off in the last moment is seen to be.
const LINGER: Duration = Duration::from_millis(100);
/// How often a gate looks.
const LOOK: Duration = Duration::from_millis(10);

/// The clients of a run. Dropped, they are gone.
#[derive(Debug)]
pub(super) struct Watch {
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Watch {
    fn begin(
        orchestrator: &Orchestrator,
        policy: &ReceiptPolicy,
        previous: Option<Color>,
        candidate: Color,
    ) -> Self {
        let tally = Arc::new(Mutex::new(Tally::new(policy.rate, previous, candidate)));
        let stop = CancellationToken::new();
        let playing = play(orchestrator.clone(), policy.clone(), tally.clone(), stop.clone());
        Self { tally, stop, task: tokio::spawn(playing) }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    /// Sends no more, and gives what was seen; `None` where there was nothing to see.
    async fn end(mut self) -> Option<Receipt> {
        self.stop.cancel();
        // It ends by itself within its lingering; one that was aborted or panicked has told what it saw.
        (&mut self.task).await.ok();
        let tally = self.tally();
        (!tally.is_idle()).then(|| tally.receipt())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn play(
    orchestrator: Orchestrator,
    policy: ReceiptPolicy,
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
) {
    let over = async {
        stop.cancelled().await;
        sleep(LINGER).await;
    };
    let mut over = pin!(over);
    let found = tokio::select! {
        biased;
        found = orchestrator.client(&policy) => found,
        () = &mut over => return,
    };
    let client = match found {
        Ok(client) => client,
        Err(cause) => return lock(&tally).cannot_see(chain(&cause)),
    };
    lock(&tally).found(client.target(), client.remedy(), client.per_minute());
    let mut last = None;
    let mut under_way = JoinSet::new();
    let (mut kept_is_free, mut turn) = (true, Connection::Kept);
    loop {
        // A run may be over in a moment, and is told what clients saw all the same: one answer is waited for.
        let enough = lock(&tally).has_enough();
        tokio::select! {
            biased;
            () = stop.cancelled(), if enough => break,
            () = &mut over => break,
            Some(ended) = under_way.join_next(), if !under_way.is_empty() => {
                kept_is_free |= matches!(ended, Ok(Connection::Kept));
            }
            () = until_next(&tally, last), if under_way.len() < UNDER_WAY => {
                last = Some(Instant::now());
                turn = match turn {
                    Connection::Fresh if kept_is_free => Connection::Kept,
                    _ => Connection::Fresh,
                };
                kept_is_free &= turn != Connection::Kept;
                under_way.spawn(ask(client.clone(), turn, policy.timeout, tally.clone()));
            }
        }
    }
    tokio::select! {
        () = async { while under_way.join_next().await.is_some() {} } => {}
        () = &mut over => {}
    }
}

/// Until the next request is to be sent. What came in between may have changed when that is.
async fn until_next(tally: &Mutex<Tally>, last: Option<Instant>) {
    let Some(last) = last else { return };
    loop {
        let at = last + lock(tally).next_after();
        let now = Instant::now();
        if at <= now {
            return;
        }
        sleep_until(at.min(now + LOOK)).await;
    }
}

/// One request; gives back what it went over.
async fn ask(
    client: Arc<dyn Client>,
    over: Connection,
    within: Duration,
    tally: Arc<Mutex<Tally>>,
) -> Connection {
    let sent = lock(&tally).sent(over);
    let outcome = super::calls::asked(&*client, over, within).await;
    lock(&tally).ended(sent, outcome);
    over
}

impl Deployment<'_> {
    /// Begins to look, when that is asked for and nobody looks yet.
    pub(super) fn watch_clients(&mut self) {
        if let (Some(policy), None) = (&self.orchestrator.spec.receipt, &self.watch) {
            let watch = Watch::begin(self.orchestrator, policy, self.previous, self.slot().color);
            self.watch = Some(watch);
        }
    }

    pub(super) fn phase(&self, phase: Phase) {
        if let Some(watch) = &self.watch {
            watch.tally().mark(phase);
        }
    }

    /// Ends the looking: what was seen goes into the journal and to the observer. Once; the journal's failure is no
    /// reason to fail, the next record will tell.
    pub(super) async fn keep_receipt(&mut self, log: &mut RunJournal) {
        let Some(watch) = self.watch.take() else { return };
        let Some(receipt) = watch.end().await else { return };
        drop(log.append(Record::Receipt { receipt: receipt.clone() }).await);
        self.orchestrator.tell(&Event::Receipt { receipt: receipt.clone() });
        self.receipt = Some(receipt);
    }

    /// Holds the commit back for the gate's bake time, when there is a gate.
    ///
    /// # Errors
    ///
    /// When more requests failed than the gate allows, at once; when nothing can be measured; when the candidate is
    /// lost or somebody asks to stop.
    pub(super) async fn bake(&self) -> Result<(), Cause> {
        let (Some(policy), Some(watch)) = (&self.orchestrator.spec.receipt, &self.watch) else {
            return Ok(());
        };
        let Some(gate) = policy.gate else { return Ok(()) };
        let lost = self.orchestrator.until_lost(self.slot(), self.running()?);
        tokio::select! {
            biased;
            () = self.orchestrator.cancel.cancelled() => Err(Cause::Cancelled),
            baked = baked(watch, gate, policy) => baked,
            state = lost => Err(self.lost(&state)),
        }
    }
}

async fn baked(watch: &Watch, gate: ReceiptGate, policy: &ReceiptPolicy) -> Result<(), Cause> {
    let until = Instant::now() + gate.bake;
    // Each request has its own deadline, so this is only for clients that were never let try.
    let give_up = until + watch.tally().interval() + 2 * policy.timeout + Duration::from_secs(1);
    // Those that are under way when the time is over are waited for: silence is not success.
    let mut wanted = None;
    loop {
        let now = Instant::now();
        let (settled, failures, blind) = {
            let tally = watch.tally();
            if now >= until {
                wanted.get_or_insert(tally.sent_so_far());
            }
            let settled = wanted.is_some_and(|wanted| tally.is_complete(wanted));
            (settled, tally.since_switch(), tally.blind().map(str::to_owned))
        };
        if let Some(reason) = blind {
            return Err(Cause::NotMeasured { reason });
        }
        if failures.total() > gate.max_failures {
            return Err(Cause::ClientsFailed { failures, allowed: gate.max_failures });
        }
        if settled {
            return Ok(());
        }
        if now >= give_up {
            return Err(Cause::NotMeasured { reason: "no request came to an end".to_owned() });
        }
        sleep(LOOK).await;
    }
}
