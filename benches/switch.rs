//! The live switch by itself, and a rollback to a release whose container is still there.
//!
//! ```text
//! cargo bench --bench switch            200 switches and 10 rollbacks; BENCH_ROUNDS=3 for fewer rollbacks
//! ```
//!
//! - through the library: two colours run, and the nginx adapter switches between them. Timed from the call, thus
//!   from before the flag's write, to the candidate's first answer at a client, and to the end of the proof;
//! - through the command: `bluegreen rollback`, whole, with the kept container running (warm) and stopped (it must
//!   be started first). The drain waits for others and is taken off; so is the stop of what served, in a column of
//!   its own, as it comes after everything that clients see.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks and the environment")]

#[path = "../tests/e2e/stage.rs"]
mod stage;

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bluegreen_core::adapter::docker::Docker;
use bluegreen_core::adapter::nginx::{HostNginx, Mode, Nginx, NginxInstance, Site};
use bluegreen_core::model::{AppName, Backend, Color, Endpoint, InstanceName, Slot, Slots};
use bluegreen_core::port::Proxy;
use bluegreen_testkit::docker::{AppImage, docker};
use common::{Table, first_answer, get, median, ms, range, rounds};
use serde_json::Value;
use stage::{Kind, Stage};

const SWITCHES: usize = 200;

fn main() {
    let rounds = rounds(10);
    let mut table = Table::new(&["nginx", "what", "median, ms", "range", "wanted"]);
    for kind in [Kind::HostLive, Kind::ContainerLive] {
        let place = if kind == Kind::HostLive { "host" } else { "container" };
        let stage = Stage::live_with(kind, "[app.WEB.health]\nhttp = \"/health\"");
        stage.deploy("v1");
        // Made once: to make an image again makes another one.
        let v2 = stage.image("v2", &AppImage::version("v2"));
        stage.bluegreen(&["deploy", "--image", &v2]).expect(0);
        let mut row = |what: &str, times: &[f64], wanted: &str| {
            table.row(&[
                place.to_owned(),
                what.to_owned(),
                format!("{:.1}", median(times)),
                range(times),
                wanted.to_owned(),
            ]);
        };
        // The kept one runs again, so that both are there.
        docker(["start", &format!("{}-blue", stage.app)]).expect("docker start");
        first_answer(stage.endpoint(false), "v1").join().expect("v1 answers");
        let (seen, proven) = switches(&stage);
        row("flag to the candidate's first answer", &seen, "< 10");
        row("flag to the end of the proof", &proven, "< 50");
        for (what, warm, wanted) in [
            ("rollback, kept container running: whole command beside drain and stop", true, "< 150"),
            ("rollback, kept container stopped: whole command beside drain and stop", false, "–"),
        ] {
            let runs: Vec<_> = (0..rounds).map(|_| rollback(&stage, &v2, warm)).collect();
            let of = |part: fn(&Rollback) -> f64| runs.iter().map(part).collect::<Vec<_>>();
            row(what, &of(|run| run.whole - run.drain - run.retire), wanted);
            row("… the drain", &of(|run| run.drain), "–");
            row("… the stop of what served", &of(|run| run.retire), "–");
        }
    }
    table.print(&format!("Live switch ({SWITCHES} switches) and rollback ({rounds} each)"));
}

/// The application's places as the stage's configuration has them.
fn slots(stage: &Stage) -> Slots {
    let slot = |color: Color| {
        let name = format!("{}-{color}", stage.app);
        let endpoint = stage.endpoint(color == Color::Green);
        Slot::new(color, InstanceName::new(name).expect("a name"), 3000, endpoint_of(endpoint))
    };
    Slots { blue: slot(Color::Blue), green: slot(Color::Green) }
}

fn endpoint_of(address: SocketAddr) -> Endpoint {
    Endpoint::from_ip(address.ip(), address.port())
}

/// Switches back and forth; for each how long until a client saw it, and until it was proven.
fn switches(stage: &Stage) -> (Vec<f64>, Vec<f64>) {
    let place = match &stage.network {
        None => {
            let mut host = HostNginx::default();
            host.binary = PathBuf::from(stage.nginx.conf_dir()).join("../nginx");
            host.pid_file = Some(PathBuf::from(stage.nginx.conf_dir()).join("../nginx.pid"));
            NginxInstance::Host(host)
        }
        Some(_) => {
            NginxInstance::Container { name: InstanceName::new(stage.run.name("nginx")).expect("a name") }
        }
    };
    let mode = Mode::Live { dir: stage.nginx.conf_dir().to_owned(), control_port: stage.control_port };
    let app = AppName::new(stage.app.clone()).expect("a name");
    let mut site = Site::new(place, mode, slots(stage));
    site.public = Some(stage.nginx.url().parse().expect("an address"));
    let slots = slots(stage);
    let address: SocketAddr = ([127, 0, 0, 1], stage.nginx.port()).into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let engine = Docker::connect(None).expect("the Engine");
    let nginx = Nginx::new(Arc::new(engine), BTreeMap::from([(app.clone(), site)]));
    let (mut seen, mut proven) = (Vec::new(), Vec::new());
    let mut to = Color::Blue;
    for _ in 0..SWITCHES {
        let version = if to == Color::Blue { "version=v1" } else { "version=v2" };
        let backend: Backend = slots.of(to).backend();
        let ready = Arc::new(AtomicBool::new(false));
        let client = {
            let ready = Arc::clone(&ready);
            std::thread::spawn(move || {
                let mut asked = 0;
                while get(address).as_deref() != Some(version) {
                    asked += 1;
                    ready.store(true, Ordering::Release);
                    assert!(asked < 100_000, "the switch was never seen");
                }
                Instant::now()
            })
        };
        // The client is at work: it has had an answer of what serves.
        while !ready.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_micros(200));
        }
        let began = Instant::now();
        runtime.block_on(nginx.switch(&app, Some(backend.clone()))).expect("a switch");
        runtime.block_on(nginx.verify(&app, &backend)).expect("a proof");
        proven.push(ms(began.elapsed()));
        seen.push(ms(client.join().expect("a client").duration_since(began)));
        to = to.other();
    }
    (seen, proven)
}

struct Rollback {
    whole: f64,
    drain: f64,
    retire: f64,
}

/// One rollback from v2 to v1, and what it takes to be able to do it again.
fn rollback(stage: &Stage, v2: &str, warm: bool) -> Rollback {
    // Serves already, or is deployed from what is kept.
    stage.bluegreen(&["deploy", "--image", v2]).expect(0);
    let kept = stage.containers(&["--filter", "status=exited"]);
    if warm {
        for name in &kept {
            docker(["start", name]).expect("docker start");
            first_answer(stage.endpoint(name.ends_with("green")), "v1").join().expect("v1 answers");
        }
    }
    let began = Instant::now();
    let ran = stage.bluegreen(&["rollback", "--output", "json"]).expect(0);
    let whole = ms(began.elapsed());
    let step = |name: &str| {
        let lines = ran.out.lines().chain(ran.err.lines());
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events
            .filter(|event| event["event"] == "step-succeeded" && event["step"] == name)
            .filter_map(|event| event["elapsed_ms"].as_f64())
            .sum::<f64>()
    };
    Rollback { whole, drain: step("drain"), retire: step("retire") }
}
