//! The modes that are more than one request over HTTP/1.1, against the sample application itself, and against its
//! sudden end: each loss has to be seen.

#![allow(clippy::disallowed_methods, reason = "real sockets live in real time")]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bluegreen_testkit::docker::free_port;
use bluegreen_testkit::load::{Config, FailureKind, Handle, Mode, Report, Target};
use bluegreen_testkit::process;

struct App {
    child: Child,
    port: u16,
}

impl App {
    fn start(on_term: &str) -> Self {
        let port = free_port();
        let child = Command::new(env!("CARGO_BIN_EXE_sample-app"))
            .env("PORT", port.to_string())
            .env("VERSION", "v1")
            .env("ON_TERM", on_term)
            .stdout(Stdio::null())
            .spawn()
            .expect("the sample app");
        let up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(process::wait_until(Duration::from_secs(10), up), "it does not listen");
        Self { child, port }
    }

    fn load(&self, modes: &[(Mode, usize)]) -> Handle {
        let target = Target::parse(&format!("http://127.0.0.1:{}/", self.port)).expect("loopback");
        let config = modes.iter().fold(Config::new(target), |config, (mode, n)| config.with(*mode, *n));
        Handle::spawn(config)
    }

    fn end(&mut self) {
        process::signal(self.child.id(), "TERM");
        self.child.wait().expect("it ends");
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn all_of(report: &Report, modes: &[Mode], enough: u64) -> bool {
    modes.iter().all(|mode| report.mode(*mode).requests >= enough)
}

#[test]
fn every_mode_is_answered_in_full() {
    let app = App::start("drain");
    let modes = [Mode::Http2, Mode::Grpc, Mode::WebSocket, Mode::Upload];
    let load = app.load(&modes.map(|mode| (mode, 2)));
    let slow = app.load(&[(Mode::Slow5, 1), (Mode::Stream5, 1), (Mode::Sse, 1)]);
    assert!(load.wait_until(Duration::from_secs(30), |report| all_of(report, &modes, 4)));
    for report in [load.stop(), slow.stop()] {
        report.assert_lossless();
        assert_eq!(report.total.versions.get("v1"), Some(&report.total.requests), "{report}");
    }
}

#[test]
fn a_good_end_of_the_application_is_told_from_a_bad_one() {
    for (on_term, orderly) in [("drain", true), ("exit", false)] {
        let mut app = App::start(on_term);
        let load = app.load(&[(Mode::WebSocket, 3)]);
        assert!(load.wait_until(Duration::from_secs(20), |report| report.total.requests > 10));
        app.end();
        // The next ones find nobody, which is counted too.
        assert!(load.wait_until(Duration::from_secs(20), |report| report.count(FailureKind::Refused) > 0));
        let report = load.stop();
        let (closes, abrupt) = (report.total.orderly_closes, report.count(FailureKind::AbruptEnd));
        assert_eq!((closes, abrupt), if orderly { (3, 0) } else { (0, 3) }, "{report}");
    }
}

#[test]
fn requests_that_a_sudden_end_takes_along_are_seen() {
    let mut app = App::start("exit");
    let load = app.load(&[(Mode::Upload, 4), (Mode::Sse, 4)]);
    std::thread::sleep(Duration::from_millis(300));
    app.end();
    let seen = |report: &Report| [Mode::Upload, Mode::Sse].iter().all(|mode| report.mode(*mode).failed > 0);
    assert!(load.wait_until(Duration::from_secs(20), seen), "{}", load.snapshot());
    let mut app = App::start("exit");
    let load = app.load(&[(Mode::Http2, 4), (Mode::Grpc, 4)]);
    assert!(load.wait_until(Duration::from_secs(20), |report| report.total.requests > 50));
    app.end();
    let seen = |report: &Report| [Mode::Http2, Mode::Grpc].iter().all(|mode| report.mode(*mode).failed > 0);
    assert!(load.wait_until(Duration::from_secs(20), seen), "{}", load.snapshot());
}
