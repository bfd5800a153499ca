//! What the live switch costs a request: nginx with its include against the same nginx with a plain `proxy_pass`
//! to the same upstream, connections to it kept alive in both.
//!
//! ```text
//! cargo bench --bench throughput        24 pairs of 2 s each way; BENCH_ROUNDS=3 for fewer
//! ```
//!
//! Measured in pairs, one right after the other and each pair in the other order than the one before, by wrk, which we
//! did not write.

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
    let (live, plain) = (free_port(), free_port());
    // Both locations are the user's own, with the same lines but for how the upstream is chosen.
    let common = "proxy_http_version 1.1; proxy_set_header Connection \"\";";
    let include = stage.nginx.conf_dir().join(format!("bluegreen/{}.location", stage.app));
    let text = format!(
        "upstream plain {{ server {upstream} max_fails=0; keepalive 16; keepalive_timeout 2s; }}\n\
         server {{ listen {plain}; location / {{ {common} proxy_pass http://plain; }} }}\n\
         server {{ listen {live}; location / {{ {common} include {}; }} }}\n",
        include.display()
    );
    stage.nginx.write_conf("throughput.conf", &text).expect("the servers");
    stage.nginx.reload().expect("a reload");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    wrk(live, 1);
    wrk(plain, 1);
    for round in 0..rounds {
        let (first, second) = if round % 2 == 0 { (live, plain) } else { (plain, live) };
        let (first, second) = (wrk(first, SECONDS), wrk(second, SECONDS));
        let (a, b) = if round % 2 == 0 { (first, second) } else { (second, first) };
        with.push(a);
        without.push(b);
        ratios.push(a / b);
    }
    let mut table = Table::new(&["nginx", "requests/s, median", "range", "ratio, median of pairs", "wanted"]);
    let row = |name: &str, rates: &[f64], ratio: String, wanted: &str| {
        [name.to_owned(), format!("{:.0}", median(rates)), range(rates), ratio, wanted.to_owned()]
    };
    table.row(&row("plain proxy_pass", &without, "1".to_owned(), "–"));
    let ratio = format!("{:.3} ({:.3}–{:.3})", median(&ratios), least(&ratios), most(&ratios));
    table.row(&row("live switch", &with, ratio, "≥ 0.95"));
    table.print(&format!("Throughput ({rounds} pairs of {SECONDS} s, {CONNECTIONS} connections, wrk)"));
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
