//! A previous release that is kept running: back to it is one flag and a drain, and the next command stops it.

use std::time::Duration;

use bluegreen_testkit::docker::docker;
use serde_json::Value;

use crate::stage::{Kind, Stage};

fn warm(kind: Kind) {
    let stage = Stage::live_with(kind, "[app.WEB.retain]\nwarm = \"8s\"");
    let [blue, green] = ["blue", "green"].map(|color| format!("{}-{color}", stage.app));
    let started = |name: &str| {
        docker(["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", name]).expect("it is there")
    };
    stage.deploy("v1");
    stage.deploy("v2").says(&["is kept running for 8 s"]);
    assert_eq!(stage.running(), [blue.clone(), green.clone()]);
    stage.bluegreen(&["status"]).expect(0).says(&["kept warm", &blue]);
    let before = started(&blue);
    let load = stage.load();
    let ran = stage.bluegreen(&["rollback", "--report", "report.json"]).expect(0);
    eprintln!("{}{}", ran.err, ran.out);
    stage.serves("v1");
    assert_eq!(started(&blue), before, "it was started again");
    let report = load.stop();
    report.assert_lossless();
    let json: Value = std::fs::read_to_string(stage.dir().join("report.json"))
        .map(|text| serde_json::from_str(&text).expect("JSON"))
        .expect("a report");
    assert_eq!(json["result"]["receipt"]["failed"], 0, "{json:#}");

    stage.bluegreen(&["retire"]).expect(0).says(&["stays warm for another", "--now"]);
    assert_eq!(stage.running(), [blue.clone(), green.clone()]);
    std::thread::sleep(Duration::from_secs(9));
    stage.bluegreen(&["status"]).expect(0).says(&["due to be stopped", "next: bluegreen retire"]);
    stage.bluegreen(&["retire"]).expect(0).says(&["retired:", &green]);
    assert_eq!(stage.running(), [blue]);
    stage.serves("v1");
    stage.bluegreen(&["retire"]).expect(0).says(&["nothing to retire"]);
    stage.deploy("v3");
    stage.bluegreen(&["retire", "--now"]).expect(0).says(&["retired:"]);
    stage.serves("v3");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_warm_release_takes_over_and_is_retired_with_nginx_on_the_host() {
    warm(Kind::HostLive);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_warm_release_takes_over_and_is_retired_with_nginx_in_a_container() {
    warm(Kind::ContainerLive);
}
