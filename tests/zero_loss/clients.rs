//! Every kind of client at once, each kind with a report of its own.

use std::fmt::Write as _;
use std::time::Duration;

use bluegreen_testkit::load::{Config, Handle, Mode, Report, Target};
use bluegreen_testkit::relay::Relay;

use crate::stage::Stage;

/// One way for clients to come, such as over TLS.
pub struct Group {
    name: &'static str,
    load: Handle,
    _relay: Option<Relay>,
}

fn group(name: &'static str, url: &str, modes: &[(Mode, usize)], relay: Option<Relay>) -> Group {
    let target = Target::parse(url).expect("loopback or private");
    let config = modes.iter().fold(Config::new(target), |config, (mode, n)| config.with(*mode, *n));
    let config = config.lasting(Duration::from_secs(3600)).timeout(Duration::from_secs(20));
    Group { name, load: Handle::spawn(config), _relay: relay }
}

/// The short modes of the plain listener.
pub const SHORT: [(Mode, usize); 5] =
    [(Mode::New, 2), (Mode::Keepalive, 1), (Mode::Gaps, 6), (Mode::Naive, 6), (Mode::Post, 4)];

/// Starts all of them.
pub fn all(stage: &Stage) -> Vec<Group> {
    let at = |port| format!("http://{}/", stage.address(port));
    let ports = stage.ports;
    let far = far(stage);
    let far_url = far.url();
    let groups = vec![
        group("plain", &at(ports.plain), &SHORT, None),
        group("25 ms away", &far_url, &[(Mode::Gaps, 6), (Mode::Naive, 6), (Mode::Post, 6)], Some(far)),
        group(
            "TLS",
            &format!("https://{}/", stage.address(ports.tls)),
            &[(Mode::New, 1), (Mode::Gaps, 3), (Mode::Naive, 3), (Mode::Post, 2), (Mode::Http2, 1)],
            None,
        ),
        group("h2c", &at(ports.h2c), &[(Mode::Http2, 1)], None),
        group("gRPC", &at(ports.grpc), &[(Mode::Grpc, 1)], None),
        group(
            "long",
            &at(ports.long),
            &[(Mode::Slow5, 6), (Mode::Stream5, 4), (Mode::Sse, 4), (Mode::Stream, 2), (Mode::Upload, 6)],
            None,
        ),
    ];
    for group in &groups {
        let began = |report: &Report| group.name == "long" || report.total.requests > 3;
        assert!(group.load.wait_until(Duration::from_secs(20), began), "no load: {}", group.name);
    }
    groups
}

/// A relay to the plain listener that holds back each byte by 25 ms each way.
pub fn far(stage: &Stage) -> Relay {
    Relay::start(stage.address(stage.ports.plain), Duration::from_millis(25)).expect("a relay")
}

/// Load from near and from afar, of modes that a reload hurts.
pub fn hurt_by_reloads(stage: &Stage) -> (Group, Group) {
    let far = far(stage);
    let far_url = far.url();
    let near = group("near", &format!("http://{}/", stage.address(stage.ports.plain)), &SHORT, None);
    (near, group("25 ms away", &far_url, &[(Mode::Gaps, 12), (Mode::Post, 12)], Some(far)))
}

impl Group {
    pub fn snapshot(&self) -> Report {
        self.load.snapshot()
    }

    pub fn stop(self) -> Report {
        self.load.stop()
    }
}

/// Stops all; gives one line a mode, and what failed.
pub fn stop(groups: Vec<Group>) -> (String, String) {
    let (mut table, mut failures) = (String::new(), String::new());
    for group in groups {
        let name = group.name;
        let report = group.stop();
        for (mode, summary) in &report.modes {
            let _never_fails = writeln!(
                table,
                "{name:<11} {mode:<10} {:>8} requests {:>4} failed  blue {:>7} green {:>7}  p99 {:>7.1} ms",
                summary.requests,
                summary.failed,
                summary.versions.get("blue").unwrap_or(&0),
                summary.versions.get("green").unwrap_or(&0),
                summary.latency.p99_ms,
            );
        }
        // By group: of a few answers of 5 s in a short pass, all may have begun on one colour.
        let both = ["blue", "green"].iter().all(|version| report.versions.contains_key(*version));
        if report.total.failed > 0 || !both {
            let _never_fails = writeln!(failures, "{name}: {report}");
        }
    }
    (table, failures)
}
