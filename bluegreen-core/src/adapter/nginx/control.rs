//! Talking to nginx itself: its command, its master process, its paths and its addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::model::Endpoint;
use crate::port::{BoxError, ContainerRuntime, ExecOutput, Instance, Location, ProxyError, Way};

use super::dump::{Dump, Unread};
use super::{HostNginx, NginxInstance, Site, command, disk, process, syntax, ways};

/// Where nginx's packages have its configuration.
pub(super) const MAIN: &str = "/etc/nginx/nginx.conf";

/// The first nginx that can be told where to log before it has read its configuration (`-e`).
const LOGS_ELSEWHERE: Version = Version(1, 19, 5);

/// One nginx, looked at once: made for each call, so that a container that was replaced in between is found.
#[derive(Debug)]
pub(super) struct Control<'a> {
    place: Found<'a>,
    within: Duration,
    built: OnceCell<Built>,
}

/// What nginx says of its build.
#[derive(Debug, Clone)]
struct Built {
    version: Version,
    prefix: PathBuf,
    config: PathBuf,
    pid_file: PathBuf,
}

/// A configuration, and what is known of it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) dump: Dump,
    pub(super) version: Version,
    /// Whether nginx's own test has passed it as it lies there.
    pub(super) sound: bool,
}

#[derive(Debug)]
enum Found<'a> {
    Host(&'a HostNginx),
    Container { runtime: &'a Arc<dyn ContainerRuntime>, instance: Box<Instance> },
}

/// An error that nobody branches on.
pub(super) fn other<E: Into<BoxError>>(operation: &'static str) -> impl FnOnce(E) -> ProxyError {
    move |source| ProxyError::Other { operation, source: source.into() }
}

/// A refusal before anything was touched.
pub(super) fn unrecognized(path: &Path, found: impl Into<String>, expected: impl Into<String>) -> ProxyError {
    ProxyError::Unrecognized {
        path: path.display().to_string(),
        found: found.into(),
        expected: expected.into(),
    }
}

/// What nginx's own test says against what lay there before we came.
pub(super) fn broken(output: impl Into<String>) -> ProxyError {
    ProxyError::Broken { output: output.into(), missing: Vec::new(), switches: false }
}

impl<'a> Control<'a> {
    /// Finds the site's nginx.
    ///
    /// # Errors
    ///
    /// [`ProxyError::NotRunning`] when its container is not there or not running.
    pub(super) async fn open(
        runtime: &'a Arc<dyn ContainerRuntime>,
        site: &'a Site,
    ) -> Result<Self, ProxyError> {
        let place = match &site.place {
            NginxInstance::Host(host) => Found::Host(host),
            NginxInstance::Container { name } => {
                let found = runtime.find(name).await.map_err(other("find nginx's container"))?;
                let not_running = |detail| ProxyError::NotRunning { detail };
                let instance =
                    found.ok_or_else(|| not_running(format!("there is no container named {name}")))?;
                if !instance.is_running() {
                    return Err(not_running(format!("container {name} is {}", instance.state)));
                }
                Found::Container { runtime, instance: Box::new(instance) }
            }
        };
        Ok(Self { place, within: site.command_timeout, built: OnceCell::new() })
    }

    /// Runs nginx's command as what its master is, see [`command`].
    async fn run(&self, master: Option<u32>, args: &[&str]) -> Result<ExecOutput, ProxyError> {
        let args: Vec<String> =
            self.arguments(master).into_iter().chain(args.iter().map(|arg| (*arg).to_owned())).collect();
        let running = async {
            match &self.place {
                Found::Host(host) => {
                    let identity = master.and_then(process::identity);
                    // Its arguments may be relative to where it was started.
                    let directory = master.map(|master| PathBuf::from(format!("/proc/{master}/cwd")));
                    let directory = directory.filter(|directory| directory.is_dir());
                    command::run(&host.binary, &args, directory.as_deref(), identity.as_ref())
                        .await
                        .map_err(other("run nginx's command"))
                }
                Found::Container { runtime, instance } => {
                    let line: Vec<String> = std::iter::once("nginx".to_owned()).chain(args).collect();
                    let user = master.and_then(process::identity_inside);
                    let ran = runtime
                        .exec(&instance.id, &line, user)
                        .await
                        .map_err(other("run nginx's command"))?;
                    match ran.exit_code {
                        // The Engine's way to say that it could not be started.
                        126 | 127 => Err(other("run nginx's command")(ran.output)),
                        _ => Ok(ran),
                    }
                }
            }
        };
        let late = |_| other("run nginx's command")(format!("no end within {:?}", self.within));
        tokio::time::timeout(self.within, running).await.map_err(late)?
    }

    /// The master's arguments, with those of the settings in their place.
    fn arguments(&self, master: Option<u32>) -> Vec<String> {
        let mut all: BTreeMap<char, String> =
            master.map(process::arguments).unwrap_or_default().into_iter().collect();
        if let Found::Host(host) = &self.place {
            let set = [('c', &host.config), ('p', &host.prefix)];
            let set = set.into_iter().filter_map(|(letter, path)| Some((letter, path.as_ref()?)));
            all.extend(set.map(|(letter, path)| (letter, path.display().to_string())));
        }
        all.into_iter().flat_map(|(letter, value)| [format!("-{letter}"), value]).collect()
    }

    /// The master whose identity its command takes. A container's own user is the next best; on this host there is
    /// none, and as root the command would do harm.
    async fn as_master(&self) -> Result<Option<u32>, ProxyError> {
        match (self.master().await, &self.place) {
            (Ok(master), _) => Ok(Some(master)),
            (Err(_), Found::Container { .. }) => Ok(None),
            (Err(error), Found::Host(_)) => Err(error),
        }
    }

    /// What nginx says of its build: this touches nothing.
    async fn built(&self) -> Result<&Built, ProxyError> {
        self.built
            .get_or_try_init(|| async {
                let said = self.run(None, &["-V"]).await?.output;
                Built::read(&said).ok_or_else(|| other("read nginx's version")("it did not print one"))
            })
            .await
    }

    /// Runs its test. What it would log goes to us and not to its log, where it can be told to.
    async fn tested(&self, args: &[&str]) -> Result<ExecOutput, ProxyError> {
        let master = self.as_master().await?;
        let mut all = Vec::new();
        if self.built().await?.version >= LOGS_ELSEWHERE {
            // The last one counts.
            all.extend(["-e", "stderr"]);
        }
        all.extend(args);
        self.run(master, &all).await
    }

    /// Whether the files on disk are sound (`nginx -t`); what it printed when they are not.
    pub(super) async fn test(&self) -> Result<Result<(), String>, ProxyError> {
        let ran = self.tested(&["-t", "-q"]).await?;
        Ok(if ran.success() { Ok(()) } else { Err(ran.output.trim().to_owned()) })
    }

    /// The same of another main file, as nginx sees it.
    pub(super) async fn test_of(&self, main: &str) -> Result<Result<(), String>, ProxyError> {
        // The last one counts.
        let ran = self.tested(&["-t", "-q", "-c", main]).await?;
        Ok(if ran.success() { Ok(()) } else { Err(ran.output.trim().to_owned()) })
    }

    /// Whether it runs in a container, with files of its own.
    pub(super) fn is_contained(&self) -> bool {
        matches!(self.place, Found::Container { .. })
    }

    /// Asks nginx to reload, which it refuses when the files are broken; then gives what it printed.
    pub(super) async fn reload(&self) -> Result<Result<(), String>, ProxyError> {
        let ran = self.run(self.as_master().await?, &["-s", "reload"]).await?;
        Ok(if ran.success() { Ok(()) } else { Err(ran.output.trim().to_owned()) })
    }

    /// All of its configuration as it lies on disk, and its version. Read from there where that may be read, else by
    /// nginx (`nginx -T`).
    ///
    /// # Errors
    ///
    /// [`ProxyError::Broken`] when nginx was asked and it does not pass its test.
    pub(super) async fn read(&self) -> Result<Seen, ProxyError> {
        let version = self.built().await?.version;
        if let Some(master) = self.as_master().await?
            && let Some(found) = self.on_disk(master, Some(self.built().await?))
        {
            return Ok(Seen { dump: found.dump, version, sound: found.loaded });
        }
        // -q leaves out what would otherwise be printed in between.
        let ran = self.tested(&["-T", "-q"]).await?;
        if !ran.success() {
            return Err(broken(ran.output.trim()));
        }
        Ok(Seen { dump: Dump::read(&ran.stdout), version, sound: true })
    }

    /// The same, seen to pass nginx's own test.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Broken`] when it does not pass.
    pub(super) async fn dump(&self) -> Result<(Dump, Version), ProxyError> {
        let seen = self.read().await?;
        if !seen.sound {
            self.test().await?.map_err(broken)?;
        }
        Ok((seen.dump, seen.version))
    }

    /// The configuration that it runs with, read without asking it; `None` where what lies on disk may be another, or
    /// may not be read. Costs a millisecond where [`dump`](Self::dump) may take tens in a container.
    pub(super) fn loaded(&self, master: u32) -> Option<Dump> {
        self.on_disk(master, None).filter(|found| found.loaded).map(|found| found.dump)
    }

    fn on_disk(&self, master: u32, built: Option<&Built>) -> Option<disk::OnDisk> {
        let arguments: BTreeMap<char, String> = process::arguments(master).into_iter().collect();
        let (config, prefix, on_host) = match &self.place {
            Found::Host(host) => (host.config.clone(), host.prefix.clone(), true),
            Found::Container { .. } => (None, None, false),
        };
        let given = |letter, set: Option<PathBuf>| set.or_else(|| arguments.get(&letter).map(PathBuf::from));
        let prefix = given('p', prefix).or_else(|| built.map(|built| built.prefix.clone()));
        let config = given('c', config).or_else(|| built.map(|built| built.config.clone()));
        // Without nginx's word: where its packages have it.
        let main = prefix.unwrap_or_default().join(config.unwrap_or_else(|| PathBuf::from(MAIN)));
        disk::read(master, main.to_str().filter(|main| main.starts_with('/'))?, on_host)
    }

    /// A file that could not be read.
    pub(super) fn unreadable(&self, path: &str, unread: &Unread) -> ProxyError {
        ProxyError::Unreadable { at: self.location(path, unread.line), reason: unread.reason.clone() }
    }

    /// What we have not the right to read may say anything.
    pub(super) fn readable(&self, dump: &Dump) -> Result<(), ProxyError> {
        match dump.unread().find(|(_, unread)| unread.denied) {
            Some((path, unread)) => Err(self.unreadable(path, unread)),
            None => Ok(()),
        }
    }

    /// A way as a person finds it on this host.
    pub(super) fn way(&self, way: &ways::Way<'_>) -> Way {
        Way::new(self.location(way.path, Some(way.directive.line)), way.text(), way.colors.clone())
    }

    /// A place in a file that nginx knows by this path, as a person finds it on this host.
    pub(super) fn location(&self, path: &str, line: Option<usize>) -> Location {
        let outside = self.outside(Path::new(path));
        Location::new(outside.map_or_else(|| path.to_owned(), |path| path.display().to_string()), line)
    }

    /// Its master process.
    ///
    /// # Errors
    ///
    /// [`ProxyError::NotRunning`] when there is none.
    pub(super) async fn master(&self) -> Result<u32, ProxyError> {
        let not_running = |detail: String| ProxyError::NotRunning { detail };
        match &self.place {
            Found::Container { instance, .. } => {
                let first = instance.pid.ok_or_else(|| {
                    not_running(format!("container {} has no process on this host", instance.name))
                })?;
                process::master_below(first).ok_or_else(|| {
                    not_running(format!("container {} has no nginx master process", instance.name))
                })
            }
            Found::Host(host) => {
                let program = host.binary.file_name().unwrap_or_default().to_string_lossy();
                let mut masters = Vec::new();
                if host.pid_file.is_none() && host.config.is_none() {
                    masters = process::masters(&program);
                    if masters.is_empty() {
                        return Err(not_running(format!("no master process runs {program}")));
                    }
                }
                if let [only] = masters[..] {
                    return Ok(only);
                }
                let file = match &host.pid_file {
                    Some(file) => file.clone(),
                    None => self.pid_file(host).await?,
                };
                let pid = std::fs::read_to_string(&file).ok().and_then(|pid| pid.trim().parse().ok());
                pid.filter(|pid| process::is_master(*pid))
                    .ok_or_else(|| not_running(format!("{} names no running master process", file.display())))
            }
        }
    }

    /// Where the nginx of this host writes its master's process id.
    async fn pid_file(&self, host: &HostNginx) -> Result<PathBuf, ProxyError> {
        let built = self.built().await?;
        let prefix = host.prefix.as_ref().unwrap_or(&built.prefix);
        let config = prefix.join(host.config.as_ref().unwrap_or(&built.config));
        let text = std::fs::read(config).map_err(other("read nginx's configuration"))?;
        let named = syntax::parse(&syntax::ascii(&text))
            .ok()
            .and_then(|main| main.iter().find(|line| line.name == "pid")?.arg(0).map(PathBuf::from));
        Ok(prefix.join(named.as_ref().unwrap_or(&built.pid_file)))
    }

    /// The path by which nginx knows what is `path` on this host.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Unrecognized`] when its container does not see it, or sees one file that was mounted alone:
    /// that stays the old one whatever takes its place.
    pub(super) fn inside(&self, path: &Path) -> Result<PathBuf, ProxyError> {
        let Found::Container { instance, .. } = &self.place else { return Ok(path.to_owned()) };
        let unseen = |found| unrecognized(path, found, "its directory to be mounted there");
        let mounted = instance.mounts.iter().filter_map(|(source, target)| {
            // The Engine shows a source as it was given; ours has its links resolved.
            let source = std::fs::canonicalize(source).unwrap_or_else(|_| PathBuf::from(source));
            Some((path.strip_prefix(&source).ok()?.to_owned(), target))
        });
        let (rest, target) = mounted
            .min_by_key(|(rest, _)| rest.components().count())
            .ok_or_else(|| unseen(format!("container {} has no mount that contains it", instance.name)))?;
        if rest.as_os_str().is_empty() && !path.is_dir() {
            return Err(unseen(format!(
                "container {} has this single file mounted at {target}, so nginx would keep reading the file that \
                 a new one replaces",
                instance.name
            )));
        }
        // `join` of nothing would add a slash.
        Ok(if rest.as_os_str().is_empty() { PathBuf::from(target) } else { Path::new(target).join(rest) })
    }

    /// The path on this host of what nginx knows as `path`; `None` when it lies only in its container.
    pub(super) fn outside(&self, path: &Path) -> Option<PathBuf> {
        // nginx puts two slashes where its prefix ends in one.
        let path: &Path = &path.components().collect::<PathBuf>();
        let Found::Container { instance, .. } = &self.place else { return Some(path.to_owned()) };
        let mounted = instance.mounts.iter().filter_map(|(source, target)| {
            let rest = path.strip_prefix(target).ok()?;
            // `join` of nothing would add a slash.
            let outside = if rest.as_os_str().is_empty() {
                PathBuf::from(source)
            } else {
                Path::new(source).join(rest)
            };
            Some((rest.components().count(), outside))
        });
        mounted.min_by_key(|(rest, _)| *rest).map(|(_, outside)| outside)
    }

    /// Where this host reaches what nginx listens on at `address` (`None`: everywhere) and `port`; `None` when
    /// only nginx's own container can.
    pub(super) fn reach(&self, address: Option<IpAddr>, port: u16) -> Option<Endpoint> {
        let everywhere = address.is_none_or(|address| address.is_unspecified());
        match self.own_address() {
            Some(ip) => (everywhere || address == Some(ip)).then(|| Endpoint::from_ip(ip, port)),
            None if everywhere => Some(Endpoint::from_ip(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
            None => address.map(|address| Endpoint::from_ip(address, port)),
        }
    }

    /// The address of nginx's own network; `None` when it shares this host's.
    pub(super) fn own_address(&self) -> Option<IpAddr> {
        match &self.place {
            Found::Host(_) => None,
            Found::Container { instance, .. } => instance.ip,
        }
    }

    /// The address of another container on a network where nginx is, too.
    pub(super) fn seen(&self, other: &Instance) -> Option<IpAddr> {
        if !other.is_running() {
            return None;
        }
        let shared = |network: &String| match &self.place {
            Found::Container { instance, .. } if instance.ip.is_some() => {
                instance.networks.contains_key(network)
            }
            _ => true,
        };
        other.networks.iter().find(|(network, _)| shared(network)).map(|(_, ip)| *ip)
    }

    /// The addresses that our requests to nginx come from: on each of its networks, this host's own.
    pub(super) fn callers(&self) -> Result<Vec<IpAddr>, ProxyError> {
        let Found::Container { instance, .. } = &self.place else { return Ok(Vec::new()) };
        let mut callers = Vec::new();
        for ip in instance.networks.values().chain(&instance.ip) {
            // Nothing is sent: this only asks the kernel which way it would go.
            let local = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(local).map_err(other("find the way to nginx"))?;
            socket.connect((*ip, 9)).map_err(other("find the way to nginx"))?;
            callers.push(socket.local_addr().map_err(other("find the way to nginx"))?.ip());
        }
        callers.sort_unstable();
        callers.dedup();
        Ok(callers)
    }
}

impl Built {
    /// Reads what `nginx -V` prints.
    fn read(said: &str) -> Option<Self> {
        let option = |name: &str, otherwise: &str| {
            let given = said.split_whitespace().find_map(|word| word.strip_prefix(name));
            PathBuf::from(given.unwrap_or(otherwise))
        };
        Some(Self {
            version: Version::read(said)?,
            prefix: option("--prefix=", "/usr/local/nginx"),
            config: option("--conf-path=", "conf/nginx.conf"),
            pid_file: option("--pid-path=", "logs/nginx.pid"),
        })
    }
}

/// How it begins when nginx says its version.
const VERSION: &str = "nginx version: ";

/// A version of nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32, pub(super) u32);

impl Version {
    /// Reads what `nginx -v` prints: `nginx version: nginx/1.22.1 (Ubuntu)`, `… openresty/1.21.4.1`.
    fn read(output: &str) -> Option<Self> {
        // It goes to another stream than a configuration, so it may stand in the middle of a line of that.
        let (_, rest) = output.split_once(VERSION)?;
        let (_, version) = rest.lines().next()?.split_once('/')?;
        let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self(parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
#[path = "control_tests.rs"]
mod tests;
