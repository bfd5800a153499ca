//! What every test stands on: an nginx, a directory with a configuration, and the command.

#![allow(dead_code, reason = "tests and benchmarks use a part each")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use bluegreen_testkit::docker::{AppImage, Network, Run, docker, free_port};
use bluegreen_testkit::load::{Config, Handle, Mode, Target};
use bluegreen_testkit::nginx::{HostNginx, Nginx, NginxBinary, NginxContainer, NginxVersion};
use bluegreen_testkit::process::wait_until;
use bluegreen_testkit::workspace_root;

/// The command under test: `BLUEGREEN` names it, otherwise it is built.
#[expect(clippy::disallowed_methods, reason = "scripts/test names the release build")]
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(named) = std::env::var_os("BLUEGREEN") {
            return named.into();
        }
        // A benchmark is built with optimization and measures what is released.
        let release = !cfg!(debug_assertions);
        let built = Command::new("cargo")
            .args(["build", "--quiet", "-p", "bluegreen-cli"])
            .args(release.then_some("--release"))
            .current_dir(workspace_root())
            .status()
            .expect("cargo");
        assert!(built.success(), "the command does not build");
        workspace_root().join("target").join(if release { "release" } else { "debug" }).join("bluegreen")
    })
}

/// What the command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Fails the test unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.out, self.err);
        self
    }

    /// Fails the test unless both streams together say all of this.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            let said = self.out.contains(text) || self.err.contains(text);
            assert!(said, "it does not say {text:?}\n--- stdout\n{}\n--- stderr\n{}", self.out, self.err);
        }
        self
    }

    /// Fails the test unless it says what to do or what to type.
    #[track_caller]
    pub fn says_what_to_do(self) -> Self {
        let said = self.err.lines().any(|line| line.starts_with("to do: ") || line.starts_with("next: "));
        assert!(said, "it does not say what to do\n--- stderr\n{}", self.err);
        self
    }
}

/// How the stage's nginx is run and switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// nginx on the host, the colours on loopback ports, live switch.
    HostLive,
    /// nginx in a container, the colours at fixed addresses of its network, live switch.
    ContainerLive,
    /// The same, but the names are exchanged in nginx's own file and nginx is reloaded.
    ContainerRewrite,
}

/// An nginx in front of an application `web` that is not deployed yet.
#[allow(dead_code, reason = "a stage tells more than every set of tests asks")]
pub struct Stage {
    // Before the run, which ends all that is left of it: a failed test still asks nginx why.
    pub nginx: Box<dyn Nginx>,
    pub run: Run,
    pub app: String,
    dir: tempfile::TempDir,
    /// nginx's own, when it runs in a container.
    pub network: Option<Network>,
    pub control_port: u16,
    /// Where nginx reaches blue and green.
    slots: [SocketAddr; 2],
}

impl Stage {
    /// A stage whose nginx is prepared for the live switch by the command itself.
    pub fn live(kind: Kind) -> Self {
        Self::live_with(kind, "")
    }

    /// The same with further lines in the application's table.
    pub fn live_with(kind: Kind, extra: &str) -> Self {
        let run = Run::new();
        let dir = tempfile::Builder::new().prefix("bluegreen-e2e-").tempdir().expect("a directory");
        let app = run.name("web");
        let (control, [blue, green]) = (free_port(), [free_port(), free_port()]);
        let (nginx, network, control_port, slots, config): (Box<dyn Nginx>, _, _, _, _) = match kind {
            Kind::HostLive => {
                let nginx = HostNginx::start(&run, NginxBinary::System, &[]).expect("an nginx");
                let config = format!(
                    "[nginx]\nbinary = \"{}\"\npid_file = \"{}\"\ndir = \"{}\"\ncontrol_port = {control}\n\
                     url = \"http://127.0.0.1:{}/\"\n[app.{app}]\nports = {{ blue = {blue}, green = {green} }}\n",
                    nginx.command().display(),
                    nginx.prefix().join("nginx.pid").display(),
                    nginx.conf_dir().display(),
                    nginx.port(),
                );
                let slots = [blue, green].map(|port| ([127, 0, 0, 1], port).into());
                (Box::new(nginx), None, control, slots, config)
            }
            Kind::ContainerLive | Kind::ContainerRewrite => {
                let network = run.network("net").expect("a network");
                let name = run.name("nginx");
                let nginx = NginxContainer::start(&run, &name, NginxVersion::V1_22, Some(&network), &[], &[])
                    .expect("an nginx");
                let (dir, port) = (nginx.conf_dir().display(), nginx.port());
                let (how, reach) = if kind == Kind::ContainerLive {
                    let ips = [10, 11].map(|last| network.ip(last));
                    let ips = format!("ips = {{ blue = \"{}\", green = \"{}\" }}", ips[0], ips[1]);
                    (format!("dir = \"{dir}\""), format!("reach = \"ip\"\n{ips}"))
                } else {
                    (
                        format!("mode = \"rewrite\"\nconf = \"{dir}/site.conf\""),
                        "reach = \"name\"\npublish = \"none\"".to_owned(),
                    )
                };
                let config = format!(
                    "[nginx]\ncontainer = \"{name}\"\n{how}\nurl = \"http://127.0.0.1:{port}/\"\n\
                     [app.{app}]\nnetwork = \"{}\"\n{reach}\n",
                    network.name,
                );
                let slots = [10, 11].map(|last| (network.ip(last), 3000).into());
                (Box::new(nginx), Some(network), 8989, slots, config)
            }
        };
        let extra = extra.replace("WEB", &app);
        let config = format!("{config}image = \"unused\"\npull = \"never\"\n{extra}\n");
        std::fs::File::create(dir.path().join("bluegreen.toml"))
            .and_then(|mut file| std::io::Write::write_all(&mut file, config.as_bytes()))
            .expect("a configuration");
        let stage = Self { run, nginx, app, dir, network, control_port, slots };
        let location = match kind {
            // A variable, so that nginx starts before there is a container of that name.
            Kind::ContainerRewrite => {
                let app = &stage.app;
                format!("resolver 127.0.0.11 valid=1s; set $app {app}-blue; proxy_pass http://$app:3000;")
            }
            Kind::HostLive | Kind::ContainerLive => {
                stage.bluegreen(&["nginx", "install"]).expect(0);
                let dir = match kind {
                    Kind::HostLive => stage.nginx.conf_dir().display().to_string(),
                    _ => "/etc/nginx/conf.d".to_owned(),
                };
                format!("include {dir}/bluegreen/{}.location;", stage.app)
            }
        };
        let server = format!("server {{ listen @PORT@; location / {{ {location} }} }}\n");
        stage.nginx.write_conf("site.conf", &server).expect("the site");
        stage.nginx.reload().expect("a reload");
        // Any answer will do. It listens when the reload is through, or a while later when somebody else's
        // connection has the port at that moment.
        let answers =
            || Command::new("curl").args(["-s", "-m", "2", &stage.nginx.url()]).output().expect("curl");
        assert!(
            wait_until(Duration::from_secs(30), || !answers().stdout.is_empty()),
            "nginx does not listen"
        );
        stage
    }

    /// The directory of this stage, where the command runs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where nginx reaches the green colour, or the blue one.
    #[allow(dead_code, reason = "a stage tells more than every set of tests asks")]
    pub fn endpoint(&self, green: bool) -> SocketAddr {
        self.slots[usize::from(green)]
    }

    /// An image of the sample app, on this host only.
    pub fn image(&self, version: &str, image: &AppImage) -> String {
        self.run.app_image(&format!("app:{version}"), image).expect("an image")
    }

    /// The command with these arguments, ready to start.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(["--state-dir", &self.dir().join("state").display().to_string()])
            .args(arguments)
            .current_dir(self.dir())
            .env_remove("DEPLOYMENT_ID")
            .stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub fn bluegreen(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// Deploys a healthy version.
    #[track_caller]
    pub fn deploy(&self, version: &str) -> Ran {
        let image = self.image(version, &AppImage::version(version));
        self.bluegreen(&["deploy", "--image", &image]).expect(0)
    }

    /// What a client gets; `None` when it gets no answer.
    pub fn version(&self) -> Option<String> {
        let body = Command::new("curl").args(["-sf", "-m", "5", &self.nginx.url()]).output().expect("curl");
        let text = String::from_utf8_lossy(&body.stdout).into_owned();
        body.status.success().then(|| text.trim().trim_start_matches("version=").to_owned())
    }

    /// Fails the test unless clients get this version.
    #[track_caller]
    pub fn serves(&self, version: &str) {
        assert_eq!(self.version().as_deref(), Some(version));
    }

    /// The names of this application's containers that run, sorted.
    pub fn running(&self) -> Vec<String> {
        self.containers(&["--filter", "status=running"])
    }

    /// The names of all this application's containers, sorted.
    pub fn containers(&self, filters: &[&str]) -> Vec<String> {
        let label = format!("label=bluegreen.app={}", self.app);
        let mut arguments = vec!["ps", "-a", "--format", "{{.Names}}", "--filter", &label];
        arguments.extend(filters);
        let listed = docker(arguments).expect("docker ps");
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Load in all short modes, each kind of client that a switch could hurt. Paced: clients that send as fast as
    /// they can take both cores, and then it is the machine that keeps them and the other tests' clients waiting.
    pub fn load(&self) -> Handle {
        let target = Target::parse(&self.nginx.url()).expect("loopback");
        let config = Config::new(target)
            .with(Mode::New, 2)
            .with(Mode::Keepalive, 2)
            .with(Mode::Gaps, 6)
            .with(Mode::Naive, 4)
            .with(Mode::Post, 4)
            .at_most(40.0)
            .lasting(Duration::from_secs(300));
        let load = Handle::spawn(config);
        assert!(load.wait_until(Duration::from_secs(10), |report| report.total.requests > 50), "no load");
        load
    }
}

/// Runs a command to its end.
pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().expect("the command starts");
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
