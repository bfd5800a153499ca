//! One host, several people, several applications.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use bluegreen_testkit::docker::AppImage;
use bluegreen_testkit::process;

use crate::luck::Running;
use crate::stage::{Kind, Ran, Stage, ran};

impl Stage {
    /// The command as a user who may use Docker and nothing else here.
    fn as_docker_user(&self, arguments: &[&str]) -> Ran {
        let group = std::fs::metadata("/var/run/docker.sock").expect("the Engine's socket").gid();
        let command = self.command(arguments);
        let mut other = Command::new("setpriv");
        other.args(["--reuid=65534", "--regid=65534", &format!("--groups={group}")]);
        // Where everybody may run it.
        let program = std::env::temp_dir().join(format!("{}-bluegreen", self.app));
        std::fs::copy(command.get_program(), &program).expect("a copy of the command");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        std::fs::set_permissions(self.dir(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let seen = ran(other.arg(&program).args(command.get_args()).current_dir(self.dir()));
        std::fs::remove_file(program).expect("the copy is gone");
        seen
    }
}

#[test]
#[ignore = "needs Docker, nginx and root: ./scripts/test"]
fn a_user_of_the_docker_group_has_the_same_lock_or_is_refused() {
    let stage = Stage::with_v1(Kind::HostLive);
    let slow = stage.image_with("v2", &[("START_DELAY_MS", "6000")]);
    let v3 = stage.image("v3", &AppImage::version("v3"));
    let mut first = Running::deploy(&stage, &slow, &["--deployment-id", "d-root"]);
    first.until("step-started", Some("gate"));
    let state = stage.dir().join("state").display().to_string();
    let closed = stage.as_docker_user(&["deploy", "--image", &v3]).expect(10);
    let closed = closed.says(&[
        "this user may not use the state directory",
        &state,
        "nothing touched",
        "to do: sudo install -d -m 2770 -g docker",
    ]);
    // As it is typed, with the group that the Engine's socket has here.
    let group = std::fs::metadata("/var/run/docker.sock").expect("the Engine's socket").gid().to_string();
    let next = closed.err.lines().find_map(|line| line.strip_prefix("to do: ")).expect("a command");
    let next = next.replace("sudo ", "").replace("-g docker", &format!("-g {group}"));
    let next = next.replace("chgrp -R docker", &format!("chgrp -R {group}"));
    process::output("sh", ["-c", &next]).expect("it can be typed");
    let busy = stage.as_docker_user(&["deploy", "--image", &v3]).expect(10);
    busy.says(&["another run of this application is in progress", "deploy d-root", "nothing touched"]);
    first.end().expect(0);
    stage.serves("v2");
    // What root writes from now on is for both, and for nobody else.
    stage.as_docker_user(&["history"]).expect(0).says(&["d-root"]);
    stage.deploy("v4");
    stage.as_docker_user(&["history"]).expect(0).says(&["app:v4"]);
    let files = process::output("find", [&state, "-perm", "/o=rwx"]).expect("find");
    assert_eq!(files.trim(), "", "others may look into it");
    // Nor does it matter who came first to a directory that was opened before anything was in it.
    std::fs::remove_dir_all(&state).expect("the state");
    process::output("install", ["-d", "-m", "2770", "-g", &group, &state]).expect("a directory");
    stage.deploy("v5");
    stage.as_docker_user(&["history"]).expect(0).says(&["app:v5"]);
    let mut busy = Running::deploy(&stage, &slow, &["--deployment-id", "d-again"]);
    busy.until("step-started", Some("gate"));
    let told = || stage.as_docker_user(&["deploy", "--image", &v3]).err.contains("deploy d-again");
    assert!(process::wait_until(std::time::Duration::from_secs(5), told), "it has another lock");
    busy.end().expect(0);
}

/// Nothing that is in the environment, or is missing there, leads to another lock.
#[test]
fn the_lock_is_found_whatever_the_environment_is() {
    let place = tempfile::tempdir().expect("a directory");
    std::fs::File::create(place.path().join("bluegreen.toml"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"[app.web]\n"))
        .expect("a configuration");
    let found = |environment: &[(&str, &str)]| {
        let mut doctor = Command::new(crate::stage::program());
        doctor.args(["doctor", "--output", "json"]).current_dir(place.path()).env_clear();
        let seen = ran(doctor.envs(environment.iter().copied()));
        seen.says(&["/var/lib"])
    };
    found(&[]);
    found(&[("HOME", "/home/somebody"), ("XDG_STATE_HOME", "/home/somebody/state")]);
    found(&[("SUDO_USER", "somebody"), ("HOME", "/home/somebody")]);
}
