//! `doctor` on the real command: what it sees, and that it touches nothing.

use std::net::TcpListener;
use std::process::Command;

use bluegreen_testkit::docker::AppImage;
use serde_json::Value;

use crate::luck::Running;
use crate::stage::{Kind, Stage, ran};

/// Its report, and that nothing was touched for it.
fn examined(stage: &Stage, command: &mut Command, code: i32) -> Value {
    let before = stage.world();
    let ran = ran(command.args(["--output", "json"])).expect(code);
    assert_eq!(stage.world(), before, "something was touched");
    let report = ran.out.lines().last().expect("a report");
    serde_json::from_str::<Value>(report).expect("JSON")["result"].take()
}

/// What was found of one thing: level and text.
fn of<'r>(result: &'r Value, check: &str) -> Vec<(&'r str, &'r str)> {
    let findings = result["findings"].as_array().expect("findings");
    let text = |finding: &'r Value, key: &str| finding[key].as_str().expect("text");
    findings
        .iter()
        .filter(|finding| finding["check"] == check)
        .map(|finding| (text(finding, "level"), text(finding, "found")))
        .collect()
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_sound_host_is_found_sound_and_nothing_is_touched() {
    for kind in [Kind::HostLive, Kind::ContainerLive] {
        let stage = Stage::with_v1(kind);
        stage.configure("[app.WEB.health]\nhttp = \"/health\"");
        let image = stage.image("v2", &AppImage::version("v2"));
        let result = examined(&stage, &mut stage.command(&["doctor", "--image", &image]), 0);
        assert_eq!(result["ready"], true, "{result:#}");
        for check in ["docker", "image", "disk", "ports", "nginx", "health", "runs"] {
            let found = of(&result, check);
            assert!(
                !found.is_empty() && found.iter().all(|(level, _)| *level != "blocks"),
                "{check}: {result:#}"
            );
            let fine = found.iter().any(|(level, _)| *level == "fine");
            assert!(fine, "{check}: {result:#}");
        }
        assert!(of(&result, "docker")[0].1.starts_with("Docker "), "{result:#}");
        // What it says holds.
        stage.bluegreen(&["deploy", "--image", &image]).expect(0);
        stage.serves("v2");
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn everything_that_is_wrong_is_told_at_once_with_its_remedy() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure("[app.WEB.health]\nhttp = \"/nowhere\"\n[app.WEB.retain]\nmin_free = \"900000g\"");
    let [_, green] = stage.host_ports();
    let _taken = TcpListener::bind(("127.0.0.1", green)).expect("the port of green");
    stage.nginx.write_conf("broken.conf", "server {\n    listne 1;\n}\n").expect("a file");
    let result = examined(&stage, &mut stage.command(&["doctor", "--image", "no.such/image:1"]), 10);
    assert_eq!(result["ready"], false);
    for (check, level, text) in [
        ("image", "blocks", "no.such/image:1"),
        ("ports", "blocks", &*format!("127.0.0.1:{green} is needed for green")),
        ("nginx", "blocks", "unknown directive \"listne\""),
        ("health", "warns", "/nowhere"),
        ("disk", "blocks", "`retain.min_free` wants 966"),
    ] {
        let found = of(&result, check);
        assert!(found.iter().any(|(at, said)| *at == level && said.contains(text)), "{check}: {result:#}");
    }
    let with_remedy = |finding: &Value| {
        let level = finding["level"].as_str().expect("a level");
        finding["remedy"].is_object() == ["warns", "blocks"].contains(&level)
    };
    assert!(result["findings"].as_array().expect("findings").iter().all(with_remedy), "{result:#}");
    stage.bluegreen(&["doctor"]).expect(10).says(&[
        "FAIL nginx",
        "to do: fix nginx's own configuration",
        "next: ",
    ]);
    // Docker does not answer: what depends on it is not called wrong.
    let mut command = stage.command(&["doctor"]);
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let result = examined(&stage, &mut command, 10);
    assert!(of(&result, "docker")[0].1.contains("/nowhere/docker.sock"), "{result:#}");
    assert_eq!(of(&result, "nginx")[0].0, "skipped", "{result:#}");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_run_that_is_at_work_or_was_cut_off_is_told() {
    let stage = Stage::with_v1(Kind::HostLive);
    let slow = stage.image_with("v2", &[("START_DELAY_MS", "5000")]);
    let mut run = Running::deploy(&stage, &slow, &["--deployment-id", "d-cut"]);
    run.until("step-started", Some("gate"));
    let doctor = || stage.bluegreen(&["doctor", "--image", &slow]);
    doctor().expect(10).says(&["deploy d-cut (pid ", "is in progress", "bluegreen cancel"]);
    run.signal("KILL");
    run.end();
    doctor().expect(0).says(&["warn runs", "deploy d-cut is unfinished", "bluegreen recover"]);
    stage.bluegreen(&["recover"]).expect(0);
    doctor().expect(0).says(&["and no run is unfinished"]);
    stage.serves("v1");
}
