//! A clock that is set: a day back or ahead between runs, and in the middle of one. Containers, nginx and files keep the
//! real time, as they do when somebody sets a clock after they were made.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bluegreen_testkit::load::Mode;
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
    // The first is slow, so that it is still in its gate when it is killed there.
    let images = [("v1", "1500"), ("v2", "0"), ("v3", "0")]
        .map(|(version, delay)| stage.image_with(version, &[("START_DELAY_MS", delay)]));
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
    at(&stage, "+0", &["status"]).expect(50).says(&["UNFINISHED", "app:v2"]);
    at(&stage, "-1d", &["recover"]).expect(0).says(&["rolled back: "]);
    stage.serves("v2");
    assert_eq!(stage.running().len(), 1);
    deploy("+0", 2);
    let runs = history(&stage, "-1d");
    let of = |key: &str| runs.iter().map(|run| run[key].as_str().unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!(of("verb"), ["deploy", "deploy", "deploy", "rollback", "deploy", "deploy"]);
    let images: Vec<_> = of("image").iter().map(|image| image.rsplit(':').next().expect("a tag")).collect();
    assert_eq!(images, ["v1", "v2", "v3", "v2", "v1", "v3"]);
    // The clock was seen: otherwise this test tests nothing.
    let began = of("began");
    assert!(began[1] < began[0] && began[2] > began[0] && began[3] < began[0], "{began:?}");
}

#[test]
#[ignore = "needs Docker, nginx and faketime: ./scripts/test"]
fn runs_whose_clocks_are_days_apart_keep_their_order_with_nginx_on_the_host() {
    days_apart(Kind::HostLive);
}

#[test]
#[ignore = "needs Docker, nginx and faketime: ./scripts/test"]
fn runs_whose_clocks_are_days_apart_keep_their_order_with_nginx_in_a_container() {
    days_apart(Kind::ContainerLive);
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

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_file_that_was_written_while_the_clock_was_ahead_is_switched_and_reloaded_all_the_same() {
    let stage = Stage::live(Kind::ContainerRewrite);
    for (n, version) in ["v1", "v2", "v3"].into_iter().enumerate() {
        let load = (n > 0).then(|| stage.light_load_of(&[Mode::New]));
        stage.deploy(version);
        stage.serves(version);
        if let Some(load) = load {
            load.stop().assert_lossless();
        }
        // As if it had been written at a time that has not come yet.
        let file = stage.nginx.conf_dir().join("site.conf");
        process::output("touch", ["-d", "+1 day", &file.display().to_string()]).expect("touch");
    }
    // Which of the two is the older cannot be told, and is not claimed.
    stage.bluegreen(&["status"]).expect(50).says(&["app:v3", "cannot be proven"]);
    stage.bluegreen(&["rollback"]).expect(0);
    stage.serves("v2");
    assert_eq!(stage.running().len(), 1);
}
