//! The ports as views of one [`World`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::client::FakeClient;
use super::fault::{At, Fault, When};
use super::world::{Container, Inner, World};
use crate::model::{
    AppName, Backend, Check, Color, ImageRef, InstanceName, InstanceSpec, PinnedImage, RunOptions, Slot,
};
use crate::plan::Step;
use crate::port::{
    Asking, BoxError, Client, ContainerRuntime, Credentials, Described, ExecOutput, ExecUser, FileChange,
    Foreseen, Health, HealthProbe, Holder, InFlight, Instance, InstanceId, Journal, JournalError, Lease,
    LineStream, Ownership, ProbeError, Proof, Proxy, ProxyError, PullObserver, PullProgress, Queue, Registry,
    RegistryError, RuntimeError, Serving,
};
use crate::state::{Entry, Record};

/// All ports of one World.
#[derive(Clone)]
pub(super) struct Fake {
    world: World,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

/// What a planned failure is made of.
fn planned_failure() -> BoxError {
    "a planned failure".into()
}

impl Fake {
    pub(super) fn new(world: World) -> Self {
        Self { world }
    }

    /// One call: counted, noted, and hit by what was planned for it. `Err` is a planned [`Fault::Fail`].
    async fn call<T>(
        &self,
        operation: &str,
        subject: &(dyn fmt::Display + Sync),
        effect: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, BoxError> {
        let planned = {
            let mut inner = self.world.lock();
            let number = inner.calls.len();
            inner.calls.push(format!("{operation} {subject}").trim_end().to_owned());
            let hit = inner.faults.iter().position(|planned| match &planned.at {
                At::Call(at) => *at == number,
                At::Operation(name) | At::Always(name) => name == operation,
            });
            hit.map(|index| match inner.faults[index].at {
                At::Always(_) => inner.faults[index].clone(),
                _ => inner.faults.remove(index),
            })
        };
        let Some(planned) = planned else { return Ok(self.take_effect(effect)) };
        if planned.when == When::After {
            // The answer is lost; the effect is not.
            drop(self.take_effect(effect));
        }
        match planned.fault {
            Fault::Fail => Err(planned_failure()),
            Fault::Hang => std::future::pending().await,
            Fault::Crash => {
                self.world.lock().crashed = true;
                self.world.shared.crashed.notify_one();
                std::future::pending().await
            }
        }
    }

    /// Changes the host, and checks afterwards what must never be untrue. What was untrue before, by an accident
    /// that a test arranged, is not this change's fault.
    fn take_effect<T>(&self, effect: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.world.lock();
        let well = inner.traffic_is_well();
        let foreign = foreign(&inner);
        let outcome = effect(&mut inner);
        if well && !inner.traffic_is_well() {
            let last = inner.calls.last().cloned().unwrap_or_default();
            let color = inner.proxy;
            inner.violations.push(format!("after `{last}` traffic goes to {color:?}, which does not answer"));
        }
        if foreign != self::foreign(&inner) {
            let last = inner.calls.last().cloned().unwrap_or_default();
            inner.violations.push(format!("`{last}` touched a container that is not ours"));
        }
        outcome
    }
}

fn foreign(inner: &Inner) -> Vec<(InstanceName, bool)> {
    let foreign = inner.containers.iter().filter(|(_, container)| container.spec.is_none());
    foreign.map(|(name, container)| (name.clone(), container.running_since.is_some())).collect()
}

fn observed(inner: &Inner, name: &InstanceName, container: &Container) -> Instance {
    let mut instance = Instance::new(InstanceId::new(&container.id), name.clone(), inner.state(container));
    if let Some(spec) = container.spec.as_ref().filter(|_| !container.elsewhere) {
        instance.owned = Some(Ownership::new(
            spec.app.clone(),
            spec.slot.color,
            spec.deployment.clone(),
            spec.image.digest().clone(),
            spec.fingerprint(),
        ));
        instance.image = spec.image.run_reference();
    }
    instance.ip = Some(IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2)));
    instance
}

#[async_trait]
impl Registry for Fake {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage, RegistryError> {
        let found = self
            .call("registry.resolve", image, |inner| {
                let by_digest =
                    image.digest().filter(|wanted| inner.registry.values().any(|it| it == *wanted));
                inner.registry.get(&image.to_string()).or(by_digest).cloned()
            })
            .await;
        let found = found.map_err(|source| RegistryError::Other { operation: "resolving", source })?;
        found.map(|digest| image.pin(digest)).ok_or_else(|| RegistryError::ImageNotFound {
            image: image.to_string(),
            source: "not published".into(),
        })
    }

    async fn credentials(&self, image: &PinnedImage) -> Result<Option<Credentials>, RegistryError> {
        let call = self.call("registry.credentials", image, |_| None).await;
        call.map_err(|source| RegistryError::Other { operation: "getting credentials", source })
    }
}

fn runtime_failure(source: BoxError) -> RuntimeError {
    RuntimeError::Other { operation: "the call", source }
}

#[async_trait]
impl ContainerRuntime for Fake {
    async fn ensure_image(
        &self,
        image: &PinnedImage,
        _auth: Option<Credentials>,
        progress: PullObserver,
    ) -> Result<(), RuntimeError> {
        progress(PullProgress::new(1, 1, 10, 10));
        let pulled = self.call("runtime.ensure_image", image, |inner| {
            inner.announced("a pull", &[Step::Pull]);
            let known = inner.health.contains_key(image.digest());
            if known {
                inner.images.insert(image.digest().clone());
            }
            known
        });
        if pulled.await.map_err(runtime_failure)? {
            Ok(())
        } else {
            Err(RuntimeError::ImageNotFound { image: image.to_string(), source: "not published".into() })
        }
    }

    async fn has_image(&self, image: &PinnedImage) -> Result<bool, RuntimeError> {
        let found = self.call("runtime.has_image", image, |inner| inner.images.contains(image.digest()));
        found.await.map_err(runtime_failure)
    }

    async fn foresee(
        &self,
        image: &PinnedImage,
        options: &RunOptions,
    ) -> Result<Option<Foreseen>, RuntimeError> {
        let foreseen = self.call("runtime.foresee", image, |inner| {
            let here = inner.images.contains(image.digest());
            let unreadable = options.unreadable_log(None).map(str::to_owned);
            here.then(|| Foreseen::new(inner.inside.healthchecks.get(image.digest()).copied(), unreadable))
        });
        foreseen.await.map_err(runtime_failure)
    }

    async fn free_space(&self) -> Result<Option<u64>, RuntimeError> {
        self.call("runtime.free_space", &"", |inner| inner.free_space).await.map_err(runtime_failure)
    }

    async fn ensure_running(&self, spec: &InstanceSpec) -> Result<Instance, RuntimeError> {
        let name = &spec.slot.name;
        let started = self.call("runtime.ensure_running", name, |inner| {
            inner.announced("a start", &[Step::Start]);
            inner.out_of_clients_sight(spec);
            if !inner.images.contains(spec.image.digest()) {
                let source = "no such image".into();
                return Err(RuntimeError::ImageNotFound { image: spec.image.to_string(), source });
            }
            let same = inner.containers.get(name).map(|there| match &there.spec {
                _ if spec.made_elsewhere.as_ref() == Some(&there.id) => Ok(true),
                Some(_) if there.elsewhere && spec.adopt => Ok(false),
                Some(other) if !there.elsewhere => Ok(other.fingerprint() == spec.fingerprint()),
                _ => Err(RuntimeError::NameTaken { name: name.to_string() }),
            });
            if same.transpose()? != Some(true) {
                inner.made += 1;
                let id = format!("{:012x}", inner.made);
                let spec = Some(spec.clone());
                let container = Container { id, spec, running_since: None, exit: None, elsewhere: false };
                inner.containers.insert(name.clone(), container);
            }
            let running = inner.containers.get(name).is_some_and(|container| inner.runs(container));
            if let Some(container) = inner.containers.get_mut(name).filter(|_| !running) {
                container.running_since = Some(Instant::now());
            }
            Ok(observed(inner, name, &inner.containers[name]))
        });
        started.await.map_err(runtime_failure)?
    }

    async fn list(&self, app: &AppName) -> Result<Vec<Instance>, RuntimeError> {
        let ours = |container: &Container| container.spec.as_ref().is_some_and(|spec| spec.app == *app);
        let listed = self.call("runtime.list", app, |inner| {
            let mine = inner.containers.iter().filter(|(_, container)| ours(container));
            mine.map(|(name, container)| observed(inner, name, container)).collect()
        });
        listed.await.map_err(runtime_failure)
    }

    async fn find(&self, name: &InstanceName) -> Result<Option<Instance>, RuntimeError> {
        let found = self.call("runtime.find", name, |inner| {
            inner.containers.get(name).map(|container| observed(inner, name, container))
        });
        found.await.map_err(runtime_failure)
    }

    async fn describe(&self, id: &InstanceId, _: &Slot) -> Result<Option<Described>, RuntimeError> {
        let described = self.call("runtime.describe", id, |inner| {
            let found = inner.containers.values().find(|container| container.id == id.as_str());
            let spec = found.and_then(|container| container.spec.as_ref());
            spec.map(|spec| {
                let mut described = Described::new(spec.image.clone(), spec.options.clone());
                described.uncarried.clone_from(&inner.inside.uncarried);
                described
            })
        });
        described.await.map_err(runtime_failure)
    }

    async fn listens_on(&self, instance: &Instance) -> Result<Vec<SocketAddr>, RuntimeError> {
        let listens =
            self.call("runtime.listens_on", &instance.name, |inner| inner.inside.listens_on.clone());
        listens.await.map_err(runtime_failure)
    }

    async fn ensure_stopped(&self, id: &InstanceId, _grace: Option<Duration>) -> Result<(), RuntimeError> {
        let takes = self.world.lock().stops_take;
        tokio::time::sleep(takes).await;
        let stopped = self.call("runtime.ensure_stopped", id, |inner| {
            inner.announced_end("a stop");
            for container in inner.containers.values_mut().filter(|container| container.id == id.as_str()) {
                container.running_since = None;
            }
        });
        stopped.await.map_err(runtime_failure)
    }

    async fn ensure_removed(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let removed = self.call("runtime.ensure_removed", id, |inner| {
            inner.announced_end("a removal");
            inner.containers.retain(|_, container| container.id != id.as_str());
        });
        removed.await.map_err(runtime_failure)
    }

    async fn ensure_image_removed(&self, image: &PinnedImage) -> Result<(), RuntimeError> {
        let removed = self.call("runtime.ensure_image_removed", image, |inner| {
            let used =
                |c: &Container| c.spec.as_ref().is_some_and(|spec| spec.image.digest() == image.digest());
            if !inner.containers.values().any(used) {
                inner.images.remove(image.digest());
            }
        });
        removed.await.map_err(runtime_failure)
    }

    async fn log_tail(&self, id: &InstanceId, _lines: u16) -> Result<Vec<String>, RuntimeError> {
        let tail = self.call("runtime.log_tail", id, |_| vec!["the last line".to_owned()]);
        tail.await.map_err(runtime_failure)
    }

    async fn follow_log(&self, id: &InstanceId) -> Result<LineStream, RuntimeError> {
        let lines = self.call("runtime.follow_log", id, |_| ()).await.map_err(runtime_failure);
        lines.map(|()| Box::pin(futures_util::stream::pending()) as LineStream)
    }

    async fn exec(
        &self,
        id: &InstanceId,
        _command: &[String],
        _user: Option<ExecUser>,
    ) -> Result<ExecOutput, RuntimeError> {
        self.call("runtime.exec", id, |_| ExecOutput::default()).await.map_err(runtime_failure)
    }
}

fn proxy_failure(source: BoxError) -> ProxyError {
    ProxyError::Other { operation: "the call", source }
}

#[async_trait]
impl Proxy for Fake {
    async fn active(&self, app: &AppName) -> Result<Serving, ProxyError> {
        let active = self.call("proxy.active", app, |inner| {
            let serving = Serving::new(inner.proxy, "the World says so");
            if inner.proxy_settled { serving } else { serving.inconsistent() }
        });
        active.await.map_err(proxy_failure)
    }

    async fn check(&self, app: &AppName) -> Result<(), ProxyError> {
        self.call("proxy.check", app, |_| ()).await.map_err(proxy_failure)
    }

    async fn preview(&self, app: &AppName, to: &Backend) -> Result<Vec<FileChange>, ProxyError> {
        let change = FileChange::new("proxy.conf", format!("serve {}", to.color), "");
        self.call("proxy.preview", app, |_| vec![change]).await.map_err(proxy_failure)
    }

    async fn switch(&self, _app: &AppName, to: Option<Backend>) -> Result<(), ProxyError> {
        let to = to.map(|backend| backend.color);
        let subject = to.map_or("nothing", Color::as_str);
        let switched = self.call("proxy.switch", &subject, |inner| {
            // Before its own step only to what lives.
            let candidate = inner.state.open().map(|run| run.candidate.color());
            let early = to.is_some() && to != candidate;
            inner.announced("a switch", &[if early { Step::Start } else { Step::Switch }]);
            if inner.proxy != to {
                inner.clients.switched();
            }
            inner.proxy = to;
            inner.proxy_settled = true;
        });
        switched.await.map_err(proxy_failure)
    }

    async fn verify(&self, _app: &AppName, to: &Backend) -> Result<Proof, ProxyError> {
        let verified = self.call("proxy.verify", &to.color, |inner| inner.proxy == Some(to.color)).await;
        if verified.map_err(proxy_failure)? {
            Ok(Proof::new(format!("{} answered", to.color), 1))
        } else {
            Err(ProxyError::NotProven { reason: "another colour answered".to_owned() })
        }
    }

    async fn in_flight(&self, _app: &AppName, from: &Backend) -> Result<InFlight, ProxyError> {
        let counted =
            self.call("proxy.in_flight", &from.color, |inner| match inner.in_flight.get(&from.color) {
                Some((connections, until)) if until.is_none_or(|until| Instant::now() < until) => {
                    *connections
                }
                _ => 0,
            });
        counted.await.map(|connections| InFlight::new(connections, 0)).map_err(proxy_failure)
    }

    async fn client(&self, _app: &AppName, _asking: &Asking) -> Result<Arc<dyn Client>, ProxyError> {
        let shut_out = self.world.lock().clients.shut_out.clone();
        match shut_out {
            Some(reason) => Err(ProxyError::NoWayIn { reason }),
            None => Ok(Arc::new(FakeClient::new(self.world.clone()))),
        }
    }
}

#[async_trait]
impl HealthProbe for Fake {
    async fn probe(&self, check: &Check, target: &Instance, _within: Duration) -> Result<Health, ProbeError> {
        let name = &target.name;
        let subject = format!("{name} {check}");
        let asked = self.call("probe.probe", &subject, |inner| match inner.containers.get(name) {
            Some(container) => inner.health(container),
            None => Err("connection refused".to_owned()),
        });
        match asked.await {
            Ok(Ok(())) => Ok(Health::Healthy),
            Ok(Err(reason)) => Ok(Health::unhealthy(reason)),
            Err(source) => Err(ProbeError::Other { operation: "the call", source }),
        }
    }
}

fn journal_failure(source: BoxError) -> JournalError {
    JournalError::Other { operation: "the call", source }
}

/// Lets go of the World's lock, unless the process that held it is dead: then it is gone already.
struct Unlock(World);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.lock().holder = None;
    }
}

#[async_trait]
impl Journal for Fake {
    async fn lock(&self, _app: &AppName, holder: &Holder) -> Result<Lease, JournalError> {
        let taken = self
            .call("journal.lock", &holder.verb, |inner| {
                let other = inner.holder.clone();
                inner.holder.get_or_insert_with(|| holder.clone());
                other
            })
            .await;
        match taken.map_err(journal_failure)? {
            None => Ok(Lease::new(Unlock(self.world.clone()))),
            Some(other) => Err(JournalError::Held { holder: Some(Box::new(other)) }),
        }
    }

    async fn append(&self, _app: &AppName, record: &Record) -> Result<(), JournalError> {
        let subject = match record {
            Record::Begun { .. } => "begun".to_owned(),
            Record::Started { step } => format!("started {step}"),
            Record::Succeeded { step } => format!("succeeded {step}"),
            Record::Failed { step, .. } => format!("failed {step}"),
            Record::UndoStarted { step } => format!("undo started {step}"),
            Record::Undone { step } => format!("undone {step}"),
            Record::UndoFailed { step, .. } => format!("undo failed {step}"),
            Record::Receipt { .. } => "receipt".to_owned(),
            Record::Retiring { color } => format!("retiring {color}"),
            Record::Ended { outcome } => format!("ended {outcome:?}"),
        };
        self.call("journal.append", &subject, |inner| inner.append(record)).await.map_err(journal_failure)
    }

    async fn load(&self, app: &AppName) -> Result<Vec<Entry>, JournalError> {
        let load = |inner: &mut Inner| inner.neighbours.get(app).unwrap_or(&inner.journal).clone();
        self.call("journal.load", app, load).await.map_err(journal_failure)
    }

    async fn apps(&self) -> Result<Vec<AppName>, JournalError> {
        // This one's own is not among them while nobody asks for it.
        let apps = |inner: &mut Inner| inner.neighbours.keys().cloned().collect();
        self.call("journal.apps", &"all", apps).await.map_err(journal_failure)
    }

    async fn queue(&self, app: &AppName) -> Result<Queue, JournalError> {
        let look = |inner: &mut Inner| {
            Queue::new(inner.holder.is_some(), inner.holder.clone(), inner.newest.clone())
        };
        self.call("journal.queue", app, look).await.map_err(journal_failure)
    }

    async fn is_elsewhere(&self, _: &AppName, _: &str) -> Result<bool, JournalError> {
        Ok(false)
    }

    async fn enqueue(&self, app: &AppName, holder: &Holder) -> Result<(), JournalError> {
        let enqueue = |inner: &mut Inner| {
            if !inner.newest.as_ref().is_some_and(|newest| newest.is_newer_than(holder)) {
                inner.newest = Some(holder.clone());
            }
        };
        self.call("journal.enqueue", app, enqueue).await.map_err(journal_failure)
    }
}
