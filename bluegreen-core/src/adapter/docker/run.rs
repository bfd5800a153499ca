//! Making, starting, stopping and removing containers.

use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum as Status};
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptions, RenameContainerOptions, StopContainerOptions,
};
use tokio::time::{Instant, sleep};

use super::answer::EngineMessage;
use super::create::{self, label, whole_seconds};
use super::error::Failure;
use super::network::{self, Attached};
use super::{ANSWER_WITHIN, Docker, observe};
use crate::model::{ImageSource, InstanceName, InstanceSpec};
use crate::port::{Instance, RuntimeError};

/// The Engine's own stop grace where nothing else is set.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// How long a removal that somebody else has begun is waited for.
const REMOVAL_WITHIN: Duration = Duration::from_secs(10);

/// How long a container may take to be there whose name the Engine calls taken, and how often it is looked for: a run
/// that was killed may have asked for it, and the Engine goes on with what nobody waits for.
const APPEARS_WITHIN: Duration = Duration::from_secs(10);
const APPEARS_LOOK: Duration = Duration::from_millis(50);

/// What to do with the container that has the name already.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It is the one that is wanted.
    Reuse,
    /// It is ours, or given to us.
    Replace,
}

/// `None` when it is none of our business.
fn judge(found: &ContainerInspectResponse, spec: &InstanceSpec) -> Option<Found> {
    let label = |name: &str| found.config.as_ref()?.labels.as_ref()?.get(name).map(String::as_str);
    match label(label::APP) {
        None if spec.made_elsewhere.is_some() && spec.made_elsewhere == found.id => Some(Found::Reuse),
        Some(app) if app == spec.app.as_str() => {
            let whole = !matches!(status(found), Some(Status::DEAD | Status::REMOVING));
            if whole && label(label::FINGERPRINT) == Some(spec.fingerprint().as_str()) {
                Some(Found::Reuse)
            } else {
                Some(Found::Replace)
            }
        }
        None if spec.adopt => Some(Found::Replace),
        // Another application's container is taken whatever this one's configuration says about adopting.
        _ => None,
    }
}

fn status(found: &ContainerInspectResponse) -> Option<Status> {
    found.state.as_ref()?.status
}

fn is_running(found: &ContainerInspectResponse) -> bool {
    matches!(status(found), Some(Status::RUNNING | Status::RESTARTING | Status::PAUSED | Status::STOPPING))
}

/// The application that it was made for; `None` when it is not ours.
fn owner(found: &ContainerInspectResponse) -> Option<&str> {
    found.config.as_ref()?.labels.as_ref()?.get(label::APP).map(String::as_str)
}

/// Whether it can never start again as it is: a network that it was made with is gone, or the Engine has lost sight of
/// its process, which no stop, removal or restart of the Engine ends (20.10).
fn is_beyond_starting(error: &RuntimeError) -> bool {
    match error {
        RuntimeError::Network { .. } => true,
        RuntimeError::Other { source, .. } => {
            source.downcast_ref().is_some_and(EngineMessage::is_out_of_sight)
        }
        _ => false,
    }
}

impl Docker {
    /// Looks what has the name, and acts on it, again while the Engine says that the name was taken behind that look.
    pub(super) async fn run(&self, spec: &InstanceSpec) -> Result<Instance, RuntimeError> {
        create::check(spec)?;
        let until = Instant::now() + APPEARS_WITHIN;
        loop {
            let found = match self.inspect_name(&spec.slot.name).await? {
                None => None,
                Some(found) => {
                    let taken = || RuntimeError::NameTaken { name: spec.slot.name.to_string() };
                    Some((judge(&found, spec).ok_or_else(taken)?, found))
                }
            };
            // Much goes on in it: on the heap, so that a caller's own future stays small.
            match Box::pin(self.run_over(spec, found)).await {
                Err(RuntimeError::NameTaken { .. }) if Instant::now() < until => sleep(APPEARS_LOOK).await,
                outcome => return outcome,
            }
        }
    }

    async fn run_over(
        &self,
        spec: &InstanceSpec,
        found: Option<(Found, ContainerInspectResponse)>,
    ) -> Result<Instance, RuntimeError> {
        if let Some((judged, found)) = found {
            let id = found.id.clone().unwrap_or_default();
            match judged {
                Found::Reuse => match self.reuse(spec, &id, &found).await {
                    Err(error) if !is_running(&found) && is_beyond_starting(&error) => {}
                    outcome => return outcome,
                },
                Found::Replace => {}
            }
            if !is_running(&found) && self.set_aside(spec, &id).await? {
                // Side by side: a removal takes tens of milliseconds that nobody need wait for. One that fails leaves a
                // container that `list` shows and that the next replacement takes away.
                let (made, _removed) = tokio::join!(self.create(spec), self.remove(&id));
                return made;
            }
            // It may be running; its process gets the chance to end well.
            self.stop(&id, None).await?;
            self.remove(&id).await?;
        }
        self.create(spec).await
    }

    /// Frees the name of a container that is about to be removed; whether that worked. When it did not, something is
    /// left of an earlier time, which then goes.
    async fn set_aside(&self, spec: &InstanceSpec, id: &str) -> Result<bool, RuntimeError> {
        let aside = format!("{}-replaced", spec.slot.name);
        let Ok(aside) = InstanceName::new(aside) else { return Ok(false) };
        let options = RenameContainerOptions { name: aside.to_string() };
        if self.engine().await?.rename_container(id, options).await.is_ok() {
            return Ok(true);
        }
        if let Some(left) = self.inspect_name(&aside).await?
            && owner(&left) == Some(spec.app.as_str())
        {
            self.remove(left.id.as_deref().unwrap_or_default()).await?;
        }
        Ok(false)
    }

    async fn create(&self, spec: &InstanceSpec) -> Result<Instance, RuntimeError> {
        let networks = self.networks(spec).await?;
        let first = networks.first().map_or("bridge", |first| &first.wanted.name);
        let options = CreateContainerOptions { name: Some(spec.slot.name.to_string()), ..Default::default() };
        let create_from = async |image: String| {
            let body = create::marked(create::body(spec, image, &networks), self.state.as_deref());
            let engine = self.engine().await?;
            let made = network::settled(|| engine.create_container(Some(options.clone()), body.clone()));
            made.await.map_err(|failure| failure.run("making the container", spec, first, self.address()))
        };
        let pinned = spec.image.named_reference();
        let mut made = match self.name_of(&spec.image).await? {
            Some(name) => create_from(name).await?,
            None => create_from(pinned.clone()).await?,
        };
        // A name may have gone to another image since it was looked up.
        if spec.image.source() == ImageSource::Local
            && self.inspect(&made.id).await?.is_some_and(|found| found.image.as_ref() != Some(&pinned))
        {
            self.remove(&made.id).await?;
            made = create_from(pinned).await?;
        }
        for further in networks.iter().skip(1) {
            self.attach(spec, &made.id, further).await?;
        }
        self.start(spec, &made.id, &networks).await
    }

    /// Makes sure that a container of the right fingerprint is attached and runs: whoever made it may have been
    /// interrupted in between.
    async fn reuse(
        &self,
        spec: &InstanceSpec,
        id: &str,
        found: &ContainerInspectResponse,
    ) -> Result<Instance, RuntimeError> {
        let attached = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        let complete = network::wanted(spec)
            .iter()
            .all(|wanted| attached.is_some_and(|attached| attached.contains_key(&wanted.name)));
        if is_running(found) && complete && status(found) != Some(Status::PAUSED) {
            return self.instance(id).await;
        }
        let networks = self.networks(spec).await?;
        for network in &networks {
            if !attached.is_some_and(|attached| attached.contains_key(&network.wanted.name)) {
                self.attach(spec, id, network).await?;
            }
        }
        if status(found) == Some(Status::PAUSED) {
            let unpaused = self.engine().await?.unpause_container(id).await;
            unpaused.map_err(|error| self.other("letting the container go on", error))?;
        }
        self.start(spec, id, &networks).await
    }

    /// Starts it; a container that runs is left alone by the Engine.
    async fn start(
        &self,
        spec: &InstanceSpec,
        id: &str,
        networks: &[Attached],
    ) -> Result<Instance, RuntimeError> {
        let names: Vec<_> = networks.iter().map(|network| network.wanted.name.as_str()).collect();
        let engine = self.engine().await?;
        let started = network::settled(|| engine.start_container(id, None));
        match started.await {
            Ok(()) => self.instance(id).await,
            Err(failure) => {
                Err(failure.run("starting the container", spec, &names.join(", "), self.address()))
            }
        }
    }

    async fn instance(&self, id: &str) -> Result<Instance, RuntimeError> {
        let found = self.inspect(id).await?.as_ref().and_then(observe::instance);
        found.ok_or_else(|| RuntimeError::Other {
            operation: "looking at the container",
            source: "it was removed in the meantime".into(),
        })
    }

    pub(super) async fn stop(&self, id: &str, grace: Option<Duration>) -> Result<(), RuntimeError> {
        let Some(found) = self.inspect(id).await? else { return Ok(()) };
        if !is_running(&found) {
            return Ok(());
        }
        let own = found.config.as_ref().and_then(|config| config.stop_timeout);
        let own =
            own.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DEFAULT_GRACE, Duration::from_secs);
        // A client that gives up earlier than the Engine does not cancel the stop, it only does not see its end.
        let client = self.engine().await?.clone().with_timeout(ANSWER_WITHIN + grace.unwrap_or(own));
        let options = StopContainerOptions { t: grace.map(whole_seconds), signal: None };
        match client.stop_container(id, Some(options)).await.map_err(Failure::from) {
            Ok(()) => Ok(()),
            Err(failure) if failure.is_not_found() => Ok(()),
            Err(failure) => Err(failure.other("stopping the container", self.address())),
        }
    }

    pub(super) async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let Some(found) = self.inspect(id).await? else { return Ok(()) };
        // Nameless volumes go with a container of ours, or every release would leave some. Somebody else's may
        // hold what nobody has a copy of.
        let options = RemoveContainerOptions { force: true, v: owner(&found).is_some(), link: false };
        match self.engine().await?.remove_container(id, Some(options)).await.map_err(Failure::from) {
            Ok(()) => Ok(()),
            Err(failure) if failure.is_not_found() => Ok(()),
            Err(failure) if failure.said().is_some_and(EngineMessage::is_removal_in_progress) => {
                self.until_gone(id).await
            }
            Err(failure) => Err(failure.other("removing the container", self.address())),
        }
    }

    /// The name is free only when the removal is through.
    async fn until_gone(&self, id: &str) -> Result<(), RuntimeError> {
        let gone = async {
            while self.inspect(id).await?.is_some() {
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        tokio::time::timeout(REMOVAL_WITHIN, gone).await.unwrap_or_else(|_| {
            Err(RuntimeError::Other {
                operation: "removing the container",
                source: "a removal is in progress and does not end".into(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::docker::create::tests::spec;

    fn found(status: &str, labels: &[(&str, &str)]) -> ContainerInspectResponse {
        let labels: std::collections::BTreeMap<_, _> = labels.iter().copied().collect();
        let json = serde_json::json!({"State": {"Status": status}, "Config": {"Labels": labels}});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn whose_container_it_is_decides() {
        let (mut spec, other) = (spec(), "other");
        let fingerprint = spec.fingerprint();
        let ours = [("bluegreen.app", "shop"), ("bluegreen.fingerprint", fingerprint.as_str())];
        let theirs = [("bluegreen.app", other), ("bluegreen.fingerprint", fingerprint.as_str())];
        let earlier = [("bluegreen.app", "shop"), ("bluegreen.fingerprint", "0")];
        for adopt in [false, true] {
            spec.adopt = adopt;
            assert_eq!(judge(&found("running", &ours), &spec), Some(Found::Reuse));
            assert_eq!(judge(&found("exited", &ours), &spec), Some(Found::Reuse));
            assert_eq!(judge(&found("dead", &ours), &spec), Some(Found::Replace));
            assert_eq!(judge(&found("running", &earlier), &spec), Some(Found::Replace));
            assert_eq!(judge(&found("running", &[("bluegreen.app", "shop")]), &spec), Some(Found::Replace));
            assert_eq!(judge(&found("running", &theirs), &spec), None);
        }
        assert_eq!(judge(&found("running", &[]), &spec), Some(Found::Replace));
        spec.adopt = false;
        assert_eq!(judge(&found("running", &[]), &spec), None);
    }
}
