//! A stage whose images come from an Amazon ECR.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bluegreen_testkit::docker::{AppImage, docker};
use bluegreen_testkit::fake_ecr::{FakeEcr, PushedImage};

use crate::api::{Api, Reply};
use crate::stage::{Kind, Ran, Stage, ran};

/// nginx on the host, an application without an image of its own, and an ECR.
pub struct EcrStage {
    pub stage: Stage,
    pub ecr: Arc<FakeEcr>,
}

impl EcrStage {
    pub fn new() -> Self {
        let stage = Stage::live(Kind::HostLive);
        let file = stage.dir().join("bluegreen.toml");
        let config = std::fs::read_to_string(&file).expect("the configuration");
        assert!(config.contains("pull = \"never\"\n"), "the stage pulls by itself");
        write(&file, config.replace("pull = \"never\"\n", ""));
        std::fs::create_dir(stage.dir().join("docker")).expect("a directory");
        let ecr = Arc::new(FakeEcr::start(&stage.run).expect("a fake ECR"));
        Self { stage, ecr }
    }

    /// An image of the sample app with a layer of its own, in the ECR and nowhere else.
    pub fn push(&self, version: &str, repository_tag: &str) -> PushedImage {
        let local = self.stage.image(version, &AppImage::version(version).own_layer());
        let pushed = self.ecr.push(&local, repository_tag).expect("a push");
        docker(["rmi", "--force", &local]).expect("a removal");
        pushed
    }

    /// The command, with AWS credentials in the environment and none in a Docker config file.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.envs(self.ecr.env());
        command
    }

    /// The command with nothing of AWS in its environment, a home that is empty, and the ECR's address.
    pub fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = self.stage.command(arguments);
        without_aws(&mut command);
        command
            .env("HOME", self.stage.dir())
            .env("DOCKER_CONFIG", self.stage.dir().join("docker"))
            .env("AWS_ENDPOINT_URL", self.ecr.endpoint());
        command
    }

    pub fn bluegreen(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// The same, by way of something that stands in the API's way.
    pub fn through(&self, api: &Api, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).env("AWS_ENDPOINT_URL", api.endpoint()))
    }

    pub fn deploy(&self, uri: &str) -> Ran {
        self.bluegreen(&["deploy", "--image", uri])
    }

    /// Something to be done to the ECR at another moment, by another thread.
    pub fn later(
        &self,
        what: fn(&FakeEcr) -> bluegreen_testkit::Result<()>,
    ) -> impl Fn() + Send + Sync + 'static {
        // Not held: the ECR ends with the stage, whatever another thread still has.
        let ecr = Arc::downgrade(&self.ecr);
        move || what(&ecr.upgrade().expect("the ECR is there")).expect("the ECR does as it is told")
    }

    /// In front of the ECR API.
    pub fn api(&self, decide: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Api {
        Api::start(self.ecr.endpoint(), decide)
    }

    /// Deploys v1 as the version that must go on serving.
    #[track_caller]
    pub fn v1(&self) -> PushedImage {
        let v1 = self.push("v1", "shop/web:v1");
        self.deploy(&v1.uri).expect(0);
        self.stage.serves("v1");
        v1
    }

    /// Fails the test unless v1, on blue, serves and is all that runs, and nothing else is left.
    #[track_caller]
    pub fn only_v1_serves(&self) {
        self.stage.serves("v1");
        assert_eq!(self.stage.containers(&[]), [format!("{}-blue", self.stage.app)]);
        assert_eq!(self.stage.running(), self.stage.containers(&[]));
    }
}

/// Takes everything of AWS out of the environment.
pub fn without_aws(command: &mut Command) {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names.iter().filter(|name| name.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(name);
    }
}

/// Writes a file of the test's own.
#[expect(clippy::disallowed_methods, reason = "nobody else reads it while it is written")]
pub fn write(path: &std::path::Path, text: impl AsRef<[u8]>) {
    std::fs::write(path, text).expect("a file");
}

/// A command that runs beside the test.
pub struct Beside {
    child: Child,
}

impl Beside {
    pub fn start(command: &mut Command) -> Self {
        let child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
        Self { child }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    pub fn end(self) -> Ran {
        let output = self.child.wait_with_output().expect("its end");
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
