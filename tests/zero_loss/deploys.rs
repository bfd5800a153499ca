//! Whole deploys by the command, under load. Each ends with the previous version's SIGTERM.

use std::time::Duration;

use bluegreen_testkit::docker::AppImage;
use bluegreen_testkit::load::{Config, Handle, Mode, Target};

use crate::e2e::{Kind, Stage};

/// Deploys with WebSockets in the short pass.
const FEW: u32 = 2;

/// How many WebSockets are open.
const SOCKETS: usize = 8;

fn stage(kind: Kind, drain: &str) -> Stage {
    let stage = Stage::live_with(kind, &format!("[app.WEB.drain]\ntimeout = \"{drain}\""));
    let inside = match kind {
        Kind::HostLive => stage.nginx.conf_dir().display().to_string(),
        Kind::ContainerLive | Kind::ContainerRewrite => "/etc/nginx/conf.d".to_owned(),
    };
    let site = format!(
        "server {{ listen @PORT@;\n\
         location / {{ include {inside}/bluegreen/{app}.location; }}\n\
         location /ws {{ proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection upgrade; include {inside}/bluegreen/{app}.location; }} }}\n",
        app = stage.app
    );
    stage.nginx.write_conf("site.conf", &site).expect("the site");
    stage.nginx.reload().expect("a reload");
    std::thread::sleep(Duration::from_millis(400));
    stage
}

fn load(stage: &Stage, modes: &[(Mode, usize)]) -> Handle {
    let target = Target::parse(&stage.nginx.url()).expect("loopback");
    let config = modes.iter().fold(Config::new(target), |config, (mode, n)| config.with(*mode, *n));
    let load = Handle::spawn(config.lasting(Duration::from_secs(3600)).timeout(Duration::from_secs(20)));
    assert!(load.wait_until(Duration::from_secs(20), |report| report.total.requests > 50), "no load");
    load
}

fn deploy(stage: &Stage, version: u32, on_term: &str) {
    let version = format!("v{version}");
    let image = stage.image(&version, &AppImage::version(&version).env("ON_TERM", on_term));
    stage.bluegreen(&["deploy", "--image", &image]).expect(0);
    stage.serves(&version);
}

/// WebSockets outlive the drain's cap and not their application: each must end in good order, and the next one
/// must be opened at the first attempt.
fn sockets_end_in_good_order(kind: Kind) {
    let deploys = crate::count("ZERO_LOSS_DEPLOYS", FEW);
    let stage = stage(kind, "1s");
    deploy(&stage, 0, "drain");
    let load = load(
        &stage,
        &[(Mode::WebSocket, SOCKETS), (Mode::New, 2), (Mode::Gaps, 6), (Mode::Naive, 4), (Mode::Post, 4)],
    );
    for version in 1..=deploys {
        deploy(&stage, version, "drain");
    }
    let report = load.stop();
    eprintln!("{kind:?}: {deploys} deploys with WebSockets open\n{report}");
    report.assert_lossless();
    let closes = report.mode(Mode::WebSocket).orderly_closes;
    assert_eq!(closes, u64::from(deploys) * SOCKETS as u64, "{report}");
}

/// An application that dies at once on SIGTERM: nothing may be in flight to it any more, neither an answer of 5 s
/// nor an upload that has no connection to it yet.
fn an_application_that_dies_at_once_loses_nothing(kind: Kind) {
    let deploys = crate::count("ZERO_LOSS_DEPLOYS", 1);
    let stage = stage(kind, "15s");
    deploy(&stage, 0, "exit");
    let modes = [
        (Mode::New, 2),
        (Mode::Keepalive, 1),
        (Mode::Gaps, 6),
        (Mode::Naive, 4),
        (Mode::Post, 4),
        (Mode::Slow5, 4),
        (Mode::Sse, 2),
        (Mode::Upload, 6),
    ];
    let load = load(&stage, &modes);
    for version in 1..=deploys {
        deploy(&stage, version, "exit");
    }
    let report = load.stop();
    eprintln!("{kind:?}: {deploys} deploys of an application that dies at once\n{report}");
    report.assert_lossless();
    assert!(modes.iter().all(|(mode, _)| report.mode(*mode).requests > 0), "{report}");
}

/// nginx on the host and in a container, and both kinds of application, at the same time: each mostly waits for its
/// drain.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn whole_deploys_lose_nothing_wherever_nginx_runs() {
    let tests: [fn(Kind); 2] = [sockets_end_in_good_order, an_application_that_dies_at_once_loses_nothing];
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for kind in [Kind::HostLive, Kind::ContainerLive] {
            running.extend(tests.map(|test| (kind, scope.spawn(move || test(kind)))));
        }
        for (kind, thread) in running {
            assert!(thread.join().is_ok(), "{kind:?} failed, see above");
        }
    });
}
