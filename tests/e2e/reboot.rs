//! The whole host goes down at each step of a deploy and comes back: the command, nginx and all containers end at
//! once; then nginx starts cold, and Docker starts what ran and is to be started again.

use std::thread::sleep;
use std::time::{Duration, Instant};

use bluegreen_testkit::docker::docker;
use bluegreen_testkit::process;

use crate::interrupted::{STEPS, Turns, VERSIONS};
use crate::luck::{PATIENCE, Running};
use crate::nginx_life::{self, side_by_side};
use crate::stage::{Kind, Stage};

/// As a reboot looks from outside: Docker starts those containers that ran and whose policy says so.
fn reboot(stage: &Stage, kind: Kind, run: &mut Running) {
    run.signal("KILL");
    nginx_life::kill(stage, kind);
    run.end().expect(-1);
    let mut ran = Vec::new();
    let mut quiet_since = Instant::now();
    // A start that was asked for is carried out although nobody waits for it: the power goes when that is through.
    while quiet_since.elapsed() < Duration::from_secs(1) {
        for name in stage.running() {
            // One that Docker was just stopping for us is stopped, and stays so.
            if docker(["kill", &name]).is_ok() {
                ran.push(name);
            }
            quiet_since = Instant::now();
        }
        sleep(Duration::from_millis(50));
    }
    assert_eq!(stage.running(), [""; 0], "somebody starts them again");
    // The worst order: nginx is there before anything that it leads to.
    nginx_life::start(stage, kind);
    for name in &ran {
        let policy = docker(["inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", name]);
        if policy.expect("docker") == "unless-stopped" {
            docker(["start", name]).expect("docker");
        }
    }
    stage.await_places(&stage.running());
}

fn rebooted_at_each_step(kind: Kind, recover_at: usize) {
    let mut turns = Turns::new(kind);
    for (n, step) in STEPS.into_iter().enumerate() {
        let candidate = turns.candidate();
        let mut run = Running::deploy(&turns.stage, &turns.images[candidate], &[]);
        run.until("step-started", Some(step));
        reboot(&turns.stage, kind, &mut run);
        let of = format!("{kind:?}: rebooted at {step}");
        let committed = run.saw("step-succeeded", "verify");
        assert!(process::wait_until(PATIENCE, || turns.stage.version().is_some()), "{of}: nothing serves");
        let serves = turns.stage.version().expect("it did a moment ago");
        let status = turns.stage.bluegreen(&["status"]).expect(50);
        let status = status.says(&["UNFINISHED", "next: bluegreen recover", &format!("app:{serves}")]);
        eprintln!("{of}: {serves} serves, {:?} run, committed {committed}", turns.stage.running());
        if n % 2 == recover_at {
            // Recover takes back what was not committed, and finishes what was.
            turns.stage.watched(&VERSIONS, || turns.stage.bluegreen(&["recover"]).expect(0));
            let owed = if committed { candidate } else { turns.serving };
            // The record may have been written and its event not.
            let owed = if step == "verify" && turns.stage.version().as_deref() == Some(VERSIONS[candidate]) {
                candidate
            } else {
                owed
            };
            turns.settled_on(owed, &format!("{of}\n{}", status.out));
        } else {
            let deploy = ["deploy", "--image", &turns.images[candidate]];
            turns.stage.watched(&VERSIONS, || turns.stage.bluegreen(&deploy).expect(0));
            turns.settled_on(candidate, &format!("{of}\n{}", status.out));
        }
        let status = turns.stage.bluegreen(&["status"]).expect(0);
        assert!(!["UNFINISHED", "ATTENTION"].iter().any(|word| status.out.contains(word)), "{}", status.out);
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_reboot_at_each_step_is_settled_by_the_next_run() {
    // Each of the two ways to settle it, at each step.
    side_by_side(&[(Kind::HostLive, 1), (Kind::ContainerLive, 0)], |(kind, recover_at)| {
        rebooted_at_each_step(kind, recover_at);
    });
}
