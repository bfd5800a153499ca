//! A clock that is set: a day back or ahead between runs, and in the middle of one. Containers, nginx and files keep the
//! real time, as they do when somebody sets a clock after they were made.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bluegreen_testkit::process;
use serde_json::Value;
use tokio::time::Instant;

use crate::luck::{Running, write};
use crate::stage::{Kind, Ran, Stage};

/// The command with a clock that is as the file says when it is asked, such as `-1d`.
fn with_clock(stage: &Stage, arguments: &[&str]) -> Command {
    let mut command = stage.command(arguments);
    command
        .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1")
        .env("FAKETIME_TIMESTAMP_FILE", clock_file(stage))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DISABLE_SHM", "1")
        // What waits are measured by goes on, and files keep their times, as they do when a clock is set.
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1");
    command
}

fn clock_file(stage: &Stage) -> PathBuf {
    stage.dir().join("clock")
}

fn set_clock(stage: &Stage, to: &str) {
    let (file, new) = (clock_file(stage), stage.dir().join("clock.new"));
    write(&new, to);
    std::fs::rename(new, file).expect("a clock");
}

fn at(stage: &Stage, clock: &str, arguments: &[&str]) -> Ran {
    set_clock(stage, clock);
    end(Running::start(&mut with_clock(stage, arguments)))
}

/// Waits for its end, and takes away what the library leaves.
fn end(mut run: Running) -> Ran {
    let ran = run.end();
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        // It is not there when the library is not.
        let _ = std::fs::remove_file(format!("/dev/shm/{name}{}", run.pid()));
    }
    ran
}

/// The runs that `history` tells of, in its order.
fn history(stage: &Stage, clock: &str) -> Vec<Value> {
    let told = at(stage, clock, &["history", "--output", "json"]).expect(0);
    let told: Value = serde_json::from_str(told.out.lines().last().expect("a line")).expect("JSON");
    told["result"]["runs"].as_array().unwrap_or_else(|| panic!("{told:#}")).clone()
}

fn days_apart(kind: Kind) {
    let stage = Stage::live(kind);
    let images = ["v1", "v2", "v3"].map(|version| stage.image_with(version, &[]));
    let deploy = |clock: &str, n: usize| {
        let ran = at(&stage, clock, &["deploy", "--image", &images[n]]).expect(0);
        stage.serves(["v1", "v2", "v3"][n]);
        assert_eq!(stage.running().len(), 1);
        ran
    };
    deploy("+0", 0);
    deploy("-1d", 1);
    let back = at(&stage, "-1d", &["status"]).expect(0).says(&["app:v2"]);
    assert!(!back.out.contains("ATTENTION") && !back.out.contains("UNFINISHED"), "{}", back.out);
    // The clock was seen: otherwise this test tests nothing.
    let times: Vec<_> = history(&stage, "+0").iter().map(|run| run["began"].as_str().map(str::to_owned)).collect();
    eprintln!("{times:?}");
    deploy("+1d", 2);
    at(&stage, "+0", &["status"]).expect(0).says(&["app:v3"]);
    // What was before v3 is v2, whatever the clock said then.
    at(&stage, "-1d", &["rollback"]).expect(0);
    stage.serves("v2");
    at(&stage, "+1d", &["recover"]).expect(0).says(&["nothing to recover"]);
    at(&stage, "-1d", &["retire"]).expect(0);
    // One that was cut off a day ahead is settled today.
    let mut command = with_clock(&stage, &["deploy", "--output", "json", "--image", &images[0]]);
    set_clock(&stage, "+1d");
    let mut run = Running::start(&mut command);
    run.until("step-started", Some("gate"));
    run.signal("KILL");
    end(run).expect(-1);
    at(&stage, "+0", &["status"]).expect(0).says(&["UNFINISHED", "app:v2"]);
    at(&stage, "-1d", &["recover"]).expect(0).says(&["rolled back: "]);
    stage.serves("v2");
    assert_eq!(stage.running().len(), 1);
    deploy("+0", 2);
    let runs = history(&stage, "-1d");
    eprintln!("{:#}", Value::from(runs.clone()));
}

#[test]
#[ignore = "needs Docker, nginx and faketime: ./scripts/test"]
fn runs_whose_clocks_are_days_apart_keep_their_order_with_a_live_switch() {
    days_apart(Kind::HostLive);
}

#[test]
#[ignore = "needs Docker, nginx and faketime: ./scripts/test"]
fn runs_whose_clocks_are_days_apart_keep_their_order_with_a_reload() {
    days_apart(Kind::ContainerRewrite);
}

#[test]
#[ignore = "needs Docker, nginx and faketime: ./scripts/test"]
fn a_clock_that_is_set_in_the_middle_of_a_wait_neither_ends_nor_lengthens_it() {
    let stage = Stage::with_v1(Kind::HostLive);
    let slow = stage.image_with("v2", &[("START_DELAY_MS", "1500")]);
    let next = stage.image_with("v3", &[("START_DELAY_MS", "1500")]);
    for (image, jump, serves) in [(&slow, "+1d", "v2"), (&next, "-1d", "v3")] {
        set_clock(&stage, "+0");
        let began = Instant::now();
        let mut run =
            Running::start(&mut with_clock(&stage, &["deploy", "--output", "json", "--image", image]));
        run.until("step-started", Some("gate"));
        let url = format!("{}slow?ms=3000", stage.nginx.url());
        let asks = std::thread::spawn(move || process::output("curl", ["-sf", "-m", "30", &url]));
        set_clock(&stage, jump);
        run.until("step-started", Some("drain"));
        // And back again while what is in flight is waited for.
        set_clock(&stage, "+0");
        end(run).expect(0);
        asks.join().expect("curl").expect("what was in flight is answered");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        stage.serves(serves);
        assert_eq!(stage.running().len(), 1);
    }
    stage.bluegreen(&["recover"]).expect(0).says(&["nothing to recover"]);
}
