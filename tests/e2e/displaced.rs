//! The receipt displaces nobody: clients that an ordinary limit of nginx lets through are let through while a deploy is
//! measured, too.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bluegreen_testkit::docker::AppImage;

use crate::stage::{Kind, Stage};

const CLIENTS: u32 = 30;
/// From one request of a client to its next: all together send 9 a second, just below the limit.
const EACH: Duration = Duration::from_millis(3_300);
/// As long as the slow deploy takes, and some more.
const LASTING: Duration = Duration::from_secs(16);

/// One request on a connection of its own; its status, 0 without an answer.
fn ask(port: u16, path: &str) -> u16 {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    asked().ok().and_then(|answer| answer.get(9..12)?.parse().ok()).unwrap_or_default()
}

/// Real clients, each at its own moments, evenly spread.
fn clients(port: u16, path: &'static str) -> Vec<JoinHandle<Vec<u16>>> {
    let began = Instant::now();
    let client = |number: u32| {
        std::thread::spawn(move || {
            let mut statuses = Vec::new();
            let mut at = EACH * number / CLIENTS;
            while at < LASTING {
                std::thread::sleep(at.saturating_sub(began.elapsed()));
                statuses.push(ask(port, path));
                at += EACH;
            }
            statuses
        })
    };
    (0..CLIENTS).map(client).collect()
}

/// How many requests there were, and how many were not answered with 200.
fn seen(clients: Vec<JoinHandle<Vec<u16>>>) -> (usize, usize) {
    let statuses: Vec<u16> =
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
    (statuses.len(), statuses.iter().filter(|status| **status != 200).count())
}

/// A stage with these settings where `v1` serves, behind this site: `INCLUDE` is what leads to the application.
fn behind(settings: &str, site: &str) -> Stage {
    let stage = Stage::live_with(Kind::HostLive, settings);
    let include = stage.nginx.conf_dir().join(format!("bluegreen/{}.location", stage.app));
    let site = site.replace("INCLUDE", &format!("include {};", include.display()));
    stage.nginx.write_conf("site.conf", &site).expect("the site");
    stage.nginx.reload().expect("a reload");
    stage.deploy("v1");
    stage
}

/// The same clients without a deploy, then with one, where nginx has this limit.
fn displaces_nobody(zone: &str, limit: &str, path: &'static str) {
    let receipt = format!("[app.WEB.receipt]\npath = \"{path}\"\n[app.WEB.health]\nhttp = \"/health\"");
    let site = format!(
        "{zone};\nserver {{ listen @PORT@; server_name shop.test; {limit}; location / {{ INCLUDE }} }}\n"
    );
    let stage = behind(&receipt, &site);
    let slow = stage.image_with("v2", &[("START_DELAY_MS", "7000")]);
    std::thread::sleep(Duration::from_secs(3));
    let (control, turned_away) = seen(clients(stage.nginx.port(), path));
    assert_eq!(turned_away, 0, "of {control} without a deploy: the test's own clients are too many");

    let together = clients(stage.nginx.port(), path);
    let report = stage.dir().join("report.json");
    stage.bluegreen(&["deploy", "--image", &slow, "--report", &report.display().to_string()]).expect(0);
    let (requests, turned_away) = seen(together);
    assert_eq!(turned_away, 0, "of {requests} beside a deploy, and none of {control} without one");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(report).expect("a report")).expect("JSON");
    let measured = &report["result"]["receipt"];
    assert!(measured["requests"].as_u64() > Some(2) && measured["failed"] == 0, "{measured:#}");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_receipt_displaces_nobody_where_a_server_has_a_rate() {
    displaces_nobody(
        "limit_req_zone $server_name zone=all:1m rate=10r/s",
        "limit_req zone=all burst=5 nodelay",
        "/",
    );
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_receipt_displaces_nobody_where_an_address_has_a_rate() {
    displaces_nobody(
        "limit_req_zone $binary_remote_addr zone=each:1m rate=10r/s",
        "limit_req zone=each burst=5 nodelay",
        "/",
    );
}

/// Slow answers: a client that asks often has many under way.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_receipt_displaces_nobody_where_connections_are_limited() {
    displaces_nobody("limit_conn_zone $server_name zone=all:1m", "limit_conn all 8", "/slow?ms=500");
}

/// A limit that is not nginx's shows only in the answers.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_receipt_asks_ever_less_of_what_turns_it_away() {
    const PROBE: &str = "availability probe: ";
    let extra = "[app.WEB.receipt]\npath = \"/full\"\n[app.WEB.health]\nhttp = \"/health\"";
    let site = "server { listen @PORT@; location = /full { return 429; } location / { INCLUDE } }\n";
    let stage = behind(extra, site);
    let slow = stage.image("v2", &AppImage::version("v2").env("START_DELAY_MS", "6000"));
    let ran = stage.bluegreen(&["deploy", "--image", &slow]).expect(0);
    let line = ran.out.lines().find(|line| line.starts_with(PROBE)).expect("a receipt");
    let asked: u32 = line[PROBE.len()..].split(' ').next().expect("a number").parse().expect(line);
    assert!((1..=12).contains(&asked), "{line}");
    ran.says(&["requests were rejected (429, 503)"]);
}
