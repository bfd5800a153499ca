//! What the tests of bad luck have in common: a world that can be compared, a light load that must not notice
//! anything, and a command whose events are read while it runs.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bluegreen_testkit::docker::{AppImage, docker};
use bluegreen_testkit::load::{Config, Handle, Mode, Target};
use bluegreen_testkit::process;
use serde_json::Value;

use crate::stage::{Kind, Ran, Stage};

/// Longer than anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

impl Stage {
    /// A stage where `v1` serves.
    #[track_caller]
    pub fn with_v1(kind: Kind) -> Self {
        let stage = Self::live(kind);
        stage.deploy("v1");
        stage.serves("v1");
        stage
    }

    /// Replaces what the application's table has behind its places.
    pub fn configure(&self, extra: &str) {
        let path = self.dir().join("bluegreen.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let (base, _) = text.split_once("pull = \"never\"\n").expect("as the stage wrote it");
        let text = format!("{base}pull = \"never\"\n{}\n", extra.replace("WEB", &self.app));
        write(&path, &text);
    }

    /// The host port of blue and that of green.
    pub fn host_ports(&self) -> [u16; 2] {
        [false, true].map(|green| self.endpoint(green).port())
    }

    /// A container's name.
    pub fn place(&self, color: &str) -> String {
        format!("{}-{color}", self.app)
    }

    /// Waits until these places answer by themselves: a container that runs is not yet one that serves.
    #[track_caller]
    pub fn await_places(&self, running: &[String]) {
        for place in running {
            let url = format!("http://{}/", self.endpoint(*place == self.place("green")));
            let answers = || process::output("curl", ["-sf", "-m", "2", &url]).is_ok();
            assert!(process::wait_until(PATIENCE, answers), "{place} does not answer");
        }
    }

    /// Everything that a refusal must leave alone: the containers with their starts, and nginx's files.
    pub fn world(&self) -> String {
        let mut text = String::new();
        for name in self.containers(&[]) {
            let format = "{{.Name}} {{.Id}} {{.State.Status}} {{.State.StartedAt}} {{.RestartCount}}";
            writeln!(text, "{}", docker(["inspect", "--format", format, &name]).expect("docker"))
                .expect("text");
        }
        for dir in [self.nginx.conf_dir().to_owned(), self.nginx.conf_dir().join("bluegreen")] {
            let mut files: Vec<_> = std::fs::read_dir(&dir)
                .expect("nginx's directory")
                .map(|entry| entry.expect("an entry").path())
                .filter(|path| path.is_file())
                .collect();
            files.sort();
            for file in files {
                let bytes = std::fs::read(&file).expect("a file");
                writeln!(text, "{}\n{}", file.display(), String::from_utf8_lossy(&bytes)).expect("text");
            }
        }
        text
    }

    /// A few clients of each kind that a switch could hurt, at a pace that leaves the machine alone.
    pub fn light_load(&self) -> Handle {
        self.light_load_of(&[Mode::New, Mode::Keepalive, Mode::Gaps, Mode::Naive, Mode::Post])
    }

    /// The same of these kinds only.
    pub fn light_load_of(&self, modes: &[Mode]) -> Handle {
        let target = Target::parse(&self.nginx.url()).expect("loopback");
        let config = Config::new(target).at_most(40.0).lasting(Duration::from_secs(3600));
        let config = modes.iter().fold(config, |config, mode| config.with(*mode, 1));
        let load = Handle::spawn(config);
        assert!(load.wait_until(Duration::from_secs(30), |report| report.total.requests > 10), "no load");
        load
    }

    /// Does `what` while clients watch, who must get an answer from one of `versions` each time.
    #[track_caller]
    pub fn watched<T>(&self, versions: &[&str], what: impl FnOnce() -> T) -> T {
        let load = self.light_load();
        let outcome = what();
        let seen = load.snapshot().total.requests;
        // Also what happens right behind it counts.
        assert!(load.wait_until(PATIENCE, |report| report.total.requests > seen + 10), "the load stopped");
        let report = load.stop();
        report.assert_lossless();
        let strangers: Vec<_> =
            report.versions.keys().filter(|version| !versions.contains(&version.as_str())).collect();
        assert!(strangers.is_empty(), "{strangers:?} answered clients\n{report}");
        outcome
    }

    /// Runs a deploy that must end with 20 while `v1` serves all clients, and looks at what is left of it.
    #[track_caller]
    pub fn rolls_back(&self, image: &str, says: &[&str]) -> Ran {
        let ran = self.watched(&["v1"], || self.bluegreen(&["deploy", "--image", image]));
        let ran = ran.expect(20).says(says).says(&["serving now: blue", "app:v1"]).says_what_to_do();
        self.serves("v1");
        assert_eq!(self.containers(&[]), [self.place("blue")], "the candidate is left");
        ran
    }

    /// Runs a command that must be refused with 10 and must not touch anything, while `v1` serves all clients.
    #[track_caller]
    pub fn refuses(&self, command: &mut Command, says: &[&str]) -> Ran {
        let before = self.world();
        let ran = self.watched(&["v1"], || crate::stage::ran(command));
        let ran = ran.expect(10).says(says).says(&["nothing touched"]).says_what_to_do();
        assert_eq!(self.world(), before, "something was touched");
        self.serves("v1");
        ran
    }

    /// An image of a version whose environment is this.
    pub fn image_with(&self, version: &str, env: &[(&str, &str)]) -> String {
        let image =
            env.iter().fold(AppImage::version(version), |image, (name, value)| image.env(name, value));
        self.image(version, &image)
    }
}

/// Writes a file of a test's own.
pub fn write(path: &std::path::Path, text: &str) {
    std::fs::File::create(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The command while it runs, its events as they come.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    /// Every line of stdout so far.
    pub seen: Vec<String>,
    err: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts it; the arguments should say `--output json`.
    pub fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
        let (sender, lines) = channel();
        let out = child.stdout.take().expect("a pipe");
        drop(std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        }));
        let mut stderr = child.stderr.take().expect("a pipe");
        let err = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text).unwrap_or_default()
        });
        Self { child, lines, seen: Vec::new(), err: Some(err) }
    }

    /// A deploy of `image` with further arguments.
    pub fn deploy(stage: &Stage, image: &str, further: &[&str]) -> Self {
        let arguments = [&["deploy", "--output", "json", "--image", image], further].concat();
        Self::start(&mut stage.command(&arguments))
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        process::signal(self.pid(), name);
    }

    /// Reads on until an event of this kind, of this step when one is named.
    #[track_caller]
    pub fn until(&mut self, event: &str, step: Option<&str>) -> Value {
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(_) => panic!("{event} {step:?} never came\n{}", self.seen.join("\n")),
            };
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            self.seen.push(line);
            if value["event"] == event && step.is_none_or(|step| value["step"] == step) {
                return value;
            }
        }
    }

    /// Whether such an event was seen.
    pub fn saw(&self, event: &str, step: &str) -> bool {
        self.seen
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .any(|value| value["event"] == event && value["step"] == step)
    }

    /// Waits for its end. -1 is a death by a signal.
    #[track_caller]
    pub fn end(&mut self) -> Ran {
        let mut status = None;
        let ended = process::wait_until(PATIENCE, || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        assert!(ended, "it does not end\n{}", self.seen.join("\n"));
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(10)) {
            self.seen.push(line);
        }
        Ran {
            code: status.and_then(|status| status.code()).unwrap_or(-1),
            out: self.seen.join("\n"),
            err: self.err.take().and_then(|err| err.join().ok()).unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only when a test failed before its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
