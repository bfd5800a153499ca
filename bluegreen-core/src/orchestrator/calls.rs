//! Every call on a port, each with its deadline. Nothing else in the orchestrator awaits the outside world.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Cause, Orchestrator};
use crate::event::Event;
use crate::model::{
    Backend, Check, ImageRef, ImageSource, InstanceSpec, PinnedImage, ReceiptPolicy, RequestError,
    RunOptions, Slot,
};
use crate::port::{
    Asking, Client, Connection, Described, FileChange, Foreseen, Health, Holder, InFlight, Instance,
    InstanceId, JournalError, Lease, Ownership, Proof, Queue, RuntimeError, Serving,
};
use crate::state::AppState;

/// How often a call that may work a moment later is made, and how long apart at first.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

async fn within<T, E: Into<Cause>>(
    limit: Duration,
    operation: &'static str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Cause> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err(Cause::Timeout { operation, after: limit }),
    }
}

impl Orchestrator {
    pub(super) async fn try_lock(&self, holder: &Holder) -> Result<Lease, Cause> {
        let call = self.ports.journal.lock(&self.spec.name, holder);
        within(self.spec.limits.journal, "taking the lock", call).await
    }

    pub(super) async fn queue(&self) -> Result<Queue, Cause> {
        let call = self.ports.journal.queue(&self.spec.name);
        within(self.spec.limits.journal, "looking up the run in progress", call).await
    }

    pub(super) async fn enqueue(&self, holder: &Holder) -> Result<(), Cause> {
        let call = self.ports.journal.enqueue(&self.spec.name, holder);
        within(self.spec.limits.journal, "asking for a turn", call).await
    }

    /// That no other journal of this host has this application on record, as far as its containers can be asked.
    pub(super) async fn not_elsewhere(&self) -> Result<(), Cause> {
        let marked = |owned: &Ownership| owned.recorded_in.clone();
        let all = self.list().await.unwrap_or_default();
        let places: std::collections::BTreeSet<String> =
            all.iter().filter_map(|instance| instance.owned.as_ref().and_then(marked)).collect();
        for place in places {
            let call = self.ports.journal.is_elsewhere(&self.spec.name, &place);
            if within(self.spec.limits.journal, "looking for another journal", call).await? {
                return Err(JournalError::Elsewhere { place }.into());
            }
        }
        Ok(())
    }

    /// The other applications that something is on record of here, each with what it is.
    pub(super) async fn neighbours(&self) -> Result<Vec<AppState>, Cause> {
        let limit = self.spec.limits.journal;
        let journal = &self.ports.journal;
        let mut neighbours = Vec::new();
        for app in within(limit, "listing the journals", journal.apps()).await? {
            if app != self.spec.name {
                let entries =
                    within(limit, "reading another application's journal", journal.load(&app)).await?;
                neighbours.push(AppState::replay(&entries)?);
            }
        }
        Ok(neighbours)
    }

    pub(super) async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage, Cause> {
        self.retrying(self.spec.limits.registry, || {
            within(self.spec.limits.registry, "resolving the image", self.ports.registry.resolve(image))
        })
        .await
    }

    pub(super) async fn has_image(&self, image: &PinnedImage) -> Result<bool, Cause> {
        let call = self.ports.runtime.has_image(image);
        within(self.spec.limits.runtime, "looking for the image", call).await
    }

    pub(super) async fn foresee(
        &self,
        image: &PinnedImage,
        options: &RunOptions,
    ) -> Result<Option<Foreseen>, Cause> {
        let call = self.ports.runtime.foresee(image, options);
        within(self.spec.limits.runtime, "looking at the image", call).await
    }

    /// Where it listens inside; nowhere when that cannot be had, as it only explains another failure.
    pub(super) async fn listens_on(&self, instance: &Instance) -> Vec<SocketAddr> {
        let call = self.ports.runtime.listens_on(instance);
        within(self.spec.limits.runtime, "looking where it listens", call).await.unwrap_or_default()
    }

    pub(super) async fn free_space(&self) -> Result<Option<u64>, Cause> {
        let call = self.ports.runtime.free_space();
        within(self.spec.limits.runtime, "looking for room on the disk", call).await
    }

    /// Brings the image here. Credentials are fetched for each attempt: a token may expire in the middle.
    pub(super) async fn pull(&self, image: &PinnedImage) -> Result<(), Cause> {
        let once = || async {
            let auth = if image.source() == ImageSource::Local {
                None
            } else {
                let call = self.ports.registry.credentials(image);
                within(self.spec.limits.registry, "getting credentials", call).await?
            };
            let observer = self.observer.clone();
            let progress = std::sync::Arc::new(move |at| observer.on_event(&Event::pulling(at)));
            let call = self.ports.runtime.ensure_image(image, auth, progress);
            within(self.spec.limits.pull, "pulling the image", call).await
        };
        let patience = self.spec.limits.pull;
        let pulled = async {
            match self.retrying(patience, once).await {
                // Once more with a fresh token: the first may have expired between its making and its use.
                Err(Cause::Runtime(RuntimeError::PullDenied { .. })) => self.retrying(patience, once).await,
                outcome => outcome,
            }
        };
        // The one call that may take a quarter of an hour; cut off, it leaves nothing but layers for the next.
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Cause::Cancelled),
            pulled = pulled => pulled,
        }
    }

    pub(super) async fn ensure_running(&self, spec: &InstanceSpec) -> Result<Instance, Cause> {
        within(self.spec.limits.runtime, "starting the container", self.ports.runtime.ensure_running(spec))
            .await
    }

    /// The container of a place: by its name, or, when somebody has renamed it while it runs, by its label.
    pub(super) async fn find(&self, slot: &Slot) -> Result<Option<Instance>, Cause> {
        let call = self.ports.runtime.find(&slot.name);
        let named = within(self.spec.limits.runtime, "looking for the container", call).await?;
        if named.is_some() {
            return Ok(named);
        }
        let slots = [&self.spec.slots.blue, &self.spec.slots.green];
        let renamed = |instance: &Instance| {
            let placed = slots.iter().any(|slot| slot.name == instance.name);
            let color = instance.owned.as_ref().map(|owned| owned.color);
            color == Some(slot.color) && !placed && instance.is_running()
        };
        Ok(self.list().await?.into_iter().find(renamed))
    }

    pub(super) async fn describe(&self, id: &InstanceId, slot: &Slot) -> Result<Option<Described>, Cause> {
        let call = self.ports.runtime.describe(id, slot);
        within(self.spec.limits.runtime, "looking at how the container runs", call).await
    }

    pub(super) async fn list(&self) -> Result<Vec<Instance>, Cause> {
        within(self.spec.limits.runtime, "listing containers", self.ports.runtime.list(&self.spec.name)).await
    }

    /// Stops it, allowing for the time that it has itself to stop: that of the options that it runs with.
    pub(super) async fn ensure_stopped(
        &self,
        id: &InstanceId,
        own: Option<&RunOptions>,
    ) -> Result<(), Cause> {
        let grace = own.and_then(|own| own.stop_timeout);
        let limit = self.spec.limits.runtime + grace.unwrap_or_default();
        within(limit, "stopping the container", self.ports.runtime.ensure_stopped(id, grace)).await
    }

    pub(super) async fn ensure_removed(&self, id: &InstanceId) -> Result<(), Cause> {
        within(self.spec.limits.runtime, "removing the container", self.ports.runtime.ensure_removed(id))
            .await
    }

    pub(super) async fn ensure_image_removed(&self, image: &PinnedImage) -> Result<(), Cause> {
        within(self.spec.limits.runtime, "removing an image", self.ports.runtime.ensure_image_removed(image))
            .await
    }

    /// The last lines of its log; none when they cannot be had, as they only explain another failure.
    pub(super) async fn log_tail(&self, id: &InstanceId, lines: u16) -> Vec<String> {
        let call = self.ports.runtime.log_tail(id, lines);
        within(self.spec.limits.runtime, "reading the log", call).await.unwrap_or_default()
    }

    /// One attempt of a check. Over its time is an answer too: unhealthy.
    pub(super) async fn probe(
        &self,
        check: &Check,
        target: &Instance,
        within: Duration,
    ) -> Result<Health, Cause> {
        // The probe has its own clock; the margin lets it say what it was waiting for.
        let margin = Duration::from_millis(250);
        match tokio::time::timeout(within + margin, self.ports.probe.probe(check, target, within)).await {
            Ok(outcome) => outcome.map_err(Into::into),
            Err(_) => Ok(Health::unhealthy(format!("no answer within {} s", within.as_secs_f64()))),
        }
    }

    pub(super) async fn check_proxy(&self) -> Result<(), Cause> {
        within(self.spec.limits.proxy, "checking the proxy", self.ports.proxy.check(&self.spec.name)).await
    }

    pub(super) async fn active(&self) -> Result<Serving, Cause> {
        within(
            self.spec.limits.proxy,
            "asking the proxy what it serves",
            self.ports.proxy.active(&self.spec.name),
        )
        .await
    }

    pub(super) async fn preview(&self, to: &Backend) -> Result<Vec<FileChange>, Cause> {
        let call = self.ports.proxy.preview(&self.spec.name, to);
        within(self.spec.limits.proxy, "previewing the switch", call).await
    }

    pub(super) async fn switch(&self, to: Option<Backend>) -> Result<(), Cause> {
        within(self.spec.limits.proxy, "switching the proxy", self.ports.proxy.switch(&self.spec.name, to))
            .await
    }

    pub(super) async fn verify_once(&self, to: &Backend) -> Result<Proof, Cause> {
        within(self.spec.limits.proxy, "verifying the switch", self.ports.proxy.verify(&self.spec.name, to))
            .await
    }

    pub(super) async fn in_flight(&self, from: &Backend) -> Result<InFlight, Cause> {
        let call = self.ports.proxy.in_flight(&self.spec.name, from);
        within(self.spec.limits.proxy, "counting what is in flight", call).await
    }

    /// A client of the application, as the policy has it.
    pub(super) async fn client(&self, policy: &ReceiptPolicy) -> Result<std::sync::Arc<dyn Client>, Cause> {
        let mut asking = Asking::within(policy.timeout);
        (asking.path, asking.host) = (policy.path.clone(), policy.host.clone());
        let call = self.ports.proxy.client(&self.spec.name, &asking);
        within(self.spec.limits.proxy, "finding an address for the availability probe", call).await
    }

    /// Makes a harmless call again while its error is one that may pass. No attempt begins when `patience` is over:
    /// each may use up its own deadline.
    async fn retrying<T, F: Future<Output = Result<T, Cause>>>(
        &self,
        patience: Duration,
        call: impl Fn() -> F,
    ) -> Result<T, Cause> {
        let until = tokio::time::Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        for attempt in 1..ATTEMPTS {
            match call().await {
                Err(cause) if cause.is_transient() && tokio::time::Instant::now() + pause < until => {
                    if attempt == 1 {
                        self.warn(format!(
                            "{}; trying {} more times",
                            super::failure::chain(&cause),
                            ATTEMPTS - 1
                        ));
                    }
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause *= 2,
                        () = self.cancel.cancelled() => return Err(Cause::Cancelled),
                    }
                }
                outcome => return outcome,
            }
        }
        call().await
    }
}

/// One request of a client. The client has its own clock; the margin lets it say what it was waiting for.
pub(super) async fn asked(
    client: &dyn Client,
    over: Connection,
    within: Duration,
) -> Result<u16, RequestError> {
    let margin = Duration::from_millis(250);
    tokio::time::timeout(within + margin, client.ask(over)).await.unwrap_or(Err(RequestError::Timeout))
}

impl Cause {
    fn is_transient(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_transient(),
            Self::Runtime(error @ RuntimeError::RegistryUnreachable { .. }) => error.is_transient(),
            _ => false,
        }
    }
}
