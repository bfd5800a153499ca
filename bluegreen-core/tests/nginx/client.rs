//! What clients see of a switch, as the port's own client sees it.

use std::time::Duration;

use bluegreen_core::adapter::nginx::Nginx;
use bluegreen_core::model::{Color, RequestError};
use bluegreen_core::port::{Asking, Connection, Proxy as _, ProxyError};
use tokio::time::sleep;

use crate::rig::{Rig, free_port, write};

const ASKING: Asking = Asking::within(Duration::from_secs(2));

fn include(rig: &Rig) -> String {
    format!("include {}/bluegreen/web-api.location;", rig.path("conf.d").display())
}

async fn live(site: impl FnOnce(&Rig) -> String) -> (Rig, Nginx) {
    let rig = Rig::start(|rig| write(rig.path("conf.d/a.conf"), rig.server("return 204;"))).await;
    let proxy = rig.live(free_port());
    proxy.install(&rig.app).await.unwrap();
    write(rig.path("conf.d/a.conf"), site(&rig));
    rig.reload();
    // The earlier workers take connections for another 100 ms.
    sleep(Duration::from_millis(300)).await;
    (rig, proxy)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_kept_connection_outlives_a_live_switch() {
    let (rig, proxy) = live(|rig| rig.server(&include(rig))).await;
    rig.go(&proxy, Color::Blue).await;
    let client = proxy.client(&rig.app, &ASKING).await.unwrap();
    assert_eq!(client.remedy(), None);
    assert!(client.target().starts_with(&format!("http://127.0.0.1:{}/", rig.port)), "{}", client.target());
    for to in [Color::Green, Color::Blue].repeat(10) {
        rig.go(&proxy, to).await;
        for over in [Connection::Kept, Connection::Fresh] {
            assert_eq!(client.ask(over).await, Ok(200), "{over:?}");
        }
    }
}

/// Without this the test above would prove nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_kept_connection_does_not_outlive_a_reload_and_the_client_knows_what_helps() {
    let line = |rig: &Rig| format!("proxy_pass http://{};", rig.slots.blue.endpoint);
    let rig = Rig::start(|rig| write(rig.path("conf.d/default.conf"), rig.server(&line(rig)))).await;
    sleep(Duration::from_millis(100)).await;
    let proxy = rig.rewrite();
    let client = proxy.client(&rig.app, &ASKING).await.unwrap();
    assert!(client.remedy().unwrap().contains("`mode = \"live\"`"), "{:?}", client.remedy());
    for _ in 0..2 {
        assert_eq!(client.ask(Connection::Kept).await, Ok(200));
    }
    rig.go(&proxy, Color::Green).await;
    sleep(Duration::from_millis(300)).await;
    let lost = client.ask(Connection::Kept).await;
    assert!(matches!(lost, Err(RequestError::Eof | RequestError::Reset)), "{lost:?}");
    assert_eq!(client.ask(Connection::Kept).await, Ok(200), "it opens another one");
    assert_eq!(client.ask(Connection::Fresh).await, Ok(200));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn failures_have_their_names() {
    let (rig, proxy) = live(|rig| {
        let answers = "location = /ill { return 500; } location = /mute { return 444; }";
        rig.server(&include(rig)).replacen("location", &format!("{answers} location"), 1)
    })
    .await;
    rig.go(&proxy, Color::Blue).await;
    let mut asking = ASKING.clone();
    for (path, outcome) in [("/ill", Ok(500)), ("/mute", Err(RequestError::Eof)), ("/", Ok(200))] {
        asking.path = Some(path.to_owned());
        let client = proxy.client(&rig.app, &asking).await.unwrap();
        for over in [Connection::Kept, Connection::Fresh] {
            assert_eq!(client.ask(over).await, outcome, "{path} {over:?}");
        }
    }
    asking.path = Some("no path".to_owned());
    assert!(matches!(proxy.client(&rig.app, &asking).await, Err(ProxyError::NoWayIn { .. })));
    let client = proxy.client(&rig.app, &ASKING).await.unwrap();
    assert_eq!(client.ask(Connection::Kept).await, Ok(200));
    drop(rig);
    let gone = client.ask(Connection::Kept).await;
    assert!(matches!(gone, Err(RequestError::Eof | RequestError::Reset)), "{gone:?}");
    for over in [Connection::Kept, Connection::Fresh] {
        assert_eq!(client.ask(over).await, Err(RequestError::Refused), "{over:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn without_a_plain_listener_there_is_no_way_in() {
    let (rig, proxy) = live(|rig| {
        let socket = rig.path("socket").display().to_string();
        let hidden =
            rig.server(&include(rig)).replace(&format!("127.0.0.1:{}", rig.port), &format!("unix:{socket}"));
        format!("{hidden}{}", rig.server("return 204;"))
    })
    .await;
    let refused = proxy.client(&rig.app, &ASKING).await.unwrap_err();
    assert!(
        matches!(&refused, ProxyError::NoWayIn { reason } if reason.contains("set a public URL")),
        "{refused:?}"
    );
}
