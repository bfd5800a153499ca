//! Talking to nginx itself: its command, its master process, its paths and its addresses.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use crate::model::Endpoint;
use crate::port::{BoxError, ContainerRuntime, ExecOutput, Instance, ProxyError};

use super::dump::Dump;
use super::{HostNginx, Place, Site, disk, process, syntax};

/// One nginx, looked at once: made for each call, so that a container that was replaced in between is found.
#[derive(Debug)]
pub(super) struct Control<'a> {
    place: Found<'a>,
    within: Duration,
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
pub(super) fn unrecognized(path: &Path, reason: impl Into<String>) -> ProxyError {
    ProxyError::Unrecognized { path: path.display().to_string(), reason: reason.into() }
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
            Place::Host(host) => Found::Host(host),
            Place::Container { name } => {
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
        Ok(Self { place, within: site.command_timeout })
    }

    /// Runs nginx's command.
    async fn run(&self, args: &[&str]) -> Result<ExecOutput, ProxyError> {
        let command = async {
            match &self.place {
                Found::Host(host) => {
                    run(&host.binary, host_args(host).chain(args.iter().map(OsStr::new))).await
                }
                Found::Container { runtime, instance } => {
                    let command: Vec<String> =
                        std::iter::once("nginx").chain(args.iter().copied()).map(str::to_owned).collect();
                    let ran =
                        runtime.exec(&instance.id, &command).await.map_err(other("run nginx's command"))?;
                    match ran.exit_code {
                        // The Engine's way to say that it could not be started.
                        126 | 127 => Err(other("run nginx's command")(ran.output)),
                        _ => Ok(ran),
                    }
                }
            }
        };
        let late = |_| other("run nginx's command")(format!("no end within {:?}", self.within));
        tokio::time::timeout(self.within, command).await.map_err(late)?
    }

    /// Whether the files on disk are sound (`nginx -t`); what it printed when they are not.
    pub(super) async fn test(&self) -> Result<Result<(), String>, ProxyError> {
        let ran = self.run(&["-t", "-q"]).await?;
        Ok(if ran.success() { Ok(()) } else { Err(ran.output.trim().to_owned()) })
    }

    /// Asks nginx to reload, which it refuses when the files are broken; then gives what it printed.
    pub(super) async fn reload(&self) -> Result<Result<(), String>, ProxyError> {
        let ran = self.run(&["-s", "reload"]).await?;
        Ok(if ran.success() { Ok(()) } else { Err(ran.output.trim().to_owned()) })
    }

    /// All of its configuration, as it lies on disk (`nginx -T`), and its version: one call for both, as each costs
    /// tens of milliseconds in a container.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Broken`] when it does not pass nginx's test.
    pub(super) async fn dump(&self) -> Result<(Dump, Version), ProxyError> {
        // -q leaves out what would otherwise be printed in between.
        let ran = self.run(&["-v", "-T", "-q"]).await?;
        if !ran.success() {
            let output = ran.output.lines().filter(|line| !line.starts_with(VERSION)).collect::<Vec<_>>();
            return Err(ProxyError::Broken { output: output.join("\n").trim().to_owned() });
        }
        let version = Version::read(&ran.output)
            .ok_or_else(|| other("read nginx's version")("it did not print one"))?;
        Ok((Dump::read(&ran.stdout), version))
    }

    /// The configuration that it runs with, read without asking it; `None` where what lies on disk may be another, or
    /// may not be read. `flags` is a directory as nginx knows it, see [`disk::loaded`]. Costs a millisecond where [`dump`](Self::dump) takes tens in a container.
    pub(super) fn loaded(&self, master: u32, flags: &Path) -> Option<Dump> {
        let main = match &self.place {
            Found::Host(host) => host.config.as_deref(),
            Found::Container { .. } => None,
        };
        disk::loaded(master, main, flags)
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
        let built = self.run(&["-V"]).await?.output;
        let option = |name: &str| {
            built
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .map(PathBuf::from)
        };
        let prefix = host.prefix.clone().or_else(|| option("--prefix")).unwrap_or_default();
        let config = host
            .config
            .clone()
            .or_else(|| option("--conf-path"))
            .unwrap_or_else(|| PathBuf::from("conf/nginx.conf"));
        let text = std::fs::read(prefix.join(config)).map_err(other("read nginx's configuration"))?;
        let named = syntax::parse(&syntax::ascii(&text))
            .ok()
            .and_then(|main| main.iter().find(|line| line.name == "pid")?.arg(0).map(PathBuf::from));
        let file = named.or_else(|| option("--pid-path")).unwrap_or_else(|| PathBuf::from("logs/nginx.pid"));
        Ok(prefix.join(file))
    }

    /// The path by which nginx knows what is `path` on this host.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Unrecognized`] when its container does not see it, or sees one file that was mounted alone:
    /// that stays the old one whatever takes its place.
    pub(super) fn inside(&self, path: &Path) -> Result<PathBuf, ProxyError> {
        let Found::Container { instance, .. } = &self.place else { return Ok(path.to_owned()) };
        let unseen = |reason| unrecognized(path, reason);
        let mounted = instance.mounts.iter().filter_map(|(source, target)| {
            // The Engine shows a source as it was given; ours has its links resolved.
            let source = std::fs::canonicalize(source).unwrap_or_else(|_| PathBuf::from(source));
            Some((path.strip_prefix(&source).ok()?.to_owned(), target))
        });
        let (rest, target) = mounted.min_by_key(|(rest, _)| rest.components().count()).ok_or_else(|| {
            unseen(format!(
                "container {} has no mount that contains it; expected its directory to be mounted there",
                instance.name
            ))
        })?;
        if rest.as_os_str().is_empty() && !path.is_dir() {
            return Err(unseen(format!(
                "container {} has this single file mounted at {target}, so nginx would keep reading the file that \
                 a new one replaces; expected its directory to be mounted",
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

fn host_args(host: &HostNginx) -> impl Iterator<Item = &OsStr> {
    let config = host.config.iter().flat_map(|path| [OsStr::new("-c"), path.as_os_str()]);
    let prefix = host.prefix.iter().flat_map(|path| [OsStr::new("-p"), path.as_os_str()]);
    config.chain(prefix)
}

/// Runs a program without a shell and waits for its end. Dropped, it is killed.
async fn run(program: &Path, args: impl Iterator<Item = &OsStr>) -> Result<ExecOutput, ProxyError> {
    let ran = tokio::process::Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(other("run nginx's command"))?;
    let [stdout, stderr] = [&ran.stdout, &ran.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    Ok(ExecOutput::new(ran.status.code().unwrap_or(-1).into(), format!("{stdout}{stderr}")).of_which(stdout))
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
