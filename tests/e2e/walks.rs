//! The pages that lead here from elsewhere, walked.
#![expect(clippy::disallowed_methods, reason = "a test writes its own files")]

use std::path::Path;
use std::process::{Child, Command, Stdio};

use bluegreen_testkit::docker::{AppImage, Run, docker, free_port};
use bluegreen_testkit::nginx::{HostNginx, Nginx as _, NginxBinary};
use bluegreen_testkit::process::wait_until;
use bluegreen_testkit::static_app;

use crate::stage::ran;
use crate::walk::{Place, Walk, tool};

/// A host with nginx, and an application that is called otherwise than in the page.
struct Host {
    nginx: HostNginx,
    run: Run,
    app: String,
    dir: tempfile::TempDir,
}

impl Host {
    fn new(app: &str, site: &[(&str, &str)]) -> Self {
        let run = Run::new();
        let nginx = HostNginx::start(&run, NginxBinary::System, site).expect("an nginx");
        let dir = tempfile::Builder::new().prefix("bluegreen-e2e-").tempdir().expect("a directory");
        let host = Self { app: run.name(app), nginx, run, dir };
        // `nginx` in a page is this one.
        let script = format!("#!/bin/sh\nexec {} \"$@\"\n", host.nginx.command().display());
        tool(host.dir.path(), "nginx", &script);
        host
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What `docker build .` makes an image of there.
    fn dockerfile(&self) {
        let base = self.run.app_image("base:1", &AppImage::version("1")).expect("an image");
        // One that goes with this run, whatever it is called.
        let text = format!("FROM {base}\nLABEL {}\nCOPY VERSION /VERSION\n", self.run.label());
        std::fs::write(self.path().join("Dockerfile"), text).expect("a Dockerfile");
        std::fs::write(self.path().join("VERSION"), "1\n").expect("a file");
        std::fs::write(self.path().join(".dockerignore"), "state\n.bin\n").expect("a file");
    }

    fn answers(&self) -> bool {
        wait_until(std::time::Duration::from_secs(20), || {
            ran(Command::new("curl").args(["-sf", "-m", "5", &self.nginx.url()])).code == 0
        })
    }

    fn names<'p>(&self, app: &'p str, more: &[(&'p str, String)]) -> Vec<(&'p str, String)> {
        let mut names = vec![("/etc/nginx/conf.d", self.nginx.conf_dir().display().to_string())];
        names.push((app, self.app.clone()));
        names.extend(more.iter().cloned());
        names
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for end in ["", "-blue", "-green"] {
            drop(docker(["rm", "-f", &format!("{}{end}", self.app)]));
        }
        if self.app.ends_with("shelf") {
            drop(docker(["network", "rm", "kamal"]));
        }
        for version in 1..=3 {
            drop(docker(["rmi", "-f", &format!("{}:{version}", self.app)]));
        }
    }
}

/// A process that PM2 would keep, ended by its id.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn from_pm2() {
    let port = free_port();
    let site = format!(
        "# As in the page.\nserver {{\n    listen @PORT@;\n    location / {{ proxy_pass http://127.0.0.1:{port}; }}\n}}\n"
    );
    let host = Host::new("shop", &[("site.conf", &site)]);
    host.dockerfile();
    let app = Command::new(static_app().expect("the sample app"))
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let app = Process(app.expect("a process"));
    assert!(host.answers(), "the process does not answer");
    tool(host.path(), "pm2", &format!("#!/bin/sh\nkill -9 {}\n", app.0.id()));
    let names = host.names("shop", &[("3000", port.to_string())]);
    Walk::read("from-pm2.md").take(&Place { dir: host.path(), names: &names });
    assert!(host.answers(), "it does not serve at the end");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn from_app_engine() {
    let (port, host) = (free_port(), Host::new("guestbook", &[]));
    host.dockerfile();
    let names = host.names(
        "guestbook",
        &[
            ("127.0.0.1:3000", format!("127.0.0.1:{port}")),
            ("listen 8080", format!("listen {}", host.nginx.port())),
            ("--detach", format!("--detach --label {}", host.run.label())),
        ],
    );
    Walk::read("from-app-engine.md").take(&Place { dir: host.path(), names: &names });
    assert!(host.answers(), "it does not serve at the end");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn from_kamal() {
    let host = Host::new("shelf", &[]);
    let image = |version: &str| {
        host.run.app_image(&format!("app:{version}"), &AppImage::version(version)).expect("an image")
    };
    // The network that Kamal made; its name is the machine's own.
    docker(["network", "create", "--label", &host.run.label(), "kamal"]).expect("a network kamal of our own");
    // What `init` takes for blue.
    let blue = (3000..4000).find(|port| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok());
    let names = [
        ("127.0.0.1:3000", format!("127.0.0.1:{}", blue.expect("a free port"))),
        ("acme/shelf:1", image("1")),
        ("acme/shelf:2", image("2")),
        ("8080", host.nginx.port().to_string()),
        ("/etc/nginx/conf.d", host.nginx.conf_dir().display().to_string()),
        ("shelf", host.app.clone()),
    ];
    Walk::read("from-kamal.md").take(&Place { dir: host.path(), names: &names });
}
