//! Real nginx: 1.18, 1.22, 1.26 and 1.30, in containers and as processes of the host.
//!
//! Both kinds include `conf.d/*.conf` from a directory of the host and nothing else, so that a test writes
//! there what it would write on a server.

mod container;
mod host;
mod version;

use std::path::Path;

pub use container::NginxContainer;
pub use host::{HostNginx, NginxBinary};
pub use version::NginxVersion;

use crate::{Result, fail, process};

/// What both kinds of nginx have to tell.
pub trait Nginx: Send + Sync {
    /// The directory on the host whose `*.conf` it includes.
    fn conf_dir(&self) -> &Path;

    /// A directory that nginx sees under the same path as the host, for flag files.
    fn flag_dir(&self) -> &Path;

    /// The port on 127.0.0.1 where it is reached.
    fn port(&self) -> u16;

    /// The port that its configuration must listen on: the same on the host, 80 in a container.
    fn listen_port(&self) -> u16;

    /// What it has logged as errors.
    fn error_log(&self) -> Result<String>;

    /// The master's pid, as the host counts.
    fn master_pid(&self) -> Result<u32>;

    /// `nginx -s reload`: checks the configuration, then signals.
    fn reload(&self) -> Result<()>;

    /// All workers, those that drain too.
    fn worker_pids(&self) -> Result<Vec<u32>> {
        Ok(process::children(self.master_pid()?))
    }

    /// The workers of earlier configurations that still finish requests.
    fn draining_pids(&self) -> Result<Vec<u32>> {
        let title = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Ok(self.worker_pids()?.into_iter().filter(|pid| title(pid).contains("shutting down")).collect())
    }

    /// `http://127.0.0.1:<port>/`.
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port())
    }

    /// Puts a file into the included directory, whole or not at all. `@PORT@` becomes the port to listen on
    /// and `@FLAGS@` the directory for flag files.
    fn write_conf(&self, name: &str, text: &str) -> Result<()> {
        write_conf(self.conf_dir(), self.flag_dir(), self.listen_port(), name, text)
    }
}

/// On the way out of a test that failed: what nginx itself had to complain of, the latest twenty lines.
fn tell_a_failed_test(nginx: &impl Nginx) {
    if std::thread::panicking() {
        let log = nginx.error_log().unwrap_or_else(|error| error.to_string());
        let complaints: Vec<&str> = log.lines().filter(|line| !line.contains("[notice]")).collect();
        eprintln!("nginx complained\n{}", complaints[complaints.len().saturating_sub(20)..].join("\n"));
    }
}

fn write_conf(conf_dir: &Path, flags: &Path, port: u16, name: &str, text: &str) -> Result<()> {
    let text = text.replace("@PORT@", &port.to_string()).replace("@FLAGS@", &flags.display().to_string());
    let file = conf_dir.join(name);
    let scratch = conf_dir.join(format!("{name}.new"));
    std::fs::write(&scratch, text)
        .and_then(|()| std::fs::rename(&scratch, &file))
        .map_err(|e| fail(format!("cannot write {}: {e}", file.display())))
}

/// A scratch directory named after the run, with `conf.d` and `flags` in it, that a worker which is not root
/// can read too.
fn scratch_dir(run: &crate::docker::Run) -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new().prefix(&run.name("nginx-")).tempdir()?;
    for path in ["", "conf.d", "flags"].map(|name| dir.path().join(name)) {
        std::fs::create_dir_all(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(dir)
}

/// Ends host nginx processes of runs whose own process is gone, and removes their directories.
pub fn sweep() -> Result<()> {
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some((run, _)) = name.strip_prefix("bgt-").and_then(|rest| rest.split_once("-nginx-")) else {
            continue;
        };
        if !crate::docker::is_run(run) || crate::docker::owner_is_alive(run) {
            continue;
        }
        host::end_master(&path);
        // Gone already is as good.
        let _ = std::fs::remove_dir_all(&path);
    }
    Ok(())
}
