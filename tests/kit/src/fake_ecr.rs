//! Amazon ECR without Amazon, driven by `tests/kit/fake-ecr.sh`. Each value is an instance with an account
//! number, a network namespace and addresses of its own, so that tests in any number of processes never meet.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::docker::{Run, random};
use crate::process::{output, output_of};
use crate::{Result, cache_dir, docker, fail, workspace_root};

/// A running fake of ECR. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct FakeEcr {
    id: u32,
    dir: PathBuf,
    moto: PathBuf,
    env: BTreeMap<String, String>,
}

/// An image in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// `ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG`.
    pub uri: String,
    /// `sha256:…`, the same in the registry and in the API.
    pub digest: String,
}

impl FakeEcr {
    /// Starts one; some seconds, and a minute more when moto has to be installed first. Needs root.
    pub fn start(run: &Run) -> Result<Self> {
        let moto = moto_server()?;
        let base = base_dir();
        std::fs::create_dir_all(&base)?;
        // The directory is the claim on the number.
        let (id, dir) = (0..50)
            .map(|_| random(16_000))
            .map(|id| (id, base.join(id.to_string())))
            .find(|(_, dir)| std::fs::create_dir(dir).is_ok())
            .ok_or_else(|| fail(format!("no free number in {}", base.display())))?;
        std::fs::write(dir.join("run"), run.id())?;
        let mut fake = Self { id, dir, moto, env: BTreeMap::new() };
        // From here on a failure drops the value, and that undoes what was made.
        fake.call(&["start"])?;
        let env = fake.call(&["env"])?;
        fake.env =
            env.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
        Ok(fake)
    }

    /// The variables that make an AWS SDK talk to it.
    pub fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).filter(|(k, _)| k.starts_with("AWS_"))
    }

    /// Its address for `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> &str {
        &self.env["AWS_ENDPOINT_URL"]
    }

    /// The registry's host name.
    pub fn host(&self) -> &str {
        &self.env["FAKE_ECR_HOST"]
    }

    /// The password, for the user `AWS`, that its tokens carry.
    pub fn password(&self) -> &str {
        &self.env["FAKE_ECR_PASSWORD"]
    }

    /// The region in its host name.
    pub fn region(&self) -> &str {
        &self.env["AWS_REGION"]
    }

    /// Pushes a local image as `repository:tag`; under that name it is then not local any more.
    pub fn push(&self, image: &str, repository_tag: &str) -> Result<PushedImage> {
        let said = self.call(&["push", image, repository_tag])?;
        let (uri, digest) = said.split_once(' ').ok_or_else(|| fail(format!("push said {said:?}")))?;
        Ok(PushedImage { uri: uri.to_owned(), digest: digest.to_owned() })
    }

    /// The registry refuses the token from now on.
    pub fn deny(&self) -> Result<()> {
        self.call(&["deny"]).map(drop)
    }

    /// The registry takes the token again.
    pub fn allow(&self) -> Result<()> {
        self.call(&["allow"]).map(drop)
    }

    /// The registry is gone; the API stays.
    pub fn registry_down(&self) -> Result<()> {
        self.call(&["down"]).map(drop)
    }

    /// The registry is back.
    pub fn registry_up(&self) -> Result<()> {
        self.call(&["up"]).map(drop)
    }

    /// Deletes the layers of an image and keeps its manifest: a pull that has to fetch them fails half way.
    pub fn break_layers(&self, repository_tag: &str) -> Result<()> {
        self.call(&["break", repository_tag]).map(drop)
    }

    /// The API no longer knows the repository.
    pub fn forget_repository(&self, repository: &str) -> Result<()> {
        self.call(&["forget", repository]).map(drop)
    }

    /// A directory for `DOCKER_CONFIG` with the token in it, as `docker login` leaves it.
    pub fn docker_config(&self) -> Result<tempfile::TempDir> {
        let dir = tempfile::tempdir()?;
        let mut base64 = Command::new("sh");
        base64.args(["-c", "printf 'AWS:%s' \"$0\" | base64 -w0", self.password()]);
        let auth = output_of(&mut base64)?;
        let config = serde_json::json!({ "auths": { self.host(): { "auth": auth } } });
        std::fs::write(dir.path().join("config.json"), config.to_string())?;
        Ok(dir)
    }

    /// Ends it and undoes all of it. Drop does it too; this one tells of errors.
    pub fn purge(&self) -> Result<()> {
        self.call(&["purge"]).map(drop)
    }

    fn call(&self, arguments: &[&str]) -> Result<String> {
        call(self.id, &self.dir, &self.moto, arguments)
    }
}

impl Drop for FakeEcr {
    fn drop(&mut self) {
        if self.dir.exists()
            && let Err(error) = self.purge()
        {
            eprintln!("testkit: clean-up of the fake ECR: {error}");
        }
    }
}

fn base_dir() -> PathBuf {
    std::env::temp_dir().join("bluegreen-testkit-ecr")
}

fn call(id: u32, dir: &Path, moto: &Path, arguments: &[&str]) -> Result<String> {
    // Daemons started by the script keep its streams; it gives them files, so that this pipe ends.
    let mut script = Command::new("bash");
    script.arg(workspace_root().join("tests/kit/fake-ecr.sh")).args(arguments);
    script.env("FAKE_ECR_ID", id.to_string()).env("FAKE_ECR_DIR", dir).env("FAKE_ECR_MOTO", moto);
    output_of(&mut script)
}

/// Purges the fakes of runs whose process is gone.
pub fn sweep() -> Result<()> {
    let Ok(entries) = std::fs::read_dir(base_dir()) else { return Ok(()) };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let id = dir.file_name().and_then(|name| name.to_str()?.parse().ok());
        let run = std::fs::read_to_string(dir.join("run")).unwrap_or_default();
        if let Some(id) = id
            && docker::is_run(&run)
            && !docker::owner_is_alive(&run)
        {
            call(id, &dir, Path::new("moto_server"), &["purge"])?;
        }
    }
    Ok(())
}

/// moto's server: from the search path when it works, else from an environment made under `target/`.
fn moto_server() -> Result<PathBuf> {
    let works = |program: &Path| {
        output_of(Command::new(program).arg("--help")).is_ok_and(|help| help.contains("usage"))
    };
    let on_path = PathBuf::from("moto_server");
    if works(&on_path) {
        return Ok(on_path);
    }
    let venv = cache_dir()?.join("venv");
    let program = venv.join("bin/moto_server");
    let lock = File::create(cache_dir()?.join("venv.lock"))?;
    lock.lock()?;
    if !works(&program) {
        output("python3", ["-m", "venv", &venv.to_string_lossy()])?;
        output_of(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "moto[server,ecr]==5.*"]))?;
    }
    Ok(program)
}
