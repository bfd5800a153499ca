//! The receipt on real parts: it agrees with nginx's own log, and its gate undoes a switch.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use bluegreen_testkit::docker::AppImage;
use serde_json::Value;

use crate::stage::{Kind, Stage};

fn report(stage: &Stage) -> Value {
    let text = std::fs::read_to_string(stage.dir().join("report.json")).expect("a report");
    serde_json::from_str(&text).expect("JSON")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_receipt_counts_what_nginx_logs_and_sees_an_outage() {
    let extra = "[app.WEB.receipt]\npath = \"/?receipt\"\n[app.WEB.health]\nhttp = \"/health\"";
    let stage = Stage::live_with(Kind::HostLive, extra);
    // An outage on demand, and a log of what was asked and answered.
    let include = stage.nginx.conf_dir().join(format!("bluegreen/{}.location", stage.app));
    let server = format!(
        "log_format short '$msec $status $request_uri';\nserver {{ listen @PORT@; access_log @FLAGS@/log short; \
         if (-f @FLAGS@/down) {{ return 502; }} location / {{ include {}; }} }}\n",
        include.display()
    );
    stage.nginx.write_conf("site.conf", &server).expect("the site");
    stage.nginx.reload().expect("a reload");
    stage.deploy("v1");

    let slow = stage.image("v2", &AppImage::version("v2").env("START_DELAY_MS", "3000"));
    let (log, down) = (stage.nginx.flag_dir().join("log"), stage.nginx.flag_dir().join("down"));
    let lines = || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.lines().filter(|line| line.ends_with("/?receipt")).map(str::to_owned).collect::<Vec<_>>()
    };
    let earlier = lines().len();
    let mut deploy = stage
        .command(&["deploy", "--image", &slow, "--report", "report.json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command");
    std::thread::sleep(Duration::from_millis(1_000));
    drop(File::create(&down).expect("the flag"));
    std::thread::sleep(Duration::from_millis(1_000));
    std::fs::remove_file(&down).expect("the flag");
    assert!(deploy.wait().expect("an end").success());
    let mut out = String::new();
    std::io::Read::read_to_string(&mut deploy.stdout.take().expect("piped"), &mut out).expect("its output");
    eprintln!("{out}");

    let report = report(&stage);
    let seen = &report["result"]["receipt"];
    assert_eq!(seen["kind"], "measured", "{report:#}");
    // nginx writes its log when an answer is sent.
    std::thread::sleep(Duration::from_millis(100));
    let asked = lines().split_off(earlier);
    // When each was answered, in milliseconds, and whether with the outage.
    let answers: Vec<(u64, bool)> = asked
        .iter()
        .map(|line| {
            let mut words = line.split(' ');
            let seconds: f64 = words.next().and_then(|time| time.parse().ok()).expect("a time");
            ((seconds * 1000.0) as u64, words.next() == Some("502"))
        })
        .collect();
    let failed = answers.iter().filter(|(_, down)| *down).count() as u64;
    let counted = number(&seen["requests"]) + number(&seen["unfinished"]);
    assert_eq!(counted, asked.len() as u64, "{seen:#}");
    assert_eq!((number(&seen["failed"]), number(&seen["failures"]["5xx"])), (failed, failed), "{seen:#}");
    assert!(failed > 0 && counted > 2 * failed, "{seen:#}");
    // As long as nginx's own log says, from the last good answer before to the first one after. On a busy machine a
    // client may read an answer a while after nginx has sent it.
    let first = answers.iter().position(|(_, down)| *down).expect("an outage");
    let last = answers.iter().rposition(|(_, down)| *down).expect("an outage");
    let (least, most) = (answers[last].0 - answers[first].0, answers[last + 1].0 - answers[first - 1].0);
    let gap = number(&seen["longest_gap_us"]) / 1000;
    assert!(
        least > 800 && (least - 200..=most + 200).contains(&gap),
        "an outage of {least} to {most} ms looked like {gap} ms"
    );
    assert_eq!((&seen["before"]["color"], &seen["after"]["color"]), (&"blue".into(), &"green".into()));
    assert!(out.contains(&format!("{failed} FAILED ({failed} answered 5xx")), "{out}");
    stage.serves("v2");
}

fn gate(kind: Kind) {
    let extra =
        "[app.WEB.receipt]\npath = \"/health\"\nmax_failures = 3\nrate = 100\n[app.WEB.health]\ntcp = true";
    let stage = Stage::live_with(kind, extra);
    stage.deploy("v1");
    let load = stage.load();
    let ill = stage.image("v2", &AppImage::version("v2").env("HEALTH", "500"));
    let ran = stage.bluegreen(&["deploy", "--image", &ill, "--report", "report.json"]).expect(20);
    eprintln!("{}", ran.err);
    ran.says(&["failed since the switch", "answered 5xx", "3 are allowed", "availability probe:", "v1"]);
    stage.serves("v1");
    let seen = &report(&stage)["receipt"];
    assert!(number(&seen["failures"]["5xx"]) > 3, "{seen:#}");
    assert_eq!(number(&seen["before"]["failed"]), 0, "{seen:#}");
    assert_eq!(stage.running(), [format!("{}-blue", stage.app)]);
    // Its other paths were well, and nobody lost anything by the way there and back.
    let report = load.stop();
    report.assert_lossless();
    assert!(report.versions.contains_key("v2"), "it never served\n{report}");
    stage.deploy("v3");
    stage.serves("v3");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_candidate_that_fails_clients_is_undone_with_nginx_on_the_host() {
    gate(Kind::HostLive);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_candidate_that_fails_clients_is_undone_with_nginx_in_a_container() {
    gate(Kind::ContainerLive);
}
