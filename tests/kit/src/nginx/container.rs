//! nginx in a container.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Nginx, NginxVersion, scratch_dir, write_conf};
use crate::docker::{Container, Network, Run, docker, free_port};
use crate::{Result, fail, process};

/// An nginx in a container, its `conf.d` a directory of the host, its port 80 published on loopback.
///
/// A published port goes through one more process of Docker, which accepts before nginx does and hides how a
/// connection ended: where that matters send the load to [`NginxContainer::direct_url`].
#[derive(Debug)]
pub struct NginxContainer {
    /// The container.
    pub container: Container,
    dir: tempfile::TempDir,
    conf_dir: PathBuf,
    flag_dir: PathBuf,
    port: u16,
    ip: Ipv4Addr,
}

impl NginxContainer {
    /// Starts it under this very name, with these files in `conf.d`, and waits until it serves. `options` are
    /// further ones of `docker run`. See [`Nginx::write_conf`] for what the files can say.
    pub fn start(
        run: &Run,
        name: &str,
        version: NginxVersion,
        network: Option<&Network>,
        conf: &[(&str, &str)],
        options: &[&str],
    ) -> Result<Self> {
        let image = version.image()?;
        let dir = scratch_dir(run)?;
        let (conf_dir, flag_dir) = (dir.path().join("conf.d"), dir.path().join("flags"));
        for (file, text) in conf {
            write_conf(&conf_dir, &flag_dir, 80, file, text)?;
        }
        let conf_mount = format!("{}:/etc/nginx/conf.d:ro", conf_dir.display());
        let flag_mount = format!("{0}:{0}:ro", flag_dir.display());
        // A port of our choice: one that Docker chooses is another one after each start.
        let publish = format!("127.0.0.1:{}:80", free_port());
        let mut all = vec!["--volume", &conf_mount, "--volume", &flag_mount, "--publish", &publish];
        all.extend(["--stop-signal", "SIGQUIT"]); // nginx finishes what is in flight
        if let Some(network) = network {
            all.extend(["--network", &network.name]);
        }
        all.extend(options);
        let container = run.start(name, &image, &all, &[])?;
        let started = |container: &Container| -> Result<(Ipv4Addr, u16)> {
            let ip = container.ip()?;
            let ready = SocketAddr::from((ip, 8999));
            // It listens before its processes are what they are going to be; 2 workers, as nginx.conf says.
            let serves = || {
                TcpStream::connect_timeout(&ready, Duration::from_millis(200)).is_ok()
                    && container.pid().is_ok_and(|master| process::children(master).len() >= 2)
            };
            if !process::wait_until(Duration::from_secs(15), serves) {
                return Err(fail("it does not serve"));
            }
            let published = docker(["port", &container.id, "80/tcp"])?;
            let port = published.lines().next().and_then(|line| line.rsplit_once(':')?.1.parse().ok());
            Ok((ip, port.ok_or_else(|| fail(format!("docker port gives {published:?}")))?))
        };
        match started(&container) {
            Ok((ip, port)) => Ok(Self { container, dir, conf_dir, flag_dir, port, ip }),
            Err(error) => {
                let logs = container.logs().unwrap_or_default();
                let _ = container.remove();
                Err(fail(format!("nginx container {name}: {error}\n{logs}")))
            }
        }
    }

    /// Its address in its network.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Its own address, without Docker's proxy in between.
    pub fn direct_url(&self) -> String {
        format!("http://{}/", self.ip)
    }

    /// The scratch directory that holds `conf.d` and `flags`; it goes with this value.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Nginx for NginxContainer {
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
        80
    }

    fn error_log(&self) -> Result<String> {
        self.container.logs()
    }

    fn master_pid(&self) -> Result<u32> {
        self.container.pid()
    }

    fn reload(&self) -> Result<()> {
        docker(["exec", &self.container.id, "nginx", "-s", "reload"]).map(drop)
    }
}

impl Drop for NginxContainer {
    fn drop(&mut self) {
        super::tell_a_failed_test(self);
        // Before its directories, so that it never sees them empty.
        let _ = self.container.remove();
    }
}
