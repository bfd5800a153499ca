//! The stage's nginx ended and started again, wherever it runs.

use std::fmt::Debug;
use std::process::{Command, Stdio};
use std::time::Duration;

use bluegreen_testkit::docker::docker;
use bluegreen_testkit::process;

use crate::luck::PATIENCE;
use crate::stage::{Kind, Stage};

/// Does it for each of these, side by side.
pub fn side_by_side<T: Copy + Debug + Send>(all: &[T], what: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let what = &what;
        let running: Vec<_> = all.iter().map(|&one| (one, scope.spawn(move || what(one)))).collect();
        for (one, thread) in running {
            assert!(thread.join().is_ok(), "{one:?} failed, see above");
        }
    });
}

/// Kills master and workers at once.
pub fn kill(stage: &Stage, kind: Kind) {
    match kind {
        Kind::HostLive => stop_host_nginx(stage, "KILL"),
        Kind::ContainerLive | Kind::ContainerRewrite => {
            docker(["kill", &stage.run.name("nginx")]).expect("docker");
        }
    }
}

/// Starts it as a host or a person does, and waits until it listens. What is behind it may not be there yet.
pub fn start(stage: &Stage, kind: Kind) {
    let serves = match kind {
        Kind::HostLive => {
            start_program(stage);
            let url = stage.nginx.url();
            // Any answer will do.
            process::wait_until(PATIENCE, || {
                process::output("curl", ["-s", "-m", "2", "-o", "/dev/null", &url]).is_ok()
            })
        }
        Kind::ContainerLive | Kind::ContainerRewrite => {
            docker(["start", &stage.run.name("nginx")]).expect("docker");
            // Docker accepts for it, and addresses of containers that are not there give no answer for seconds.
            process::wait_until(PATIENCE, || stage.nginx.worker_pids().is_ok_and(|pids| pids.len() >= 2))
        }
    };
    assert!(serves, "nginx does not serve");
}

/// Ends master and workers.
pub fn stop_host_nginx(stage: &Stage, signal: &str) {
    let master = master(stage);
    let workers = process::children(master);
    for pid in std::iter::once(master).chain(workers.iter().copied().filter(|_| signal == "KILL")) {
        process::signal(pid, signal);
    }
    let gone = || !process::is_alive(master) && workers.iter().all(|pid| !process::is_alive(*pid));
    assert!(process::wait_until(Duration::from_secs(30), gone), "nginx does not end");
}

/// Starts it where something serves behind it.
pub fn start_host_nginx(stage: &Stage) {
    start_program(stage);
    assert!(process::wait_until(PATIENCE, || stage.version().is_some()), "nginx does not serve");
}

fn start_program(stage: &Stage) {
    let nginx = stage.nginx.conf_dir().with_file_name("nginx");
    let quiet = Stdio::null;
    let status = Command::new(nginx).stdin(quiet()).stdout(quiet()).stderr(quiet()).status().expect("nginx");
    assert!(status.success());
}

/// By its file: the stage knows only the one that it started.
fn master(stage: &Stage) -> u32 {
    let file = stage.nginx.conf_dir().with_file_name("nginx.pid");
    let text = std::fs::read_to_string(file).expect("nginx runs");
    text.trim().parse().expect("a pid")
}
