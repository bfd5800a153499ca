//! Candidates that are no good: each is refused with its reason, and nobody but the log notices.

use bluegreen_testkit::docker::{AppImage, docker};

use crate::luck::Running;
use crate::stage::{Kind, Stage};

const DIED: &str = "to do: it did not stay up";
const SLOW: &str = "to do: if it is only slow, raise `deadline`";
const LAST_LINES: &str = "the candidate's last log lines:";

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_container_that_exits_at_once_is_refused_with_its_exit_code_and_its_last_words() {
    let stage = Stage::with_v1(Kind::HostLive);
    let bad =
        stage.image_with("v2", &[("EXIT_AFTER_MS", "0"), ("EXIT_CODE", "7"), ("START_DELAY_MS", "60000")]);
    stage.rolls_back(&bad, &["code 7", LAST_LINES, "exiting with 7, as EXIT_AFTER_MS asks", DIED]);
    // Without a restart by the Engine too.
    stage.configure("restart = \"no\"");
    stage
        .rolls_back(&bad, &["exited with code 7", LAST_LINES, "exiting with 7, as EXIT_AFTER_MS asks", DIED]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_container_that_exits_after_five_seconds_is_refused_by_the_minimal_healthy_time() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure("[app.WEB.health]\nhttp = \"/health\"\nmin_healthy = \"20s\"\ndeadline = \"60s\"");
    let bad = stage.image_with("v2", &[("EXIT_AFTER_MS", "5000"), ("EXIT_CODE", "3")]);
    let ran = stage.rolls_back(&bad, &["code 3", LAST_LINES, "exiting with 3, as EXIT_AFTER_MS asks", DIED]);
    assert!(!ran.err.contains("not healthy within"), "it was not waited for\n{}", ran.err);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_container_that_is_killed_for_its_memory_is_refused_and_called_so() {
    // "killed for lack of memory (OOM" where Docker knows, which 20.10 does not always on a busy machine.
    let stage = Stage::with_v1(Kind::HostLive);
    let bad = stage.image_with("v2", &[("OOM", "1")]);
    for restart in ["no", "unless-stopped"] {
        stage.configure(&format!(
            "memory = \"24m\"\nrestart = \"{restart}\"\n[app.WEB.health]\ntcp = true\nmin_healthy = \"30s\"\n\
             deadline = \"60s\""
        ));
        stage.rolls_back(&bad, &["lack of memory", LAST_LINES, "listening on localhost:3000", DIED]);
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_entrypoint_that_does_not_exist_is_refused_with_the_runtimes_words() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image("v2", &AppImage::version("v2"));
    stage.configure("entrypoint = [\"/no/such/program\"]");
    stage.rolls_back(
        &image,
        &[
            "start failed",
            "/no/such/program",
            "no such file or directory",
            "to do: fix the container's settings",
        ],
    );
    stage.configure("command = [\"no-such-command\"]");
    stage.rolls_back(&image, &["unknown command \"no-such-command\"", "exit", "code 2", LAST_LINES, DIED]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_log_line_that_never_comes_is_refused_with_the_pattern_that_was_waited_for() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure("[app.WEB.health]\nlog = \"listening on localhost\"\ndeadline = \"2s\"");
    let bad = stage.image_with("v2", &[("HEALTH", "never-log")]);
    let says =
        ["was not healthy within 2 s", "listening on localhost", LAST_LINES, "starting version=v2", SLOW];
    stage.rolls_back(&bad, &says);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_health_path_that_answers_500_or_301_is_refused_with_the_last_status() {
    let stage = Stage::with_v1(Kind::ContainerLive);
    stage.configure("[app.WEB.health]\nhttp = \"/health\"\ndeadline = \"2s\"");
    for status in ["500", "301"] {
        let bad = stage.image_with("v2", &[("HEALTH", status)]);
        let says =
            ["was not healthy within 2 s", "GET :3000/health", &format!("status {status}"), LAST_LINES, SLOW];
        stage.rolls_back(&bad, &says);
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_health_path_that_hangs_is_refused_when_its_time_is_over() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure("[app.WEB.health]\nhttp = \"/health\"\ndeadline = \"3s\"\nattempt_timeout = \"1s\"");
    let bad = stage.image_with("v2", &[("HEALTH", "hang")]);
    stage.rolls_back(&bad, &["was not healthy within 3 s", "no complete answer within", LAST_LINES, SLOW]);
    // An attempt that may take longer than the gate ends with the gate, and still says what it waited for.
    stage.configure("[app.WEB.health]\nhttp = \"/health\"\ndeadline = \"2s\"\nattempt_timeout = \"60s\"");
    stage.rolls_back(&bad, &["was not healthy within 2 s", "/health", "no complete answer within", SLOW]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_container_that_does_not_listen_yet_when_its_time_is_over_is_refused() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure("[app.WEB.health]\ntcp = true\ndeadline = \"2s\"");
    let bad = stage.image_with("v2", &[("START_DELAY_MS", "60000")]);
    stage.rolls_back(
        &bad,
        &["was not healthy within 2 s", "refused", LAST_LINES, "starting version=v2", SLOW],
    );
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn every_kind_of_check_lets_a_healthy_candidate_through_and_stops_an_unhealthy_one() {
    let good = || AppImage::version("v1");
    let bad = |health: &str| AppImage::version("v2").env("HEALTH", health);
    let http = |more: &str| format!("http = {{ path = \"/health\", {more} }}");
    let checks: Vec<(String, AppImage, AppImage, &str)> = vec![
        ("log = \"localhost:3000\"".into(), good(), bad("never-log"), "localhost:3000"),
        (
            "log = { regex = \"^listening on [a-z]+:\\\\d+$\" }".into(),
            good(),
            bad("never-log"),
            "listening on",
        ),
        (http("status = [200, 204]"), good(), bad("500"), "status 500"),
        (http("status = 301"), bad("301").env("VERSION", "v1"), AppImage::version("v2"), "status 200"),
        (http("body = \"ok\""), good(), bad("500"), "status 500"),
        (http("body = { regex = \"^ok\" }, host = \"shop.example.com\""), good(), bad("500"), "status 500"),
        ("tcp = true".into(), good(), AppImage::version("v2").env("PORT", "3001"), "refused"),
        ("image = true".into(), good().healthcheck(), bad("500").healthcheck(), "HEALTHCHECK"),
        ("command = [\"/sample-app\", \"healthcheck\"]".into(), good(), bad("500"), "unhealthy: not 200"),
        (
            "tcp = true\nhttp = [\"/health\", \"/\"]\nlog = \"listening\"\nimage = true\nsuccesses = 3\n\
             min_healthy = \"500ms\"\ncommand = [\"/sample-app\", \"healthcheck\"]"
                .into(),
            good().healthcheck(),
            bad("500").healthcheck(),
            "status 500",
        ),
    ];
    let stage = Stage::with_v1(Kind::HostLive);
    for (number, (check, good, bad, reason)) in checks.into_iter().enumerate() {
        let good = stage.image(&format!("good-{number}"), &good.label("number", &number.to_string()));
        let bad = stage.image(&format!("bad-{number}"), &bad);
        stage.configure(&format!("[app.WEB.health]\n{check}\ndeadline = \"20s\""));
        let ran = stage.watched(&["v1"], || {
            let ran = stage.bluegreen(&["deploy", "--image", &good]);
            stage.configure(&format!("[app.WEB.health]\n{}\ndeadline = \"1500ms\"", short(&check)));
            stage.bluegreen(&["deploy", "--image", &bad]).expect(20).says(&[reason, LAST_LINES]);
            ran
        });
        ran.expect(0).says(&["committed"]);
        stage.serves("v1");
        assert_eq!(stage.running().len(), 1, "{check}");
    }
}

/// The same check where the deadline is short.
fn short(check: &str) -> String {
    check.replace("min_healthy = \"500ms\"\n", "")
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_body_that_is_not_as_expected_is_refused_and_shown() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure(
        "[app.WEB.health]\nhttp = { path = \"/health\", body = \"database: up\" }\ndeadline = \"1500ms\"",
    );
    let image = stage.image("v2", &AppImage::version("v2"));
    stage.rolls_back(&image, &["was not healthy within 1.5 s", "database: up", SLOW]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_candidate_that_somebody_removes_during_the_gate_is_refused_at_once() {
    let stage = Stage::with_v1(Kind::HostLive);
    let bad = stage.image_with("v2", &[("START_DELAY_MS", "60000")]);
    let ran = stage.watched(&["v1"], || {
        let mut run = Running::deploy(&stage, &bad, &[]);
        run.until("step-started", Some("gate"));
        docker(["rm", "--force", &stage.place("green")]).expect("it was there");
        run.end()
    });
    ran.expect(20).says(&["remov", "\"color\":\"blue\""]);
    stage.serves("v1");
    assert_eq!(stage.containers(&[]), [stage.place("blue")]);
}
