//! Docker by its command line: what tests make, and how all of it goes away again.
//!
//! Everything carries the label `bluegreen.test=<run>`. A container inherits the labels of its image, so what
//! the program under test starts from a test image is found by the same label.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::process::{output, output_of};
use crate::{Result, app, fail, process};

/// The label on everything that tests make.
pub const LABEL: &str = "bluegreen.test";

/// The label's value on images that several runs share, such as nginx; [`sweep_all`] removes them.
pub const CACHE: &str = "cache";

/// Runs `docker` with these arguments and gives what it printed.
pub fn docker<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
    output("docker", arguments)
}

/// One test's use of Docker. On drop everything with its label, and everything named after it, is removed.
#[derive(Debug)]
pub struct Run {
    id: String,
}

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// A run with an id of its own, which also says which process it belongs to.
    pub fn new() -> Self {
        let pid = std::process::id();
        let start = process::start_time(pid).unwrap_or_default();
        Self { id: format!("{pid:x}-{start:x}-{:05x}", random(1 << 20)) }
    }

    /// Letters, digits and dashes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `bluegreen.test=<id>`, for a label or a filter.
    pub fn label(&self) -> String {
        format!("{LABEL}={}", self.id)
    }

    /// A name of this run's own. Containers and networks named so are removed with it, whoever made them.
    pub fn name(&self, part: &str) -> String {
        format!("bgt-{}-{part}", self.id)
    }

    /// An image of the sample application; gives its full name, `bgt-<id>/<tag>`.
    pub fn app_image(&self, tag: &str, image: &AppImage) -> Result<String> {
        let name = format!("bgt-{}/{tag}", self.id);
        image.build(&name, &self.id)?;
        Ok(name)
    }

    /// Starts a container in the background. `options` go before the image, `command` behind it.
    pub fn start(&self, name: &str, image: &str, options: &[&str], command: &[&str]) -> Result<Container> {
        let label = self.label();
        let mut arguments = vec!["run", "--detach", "--name", name, "--label", &label];
        arguments.extend(options);
        arguments.push(image);
        arguments.extend(command);
        let id = docker(arguments)?;
        Ok(Container { id, name: name.to_owned() })
    }

    /// A bridge network with a subnet that nothing on this machine uses.
    pub fn network(&self, part: &str) -> Result<Network> {
        let name = self.name(part);
        let label = self.label();
        let mut last = fail("no free subnet found");
        for _ in 0..20 {
            let prefix = free_prefix()?;
            let subnet = format!("{}.{}.{}.0/24", prefix[0], prefix[1], prefix[2]);
            match docker(["network", "create", "--label", &label, "--subnet", &subnet, &name]) {
                Ok(id) => return Ok(Network { id, name, prefix }),
                // Another one took it between the look and the call.
                Err(error) if error.to_string().contains("overlaps") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Removes everything of this run. Drop does it too; a test that wants to see errors calls this.
    pub fn clean(&self) -> Result<()> {
        remove(&self.label(), Some(&format!("bgt-{}-", self.id)))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = self.clean() {
            eprintln!("testkit: clean-up of run {}: {error}", self.id);
        }
    }
}

/// A container that a test started.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its full id.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl Container {
    /// Its address in its first network.
    pub fn ip(&self) -> Result<Ipv4Addr> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let text = docker(["inspect", "--format", format, &self.id])?;
        let first = text.split_whitespace().next().unwrap_or_default();
        first.parse().map_err(|_| fail(format!("{} has no address", self.name)))
    }

    /// What it printed, both streams.
    pub fn logs(&self) -> Result<String> {
        output_of(Command::new("sh").args(["-c", "docker logs \"$0\" 2>&1", &self.id]))
    }

    /// `running`, `exited`, …
    pub fn state(&self) -> Result<String> {
        docker(["inspect", "--format", "{{.State.Status}}", &self.id])
    }

    /// The pid of its first process on the host; 0 when it does not run.
    pub fn pid(&self) -> Result<u32> {
        let text = docker(["inspect", "--format", "{{.State.Pid}}", &self.id])?;
        text.parse().map_err(|_| fail(format!("docker gives {text:?} as a pid")))
    }

    /// Stops it as `docker stop -t seconds` does.
    pub fn stop(&self, seconds: u32) -> Result<()> {
        docker(["stop", "-t", &seconds.to_string(), &self.id]).map(drop)
    }

    /// Removes it, running or not.
    pub fn remove(&self) -> Result<()> {
        docker(["rm", "--force", "--volumes", &self.id]).map(drop)
    }
}

/// A network that a test made.
#[derive(Debug, Clone)]
pub struct Network {
    /// Its full id.
    pub id: String,
    /// Its name.
    pub name: String,
    pub(crate) prefix: [u8; 3],
}

impl Network {
    /// The address with this last number; 1 is the gateway, and Docker itself gives away 2, 3, …
    pub fn ip(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, last)
    }
}

/// What an image of the sample application is to be.
#[derive(Debug, Clone, Default)]
pub struct AppImage {
    env: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    healthcheck: Option<&'static str>,
    padding: Option<String>,
}

impl AppImage {
    /// One that calls itself this version.
    pub fn version(version: &str) -> Self {
        Self::default().env("VERSION", version)
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With a HEALTHCHECK, every 500 ms.
    #[must_use]
    pub fn healthcheck(mut self) -> Self {
        self.healthcheck = Some("--interval=500ms --timeout=2s --retries=2 ");
        self
    }

    /// With a HEALTHCHECK that says nothing more: Docker asks every 30 s, the first time after 30 s.
    #[must_use]
    pub fn plain_healthcheck(mut self) -> Self {
        self.healthcheck = Some("");
        self
    }

    /// With a layer that no other image has. Without this all of them share the one layer, and a pull of one
    /// fetches nothing while another is here.
    #[must_use]
    pub fn own_layer(mut self) -> Self {
        self.padding = Some(format!("{} {}\n", std::process::id(), random(u32::MAX)));
        self
    }

    /// Makes it, under any name, labelled with `run`: a run's id, or [`CACHE`].
    pub fn build(&self, name: &str, run: &str) -> Result<()> {
        let binary = app::static_app()?;
        let dir = binary.parent().ok_or_else(|| fail("the sample-app has no directory"))?;
        let file = binary.file_name().ok_or_else(|| fail("the sample-app has no name"))?;
        let mut changes = vec![
            r#"ENTRYPOINT ["/sample-app"]"#.to_owned(),
            "EXPOSE 3000".to_owned(),
            change("LABEL", LABEL, run),
        ];
        changes.extend(self.env.iter().map(|(key, value)| change("ENV", key, value)));
        changes.extend(self.labels.iter().map(|(key, value)| change("LABEL", key, value)));
        if let Some(options) = self.healthcheck {
            let check = r#"CMD ["/sample-app", "healthcheck"]"#;
            changes.push(format!("HEALTHCHECK {options}{check}"));
        }
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(dir).args(["--owner=0", "--group=0", "--mtime=@0"]);
        tar.arg(format!("--transform=s|^{}$|sample-app|", file.to_string_lossy()))
            .arg("-cf")
            .arg("-")
            .arg(file);
        let scratch = tempfile::tempdir()?;
        if let Some(padding) = &self.padding {
            std::fs::write(scratch.path().join("padding"), padding)?;
            tar.arg("-C").arg(scratch.path()).arg("padding");
        }
        import(&mut tar, name, &changes)
    }
}

fn change(instruction: &str, key: &str, value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('$', r"\$");
    format!("{instruction} {key}=\"{value}\"")
}

/// Makes an image of one layer from what `tar` prints: no base image, so nothing to pull.
pub fn import(tar: &mut Command, name: &str, changes: &[String]) -> Result<()> {
    let mut archive = tar.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;
    let mut docker = Command::new("docker");
    docker.arg("import");
    for change in changes {
        docker.args(["--change", change]);
    }
    docker.args(["-", name]).stdin(archive.stdout.take().ok_or_else(|| fail("tar has no output"))?);
    let imported = docker.output()?;
    // It still holds our end of the pipe: a docker that failed early would leave tar writing for ever.
    drop(docker);
    let archived = archive.wait()?;
    if imported.status.success() && archived.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&imported.stderr);
    Err(fail(format!("cannot import {name}: tar {archived}; docker: {}", stderr.trim())))
}

/// A port on loopback that is free now and that this process is given once: many are chosen long before they are used.
/// Not one that the kernel gives to outgoing connections: under load they are so many that one would soon be in the way
/// of a listener.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768_u32);
    let below = first.clamp(12_000, 32_768) - 10_000;
    // Tests in several processes begin at different places.
    let next = NEXT.get_or_init(|| AtomicU32::new(random(below)));
    (0..1000)
        .map(|_| 10_000 + u16::try_from(next.fetch_add(1, Ordering::Relaxed) % below).expect("below 32768"))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free loopback port")
}

/// Removes what runs left whose process is gone: they were killed before they could.
pub fn sweep() -> Result<()> {
    for run in runs()? {
        if owner(&run).is_some() && !owner_is_alive(&run) {
            remove(&format!("{LABEL}={run}"), Some(&format!("bgt-{run}-")))?;
        }
    }
    Ok(())
}

/// Removes everything that tests ever made here, of live runs and the shared images too.
pub fn sweep_all() -> Result<()> {
    for run in runs()?.into_iter().filter(|run| run == CACHE || owner(run).is_some()) {
        remove(&format!("{LABEL}={run}"), Some(&format!("bgt-{run}-")))?;
    }
    Ok(())
}

/// Whether the process is alive that made a run with this id.
pub fn owner_is_alive(run: &str) -> bool {
    owner(run).is_some_and(|(pid, start)| process::start_time(pid) == Some(start))
}

/// Whether this is the id of a run of this kit; other tools may use the label too.
pub(crate) fn is_run(id: &str) -> bool {
    owner(id).is_some()
}

/// The process that a run's id names, and when it started; none for a label that is not ours to judge.
fn owner(run: &str) -> Option<(u32, u64)> {
    let mut parts = run.split('-').map(|part| u64::from_str_radix(part, 16).ok());
    let (pid, start, _random) = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some((u32::try_from(pid).ok()?, start))
}

/// The runs that anything here is labelled with.
fn runs() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let filter = format!("label={LABEL}");
    let of_each = format!("{{{{.Label \"{LABEL}\"}}}}");
    for list in [&["ps", "--all"][..], &["network", "ls"]] {
        let text = docker([list, &["--filter", &filter, "--format", &of_each]].concat())?;
        found.extend(text.lines().map(str::to_owned));
    }
    let images = docker(["images", "--all", "--quiet", "--filter", &filter])?;
    if !images.is_empty() {
        let format = format!("{{{{index .Config.Labels \"{LABEL}\"}}}}");
        let text = docker(["inspect", "--format", &format].into_iter().chain(images.lines()))?;
        found.extend(text.lines().map(str::to_owned));
    }
    found.retain(|run| !run.is_empty());
    Ok(found)
}

fn remove(label: &str, prefix: Option<&str>) -> Result<()> {
    let by_label = format!("label={label}");
    let by_name = prefix.map(|prefix| format!("name=^/?{prefix}"));
    let filters = || [Some(&by_label), by_name.as_ref()].into_iter().flatten();
    let mut problems = Vec::new();
    let mut each = |list: &[&str], filter: &str, removal: &[&str]| -> Result<()> {
        let ids = docker([list, &["--quiet", "--filter", filter]].concat())?;
        let ids: BTreeSet<_> = ids.lines().collect();
        // One by one: of several in one call an early failure can keep the rest.
        for id in ids {
            if let Err(error) = docker(removal.iter().copied().chain([id]))
                && !error.to_string().contains("o such")
            {
                problems.push(error.to_string());
            }
        }
        Ok(())
    };
    for filter in filters() {
        each(&["ps", "--all", "--no-trunc"], filter, &["rm", "--force", "--volumes"])?;
    }
    for filter in filters() {
        each(&["network", "ls", "--no-trunc"], filter, &["network", "rm"])?;
    }
    each(&["images", "--no-trunc"], &by_label, &["rmi", "--force"])?;
    if problems.is_empty() { Ok(()) } else { Err(fail(problems.join("; "))) }
}

/// The start of a /24 that nothing on this machine uses now.
pub(crate) fn free_prefix() -> Result<[u8; 3]> {
    (0..20)
        .map(|_| [10, 200 + random(50) as u8, random(256) as u8])
        .find(|prefix| !routed(*prefix))
        .ok_or_else(|| fail("no free subnet found"))
}

/// Whether the routing table sends a part of this /24 anywhere but to the default route.
fn routed(prefix: [u8; 3]) -> bool {
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let ours = u32::from(Ipv4Addr::new(prefix[0], prefix[1], prefix[2], 0));
    table.lines().skip(1).any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // The kernel prints addresses as the bytes lie in memory.
        let number = |n: usize| fields.get(n).and_then(|f| u32::from_str_radix(f, 16).ok()).map(u32::from_be);
        match (number(1), number(7)) {
            (Some(destination), Some(mask)) if mask != 0 => {
                let mask = mask & 0xffff_ff00;
                destination & mask == ours & mask
            }
            _ => false,
        }
    })
}

/// A number below `limit`, different in each process and call.
pub(crate) fn random(limit: u32) -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let hash = RandomState::new().hash_one((std::process::id(), std::time::Instant::now()));
    u32::try_from(hash % u64::from(limit)).expect("less than a u32")
}

/// Waits until a container's state is as wanted.
pub fn wait_for_state(container: &Container, state: &str, limit: Duration) -> bool {
    process::wait_until(limit, || container.state().is_ok_and(|now| now == state))
}
