//! nginx as a process of the host, with a prefix directory of its own.

use std::ffi::OsString;
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
    /// One from Debian's packages, run by that suite's own loader and libraries.
    Of(NginxVersion),
}

impl NginxBinary {
    /// The words that start it.
    fn words(self) -> Result<Vec<OsString>> {
        match self {
            Self::System => {
                let nginx = process::find_program("nginx")
                    .ok_or_else(|| fail("no nginx on this machine: ./scripts/install-deps"))?;
                Ok(vec![nginx.into()])
            }
            Self::Of(version) => {
                let root = version.root()?;
                let loader = loader(&root)?;
                let mut libraries = OsString::new();
                for dir in std::fs::read_dir(root.join("usr/lib"))?.flatten() {
                    // The one directory named after the machine, as in x86_64-linux-gnu.
                    if dir.file_name().to_string_lossy().ends_with("-linux-gnu") {
                        libraries = dir.path().into();
                    }
                }
                let nginx = root.join("usr/sbin/nginx");
                Ok(vec![loader.into(), "--library-path".into(), libraries, nginx.into()])
            }
        }
    }
}

fn loader(root: &Path) -> Result<PathBuf> {
    for dir in ["usr/lib64", "usr/lib"] {
        for entry in std::fs::read_dir(root.join(dir))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("ld-linux") {
                // Through links, which may be absolute and then mean the machine's own loader.
                let path = entry.path();
                return Ok(match std::fs::read_link(&path) {
                    Ok(link) if link.is_absolute() => root.join(link.strip_prefix("/").unwrap_or(&link)),
                    _ => path,
                });
            }
        }
    }
    Err(fail(format!("no ld-linux in {}", root.display())))
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
        std::fs::write(&command, script(&binary.words()?, prefix))?;
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

fn script(words: &[OsString], prefix: &Path) -> String {
    let quoted = |word: &OsString| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    let words: Vec<_> = words.iter().map(quoted).collect();
    let prefix = quoted(&prefix.as_os_str().to_owned());
    // Without -e it would first open the log of the installed one.
    format!("#!/bin/sh\nexec {} -p {prefix}/ -c nginx.conf -e error.log \"$@\"\n", words.join(" "))
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
        end_master(self.dir.path());
    }
}
