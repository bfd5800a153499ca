//! Switches between two colours that both run.

use std::time::Duration;

use bluegreen_core::model::Color;
use bluegreen_testkit::load::Mode;
use bluegreen_testkit::nginx::{NginxBinary, NginxVersion};

use tokio::time::Instant;

use crate::clients;
use crate::stage::{Kind, Stage};

/// Switches in the short pass.
const FEW: u32 = 12;

/// At least so long: answers that take 5 s must begin, span switches and end.
const SPAN: Duration = Duration::from_secs(6);

async fn no_mode_loses_anything(kind: Kind) {
    let switches = crate::count("ZERO_LOSS_SWITCHES", FEW);
    let stage = Stage::start(kind, true, "").await;
    let load = clients::all(&stage);
    let began = Instant::now();
    let (mut to, mut undrained, mut times) = (Color::Green, 0, Vec::new());
    for round in 0.. {
        if round >= switches && began.elapsed() > SPAN {
            eprintln!("{kind:?}: {round} switches of each of three applications in {:.0?}", began.elapsed());
            break;
        }
        times.push(stage.switch(&stage.web, to).await);
        stage.switch(&stage.rpc, to).await;
        stage.switch(&stage.long, to).await;
        let from = to.other();
        // Short requests end; an answer of 5 s is still under way at the next switch, and is not waited for.
        undrained += u32::from(!stage.drain(&stage.web, from, Duration::from_secs(5)).await);
        stage.drain(&stage.long, from, Duration::from_millis(20)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        to = from;
    }
    let (table, failures) = clients::stop(load);
    times.sort_unstable();
    let median = times[times.len() / 2];
    eprintln!("{kind:?}\n{table}medians: switch {:.1?}, with proof {:.1?}", median.0, median.1);
    assert!(failures.is_empty(), "lost, or not served by both colours:\n{failures}{table}");
    assert_eq!(undrained, 0, "the short requests never ended");
}

/// nginx on the host and nginx in a container at the same time.
const BOTH: [Kind; 2] = [Kind::Host(NginxBinary::System), Kind::Container(NginxVersion::V1_22)];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker and nginx: ./scripts/test"]
async fn no_mode_loses_anything_wherever_nginx_runs() {
    let [host, container] = BOTH.map(|kind| tokio::spawn(no_mode_loses_anything(kind)));
    for (kind, ended) in BOTH.iter().zip([host.await, container.await]) {
        assert!(ended.is_ok(), "{kind:?} failed, see above");
    }
}

/// A check that cannot fail proves nothing: the same clients at a plain reload.
async fn the_same_clients_see_a_plain_reload(kind: Kind) {
    let stage = Stage::start(kind, true, "").await;
    let (near, far) = clients::hurt_by_reloads(&stage);
    let began = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        stage.nginx.reload().expect("a reload");
        let (near, far) = (near.snapshot(), far.snapshot());
        let seen = near.mode(Mode::Naive).failed > 0 && far.total.failed > 0;
        if seen || began.elapsed() > Duration::from_secs(30) {
            break;
        }
    }
    let (near, far) = (near.stop(), far.stop());
    assert!(near.mode(Mode::Naive).failed > 0, "naive clients saw nothing\n{near}");
    assert!(far.total.failed > 0, "careful clients 25 ms away saw nothing\n{far}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker and nginx: ./scripts/test"]
async fn control_a_plain_reload_is_seen_wherever_nginx_runs() {
    let [host, container] = BOTH.map(|kind| tokio::spawn(the_same_clients_see_a_plain_reload(kind)));
    for (kind, ended) in BOTH.iter().zip([host.await, container.await]) {
        assert!(ended.is_ok(), "{kind:?} failed, see above");
    }
}
