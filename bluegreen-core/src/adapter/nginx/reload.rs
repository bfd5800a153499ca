//! Rewrite mode, the switch: change the user's file, have nginx reload it, see that it did, or put it back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::model::{AppName, Backend, Color};
use crate::port::{ContainerRuntime, FileChange, InFlight, Proof, ProxyError, Serving, Way};

use super::control::{Control, other};
use super::dump::Dump;
use super::file::UserFile;
use super::process::{self, START_ERROR, Worker};
use super::rewrite::{self, Named};
use super::syntax::Directive;
use super::{Memory, Public, PublicUrl, Site, limit, public, unified, ways};

/// What nginx's test says of a name that it cannot look up; there is no other sign of it.
const UNKNOWN_HOST: &str = "host not found in upstream";

/// How often the process table is looked at: a look costs about 0.2 ms.
const LOOK: Duration = Duration::from_millis(2);

/// How long two generations of workers may stand side by side: nginx sleeps 100 ms before it lets the earlier go.
const OVERLAP: Duration = Duration::from_millis(500);

/// How many requests a proof may take: one may go over a connection that was open before.
const TRIES: u32 = 5;

/// An application whose nginx is switched by its user's own file.
#[derive(Debug)]
pub(super) struct Rewrite<'a> {
    app: &'a AppName,
    site: &'a Site,
    runtime: &'a Arc<dyn ContainerRuntime>,
    pub(super) control: Control<'a>,
    path: PathBuf,
    memory: &'a Memory,
}

/// What a look found.
struct Look {
    file: UserFile,
    named: Named,
    serving: Serving,
    master: u32,
    workers: Vec<Worker>,
}

impl Look {
    /// Whether the workers are still those of the look: then no reload has taken effect at all.
    fn is_unchanged(&self) -> bool {
        let now = process::workers(self.master);
        !now.is_empty() && now.iter().all(|worker| self.workers.iter().any(|known| known.is(worker)))
    }
}

/// Why nginx cannot even start: it looks up the name in its file, and the container of that name is not there.
async fn missing(runtime: &Arc<dyn ContainerRuntime>, site: &Site, path: &Path) -> Option<String> {
    let file = UserFile::read(path).ok()?;
    let slot = site.slots.of(rewrite::find(&file.bytes, &site.slots).ok()?.color);
    let found = runtime.find(&slot.name).await.ok()?;
    (slot.endpoint.ip().is_none() && found.is_none()).then(|| {
        format!(
            "; its file names {}, which is not there, and nginx does not start without it: start any version of the \
             application under that name and on nginx's network, then nginx",
            slot.name
        )
    })
}

impl<'a> Rewrite<'a> {
    pub(super) async fn open(
        runtime: &'a Arc<dyn ContainerRuntime>,
        app: &'a AppName,
        site: &'a Site,
        path: &Path,
        memory: &'a Memory,
    ) -> Result<Self, ProxyError> {
        let control = match Control::open(runtime, site).await {
            Ok(control) => control,
            Err(ProxyError::NotRunning { detail }) => {
                let why = missing(runtime, site, path).await.unwrap_or_default();
                return Err(ProxyError::NotRunning { detail: format!("{detail}{why}") });
            }
            Err(error) => return Err(error),
        };
        Ok(Self { app, site, runtime, control, path: path.to_owned(), memory })
    }

    fn read(&self) -> Result<(UserFile, Named), ProxyError> {
        let file = UserFile::read(&self.path)?;
        let named = rewrite::find(&file.bytes, &self.site.slots).map_err(|unnamed| file.unnamed(unnamed))?;
        Ok((file, named))
    }

    /// The workers, when only one generation of them takes connections, or after waiting for that.
    async fn generation(&self, master: u32, changed: std::time::SystemTime) -> io::Result<Vec<Worker>> {
        let deadline = Instant::now() + OVERLAP;
        loop {
            let workers = process::workers(master);
            let (mut newer, mut older) = (false, false);
            for worker in workers.iter().filter(|worker| !worker.retiring) {
                if worker.started()? + START_ERROR >= changed { newer = true } else { older = true }
            }
            if !(newer && older) || Instant::now() > deadline {
                return Ok(workers);
            }
            sleep(LOOK).await;
        }
    }

    /// What is served, by the age of the workers and of the file.
    ///
    /// Workers that started after the file's last change read it as it is. A start is known to 20 ms, and a switch
    /// takes longer between its change and its reload. What this cannot see: a clock that was set in between, and
    /// workers that all died and were started again, with what the master had read before.
    async fn look(&self) -> Result<Look, ProxyError> {
        let (file, named) = self.read()?;
        // A file that nginx does not see as it is here says nothing of what is served.
        self.control.inside(&file.path)?;
        let master = self.control.master().await?;
        let workers =
            self.generation(master, file.changed).await.map_err(other("look at nginx's workers"))?;
        let mut oldest = None;
        for worker in workers.iter().filter(|worker| !worker.retiring) {
            let started = worker.started().map_err(other("look at nginx's workers"))?;
            oldest = Some(oldest.map_or(started, |oldest| started.min(oldest)));
        }
        let oldest = oldest.ok_or_else(|| ProxyError::NotRunning {
            detail: format!("nginx's master process {master} has no worker that takes requests"),
        })?;
        let shown = file.path.display();
        let serving = if oldest + START_ERROR >= file.changed {
            let evidence =
                format!("{shown} names {}, and nginx's workers started after its last change", named.color);
            Serving::new(Some(named.color), evidence)
        } else {
            let backup = file.backup().map_err(other("read the file beside nginx's"))?;
            let earlier = backup.and_then(|bytes| rewrite::find(&bytes, &self.site.slots).ok());
            match earlier {
                Some(earlier) if earlier.color != named.color => {
                    let evidence = format!(
                        "a switch of {shown} to {} was broken off before nginx's reload, which still serves what it \
                         named before",
                        named.color
                    );
                    Serving::new(Some(earlier.color), evidence).inconsistent()
                }
                _ => self.by_request(&file, named.color).await?.inconsistent(),
            }
        };
        Ok(Look { file, named, serving, master, workers })
    }

    /// What is served when the file does not tell: whom a request reaches.
    async fn by_request(&self, file: &UserFile, named: Color) -> Result<Serving, ProxyError> {
        let stale = format!("{} was changed after nginx's workers started", file.path.display());
        if let Some(url) = self.public().await {
            for _ in 0..TRIES {
                let before = self.accepted().await?;
                public::ask(self.site, &url).await.ok();
                let after = self.accepted().await?;
                let rose = |at: usize| matches!((before[at], after[at]), (Some(a), Some(b)) if b > a);
                if rose(0) != rose(1) {
                    let color = if rose(0) { Color::Blue } else { Color::Green };
                    let evidence = format!("{stale}; a request through nginx reached {color}");
                    return Ok(Serving::new(Some(color), evidence));
                }
            }
        }
        Ok(Serving::new(Some(named), format!("{stale}; it names {named}, and nothing shows what is served")))
    }

    /// How many connections the instance of each colour has accepted, where that can be seen.
    async fn accepted(&self) -> Result<[Option<u64>; 2], ProxyError> {
        let mut counts = [None; 2];
        for (count, color) in counts.iter_mut().zip(Color::ALL) {
            *count = self.accepted_by(color).await?;
        }
        Ok(counts)
    }

    async fn accepted_by(&self, color: Color) -> Result<Option<u64>, ProxyError> {
        let name = &self.site.slots.of(color).name;
        let found = self.runtime.find(name).await.map_err(other("find the application's container"))?;
        let pid = found.filter(crate::port::Instance::is_running).and_then(|instance| instance.pid);
        // In the host's own network the count is everybody's.
        Ok(pid.filter(|pid| process::has_own_network(*pid) == Some(true)).and_then(process::accepted))
    }

    pub(super) async fn active(&self) -> Result<Serving, ProxyError> {
        self.look().await.map(|look| look.serving)
    }

    pub(super) fn preview(&self, to: &Backend) -> Result<Vec<FileChange>, ProxyError> {
        let (file, named) = self.read()?;
        if named.color == to.color {
            return Ok(Vec::new());
        }
        let new = named.rename(&file.bytes, &self.site.slots, to.color);
        let path = file.path.display().to_string();
        let [old, new] = [&file.bytes, &new].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let summary = format!("{path}: {} becomes {}; reload", named.color, to.color);
        Ok(vec![FileChange::new(&path, summary, unified(&path, &old, &new))])
    }

    pub(super) async fn check(&self) -> Result<(), ProxyError> {
        let (file, named) = self.read()?;
        self.control.inside(&file.path)?;
        file.check_writable()?;
        self.control.master().await?;
        let dump = self.control.read().await?.dump;
        self.control.readable(&dump)?;
        // A switch reloads, so all that it reads must be sound. A container that is gone has no name any more: naming
        // the other one is what fixes this.
        if let Err(output) = self.control.test().await?
            && !self.is_gone(&output, named.color)
        {
            return Err(self.broken(&dump, &named, output).await);
        }
        // By content, which also shows that nginx's container sees this file and not an earlier one.
        if !dump.contains(&file.bytes) {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            let others: Vec<&str> = dump.ending(&name).collect();
            return Err(match (&others[..], dump.unread().next()) {
                ([], Some((path, unread))) => self.control.unreadable(path, unread),
                ([], None) => {
                    file.unrecognized("nginx does not read it", format!("{} to include it", dump.main()))
                }
                _ => file.unrecognized(
                    format!("nginx reads {}, and its content is another", others.join(" and ")),
                    "nginx to read this file",
                ),
            });
        }
        let ways = self.left_behind(&dump, &file, &named);
        if !ways.is_empty() {
            return Err(ProxyError::SecondWay { ways });
        }
        self.memory.set_public(self.app, self.find_public(&dump, &named));
        Ok(())
    }

    /// What names a place of the application and would not be exchanged: in another file, or in a directive that is
    /// left as it is.
    fn left_behind(&self, dump: &Dump, file: &UserFile, named: &Named) -> Vec<Way> {
        let exchanged = |way: &ways::Way<'_>| {
            let bytes = dump.file_of(way.directive).map_or(&[][..], |(_, bytes)| bytes);
            let outside = self.control.outside(Path::new(way.path));
            let is_file = match outside.and_then(|path| std::fs::canonicalize(path).ok()) {
                Some(path) => path == file.path,
                // It lies only in the container, or a link there leads elsewhere than here.
                None => bytes.trim_ascii_end() == file.bytes.trim_ascii_end(),
            };
            is_file && named.is_in(&way.directive.span)
        };
        ways::find(dump, &self.site.slots, &|_| false)
            .iter()
            .filter(|way| way.used && way.direct && !exchanged(way))
            .map(|way| self.control.way(way))
            .collect()
    }

    /// Whether nginx's test failed only because the container of the colour that the file names is gone.
    fn is_gone(&self, output: &str, named: Color) -> bool {
        let host = self.site.slots.of(named).endpoint.host();
        let mut errors = output.lines().filter(|line| line.contains("[emerg]"));
        let gone = |line: &str| {
            line.split_once(UNKNOWN_HOST)
                .and_then(|(_, rest)| rest.strip_prefix(" \""))
                .and_then(|rest| rest.strip_prefix(host))
                .is_some_and(|rest| rest.starts_with(['"', ':']))
        };
        errors.next().is_some_and(gone) && errors.next().is_none()
    }

    fn find_public(&self, dump: &Dump, found: &Named) -> Option<PublicUrl> {
        let names = self.names(dump, found);
        public::find(&self.control, dump, &|directive, parent| goes_to_any(&names, directive, parent))
    }

    /// The names that lead to the colour that is named: its own, and those of the upstreams that list it.
    pub(super) fn names(&self, dump: &Dump, found: &Named) -> Vec<String> {
        let slots = &self.site.slots;
        let mut names = Vec::new();
        dump.visit(&mut |directive, stack| {
            if let Some(block) = stack.last()
                && block.name == "upstream"
                && rewrite::goes_to(directive, "upstream", &rewrite::name(slots, found.color))
            {
                names.extend(block.arg(0).map(str::to_owned));
            }
        });
        names.push(rewrite::name(slots, found.color));
        names
    }

    /// How many requests a minute are let through to this application, where there is a limit.
    pub(super) async fn per_minute(&self) -> Result<Option<u32>, ProxyError> {
        let (dump, _) = self.control.dump().await?;
        let names = self.names(&dump, &self.read()?.1);
        Ok(limit::per_minute(&dump, &|directive, parent| goes_to_any(&names, directive, parent)))
    }

    /// Where to ask from outside, if anywhere.
    pub(super) async fn public(&self) -> Option<PublicUrl> {
        if let Some(url) = &self.site.public {
            return Some(url.clone());
        }
        if let Some(Public(known)) = self.memory.public(self.app) {
            return known;
        }
        let found = self.control.read().await.ok()?.dump;
        let found = self.find_public(&found, &self.read().ok()?.1);
        self.memory.set_public(self.app, found.clone());
        found
    }

    pub(super) async fn switch(&self, to: Color) -> Result<(), ProxyError> {
        let look = self.look().await?;
        let file = &look.file;
        if look.named.color == to && look.serving.consistent && !self.knows_another_address(&look, to).await?
        {
            // What a run left that ended before it could tidy up.
            return file.drop_backup().map_err(other("remove the file beside nginx's"));
        }
        let new = look.named.rename(&file.bytes, &self.site.slots, to);
        let earlier_backup = file.backup().map_err(other("read the file beside nginx's"))?;
        let mut signalled = false;
        let failure = match self.change(&look, &new, &mut signalled).await {
            Ok(()) => {
                self.memory.set_earlier(self.app, look.workers);
                // It is not needed any more, and one that stays is tolerated.
                file.drop_backup().ok();
                return Ok(());
            }
            Err(failure) => failure,
        };
        self.put_back(&look, signalled, earlier_backup.as_deref()).await.map_err(|reason| {
            ProxyError::NotRestored { reason: format!("{}; then {reason}", public::chain(&failure)) }
        })?;
        if !signalled
            && let ProxyError::Refused { reason } | ProxyError::UnknownHost { reason } = &failure
            && let Ok(Err(output)) = self.control.test().await
        {
            // With the user's own bytes it does not pass either.
            let output = if output.is_empty() { reason.clone() } else { output };
            return Err(super::control::broken(output));
        }
        Err(failure)
    }

    /// Whether nginx may send requests to an address that the colour's container does not have: a name is looked up
    /// when the configuration is loaded, and the container was started after that.
    async fn knows_another_address(&self, look: &Look, color: Color) -> Result<bool, ProxyError> {
        let slot = self.site.slots.of(color);
        if slot.endpoint.ip().is_some() {
            return Ok(false);
        }
        let found = self.runtime.find(&slot.name).await.map_err(other("find the application's container"))?;
        let started = found.filter(crate::port::Instance::is_running).and_then(|instance| instance.pid);
        let started = started.and_then(process::start);
        let loaded = look.workers.iter().filter(|worker| !worker.retiring).map(|worker| worker.start).min();
        Ok(started.zip(loaded).is_some_and(|(started, loaded)| started > loaded))
    }

    async fn change(&self, look: &Look, new: &[u8], signalled: &mut bool) -> Result<(), ProxyError> {
        let refused = |reason: String| {
            if reason.contains(UNKNOWN_HOST) {
                ProxyError::UnknownHost { reason }
            } else {
                ProxyError::Refused { reason }
            }
        };
        if look.file.bytes != new {
            look.file.keep().map_err(other("keep a copy of nginx's file"))?;
            look.file.put(new).map_err(other("write nginx's file"))?;
        }
        self.control.test().await?.map_err(refused)?;
        // Set before: a call that fails may have had its effect.
        *signalled = true;
        if let Err(output) = self.control.reload().await? {
            *signalled = false;
            return Err(refused(output));
        }
        if self.reloaded(look.master, &look.workers).await {
            return Ok(());
        }
        Err(refused(format!(
            "nginx took the reload and started no worker within {:?}; its error log tells why",
            self.site.reload_timeout
        )))
    }

    /// Whether a worker comes that was not there before and takes connections.
    async fn reloaded(&self, master: u32, before: &[Worker]) -> bool {
        let deadline = Instant::now() + self.site.reload_timeout;
        loop {
            let fresh = |worker: &Worker| !worker.retiring && !before.iter().any(|known| known.is(worker));
            if process::workers(master).iter().any(fresh) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            sleep(LOOK).await;
        }
    }

    /// Puts the file back byte for byte, and nginx too when it may have read the other.
    async fn put_back(&self, look: &Look, signalled: bool, backup: Option<&[u8]>) -> Result<(), String> {
        let file = &look.file;
        // After a signal its time must stay: until the reload below, the workers have not read it.
        file.put_back(!signalled).map_err(|error| format!("{}: {error}", file.path.display()))?;
        if signalled {
            let before = process::workers(look.master);
            let reload = async {
                self.control.test().await?.map_err(|reason| ProxyError::Refused { reason })?;
                self.control.reload().await?.map_err(|reason| ProxyError::Refused { reason })
            };
            match reload.await {
                Ok(()) if self.reloaded(look.master, &before).await => {
                    self.memory.set_earlier(self.app, before);
                }
                // Neither this reload nor the one before had an effect: what was there before is in force.
                _ if look.is_unchanged() => {}
                Ok(()) => return Err("nginx did not reload the earlier file".to_owned()),
                Err(error) => return Err(public::chain(&error)),
            }
        }
        match backup {
            Some(bytes) => file.keep_as(bytes),
            None => file.drop_backup(),
        }
        .map_err(|error| format!("the file beside {}: {error}", file.path.display()))
    }

    pub(super) async fn verify(&self, to: &Backend) -> Result<Proof, ProxyError> {
        let look = self.look().await?;
        if look.serving.color != Some(to.color) || !look.serving.consistent {
            return Err(ProxyError::NotProven { reason: look.serving.evidence });
        }
        let Some(url) = self.public().await else {
            return Ok(Proof::new(format!("{}; weaker: {}", look.serving.evidence, public::NOT_ASKED), 0));
        };
        let mut before = self.accepted_by(to.color).await?;
        for requests in 1..=TRIES {
            let status = public::ask(self.site, &url).await?;
            let evidence = format!("{}; {url} answered {status}", look.serving.evidence);
            let after = self.accepted_by(to.color).await?;
            match (before, after) {
                (Some(before), Some(after)) if after > before => {
                    let evidence = format!("{evidence}, and {} had a new connection", to.color);
                    return Ok(Proof::new(evidence, requests));
                }
                (Some(_), Some(_)) => before = after,
                _ => {
                    let weaker = format!("{evidence}; weaker: whom it reached cannot be seen from here");
                    return Ok(Proof::new(weaker, requests));
                }
            }
        }
        Err(ProxyError::NotProven {
            reason: format!("{url} answered {TRIES} times and {} had no new connection", to.color),
        })
    }

    pub(super) async fn in_flight(&self, from: &Backend) -> Result<InFlight, ProxyError> {
        let master = self.control.master().await?;
        let earlier = self.memory.earlier(self.app);
        let workers = process::workers(master);
        let stale = |worker: &&Worker| worker.retiring || earlier.iter().any(|known| known.is(worker));
        let stale = workers.iter().filter(stale).count();
        let mut targets = Vec::new();
        for endpoint in &from.endpoints {
            if let Some(ip) = endpoint.ip() {
                targets.push((ip, endpoint.port()));
                continue;
            }
            let name = &self.site.slots.of(from.color).name;
            let found = self.runtime.find(name).await.map_err(other("find the application's container"))?;
            let ips = found.iter().flat_map(|instance| instance.networks.values().chain(&instance.ip));
            targets.extend(ips.map(|ip| (*ip, endpoint.port())));
        }
        let open = process::connections(master, &targets).map_err(other("count nginx's connections"))?;
        Ok(InFlight::new(open, u32::try_from(stale).unwrap_or(u32::MAX)))
    }
}

/// Whether a directive sends requests to one of these names.
pub(super) fn goes_to_any(names: &[String], directive: &Directive, parent: &str) -> bool {
    names.iter().any(|name| rewrite::goes_to(directive, parent, name))
}
