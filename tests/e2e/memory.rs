//! How much memory a whole deploy takes.

use std::process::Stdio;
use std::time::Duration;

use bluegreen_testkit::docker::AppImage;

use crate::stage::{Kind, Stage};

/// What is wanted, in kB.
const LIMIT: u64 = 30_000;

/// The kernel's own high-water mark of a process's resident memory, in kB.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn the_memory_of_a_deploy_stays_small() {
    let stage = Stage::live_with(Kind::HostLive, "[app.WEB.health]\nhttp = \"/health\"");
    stage.deploy("v1");
    // Time enough for a last look close to the end.
    let image = stage.image("v2", &AppImage::version("v2").env("START_DELAY_MS", "300"));
    let mut command = stage.command(&["deploy", "--image", &image]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command");
    let mut most = 0;
    while child.try_wait().expect("a child of ours").is_none() {
        most = most.max(peak(child.id()).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().expect("it ended").success());
    stage.serves("v2");
    // scripts/check-release reads this.
    println!("peak memory of a deploy: {most} kB");
    assert!((1..LIMIT).contains(&most), "a deploy took {most} kB");
}
