//! A machine as the shell script has it: network `dev`, nginx in a container `nginx`, host ports 3000 and 4000. All
//! of these are the machine's own, so one stage is up at a time, whoever runs tests here.
#![expect(clippy::disallowed_methods, reason = "a test writes its own files and waits for its turn")]

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use bluegreen_testkit::docker::{AppImage, Run, docker};
use bluegreen_testkit::nginx::{Nginx as _, NginxContainer, NginxVersion};
use bluegreen_testkit::process::wait_until;
use bluegreen_testkit::workspace_root;

use crate::stage::{Ran, program, ran};

/// How nginx's file names the application; `APP` is its name.
pub const DIRECT: &str =
    "server {\n    listen @PORT@;\n    location / {\n        proxy_pass http://APP-3000:3000;\n    }\n}\n";
pub const UPSTREAM: &str = "upstream backend {\n    server APP-3000:3000;\n}\nserver {\n    listen @PORT@;\n    \
                            location / {\n        proxy_pass http://backend;\n    }\n}\n";
/// With this one nginx starts before the application's first container is there.
pub const VARIABLE: &str = "server {\n    listen @PORT@;\n    resolver 127.0.0.11 valid=1s;\n    set $app APP-3000;\n    \
                            location / { proxy_pass http://$app:3000; }\n}\n";

pub struct Machine {
    pub run: Run,
    pub app: String,
    nginx: Option<NginxContainer>,
    dir: tempfile::TempDir,
    form: String,
    _turn: File,
}

/// What a deployment leaves, as far as the script decides it.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    /// What runs: name, networks, where port 3000 is published, the image.
    pub running: Vec<String>,
    /// nginx's file.
    pub conf: String,
    /// What a client gets.
    pub serves: Option<String>,
}

/// Everything that a refusal must not have touched.
#[derive(Debug, PartialEq, Eq)]
pub struct Untouched {
    conf: Vec<u8>,
    changed: SystemTime,
    containers: String,
    beside: Vec<String>,
}

impl Machine {
    /// With neither nginx nor a container of the application.
    pub fn bare() -> Self {
        let path = std::env::temp_dir().join("bluegreen-testkit-script.lock");
        let turn = File::create(path).expect("a lock file");
        turn.lock().expect("our turn");
        let run = Run::new();
        let app = run.name("web");
        let taken = || docker(["ps", "-aq", "--filter", "name=^/?nginx$"]).is_ok_and(|ids| !ids.is_empty());
        assert!(
            wait_until(Duration::from_secs(120), || !taken()),
            "there is a container named nginx: not ours"
        );
        docker(["network", "create", "--label", &run.label(), "dev"]).expect("a network dev of our own");
        let dir = tempfile::Builder::new().prefix("bluegreen-e2e-").tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("build")).expect("a directory");
        Self { run, app, nginx: None, dir, form: String::new(), _turn: turn }
    }

    /// v0 on 3000, as the script leaves it, and nginx in front of it with a file of this form.
    pub fn with_v0(form: &str) -> Self {
        let mut machine = Self::bare();
        machine.as_the_script("v0", 3000);
        machine.start_nginx(form, NginxVersion::V1_22, &["--network", "dev"]);
        assert_eq!(machine.version().as_deref(), Some("v0"));
        machine
    }

    pub fn start_nginx(&mut self, form: &str, version: NginxVersion, options: &[&str]) {
        self.form = form.replace("APP", &self.app);
        let conf = [("default.conf", self.form.as_str())];
        let nginx =
            NginxContainer::start(&self.run, "nginx", version, None, &conf, options).expect("an nginx");
        self.nginx = Some(nginx);
    }

    pub fn nginx(&self) -> &NginxContainer {
        self.nginx.as_ref().expect("nginx was started")
    }

    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub fn conf(&self) -> PathBuf {
        self.nginx().conf_dir().join("default.conf")
    }

    pub fn conf_text(&self) -> String {
        std::fs::read_to_string(self.conf()).expect("nginx's file")
    }

    /// Writes nginx's file as a person does, in place.
    pub fn edit(&self, text: &str) {
        std::fs::write(self.conf(), text).expect("nginx's file");
    }

    /// An image of the sample app, on this host only.
    pub fn image(&self, version: &str) -> String {
        self.run.app_image(&format!("app:{version}"), &AppImage::version(version)).expect("an image")
    }

    pub fn container(&self, port: u16) -> String {
        format!("{}-{port}", self.app)
    }

    /// A container as the script makes it.
    pub fn as_the_script(&self, version: &str, port: u16) {
        let (image, publish) = (self.image(version), format!("{port}:3000"));
        let options = ["--network", "dev", "-p", &publish];
        let container = self.run.start(&self.container(port), &image, &options, &[]).expect("a container");
        let listens = || container.logs().is_ok_and(|log| log.contains("localhost:3000"));
        assert!(wait_until(Duration::from_secs(10), listens), "it does not listen");
    }

    /// Back to `version` on `port`, with nginx's file as it was at the start but for the port.
    pub fn reset(&self, version: &str, port: u16) {
        for port in [3000, 4000] {
            drop(docker(["rm", "-f", &self.container(port)]));
        }
        drop(std::fs::remove_dir_all(self.dir().join("state")));
        self.as_the_script(version, port);
        let text = self.form.replace("-3000", &format!("-{port}")).replace("@PORT@", "80");
        self.edit(&text);
        self.nginx().reload().expect("a reload");
        // Longer than one request may take: the first may still go to an address that is no more.
        let serves = wait_until(Duration::from_secs(20), || self.version().as_deref() == Some(version));
        assert!(serves, "{:?}\n{text}\n{}", self.version(), self.nginx().error_log().unwrap_or_default());
    }

    /// Writes the image definitions where the script looks for them.
    pub fn define(&self, json: &str) -> String {
        let path = self.dir().join("build/imagedefinitions.json");
        std::fs::write(&path, json).expect("image definitions");
        path.display().to_string()
    }

    /// As the script reads them.
    pub fn define_object(&self, image: &str) -> String {
        self.define(&format!(r#"{{"name": "{}", "imageUri": "{image}"}}"#, self.app))
    }

    pub fn script(&self) -> Command {
        let mut script = Command::new(workspace_root().join("tests/e2e/script.sh"));
        script.arg(self.dir()).arg(self.conf());
        script
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .args(["--state-dir", &self.dir().join("state").display().to_string()])
            .current_dir(self.dir())
            .env_remove("DEPLOYMENT_ID");
        command
    }

    pub fn bluegreen(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// The very command that takes the script's place, for an image that is on this host only.
    pub fn deploy(&self, image: &str) -> Ran {
        let definitions = self.define_object(image);
        let conf = self.conf().display().to_string();
        self.bluegreen(&[
            "deploy",
            "--image-definitions",
            &definitions,
            "--nginx-conf",
            &conf,
            "--pull",
            "never",
        ])
    }

    /// Any verb on the application, without a configuration file.
    pub fn verb(&self, verb: &str) -> Ran {
        let conf = self.conf().display().to_string();
        self.bluegreen(&[verb, &self.app, "--nginx-conf", &conf])
    }

    /// What a client gets; `None` when it gets no answer.
    pub fn version(&self) -> Option<String> {
        let body = ran(Command::new("curl").args(["-sf", "-m", "5", &self.nginx().direct_url()]));
        (body.code == 0).then(|| body.out.trim().trim_start_matches("version=").to_owned())
    }

    #[track_caller]
    pub fn serves(&self, version: &str) {
        assert_eq!(self.version().as_deref(), Some(version));
    }

    fn places(&self, all: bool) -> Vec<String> {
        let filter = format!("name=^/?{}-", self.app);
        let mut arguments = vec!["ps", "--filter", &filter, "--format", "{{.Names}}"];
        arguments.extend(all.then_some("--all"));
        let mut names: Vec<String> =
            docker(arguments).expect("docker ps").lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The application's containers that run, and after a colon those that do not: `3000:4000`.
    pub fn ports(&self) -> String {
        let short = |name: &String| name.trim_start_matches(&format!("{}-", self.app)).to_owned();
        let running = self.places(false);
        let stopped: Vec<String> =
            self.places(true).iter().filter(|name| !running.contains(name)).map(short).collect();
        format!("{}:{}", running.iter().map(short).collect::<Vec<_>>().join(","), stopped.join(","))
    }

    pub fn state(&self) -> State {
        let format = "{{.Name}} {{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}{{.Image}}";
        let of = |name: &String| {
            let what = docker(["inspect", "--format", format, name]).expect("it runs");
            let ports = docker(["port", name, "3000/tcp"]).expect("its port");
            let port = ports.lines().find(|line| line.starts_with("0.0.0.0:")).map(str::to_owned);
            format!("{what} {port:?}")
        };
        State {
            running: self.places(false).iter().map(of).collect(),
            conf: self.conf_text(),
            serves: self.version(),
        }
    }

    pub fn untouched(&self) -> Untouched {
        let filter = format!("name=^/?{}-", self.app);
        let format = "{{.ID}} {{.Names}} {{.State}}";
        let listed = docker(["ps", "-a", "--no-trunc", "--filter", &filter, "--format", format]);
        let beside = std::fs::read_dir(self.nginx().conf_dir()).expect("conf.d").flatten();
        let mut beside: Vec<String> =
            beside.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        beside.sort();
        Untouched {
            conf: std::fs::read(self.conf()).unwrap_or_default(),
            changed: std::fs::metadata(self.conf())
                .and_then(|meta| meta.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH),
            containers: listed.expect("docker ps"),
            beside,
        }
    }
}
