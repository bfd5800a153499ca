//! What the live switch costs a request: nginx with its include against the same nginx with a plain `proxy_pass`
//! to the same upstream, connections to it kept alive in both; and against one to an upstream of a single server, which
//! is what a user has who switches by hand.
//!
//! ```text
//! cargo bench --bench throughput        24 rounds of 2 s each way; BENCH_ROUNDS=3 for fewer
//! ```
//!
//! Measured in rounds, one way right after the other and each round in another order than the one before, by wrk,
//! which we did not write.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks and the environment")]

#[path = "../tests/e2e/stage.rs"]
mod stage;

mod common;

use std::process::Command;

use bluegreen_testkit::docker::free_port;
use bluegreen_testkit::process::find_program;
use common::{Table, median, range, rounds};
use stage::{Kind, Stage};

const SECONDS: u32 = 2;
const CONNECTIONS: u32 = 16;
const LIVE: &str = "live switch";

fn main() {
    if find_program("wrk").is_none() {
        println!("\n### Throughput\n\nNot run: there is no wrk here (scripts/install-deps).");
        return;
    }
    let rounds = rounds(24);
    let stage = Stage::live_with(
        Kind::HostLive,
        "[app.WEB.health]\nhttp = \"/health\"\n[app.WEB.nginx]\nkeepalive = 16",
    );
    stage.deploy("v1");
    let upstream = stage.endpoint(false);
    let include = stage.nginx.conf_dir().join(format!("bluegreen/{}.location", stage.app));
    let mut ways = [
        Way::new(LIVE, format!("include {};", include.display()), "–"),
        Way::new(
            "plain proxy_pass to the same upstream",
            format!("proxy_pass http://bluegreen_{};", stage.app.replace(['-', '.'], "_")),
            "≥ 0.95",
        ),
        Way::new("plain proxy_pass to a single server", "proxy_pass http://single;".to_owned(), "–"),
    ];
    let mut conf =
        format!("upstream single {{ server {upstream} max_fails=0; keepalive 16; keepalive_timeout 2s; }}\n");
    conf.extend(ways.iter().map(Way::server));
    stage.nginx.write_conf("throughput.conf", &conf).expect("the servers");
    stage.nginx.reload().expect("a reload");
    std::thread::sleep(std::time::Duration::from_millis(500));
    for way in &ways {
        wrk(way.port, 1);
    }
    for round in 0..rounds {
        // Each way comes first, second and third as often as the others.
        ways.rotate_left(1);
        if round % 3 == 0 {
            ways.reverse();
        }
        for way in &mut ways {
            way.rates.push(wrk(way.port, SECONDS));
        }
    }
    let live = ways.iter().find(|way| way.name == LIVE).expect("one of them").rates.clone();
    ways.sort_by(|a, b| median(&a.rates).total_cmp(&median(&b.rates)));
    let mut table =
        Table::new(&["nginx", "requests/s, median", "range", "live switch / it, median", "wanted"]);
    for way in &ways {
        let ratios: Vec<f64> = live.iter().zip(&way.rates).map(|(live, other)| live / other).collect();
        let ratio = match way.name {
            LIVE => "1".to_owned(),
            _ => format!("{:.3} ({:.3}–{:.3})", median(&ratios), least(&ratios), most(&ratios)),
        };
        let rate = format!("{:.0}", median(&way.rates));
        table.row(&[way.name.to_owned(), rate, range(&way.rates), ratio, way.wanted.to_owned()]);
    }
    table.print(&format!("Throughput ({rounds} rounds of {SECONDS} s, {CONNECTIONS} connections, wrk)"));
}

/// One way to choose the upstream, in a virtual server of its own.
struct Way {
    name: &'static str,
    /// What is in place of the user's `proxy_pass`.
    line: String,
    /// What the live switch should reach of its rate.
    wanted: &'static str,
    port: u16,
    rates: Vec<f64>,
}

impl Way {
    fn new(name: &'static str, line: String, wanted: &'static str) -> Self {
        Self { name, line, wanted, port: free_port(), rates: Vec::new() }
    }

    /// The location is a user's own, with the same lines but for how the upstream is chosen.
    fn server(&self) -> String {
        format!(
            "server {{ listen {}; location / {{ proxy_http_version 1.1; proxy_set_header Connection \"\"; {} }} }}\n",
            self.port, self.line
        )
    }
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Requests a second. Any error fails the benchmark: then the figure would be one of errors.
fn wrk(port: u16, seconds: u32) -> f64 {
    let output = Command::new("wrk")
        .args([
            "-t1",
            &format!("-c{CONNECTIONS}"),
            &format!("-d{seconds}s"),
            &format!("http://127.0.0.1:{port}/"),
        ])
        .output()
        .expect("wrk");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk saw errors:\n{text}");
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).expect("wrk prints a rate")
}
