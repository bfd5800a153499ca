//! A Docker Engine of a test's own, which may be stopped, killed and filled up: its directory, socket, bridge and
//! containerd are its own, and the machine's Engine, its firewall rules and its `docker0` are left alone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::disk::Disk;
use crate::docker::{self, Network, Run, random};
use crate::process::{self, output, output_of};
use crate::{Result, fail};

const PATIENCE: Duration = Duration::from_secs(30);

/// How it is to be started.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Containers run on while it does not.
    pub live_restore: bool,
    /// Its data is on a disk of its own of this size, such as `32m`.
    pub disk: Option<String>,
}

/// A running Engine. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Engine {
    /// Gone before the directory that it is in.
    pub disk: Option<Disk>,
    dir: tempfile::TempDir,
    options: EngineOptions,
    containerd: Child,
    dockerd: Mutex<Option<Child>>,
}

impl Engine {
    /// Starts one; about half a second. Needs root.
    pub fn start(run: &Run, options: EngineOptions) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(&run.name("engine-")).tempdir()?;
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("data"))?;
        std::fs::write(path("daemon.json"), "{}")?;
        let root = dir.path().display();
        let config = format!(
            "version = 2\nroot = \"{root}/containerd\"\nstate = \"{root}/containerd-state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{root}/containerd.sock\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{root}/opt\"\n"
        );
        std::fs::write(path("containerd.toml"), config)?;
        let made = bridge(dir.path(), "bgtd").and_then(|bridge| {
            std::fs::write(path("bridge"), bridge)?;
            let disk = options.disk.as_ref().map(|size| Disk::over(run, &path("data"), size, 10_000));
            let disk = disk.transpose()?;
            // What it mounts is seen by nobody else, and is gone with its last process.
            let mut containerd = Command::new("unshare");
            containerd.args(["--mount", "--propagation", "slave", "containerd", "--log-level", "warn"]);
            containerd.arg("--config").arg(path("containerd.toml"));
            Ok((disk, in_background(&mut containerd, &path("containerd.log"))?))
        });
        let (disk, containerd) = match made {
            Ok(made) => made,
            Err(error) => {
                clear(dir.path());
                return Err(error);
            }
        };
        let engine = Self { disk, options, containerd, dockerd: Mutex::new(None), dir };
        // From here on a failure drops the value, and that undoes what was made.
        if !process::wait_until(PATIENCE, || engine.path("containerd.sock").exists()) {
            return Err(fail(format!("containerd does not start\n{}", engine.log("containerd.log"))));
        }
        engine.up()?;
        Ok(engine)
    }

    /// Its address for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    /// Runs `docker` on it.
    pub fn docker<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        output_of(Command::new("docker").args(["--host", &self.host()]).args(arguments))
    }

    /// Brings an image of the machine's Engine.
    pub fn load(&self, image: &str) -> Result<()> {
        let script =
            "set -e; docker save \"$0\" >\"$2\"; docker --host \"$1\" load --quiet --input \"$2\"; rm \"$2\"";
        let file = self.path("image.tar");
        let mut load = Command::new("sh");
        output_of(load.args(["-c", script, image, &self.host()]).arg(file)).map(drop)
    }

    /// A bridge network with a subnet that nothing on this machine uses.
    pub fn network(&self, name: &str) -> Result<Network> {
        let bridge = format!("bgtn{:06x}", random(1 << 24));
        note(self.dir.path(), &bridge)?;
        let prefix = docker::free_prefix()?;
        let subnet = format!("{}.{}.{}.0/24", prefix[0], prefix[1], prefix[2]);
        let option = format!("com.docker.network.bridge.name={bridge}");
        let id = self.docker(["network", "create", "--subnet", &subnet, "--opt", &option, name])?;
        Ok(Network { id, name: name.to_owned(), prefix })
    }

    /// Ends it with a signal, `TERM` or `KILL`. Its containers stop at a `TERM`, unless it has live restore.
    pub fn down(&self, signal: &str) {
        let Some(mut dockerd) = self.dockerd.lock().expect("no panic").take() else { return };
        process::signal(dockerd.id(), signal);
        if !process::wait_until(PATIENCE, || matches!(dockerd.try_wait(), Ok(Some(_)))) {
            let _ = dockerd.kill();
            let _ = dockerd.wait();
        }
    }

    /// Starts it again and waits until it answers.
    pub fn up(&self) -> Result<()> {
        let root = self.dir.path().display();
        let bridge = std::fs::read_to_string(self.path("bridge"))?;
        let mut dockerd = Command::new("nsenter");
        dockerd.arg(format!("--mount=/proc/{}/ns/mnt", self.containerd.id())).arg("dockerd");
        dockerd.args(["--bridge", &bridge, "--storage-driver", "vfs", "--max-download-attempts", "1"]);
        dockerd.args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]);
        dockerd.arg(format!("--live-restore={}", self.options.live_restore));
        for (option, file) in [
            ("config-file", "daemon.json"),
            ("data-root", "data"),
            ("exec-root", "exec"),
            ("pidfile", "docker.pid"),
            ("containerd", "containerd.sock"),
            ("host", "docker.sock"),
        ] {
            let scheme = if option == "host" { "unix://" } else { "" };
            dockerd.arg(format!("--{option}={scheme}{root}/{file}"));
        }
        let child = in_background(&mut dockerd, &self.path("dockerd.log"))?;
        *self.dockerd.lock().expect("no panic") = Some(child);
        if process::wait_until(PATIENCE, || self.docker(["version"]).is_ok()) {
            return Ok(());
        }
        Err(fail(format!("dockerd does not start\n{}", self.log("dockerd.log"))))
    }

    /// What a power cut leaves: everything of it ends at once, its containers too, and nobody is asked to.
    pub fn cut_power(&self) {
        self.down("KILL");
        end_shims(self.dir.path());
    }

    /// Restarts the Engine, and meanwhile what is in a stopped container begins to run, of which it knows nothing then:
    /// so Docker 20.10 leaves it, seldom, when it ends in the middle of a start. Here it has no network.
    pub fn start_out_of_sight(&self, container: &str) -> Result<()> {
        let root = self.path("out-of-sight");
        std::fs::create_dir(&root)?;
        let script = "set -e; docker --host \"$0\" export \"$1\" | tar --extract --directory \"$2\"";
        output_of(Command::new("sh").args(["-c", script, &self.host(), container]).arg(&root))?;
        let id = self.docker(["inspect", "--format", "{{.Id}}", container])?;
        let program = self.docker(["inspect", "--format", "{{.Path}}", container])?;
        self.down("TERM");
        self.ctr(["run", "--detach", "--rootfs", &root.to_string_lossy(), &id, &program])?;
        self.up()
    }

    /// What runs and the Engine does not know. No `docker stop`, no `docker rm` and no restart of the Engine ends it, and
    /// it may have the address of another container, in whose place it then answers.
    pub fn out_of_sight(&self) -> Result<Vec<String>> {
        let running = self.ctr(["task", "ls", "--quiet"])?;
        // What began in between is known by now.
        let known = self.docker(["ps", "--quiet", "--no-trunc"])?;
        Ok(running.lines().filter(|id| !known.contains(id)).map(str::to_owned).collect())
    }

    /// Ends that.
    pub fn end_out_of_sight(&self, id: &str) -> Result<()> {
        self.ctr(["task", "delete", "--force", id])?;
        self.ctr(["container", "delete", id]).map(drop)
    }

    fn ctr<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.path("containerd.sock")).args(["--namespace", "moby"]);
        output_of(ctr.args(arguments))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Containers and networks go the ordinary way where that is possible.
        if self.docker(["version"]).is_ok() {
            let all = self.docker(["ps", "--all", "--quiet"]).unwrap_or_default();
            if !all.is_empty() {
                let _ = self.docker(["rm", "--force", "--volumes"].into_iter().chain(all.lines()));
            }
        }
        self.down("TERM");
        end_shims(self.dir.path());
        process::signal(self.containerd.id(), "TERM");
        if !process::wait_until(PATIENCE, || matches!(self.containerd.try_wait(), Ok(Some(_)))) {
            let _ = self.containerd.kill();
        }
        let _ = self.containerd.wait();
        clear(self.dir.path());
    }
}

/// A bridge with an address of its own, for containers on no network that was made.
fn bridge(dir: &Path, prefix: &str) -> Result<String> {
    let name = format!("{prefix}{:06x}", random(1 << 24));
    note(dir, &name)?;
    let [a, b, c] = docker::free_prefix()?;
    output("ip", ["link", "add", &name, "type", "bridge"])?;
    output("ip", ["addr", "add", &format!("{a}.{b}.{c}.1/24"), "dev", &name])?;
    output("ip", ["link", "set", &name, "up"])?;
    Ok(name)
}

/// Remembers a link to be removed, also by who comes after us.
fn note(dir: &Path, link: &str) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(dir.join("links"))?;
    Ok(std::io::Write::write_all(&mut file, format!("{link}\n").as_bytes())?)
}

fn in_background(command: &mut Command, log: &Path) -> std::io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

/// Ends the containers, and what looks after them first so that nobody is told.
fn end_shims(dir: &Path) {
    for shim in process::within(dir, "containerd-shim-runc-v2") {
        let containers = process::children(shim);
        for pid in std::iter::once(shim).chain(containers) {
            process::signal(pid, "KILL");
            process::wait_until(PATIENCE, || !process::is_alive(pid));
        }
    }
}

/// Removes what is not in the directory.
fn clear(dir: &Path) {
    for link in std::fs::read_to_string(dir.join("links")).unwrap_or_default().lines() {
        // Gone already is as good.
        let _ = output("ip", ["link", "del", link]);
    }
}

/// Ends one that nobody holds any more.
fn end(dir: &Path) {
    for pid in process::within(dir, "dockerd") {
        process::signal(pid, "KILL");
    }
    end_shims(dir);
    for pid in process::within(dir, "containerd") {
        process::end(pid, PATIENCE);
    }
    clear(dir);
}

/// Ends the Engines of runs whose own process is gone.
pub fn sweep() -> Result<()> {
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some((run, _)) = name.strip_prefix("bgt-").and_then(|rest| rest.split_once("-engine-")) else {
            continue;
        };
        if !docker::is_run(run) || docker::owner_is_alive(run) {
            continue;
        }
        end(&path);
        // Gone already is as good.
        let _ = std::fs::remove_dir_all(&path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::AppImage;

    #[test]
    #[ignore = "needs Docker and root: ./scripts/test"]
    fn nothing_is_left_of_one_that_is_dropped_or_whose_test_was_killed_and_others_are_left_alone() {
        let machines = || output("docker", ["network", "inspect", "bridge"]).expect("the machine's Engine");
        let docker0 = || output("ip", ["-o", "addr", "show", "docker0"]).expect("its bridge");
        let before = (machines(), docker0());
        for killed in [false, true] {
            let run = Run::new();
            let image = run.app_image("app:v1", &AppImage::version("v1")).expect("an image");
            let options = EngineOptions { disk: Some("32m".to_owned()), ..EngineOptions::default() };
            let engine = Engine::start(&run, options).expect("an Engine");
            engine.load(&image).expect("an image");
            engine.network("net").expect("a network");
            let start =
                ["run", "--detach", "--publish", "127.0.0.1::3000", "--restart", "unless-stopped", &image];
            engine.docker(start).expect("a container");
            let dir = engine.dir.path().to_owned();
            let links = std::fs::read_to_string(dir.join("links")).expect("its links");
            assert_eq!(process::within(&dir, "containerd-shim-runc-v2").len(), 1);
            if killed {
                std::mem::forget(engine);
                // As the sweep does it, which comes when the test's process is gone.
                output("umount", ["--lazy", &dir.join("data").to_string_lossy()]).expect("its disk");
                end(&dir);
                std::fs::remove_dir_all(&dir).expect("its directory");
            } else {
                drop(engine);
            }
            assert!(!dir.exists(), "{} is left", dir.display());
            for program in ["dockerd", "containerd", "containerd-shim-runc-v2"] {
                assert_eq!(process::within(&dir, program), [0; 0], "{program} is left");
            }
            for link in links.lines() {
                output("ip", ["link", "show", link]).expect_err("the link is left");
            }
            let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
            assert!(!mounts.contains(&*dir.to_string_lossy()), "{mounts}");
        }
        assert_eq!(docker0(), before.1);
        assert!(machines().contains("docker0"), "{}", before.0);
    }
}
