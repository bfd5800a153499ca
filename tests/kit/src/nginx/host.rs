//! nginx as a process of the host, with a prefix directory of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Nginx, NginxVersion, scratch_dir, write_conf};
use crate::docker::{Run, free_port};
use crate::{Result, fail, process};

/// Which program to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NginxBinary {
    /// The one that the machine has installed.
    System,
    /// One from Debian's packages, with that suite's own loader and libraries.
    Of(NginxVersion),
}

impl NginxBinary {
    /// The program, and the directory of the libraries that it needs when they are not the system's.
    fn program(self) -> Result<(PathBuf, Option<PathBuf>)> {
        match self {
            Self::System => {
                let nginx = process::find_program("nginx")
                    .ok_or_else(|| fail("no nginx on this machine: ./scripts/install-deps"))?;
                Ok((nginx, None))
            }
            Self::Of(version) => with_own_loader(version),
        }
    }
}

/// Makes the suite's nginx run with the suite's own loader and libraries, on a host whose C library may be
/// another. Its loader could be called with nginx as an argument, but then the titles by which people and
/// programs tell nginx's processes apart would be lost; so the loader's path inside a copy is replaced.
fn with_own_loader(version: NginxVersion) -> Result<(PathBuf, Option<PathBuf>)> {
    let root = version.root()?;
    let libraries = std::fs::read_dir(root.join("usr/lib"))?
        .flatten()
        .find(|dir| dir.file_name().to_string_lossy().ends_with("-linux-gnu"))
        .ok_or_else(|| fail(format!("no libraries in {}", root.display())))?
        .path();
    let lock = std::fs::File::create(root.join("loader.lock"))?;
    lock.lock()?;
    let mut program = std::fs::read(root.join("usr/sbin/nginx"))?;
    let (at, length) =
        interpreter(&program).ok_or_else(|| fail("nginx names no loader where it is looked for"))?;
    let named = String::from_utf8_lossy(&program[at..at + length]).into_owned();
    // The new path may not be longer than the old one, so a link stands for the loader in the root.
    let link_dir = Path::new("/tmp/bgt-ld");
    std::fs::create_dir_all(link_dir)?;
    let link = link_dir.join(version.number().trim_end_matches('.'));
    let name = Path::new(&named).file_name().unwrap_or_default();
    let fresh = link_dir.join(format!("{}.new", std::process::id()));
    std::os::unix::fs::symlink(libraries.join(name), &fresh)?;
    std::fs::rename(&fresh, &link)?;
    let path = link.to_string_lossy().into_owned().into_bytes();
    if path.len() > length {
        return Err(fail(format!("{} is longer than {named}", link.display())));
    }
    program[at..at + length].fill(0);
    program[at..at + path.len()].copy_from_slice(&path);
    let copy = root.join("usr/sbin/nginx-on-host");
    // A running program cannot be written to; the same bytes need no writing.
    if std::fs::read(&copy).ok().as_deref() != Some(&program) {
        let scratch = root.join("usr/sbin/nginx-on-host.new");
        std::fs::write(&scratch, &program)?;
        std::fs::set_permissions(&scratch, std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(&scratch, &copy)?;
    }
    Ok((copy, Some(libraries)))
}

/// Where in an ELF file the loader's path stands, and how long it is: near the start, as linkers put it.
fn interpreter(program: &[u8]) -> Option<(usize, usize)> {
    let start = &program[..program.len().min(4096)];
    let at = ["/lib64/ld-linux", "/lib/ld-linux"]
        .iter()
        .find_map(|path| start.windows(path.len()).position(|window| window == path.as_bytes()))?;
    let length = start[at..].iter().position(|byte| *byte == 0)?;
    Some((at, length))
}

/// An nginx master with its workers on the host. Stopped on drop, by its pid.
#[derive(Debug)]
pub struct HostNginx {
    dir: tempfile::TempDir,
    conf_dir: PathBuf,
    flag_dir: PathBuf,
    command: PathBuf,
    port: u16,
    pid: u32,
}

impl HostNginx {
    /// Starts it with these files in `conf.d`; see [`Nginx::write_conf`] for what they can say.
    pub fn start(run: &Run, binary: NginxBinary, conf: &[(&str, &str)]) -> Result<Self> {
        let dir = scratch_dir(run)?;
        let prefix = dir.path();
        let (conf_dir, flag_dir) = (prefix.join("conf.d"), prefix.join("flags"));
        let port = free_port();
        for (file, text) in conf {
            write_conf(&conf_dir, &flag_dir, port, file, text)?;
        }
        std::fs::write(prefix.join("nginx.conf"), main_conf(prefix))?;
        let command = prefix.join("nginx");
        std::fs::write(&command, script(binary, &binary.program()?, prefix))?;
        std::fs::set_permissions(&command, std::fs::Permissions::from_mode(0o755))?;
        // It puts itself into the background once it listens: its exit code says whether it does.
        let mut start = Command::new(&command);
        let started = run_quietly(&mut start);
        let pid_file = prefix.join("nginx.pid");
        let read_pid = || std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok();
        started.map_err(|e| {
            let log = std::fs::read_to_string(prefix.join("error.log")).unwrap_or_default();
            fail(format!("nginx does not start: {e}\n{log}"))
        })?;
        // The pid comes first, then the workers: 2, as nginx.conf says.
        let workers = |pid| process::children(pid).len();
        process::wait_until(Duration::from_secs(5), || read_pid().map_or(0, workers) >= 2);
        let pid = read_pid().ok_or_else(|| fail("nginx wrote no pid file"))?;
        Ok(Self { conf_dir, flag_dir, command, port, pid, dir })
    }

    /// A program that is this nginx with this prefix and configuration: add `-s reload`, `-t`, `-V`.
    pub fn command(&self) -> &Path {
        &self.command
    }

    /// Its prefix directory, which holds `nginx.conf`, `nginx.pid`, `error.log`, `conf.d` and `flags`.
    pub fn prefix(&self) -> &Path {
        self.dir.path()
    }

    /// Runs [`HostNginx::command`] with arguments; `-t` and `-s` say why on failure.
    pub fn call(&self, arguments: &[&str]) -> Result<()> {
        run_quietly(Command::new(&self.command).args(arguments))
    }
}

/// A daemon keeps the streams it was started with: with a pipe the caller would wait for its end.
fn run_quietly(command: &mut Command) -> Result<()> {
    let mut said = tempfile::tempfile()?;
    let status = command
        .stdin(std::process::Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said.try_clone()?)
        .status()
        .map_err(|e| fail(format!("cannot run {}: {e}", command.get_program().to_string_lossy())))?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    std::io::Seek::rewind(&mut said)?;
    std::io::Read::read_to_string(&mut said, &mut text)?;
    Err(fail(format!("{status}: {}", text.trim())))
}

fn script(binary: NginxBinary, (program, libraries): &(PathBuf, Option<PathBuf>), prefix: &Path) -> String {
    let quoted = |path: &Path| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
    let mut text = "#!/bin/sh\n".to_owned();
    if let Some(libraries) = libraries {
        text += &format!("export LD_LIBRARY_PATH={}\n", quoted(libraries));
    }
    // Without -e, which came with 1.19.5, it first opens the log of the installed one.
    let log = if binary == NginxBinary::Of(NginxVersion::V1_18) { "" } else { "-e error.log " };
    text + &format!("exec {} -p {}/ -c nginx.conf {log}\"$@\"\n", quoted(program), quoted(prefix))
}

fn main_conf(prefix: &Path) -> String {
    let mut text = String::new();
    if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        // The group of that name differs between distributions; a line without one would take the user's.
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let group =
            if groups.lines().any(|line| line.starts_with("nogroup:")) { "nogroup" } else { "nobody" };
        text += &format!("user nobody {group};\n");
    }
    text += "worker_processes 2;\npid nginx.pid;\nerror_log error.log notice;\n";
    text += "events { worker_connections 4096; }\nhttp {\n    access_log off;\n";
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        text += &format!("    {kind}_temp_path {}/{kind};\n", prefix.display());
    }
    text + "    include conf.d/*.conf;\n}\n"
}

/// Ends the master whose prefix this is, if it runs.
pub(super) fn end_master(prefix: &Path) {
    let pid =
        std::fs::read_to_string(prefix.join("nginx.pid")).ok().and_then(|text| text.trim().parse().ok());
    let Some(pid) = pid else { return };
    // The pid may be another program's by now; nginx shows its arguments, the prefix among them.
    let title = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if title.contains(&*prefix.to_string_lossy()) {
        process::end(pid, Duration::from_secs(2));
    }
}

impl Nginx for HostNginx {
    fn conf_dir(&self) -> &Path {
        &self.conf_dir
    }

    fn flag_dir(&self) -> &Path {
        &self.flag_dir
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn listen_port(&self) -> u16 {
        self.port
    }

    fn error_log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.prefix().join("error.log"))?)
    }

    fn master_pid(&self) -> Result<u32> {
        Ok(self.pid)
    }

    fn reload(&self) -> Result<()> {
        self.call(&["-s", "reload"])
    }
}

impl Drop for HostNginx {
    fn drop(&mut self) {
        super::tell_a_failed_test(self);
        end_master(self.dir.path());
    }
}
