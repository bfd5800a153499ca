use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use bluegreen_core::adapter::docker::{Docker, LocalImages};
use bluegreen_core::model::{
    AppName, AppSpec, Color, DeploymentId, Endpoint, InstanceName, InstanceSpec, PinnedImage, Slot, Slots,
};
use bluegreen_core::port::{ContainerRuntime as _, Instance, Registry as _, RuntimeError};

/// An application of a random name with an image of its own. All that it makes carries its label and goes with it.
pub(crate) struct Bed {
    pub(crate) docker: Docker,
    pub(crate) id: String,
    pub(crate) image: PinnedImage,
    pub(crate) image_name: String,
}

/// A root of one program, imported; every container inherits the label from its image.
const IMPORT: &str = r#"
set -eu
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/tmp" "$root/etc"
chmod 1777 "$root/tmp"
cp "$(command -v busybox)" "$root/bin/busybox"
for name in sh sleep echo printf cat tail head seq nc id kill touch ls mount true; do
    ln -s busybox "$root/bin/$name"
done
tar -C "$root" -c . | docker import --change "LABEL bluegreen.test=$1" --change 'ENV PATH=/bin' \
    --change 'CMD ["sleep", "600"]' ${3:+--change "$3"} - "$2"
"#;

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With one more instruction for the image.
    pub(crate) async fn with(change: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() & 0xffff_ffff_ffff;
        let id = format!("docker-adapter-{now:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let image_name = format!("bluegreen-test/{id}:1");
        let import =
            Command::new("sh").args(["-c", IMPORT, "sh", &id, &image_name, change]).output().unwrap();
        assert!(import.status.success(), "docker import: {}", String::from_utf8_lossy(&import.stderr));
        let docker = Docker::connect(None).unwrap();
        let reference = image_name.parse().unwrap();
        let image = LocalImages::new(docker.clone()).resolve(&reference).await.unwrap();
        Self { docker, id, image, image_name }
    }

    pub(crate) fn app(&self) -> AppName {
        AppName::new(&*self.id).unwrap()
    }

    pub(crate) fn name(&self, suffix: &str) -> InstanceName {
        InstanceName::new(format!("{}-{suffix}", self.id)).unwrap()
    }

    /// The blue instance, changed by `change`.
    pub(crate) fn spec(&self, change: impl FnOnce(&mut AppSpec)) -> InstanceSpec {
        let endpoint: Endpoint = "127.0.0.1:1".parse().unwrap();
        let slot = |color: Color| Slot::new(color, self.name(color.as_str()), 8080, endpoint.clone());
        let slots = Slots { blue: slot(Color::Blue), green: slot(Color::Green) };
        let mut app = AppSpec::new(self.app(), slots);
        app.options.stop_timeout = Some(Duration::from_secs(1));
        change(&mut app);
        app.instance(Color::Blue, self.image.clone(), DeploymentId::new("d-1").unwrap())
    }

    /// The blue instance with a shell script for its command.
    pub(crate) fn shell(&self, script: &str) -> InstanceSpec {
        self.spec(|app| app.options.command = Some(sh(script)))
    }

    pub(crate) async fn run(&self, spec: &InstanceSpec) -> Instance {
        self.docker.ensure_running(spec).await.unwrap()
    }

    pub(crate) async fn refused(&self, spec: &InstanceSpec) -> RuntimeError {
        self.docker.ensure_running(spec).await.unwrap_err()
    }

    /// The blue instance once `until` holds.
    pub(crate) async fn wait(&self, until: impl Fn(&Instance) -> bool) -> Instance {
        let name = self.name("blue");
        let mut last = None;
        for _ in 0..1000 {
            let found = self.docker.find(&name).await.unwrap();
            if let Some(found) = found.clone().filter(&until) {
                return found;
            }
            last = found;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it never came to that: {last:?}")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let script = r#"
            docker ps -aq --filter "label=bluegreen.test=$1" | xargs -r docker rm -fv
            docker ps -aq --filter "label=bluegreen.app=$1" | xargs -r docker rm -fv
            docker network ls -q --filter "label=bluegreen.app=$1" | xargs -r docker network rm
            docker images -q --filter "label=bluegreen.test=$1" | sort -u | xargs -r docker rmi -f
        "#;
        let cleaned = Command::new("sh").args(["-c", script, "sh", &self.id]).stdout(Stdio::null()).status();
        assert!(std::thread::panicking() || cleaned.is_ok_and(|status| status.success()), "not cleaned up");
    }
}

pub(crate) fn sh(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

/// The docker command itself, as a person or a script uses it.
pub(crate) fn cli(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An error with its causes, as a person would read it.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// A host port that nobody uses at the moment.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
