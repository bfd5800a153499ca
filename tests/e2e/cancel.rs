//! `cancel`, `history`, and deploys that wait for each other, on the real command.

use serde_json::Value;

use crate::luck::Running;
use crate::stage::{Kind, Stage};

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_cancel_takes_the_deploy_back_and_waits_until_it_is() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.bluegreen(&["cancel"]).expect(0).says(&["nothing to cancel"]);
    let slow = stage.image_with("v2", &[("START_DELAY_MS", "20000")]);
    let load = stage.light_load();
    let mut run = Running::deploy(&stage, &slow, &["--deployment-id", "d-slow"]);
    run.until("step-started", Some("gate"));
    stage.bluegreen(&["cancel"]).expect(0).says(&[
        "asked to stop: deploy d-slow (pid ",
        "cancelled: deploy d-slow: rolled back",
        "serving now: blue",
    ]);
    run.end().expect(21);
    assert_eq!(stage.containers(&[]), [stage.place("blue")], "the candidate is left");
    stage.serves("v1");
    load.stop().assert_lossless();

    let history = stage.bluegreen(&["history", "--output", "json"]).expect(0);
    let report: Value = serde_json::from_str(history.out.lines().last().expect("a report")).expect("JSON");
    let runs = report["result"]["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 2, "{report:#}");
    assert_eq!(runs[1]["deployment"], "d-slow");
    assert_eq!(runs[1]["ending"]["kind"], "rolled-back", "{report:#}");
    stage
        .bluegreen(&["history", "--journal"])
        .expect(0)
        .says(&["undone        start", "ended         rolled-back"]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn what_is_committed_is_not_cancelled_any_more() {
    let stage = Stage::with_v1(Kind::HostLive);
    let v2 = stage.image_with("v2", &[("START_DELAY_MS", "1500")]);
    let mut run = Running::deploy(&stage, &v2, &["--deployment-id", "d-done"]);
    run.until("step-started", Some("gate"));
    let url = format!("{}slow?ms=3000", stage.nginx.url());
    let slow =
        std::thread::spawn(move || bluegreen_testkit::process::output("curl", ["-sf", "-m", "30", &url]));
    run.until("step-started", Some("drain"));
    stage
        .bluegreen(&["cancel"])
        .expect(10)
        .says(&["too late: deploy d-done: committed", "next: bluegreen rollback"]);
    run.end().expect(0);
    stage.serves("v2");
    assert!(slow.join().expect("curl").expect("the slow request is answered").contains("v1"));
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn of_deploys_that_wait_only_the_last_one_runs() {
    let stage = Stage::with_v1(Kind::HostLive);
    let slow = stage.image_with("v2", &[("START_DELAY_MS", "4000")]);
    let [v3, v4] = ["v3", "v4"].map(|version| stage.image_with(version, &[]));
    let mut first = Running::deploy(&stage, &slow, &[]);
    first.until("step-started", Some("gate"));
    let mut second = Running::deploy(&stage, &v3, &["--wait", "5m"]);
    second.until("waiting", None);
    let mut third = Running::deploy(&stage, &v4, &["--wait", "5m", "--deployment-id", "d-last"]);
    third.until("waiting", None);
    second.end().expect(10).says(&["a later deploy wants to run: deploy d-last", "nothing touched"]);
    first.end().expect(0);
    third.end().expect(0);
    stage.serves("v4");
}
