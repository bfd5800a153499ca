//! Runs a plan over the ports. Names no adapter, reads no environment, prints nothing.
//!
//! | module | what happens there |
//! |---|---|
//! | `mod` | the verbs: deploy, rollback, recover, retire |
//! | `prepare` | look at the world and decide what to do, touching nothing; `plan` |
//! | `foresight` | refuse what no candidate could pass, before it starts |
//! | `status` | what serves, as clients see it |
//! | `run` | carry the steps out, forward |
//! | `gate`, `drain` | the two waits |
//! | `receipt`, `pace`, `tally` | the availability probe beside the run, at a pace that displaces nobody, and its count |
//! | `unwind` | undo steps |
//! | `retire` | what becomes of what served before, and which images stay |
//! | `rollback` | what can be gone back to, and going there |
//! | `history` | what the journal holds, for people |
//! | `recovery` | finish an interrupted run or roll it back |
//! | `failure`, `report` | what a verb answers: why it failed and what that left, or what it did |
//! | `calls` | every call on a port, each with its deadline |
//! | `run_journal` | the journal of this run: write ahead, and answers that got lost |

mod calls;
mod drain;
mod failure;
mod foresight;
mod gate;
mod history;
mod pace;
mod prepare;
mod receipt;
mod recovery;
mod remedy;
mod report;
mod retire;
mod rollback;
mod run;
mod run_journal;
mod status;
mod tally;
mod unwind;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use self::failure::{Aftermath, Cause, Failure};
pub use self::foresight::CannotPass;
pub use self::gate::GateFailure;
pub use self::history::{History, RecordView};
use self::prepare::{Observed, Prepared};
pub use self::remedy::Remedy;
pub use self::report::{
    AtWork, DrainReport, FailedStep, InstanceView, PlanReport, PlannedStep, PublicLook, Report, Retired,
    RunEnding, RunView, ServingNow, Standing, Status, StepTime, StillOpen, Warm,
};
pub use self::rollback::{Earlier, Goal, NoRollback, RollbackOffer};
use self::run::Deployment;
use self::run_journal::RunJournal;
use crate::event::{Event, Observer, Silent};
use crate::model::{AppSpec, DeploymentId, ImageRef, PinnedImage, Release, RunOptions};
use crate::port::{Holder, JournalError, Lease, Ports, Queue};
use crate::state::{Activity, Outcome, Verb};

/// Deploys one application: the library's main type.
///
/// # Guarantees
///
/// - Before the commit point any failure, and any crash followed by [`recover`](Self::recover) or simply the next
///   [`deploy`](Self::deploy), leaves what served before serving. After it, the candidate serves.
/// - Nothing is done to the world that the journal did not announce.
/// - One run at a time for an application, on this host.
///
/// # Assumptions
///
/// - One proxy and one runtime, both reached through the given ports, and nobody else changes this application's
///   instances or routes while a run goes on.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use bluegreen_core::orchestrator::{Orchestrator, Request};
/// use bluegreen_core::testing::World;
///
/// let world = World::new();
/// world.publish("registry.test/web:1");
/// let orchestrator = Orchestrator::new(world.ports(), world.spec());
/// let request = Request::new("registry.test/web:1".parse().unwrap(), "first".parse().unwrap());
/// let report = orchestrator.deploy(request).await.unwrap();
/// assert_eq!(world.serving().unwrap().color, report.candidate);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Orchestrator {
    ports: Ports,
    spec: AppSpec,
    observer: Arc<dyn Observer>,
    cancel: CancellationToken,
    host: String,
    wait: Duration,
    warned: Arc<Mutex<BTreeSet<String>>>,
}

/// What is to be deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The image; its tag is resolved once.
    pub image: ImageRef,
    /// What the deployment is known by. The same id again is the same deployment.
    pub deployment: DeploymentId,
    /// Deploy even what serves already.
    pub force: bool,
}

impl Request {
    /// An image, under a deployment's id.
    pub fn new(image: ImageRef, deployment: DeploymentId) -> Self {
        Self { image, deployment, force: false }
    }

    /// Also when this very content serves already.
    #[must_use]
    pub fn forced(mut self) -> Self {
        self.force = true;
        self
    }
}

impl Orchestrator {
    /// An orchestrator of one application: without an observer, without a cancellation token, and not waiting for a lock.
    pub fn new(ports: Ports, spec: AppSpec) -> Self {
        Self {
            ports,
            spec,
            observer: Arc::new(Silent),
            cancel: CancellationToken::new(),
            host: "localhost".to_owned(),
            wait: Duration::ZERO,
            warned: Arc::default(),
        }
    }

    /// Sends events to `observer`.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Stops when `cancel` says so: before the commit point everything is rolled back, after it the run finishes.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// The host's name, which a run that finds the lock held reports.
    #[must_use]
    pub fn on_host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Waits that long for another run to end instead of refusing at once. A deploy that waits gives up when a later
    /// one asks for its turn.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Makes `request` serve.
    ///
    /// An unfinished earlier run is settled first. What serves already is not started again, but the proxy is
    /// still made to agree.
    ///
    /// # Errors
    ///
    /// [`Failure`] says what failed, and its [`Aftermath`] what serves after it.
    pub async fn deploy(&self, request: Request) -> Result<Report, Failure> {
        let deployment = request.deployment.clone();
        let opened = self.open(Activity::Deploy, &deployment).await?;
        let untouched = |cause| self.untouched(cause);
        Self::not_superseded(opened.log.state(), &deployment).map_err(untouched)?;
        let (image, observed) = tokio::join!(self.resolve(&request.image), self.examine());
        let (image, observed) = (image.map_err(untouched)?, observed.map_err(untouched)?);
        let target = Target::deployed(image, self.spec.options.clone(), request.force);
        self.make_serve(opened, deployment, target, &observed).await
    }

    /// Settles a run that was cut off: finishes it when it was committed, takes it back when it was not.
    /// `None` when there is nothing to settle.
    ///
    /// # Errors
    ///
    /// As [`deploy`](Self::deploy).
    pub async fn recover(
        &self,
        deployment: DeploymentId,
    ) -> Result<Option<(DeploymentId, Outcome)>, Failure> {
        Ok(self.open(Activity::Recover, &deployment).await?.recovered)
    }

    /// Takes the lock and settles what an earlier run left.
    async fn open(&self, activity: Activity, deployment: &DeploymentId) -> Result<Opened, Failure> {
        // Who is refused for it must not even hold the lock for a moment. Two first deploys see it only behind the lock.
        self.not_elsewhere().await.map_err(|cause| self.untouched(cause))?;
        let lease = self.lock(activity, deployment).await.map_err(|cause| self.untouched(cause))?;
        self.not_elsewhere().await.map_err(|cause| self.untouched(cause))?;
        let mut log = RunJournal::open(self).await.map_err(|cause| self.untouched(cause))?;
        let recovered = self.recover_open_run(&mut log).await?;
        Ok(Opened { _lease: lease, log, recovered })
    }

    async fn make_serve(
        &self,
        opened: Opened,
        deployment: DeploymentId,
        target: Target,
        observed: &Observed,
    ) -> Result<Report, Failure> {
        let Opened { _lease, mut log, recovered } = opened;
        let mut report = match self.prepare(observed, &deployment, &target) {
            Prepared::Unchanged { release } => {
                let report = self.confirm(deployment, &target, release).await?;
                // No run needs the place of what is kept warm. That it cannot be stopped is no failure of this one.
                if let Err(failure) = self.stop_warm(&mut log, false).await {
                    self.warn(failure::chain(&failure));
                }
                report
            }
            Prepared::Run { candidate, previous, misdirected } => {
                self.check_receipt().await.map_err(|cause| self.untouched(cause))?;
                let checked = self.check_gate(&target.image, &target.options).await;
                checked.map_err(|cause| self.untouched(cause))?;
                self.warn_of_uncarried(&target, &candidate, observed);
                let mut run = Deployment::new(self, target.verb, deployment, *candidate, previous);
                run.misdirected = misdirected;
                run.adopted = self.adopted(observed, &run).await.map_err(|cause| self.untouched(cause))?;
                run.execute(&mut log).await?
            }
        };
        // All is done: that it cannot be told is no failure.
        report.rollback = self.offer(log.state()).await.ok();
        report.recovered = recovered.map(|(deployment, _)| deployment);
        Ok(report)
    }

    /// Takes the application's lock, waiting for it as long as this orchestrator was told to.
    async fn lock(&self, activity: Activity, deployment: &DeploymentId) -> Result<Lease, Cause> {
        const POLL: Duration = Duration::from_millis(100);
        let this = Holder::new(std::process::id(), &self.host, activity, deployment.clone());
        // Of deploys that wait for each other only the last is wanted: an older one after it would undo it.
        let in_turn = activity == Activity::Deploy;
        let until = tokio::time::Instant::now() + self.wait;
        let mut waited = false;
        loop {
            let attempt = self.try_lock(&this).await;
            if waited && in_turn {
                self.not_overtaken(&this).await?;
            }
            match attempt {
                Err(Cause::Journal(JournalError::Held { holder })) if tokio::time::Instant::now() < until => {
                    if !waited {
                        self.tell(&Event::Waiting { holder: holder.map(|holder| *holder) });
                        self.enqueue_in_turn(&this, in_turn).await;
                        waited = true;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(POLL) => {}
                        () = self.cancel.cancelled() => return Err(Cause::Cancelled),
                    }
                }
                Ok(lease) => {
                    if !waited {
                        self.enqueue_in_turn(&this, in_turn).await;
                    }
                    return Ok(lease);
                }
                Err(cause) => return Err(cause),
            }
        }
    }

    /// Lets those that wait know of this one. That it cannot is no reason not to run.
    async fn enqueue_in_turn(&self, this: &Holder, in_turn: bool) {
        if in_turn && let Err(cause) = self.enqueue(this).await {
            self.warn(failure::chain(&cause));
        }
    }

    async fn not_overtaken(&self, this: &Holder) -> Result<(), Cause> {
        match self.queue().await?.newer_than(this) {
            Some(newer) => Err(Cause::Overtaken { by: Box::new(newer.clone()) }),
            None => Ok(()),
        }
    }

    /// Who is at work on this application. Touches nothing and takes no lock.
    ///
    /// # Errors
    ///
    /// When the lock cannot be looked at.
    pub async fn at_work(&self) -> Result<Queue, Failure> {
        self.queue().await.map_err(|cause| self.untouched(cause))
    }

    fn tell(&self, event: &Event) {
        self.observer.on_event(event);
    }

    /// Each once: what is tried again fails again for the same reason.
    fn warn(&self, message: impl Into<String>) {
        let message = message.into();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.insert(message.clone()) {
            self.tell(&Event::Warning { message });
        }
    }
}

/// The lock is held, the journal is read, and nothing is unsettled.
struct Opened {
    _lease: Lease,
    log: RunJournal,
    recovered: Option<(DeploymentId, Outcome)>,
}

/// What is to serve.
struct Target {
    image: PinnedImage,
    options: RunOptions,
    verb: Verb,
    force: bool,
    /// The release on record that it is.
    recorded: Option<Release>,
}

impl Target {
    const fn deployed(image: PinnedImage, options: RunOptions, force: bool) -> Self {
        Self { image, options, verb: Verb::Deploy, force, recorded: None }
    }
}
