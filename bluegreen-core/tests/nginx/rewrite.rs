use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::time::Duration;

use bluegreen_core::adapter::nginx::Mode;
use bluegreen_core::model::Color;
use bluegreen_core::port::{Proxy as _, ProxyError};
use bluegreen_core::testing::contract;
use tokio::time::{Instant, sleep};

use crate::rig::{Client, Load, Rig, free_port, write};

const FILE: &str = "conf.d/default.conf";

fn text(rig: &Rig, color: Color) -> String {
    let endpoint = &rig.slots.of(color).endpoint;
    // As hand-written: a comment that names the other, DOS line ends, no line end at the end.
    let comment = format!("# not http://{}\r\n", rig.slots.of(color.other()).endpoint);
    comment + rig.server(&format!("proxy_pass http://{endpoint};")).trim_end()
}

/// nginx with a file that names blue, loaded long enough ago.
async fn started() -> Rig {
    let rig = Rig::start(|rig| write(rig.path(FILE), text(rig, Color::Blue))).await;
    sleep(Duration::from_millis(100)).await;
    rig
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn the_rewrite_keeps_the_contract_of_the_port() {
    let rig = started().await;
    contract::proxy(&rig.rewrite(), &rig.app, &rig.slots).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn the_file_is_rewritten_and_rewritten_back() {
    let rig = started().await;
    let proxy = rig.rewrite();
    proxy.check(&rig.app).await.unwrap();
    let (before, mode) = (rig.files(), fs::metadata(rig.path(FILE)).unwrap().mode());
    for to in [Color::Green, Color::Blue, Color::Blue] {
        let backend = rig.slots.of(to).backend();
        let preview = proxy.preview(&rig.app, &backend).await.unwrap();
        let start = Instant::now();
        proxy.switch(&rig.app, Some(backend.clone())).await.unwrap();
        eprintln!("switch to {to}: {:?}", start.elapsed());
        let proof = proxy.verify(&rig.app, &backend).await.unwrap();
        assert!(proof.evidence.contains("answered 200"), "{}", proof.evidence);
        let active = proxy.active(&rig.app).await.unwrap();
        assert_eq!((active.color, active.consistent), (Some(to), true), "{}", active.evidence);
        assert_eq!(rig.color().await, to.as_str());
        assert_eq!(
            fs::read_to_string(rig.path(FILE)).unwrap(),
            text(&rig, to).replace(
                &rig.slots.of(to.other()).endpoint.to_string(),
                &rig.slots.green.endpoint.to_string(),
            )
        );
        assert!(preview.len() < 2);
        proxy.switch(&rig.app, None).await.unwrap();
    }
    assert_eq!(rig.files(), before, "byte for byte, and nothing beside it");
    assert_eq!(fs::metadata(rig.path(FILE)).unwrap().mode(), mode);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn the_earlier_workers_are_waited_for() {
    let rig = started().await;
    let proxy = rig.rewrite();
    let mut client = Client::connect(rig.port).await.unwrap();
    let slow = tokio::spawn(async move { client.request("GET", "/slow", "").await });
    sleep(Duration::from_millis(100)).await;
    rig.go(&proxy, Color::Green).await;
    let blue = rig.slots.blue.backend();
    let open = proxy.in_flight(&rig.app, &blue).await.unwrap();
    assert_eq!((open.connections, open.stale_workers > 0), (1, true), "{open}");
    assert_eq!(slow.await.unwrap().unwrap(), (200, "blue".to_owned()));
    let start = Instant::now();
    while !proxy.in_flight(&rig.app, &blue).await.unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(5), "they never end");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn fresh_connections_lose_nothing_over_a_reload() {
    let rig = started().await;
    let proxy = rig.rewrite();
    let load = Load::start(rig.port, &[("GET", false, 4), ("POST", false, 2)]);
    for round in 0..10 {
        let to = if round % 2 == 0 { Color::Green } else { Color::Blue };
        rig.go(&proxy, to).await;
        let from = rig.slots.of(to.other()).backend();
        let start = Instant::now();
        while !proxy.in_flight(&rig.app, &from).await.unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(5), "it never drains");
            sleep(Duration::from_millis(5)).await;
        }
    }
    let (asked, failures) = load.end().await;
    eprintln!("10 rewrites, {asked} requests on fresh connections, {} failed", failures.len());
    assert!(failures.is_empty(), "{:?}", &failures[..failures.len().min(5)]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_change_that_nginx_refuses_is_put_back_byte_for_byte() {
    let mut rig = Rig::start(|rig| {
        let upstream = format!("upstream blue-app {{ server {}; }}\n", rig.slots.blue.endpoint);
        write(rig.path(FILE), upstream + &rig.server("proxy_pass http://blue-app;"));
        // Naming green would make a second upstream of that name.
        write(rig.path("conf.d/other.conf"), "upstream green-app { server 127.0.0.1:1; }\n");
    })
    .await;
    rig.slots.blue.endpoint = "blue-app:80".parse().unwrap();
    rig.slots.green.endpoint = "green-app:80".parse().unwrap();
    sleep(Duration::from_millis(100)).await;
    let proxy = rig.rewrite();
    proxy.check(&rig.app).await.unwrap();
    let (before, changed) = (rig.files(), fs::metadata(rig.path(FILE)).unwrap().modified().unwrap());
    let error = proxy.switch(&rig.app, Some(rig.slots.green.backend())).await.unwrap_err();
    assert!(
        matches!(&error, ProxyError::Refused { reason } if reason.contains("duplicate upstream")),
        "{error}"
    );
    assert_eq!(rig.files(), before);
    assert_eq!(fs::metadata(rig.path(FILE)).unwrap().modified().unwrap(), changed);
    let active = proxy.active(&rig.app).await.unwrap();
    assert_eq!((active.color, active.consistent), (Some(Color::Blue), true), "{}", active.evidence);
    assert_eq!(rig.color().await, "blue");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn what_was_broken_before_is_told_as_that() {
    let rig = started().await;
    let proxy = rig.rewrite();
    write(rig.path("conf.d/other.conf"), "nonsense;\n");
    let before = rig.files();
    for error in [
        proxy.check(&rig.app).await.unwrap_err(),
        proxy.switch(&rig.app, Some(rig.slots.green.backend())).await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, ProxyError::Broken { output, .. } if output.contains("nonsense")),
            "{error}"
        );
    }
    assert_eq!(rig.files(), before);
    assert_eq!(rig.color().await, "blue");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_file_that_was_edited_by_hand_is_not_guessed_at() {
    let rig = started().await;
    let proxy = rig.rewrite();
    let other =
        format!("{}\nupstream x {{ server {}; }}\n", text(&rig, Color::Blue), rig.slots.green.endpoint);
    for (edited, expected) in [
        (rig.server("return 204;"), "neither"),
        (other, "both"),
        ("server {".to_owned(), "default.conf:1 could not be read"),
    ] {
        write(rig.path(FILE), &edited);
        let error = proxy.switch(&rig.app, Some(rig.slots.green.backend())).await.unwrap_err();
        assert!(
            matches!(error, ProxyError::Unrecognized { .. } | ProxyError::Unreadable { .. })
                && error.to_string().contains(expected),
            "{error}"
        );
        assert!(proxy.check(&rig.app).await.is_err());
        assert_eq!(fs::read_to_string(rig.path(FILE)).unwrap(), edited);
    }
    // A file that nginx does not read.
    write(rig.path("elsewhere.conf"), text(&rig, Color::Blue));
    write(rig.path(FILE), text(&rig, Color::Green));
    let proxy = rig.proxy_of(rig.site(Mode::rewrite(rig.path("elsewhere.conf"))));
    let error = proxy.check(&rig.app).await.unwrap_err().to_string();
    assert!(error.contains("does not read it"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_run_that_died_between_change_and_reload_is_seen_and_mended() {
    for then in Color::ALL {
        let rig = started().await;
        let proxy = rig.rewrite();
        // What a killed run leaves.
        write(rig.path("conf.d/.default.conf.bluegreen-backup"), text(&rig, Color::Blue));
        let there = text(&rig, Color::Blue).replace(
            &format!("pass http://{}", rig.slots.blue.endpoint),
            &format!("pass http://{}", rig.slots.green.endpoint),
        );
        write(rig.path(FILE), &there);
        let active = proxy.active(&rig.app).await.unwrap();
        assert_eq!((active.color, active.consistent), (Some(Color::Blue), false), "{}", active.evidence);
        let unproven = proxy.verify(&rig.app, &rig.slots.green.backend()).await;
        assert!(matches!(unproven, Err(ProxyError::NotProven { .. })), "{unproven:?}");
        rig.go(&proxy, then).await;
        assert_eq!(rig.color().await, then.as_str());
        let left = if then == Color::Blue { text(&rig, then) } else { there };
        assert_eq!(fs::read_to_string(rig.path(FILE)).unwrap(), left);
        assert_eq!(rig.files().into_keys().collect::<Vec<_>>(), ["default.conf"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_reload_that_nginx_swallows_is_noticed() {
    let rig = started().await;
    // nginx's test does not notice that the port is taken; its master does, and goes on as before.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    write(rig.path("conf.d/other.conf"), format!("server {{ listen 127.0.0.1:{port}; }}\n"));
    let before = rig.files();
    let mut site = rig.site(Mode::rewrite(rig.path(FILE)));
    site.reload_timeout = Duration::from_secs(1);
    let proxy = rig.proxy_of(site);
    let error = proxy.switch(&rig.app, Some(rig.slots.green.backend())).await.unwrap_err();
    assert!(matches!(&error, ProxyError::Refused { reason } if reason.contains("no worker")), "{error}");
    assert_eq!(rig.files(), before);
    assert_eq!(rig.color().await, "blue");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_link_stays_a_link_and_a_gone_nginx_is_told() {
    let rig = Rig::start(|rig| {
        fs::create_dir(rig.path("available")).unwrap();
        write(rig.path("available/site"), text(rig, Color::Blue));
        symlink(rig.path("available/site"), rig.path(FILE)).unwrap();
    })
    .await;
    sleep(Duration::from_millis(100)).await;
    let proxy = rig.rewrite();
    proxy.check(&rig.app).await.unwrap();
    rig.go(&proxy, Color::Green).await;
    assert!(fs::symlink_metadata(rig.path(FILE)).unwrap().is_symlink());
    assert_eq!(rig.color().await, "green");
    let mut site = rig.site(Mode::rewrite(rig.path(FILE)));
    if let bluegreen_core::adapter::nginx::NginxInstance::Host(host) = &mut site.place {
        host.pid_file = Some(rig.path("no.pid"));
    }
    let error = rig.proxy_of(site).active(&rig.app).await.unwrap_err();
    assert!(matches!(error, ProxyError::NotRunning { .. }), "{error}");
    assert!(free_port() > 0);
}
