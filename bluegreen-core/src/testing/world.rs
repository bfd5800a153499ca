//! The host itself: what is there, what is asked of it, and what must never be untrue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::client::Clients;
use super::fakes::Fake;
use super::fault::{At, Fault, Planned, When};
use crate::model::{
    AppName, AppSpec, Check, Color, Digest, Endpoint, GatePolicy, HttpCheck, ImageRef, InstanceName,
    InstanceSpec, Slot, Slots,
};
use crate::plan::Step;
use crate::port::{Holder, InstanceState, Ports};
use crate::state::{AppState, Entry, Record};

/// One in-memory host. Clones are views of the same one.
#[derive(Debug, Clone)]
pub struct World {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    pub(super) crashed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) calls: Vec<String>,
    pub(super) faults: Vec<Planned>,
    pub(super) crashed: bool,
    pub(super) registry: BTreeMap<String, Digest>,
    pub(super) health: BTreeMap<Digest, Health>,
    pub(super) images: BTreeSet<Digest>,
    pub(super) inside: super::inside::Inside,
    pub(super) containers: BTreeMap<InstanceName, Container>,
    pub(super) made: u64,
    pub(super) proxy: Option<Color>,
    pub(super) proxy_settled: bool,
    pub(super) in_flight: BTreeMap<Color, (u32, Option<Instant>)>,
    pub(super) journal: Vec<Entry>,
    pub(super) state: AppState,
    /// The journals of other applications of this host.
    pub(super) neighbours: BTreeMap<AppName, Vec<Entry>>,
    pub(super) holder: Option<Holder>,
    pub(super) newest: Option<Holder>,
    pub(super) violations: Vec<String>,
    pub(super) clients: Clients,
    pub(super) free_space: Option<u64>,
    pub(super) stops_take: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) spec: Option<InstanceSpec>,
    pub(super) running_since: Option<Instant>,
    pub(super) exit: Option<(i64, bool)>,
    /// Whether somebody else made it: it has no labels of ours.
    pub(super) elsewhere: bool,
}

/// How the containers of an image behave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// Healthy so long after the start.
    After(Duration),
    /// Never healthy.
    Never(String),
    /// Healthy at once, and gone so long after the start.
    DiesAfter(Duration, i64),
    /// Killed for lack of memory so long after the start, without ever being healthy.
    OomAfter(Duration),
    /// Healthy for that long, then not for as long, and so on.
    Flapping(Duration),
}

impl Health {
    /// Never healthy, because of `reason`.
    pub fn never(reason: impl Into<String>) -> Self {
        Self::Never(reason.into())
    }
}

/// An image that was published; says how it behaves.
#[derive(Debug)]
#[non_exhaustive]
pub struct Published {
    pub(super) world: World,
    pub(super) digest: Digest,
}

impl Published {
    /// Sets how its containers behave.
    pub fn behaves(self, health: Health) {
        self.world.lock().health.insert(self.digest, health);
    }
}

/// What answers a client now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServedBy {
    /// The colour.
    pub color: Color,
    /// The tag that was asked for.
    pub tag: String,
    /// The container's name.
    pub name: InstanceName,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty host with a proxy that serves nothing.
    pub fn new() -> Self {
        let inner = Inner { proxy_settled: true, ..Inner::default() };
        Self { shared: Arc::new(Shared { inner: Mutex::new(inner), crashed: Notify::new() }) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fakes of all ports over this host.
    pub fn ports(&self) -> Ports {
        let fake = Arc::new(Fake::new(self.clone()));
        Ports {
            registry: fake.clone(),
            runtime: fake.clone(),
            proxy: fake.clone(),
            probe: fake.clone(),
            journal: fake,
        }
    }

    /// An application `web` to deploy here: HTTP health on port 3000, at most 30 s.
    #[expect(clippy::missing_panics_doc, reason = "the names are constants that parse")]
    pub fn spec(&self) -> AppSpec {
        let slot = |color: Color, port| {
            let name = InstanceName::new(format!("web-{color}")).expect("a constant");
            Slot::new(color, name, 3000, Endpoint::new("127.0.0.1", port).expect("a constant"))
        };
        let slots = Slots { blue: slot(Color::Blue, 3000), green: slot(Color::Green, 4000) };
        let mut spec = AppSpec::new(AppName::new("web").expect("a constant"), slots);
        spec.gate = GatePolicy {
            checks: vec![Check::Http(HttpCheck::get(3000, "/health"))],
            ..GatePolicy::default()
        };
        spec
    }

    /// Puts an image into the registry; its containers are healthy at once unless told otherwise. Publishing
    /// the same reference again moves its tag to another digest.
    ///
    /// # Panics
    ///
    /// When `reference` is not an image reference.
    pub fn publish(&self, reference: &str) -> Published {
        let image: ImageRef = reference.parse().expect("an image reference");
        let mut inner = self.lock();
        inner.made += 1;
        let digest = Digest::new(format!("sha256:{:064x}", inner.made)).expect("64 hex digits");
        inner.registry.insert(image.to_string(), digest.clone());
        inner.health.insert(digest.clone(), Health::After(Duration::ZERO));
        drop(inner);
        Published { world: self.clone(), digest }
    }

    /// Changes how the containers of a published image behave from now on.
    ///
    /// # Panics
    ///
    /// When it was not published.
    pub fn change(&self, reference: &str, health: Health) {
        let mut inner = self.lock();
        let digest = inner.registry[reference].clone();
        inner.health.insert(digest, health);
    }

    /// Puts a running container here that is nobody's: it must never be touched.
    ///
    /// # Panics
    ///
    /// When `name` is not a container name.
    pub fn foreign_container(&self, name: &str) {
        let name = InstanceName::new(name).expect("a container name");
        let container = Container {
            id: format!("foreign-{name}"),
            spec: None,
            running_since: Some(Instant::now()),
            exit: None,
            elsewhere: true,
        };
        self.lock().containers.insert(name, container);
    }

    /// Puts a container of a published image here that a script made and the proxy sends clients to.
    ///
    /// # Panics
    ///
    /// When it was not published.
    pub fn made_by_script(&self, color: Color, reference: &str, options: crate::model::RunOptions) {
        let image: ImageRef = reference.parse().expect("an image reference");
        let mut spec = self.spec();
        spec.options = options;
        let mut inner = self.lock();
        let digest = inner.registry[&image.to_string()].clone();
        inner.images.insert(digest.clone());
        let deployment = crate::model::DeploymentId::new("script").expect("a constant");
        let spec = spec.instance(color, image.pin(digest), deployment);
        let name = spec.slot.name.clone();
        let container = Container {
            id: format!("script-{name}"),
            spec: Some(spec),
            running_since: Some(Instant::now()),
            exit: None,
            elsewhere: true,
        };
        inner.containers.insert(name, container);
        inner.proxy = Some(color);
    }

    /// Removes every image that no container uses, as a person does to make room, and containers that are stopped.
    pub fn prune_everything(&self) {
        let mut inner = self.lock();
        inner.containers.retain(|_, container| container.running_since.is_some());
        let used = |digest: &Digest, inner: &Inner| {
            inner.containers.values().any(|c| c.spec.as_ref().is_some_and(|s| s.image.digest() == digest))
        };
        let kept = inner.images.iter().filter(|digest| used(digest, &inner)).cloned().collect();
        inner.images = kept;
    }

    /// Takes an image out of the registry.
    pub fn unpublish(&self, reference: &str) {
        let mut inner = self.lock();
        if let Some(digest) = inner.registry.remove(reference) {
            inner.health.remove(&digest);
        }
    }

    /// Renames the stopped container of a place, as a replacement does that is then cut off.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn set_aside(&self, color: Color) {
        let mut inner = self.lock();
        let name = inner.at(color).expect("a container in this place").0.clone();
        let container = inner.containers.remove(&name).expect("it was just there");
        let aside = InstanceName::new(format!("{name}-replaced")).expect("a container name");
        inner.containers.insert(aside, container);
    }

    /// What answers a client now; `None` when nobody does.
    pub fn serving(&self) -> Option<ServedBy> {
        let inner = self.lock();
        let color = inner.proxy?;
        let (name, container) = inner.at(color)?;
        let spec = container.spec.as_ref().filter(|_| inner.is_healthy(container))?;
        let tag = spec.image.image().tag().unwrap_or_default().to_owned();
        Some(ServedBy { color, tag, name: name.clone() })
    }

    /// The names of the containers that run.
    pub fn running(&self) -> Vec<String> {
        let inner = self.lock();
        inner.containers.iter().filter(|(_, c)| inner.runs(c)).map(|(name, _)| name.to_string()).collect()
    }

    /// The names of all containers.
    pub fn containers(&self) -> Vec<String> {
        self.lock().containers.keys().map(ToString::to_string).collect()
    }

    /// The id of the container of that name.
    pub fn container_id(&self, name: &str) -> Option<String> {
        self.container(name).map(|container| container.id)
    }

    /// The options of the container of that name.
    pub fn options(&self, name: &str) -> Option<crate::model::RunOptions> {
        self.container(name)?.spec.map(|spec| spec.options)
    }

    fn container(&self, name: &str) -> Option<Container> {
        let inner = self.lock();
        inner.containers.iter().find(|(at, _)| at.as_str() == name).map(|(_, container)| container.clone())
    }

    /// The digests of the images that are here.
    pub fn images(&self) -> Vec<Digest> {
        self.lock().images.iter().cloned().collect()
    }

    /// Requests that are in flight to a colour, until `until` from now on, or for ever.
    pub fn in_flight(&self, color: Color, connections: u32, until: Option<Duration>) {
        let until = until.map(|after| Instant::now() + after);
        self.lock().in_flight.insert(color, (connections, until));
    }

    /// So many bytes are free where images are kept; at first that is not known.
    pub fn free_space(&self, bytes: Option<u64>) {
        self.lock().free_space = bytes;
    }

    /// A stop takes that long from now on.
    pub fn stops_take(&self, time: Duration) {
        self.lock().stops_take = time;
    }

    /// Everything on record so far happened that much earlier.
    pub fn backdate(&self, by: Duration) {
        for entry in &mut self.lock().journal {
            entry.at = entry.at.checked_sub(by).unwrap_or(jiff::Timestamp::MIN);
        }
    }

    /// Puts another application's journal beside this one.
    pub fn neighbour(&self, app: AppName, journal: Vec<Entry>) {
        self.lock().neighbours.insert(app, journal);
    }

    /// Points the proxy elsewhere behind everybody's back.
    pub fn tamper_proxy(&self, color: Option<Color>) {
        self.lock().proxy = color;
    }

    /// Every call that was made on a port, in order, a line each.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// The journal as it is.
    pub fn journal(&self) -> Vec<Entry> {
        self.lock().journal.clone()
    }

    /// What was untrue at some moment and must never be, in words. See the module.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Plans a fault for the call of that number, counted from 0 since this World began.
    pub fn fault_at_call(&self, number: usize, fault: Fault, when: When) {
        self.lock().faults.push(Planned { at: At::Call(number), fault, when });
    }

    /// Plans a fault for the next call of an operation, for example `proxy.switch`.
    pub fn fault_at(&self, operation: &str, fault: Fault, when: When) {
        self.lock().faults.push(Planned { at: At::Operation(operation.to_owned()), fault, when });
    }

    /// Plans a fault for every call of an operation, until [`World::heal`].
    pub fn fault_always(&self, operation: &str, fault: Fault, when: When) {
        self.lock().faults.push(Planned { at: At::Always(operation.to_owned()), fault, when });
    }

    /// Forgets all planned faults.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Comes back when a planned [`Fault::Crash`] happens. Race it against the run, and drop the run.
    pub async fn crash(&self) {
        self.shared.crashed.notified().await;
    }

    /// A new process begins after a crash: the lock is free, everything else is as it was left.
    pub fn restart_process(&self) {
        let mut inner = self.lock();
        inner.crashed = false;
        inner.holder = None;
    }

    /// The host restarts: every container is stopped, and what has a restart policy comes back.
    pub fn reboot(&self) {
        self.restart_process();
        let mut inner = self.lock();
        for container in inner.containers.values_mut() {
            let restarts = container.running_since.is_some()
                && container
                    .spec
                    .as_ref()
                    .is_some_and(|s| s.options.restart != crate::model::RestartPolicy::No);
            container.running_since = restarts.then(Instant::now);
        }
    }
}

impl Inner {
    /// The container in a colour's place.
    pub(super) fn at(&self, color: Color) -> Option<(&InstanceName, &Container)> {
        self.containers.iter().find(|(name, _)| name.as_str() == format!("web-{color}"))
    }

    /// Lets time take its course with a container: what it is doing now.
    pub(super) fn state(&self, container: &Container) -> InstanceState {
        let Some(since) = container.running_since else {
            let (exit_code, oom_killed) = container.exit.unwrap_or_default();
            return InstanceState::Exited { exit_code, oom_killed, error: None };
        };
        match self.script(container) {
            Some(Health::DiesAfter(after, code)) if since.elapsed() >= *after => {
                InstanceState::Exited { exit_code: *code, oom_killed: false, error: None }
            }
            Some(Health::OomAfter(after)) if since.elapsed() >= *after => {
                InstanceState::Exited { exit_code: 137, oom_killed: true, error: None }
            }
            _ => InstanceState::Running,
        }
    }

    pub(super) fn runs(&self, container: &Container) -> bool {
        self.state(container) == InstanceState::Running
    }

    fn script(&self, container: &Container) -> Option<&Health> {
        self.health.get(container.spec.as_ref()?.image.digest())
    }

    /// Whether it would answer a client now, and why not.
    pub(super) fn health(&self, container: &Container) -> Result<(), String> {
        let Some(since) = container.running_since.filter(|_| self.runs(container)) else {
            return Err("connection refused".to_owned());
        };
        match self.script(container) {
            Some(Health::Never(reason)) => Err(reason.clone()),
            Some(Health::After(delay)) if since.elapsed() < *delay => Err("connection refused".to_owned()),
            Some(Health::OomAfter(_)) => Err("connection refused".to_owned()),
            Some(Health::Flapping(half))
                if (since.elapsed().as_millis() / half.as_millis().max(1)) % 2 == 1 =>
            {
                Err("status 503".to_owned())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn is_healthy(&self, container: &Container) -> bool {
        self.health(container).is_ok()
    }

    /// Whether traffic reaches somebody who answers; true when no traffic is sent anywhere.
    pub(super) fn traffic_is_well(&self) -> bool {
        self.proxy.is_none_or(|color| self.at(color).is_some_and(|(_, container)| self.is_healthy(container)))
    }

    /// Notes when the journal does not announce an effect.
    pub(super) fn announced(&mut self, effect: &str, steps: &[Step]) {
        let announced = self
            .state
            .open()
            .is_some_and(|run| run.is_committed() || run.started.iter().any(|step| steps.contains(step)));
        if !announced {
            self.violations.push(format!("{effect} was not announced by the journal"));
        }
    }

    /// Notes when a candidate starts where the proxy sends clients although another container answers: they would
    /// meet it before its gate.
    pub(super) fn out_of_clients_sight(&mut self, started: &InstanceSpec) {
        let color = started.slot.color;
        let candidate = self.state.open().is_some_and(|run| run.candidate.color() == color);
        let answers = |color| self.at(color).is_some_and(|(_, container)| self.is_healthy(container));
        if candidate && self.proxy == Some(color) && !answers(color) && answers(color.other()) {
            self.violations.push(format!("{} starts where the proxy sends clients", started.slot.name));
        }
    }

    /// The same for what ends a container, which may also have been kept running until now.
    pub(super) fn announced_end(&mut self, effect: &str) {
        if self.state.open().is_some() || self.state.retiring.is_none() {
            self.announced(effect, &[Step::Start]);
        }
    }

    pub(super) fn append(&mut self, record: &Record) {
        let entry = Entry::new(self.journal.len() as u64 + 1, jiff::Timestamp::now(), record.clone());
        let pushed = self.state.push(&entry);
        self.journal.push(entry);
        if let Err(error) = pushed {
            self.violations.push(format!("the journal became a contradiction: {error}"));
        }
    }
}
