use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use bluegreen_core::adapter::nginx::{Mode, NginxInstance};
use bluegreen_core::model::{Backend, Color};
use bluegreen_core::port::{Proxy as _, ProxyError};
use bluegreen_core::testing::contract;
use tokio::time::Instant;

use crate::rig::{Client, Load, Rig, free_port, write};

fn include(rig: &Rig) -> String {
    format!("include {}/bluegreen/web-api.location;", rig.path("conf.d").display())
}

/// nginx with the live switch installed and in use, serving nothing yet.
async fn installed() -> (Rig, u16) {
    let rig = Rig::start(|rig| write(rig.path("conf.d/site.conf"), rig.server("return 204;"))).await;
    let control = free_port();
    let proxy = rig.live(control);
    assert_eq!(proxy.install(&rig.app).await.unwrap().len(), 5);
    write(rig.path("conf.d/site.conf"), rig.server(&include(&rig)));
    rig.reload();
    // The earlier workers take connections for another 100 ms.
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.check(&rig.app).await.unwrap();
    (rig, control)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn the_live_switch_keeps_the_contract_of_the_port() {
    let (rig, control) = installed().await;
    contract::proxy(&rig.live(control), &rig.app, &rig.slots).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_hundred_switches_under_load_lose_nothing() {
    let (rig, control) = installed().await;
    let proxy = rig.live(control);
    rig.go(&proxy, Color::Blue).await;
    let load = Load::start(rig.port, &[("GET", true, 4), ("GET", false, 2), ("POST", true, 2)]);
    let (mut switching, mut proving, mut drained) = (Vec::new(), Vec::new(), Vec::new());
    let mut to = Color::Green;
    for round in 0..100 {
        let backend = rig.slots.of(to).backend();
        let start = Instant::now();
        proxy.switch(&rig.app, Some(backend.clone())).await.unwrap();
        switching.push(start.elapsed());
        assert_eq!(rig.color().await, to.as_str(), "a new request after the switch");
        let start = Instant::now();
        let proof = proxy.verify(&rig.app, &backend).await.unwrap();
        proving.push(start.elapsed());
        assert_eq!(proof.requests, 3, "{}", proof.evidence);
        // A look at a table full of closed connections takes a while; now and then is enough.
        let start = Instant::now();
        let from = rig.slots.of(to.other()).backend();
        while round % 10 == 0 && !proxy.in_flight(&rig.app, &from).await.unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(5), "it never drains");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drained.extend((round % 10 == 0).then(|| start.elapsed()));
        assert_eq!(proxy.active(&rig.app).await.unwrap().color, Some(to));
        to = to.other();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (asked, failures) = load.end().await;
    eprintln!(
        "100 switches, {asked} requests, {} failed; medians: switch {:?}, proof {:?}, drain {:?}",
        failures.len(),
        median(switching),
        median(proving),
        median(drained)
    );
    assert!(failures.is_empty(), "{:?}", &failures[..failures.len().min(5)]);
    assert!(asked > 1_000);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn the_same_load_sees_a_plain_reload() {
    // A check that cannot fail proves nothing.
    let (rig, control) = installed().await;
    rig.go(&rig.live(control), Color::Blue).await;
    let load = Load::start(rig.port, &[("GET", true, 8), ("POST", true, 8)]);
    for _ in 0..20 {
        rig.reload();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let (asked, failures) = load.end().await;
    eprintln!("20 reloads, {asked} requests, {} failed", failures.len());
    assert!(!failures.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn nothing_is_served_before_the_first_switch_and_after_the_last() {
    let (rig, control) = installed().await;
    let proxy = rig.live(control);
    let active = proxy.active(&rig.app).await.unwrap();
    assert_eq!((active.color, active.consistent), (None, true), "{}", active.evidence);
    assert_eq!(rig.get("/").await.0, 503);
    for to in [Color::Green, Color::Blue] {
        let backend = rig.slots.of(to).backend();
        assert!(!proxy.preview(&rig.app, &backend).await.unwrap().is_empty());
        rig.go(&proxy, to).await;
        assert_eq!(proxy.preview(&rig.app, &backend).await.unwrap(), []);
        assert_eq!(rig.color().await, to.as_str());
        let other = rig.slots.of(to.other()).backend();
        let unproven = proxy.verify(&rig.app, &other).await;
        assert!(matches!(unproven, Err(ProxyError::NotProven { .. })), "{unproven:?}");
        proxy.switch(&rig.app, None).await.unwrap();
        assert_eq!(proxy.active(&rig.app).await.unwrap().color, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn what_is_open_to_a_colour_is_counted() {
    let (rig, control) = installed().await;
    let proxy = rig.live(control);
    rig.go(&proxy, Color::Blue).await;
    let mut client = Client::connect(rig.port).await.unwrap();
    let slow = tokio::spawn(async move { client.request("GET", "/slow", "").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.go(&proxy, Color::Green).await;
    let blue = rig.slots.blue.backend();
    assert_eq!(proxy.in_flight(&rig.app, &blue).await.unwrap().connections, 1);
    assert_eq!(slow.await.unwrap().unwrap(), (200, "blue".to_owned()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(proxy.in_flight(&rig.app, &blue).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_flag_that_nginx_cannot_see_is_taken_back() {
    let (rig, control) = installed().await;
    let proxy = rig.live(control);
    rig.go(&proxy, Color::Blue).await;
    let folder = rig.path("conf.d/bluegreen");
    let before = rig.files();
    // What a wrong mount or a strict umask would do. nginx itself reads its files as root.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let error = proxy.switch(&rig.app, Some(rig.slots.green.backend())).await.unwrap_err();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(
        matches!(&error, ProxyError::Refused { reason } if reason.contains("still says blue")),
        "{error}"
    );
    assert_eq!(rig.files(), before);
    let elsewhere = Backend::new(Color::Green, rig.slots.blue.backend().endpoints);
    let error = proxy.switch(&rig.app, Some(elsewhere)).await.unwrap_err();
    assert!(matches!(error, ProxyError::Refused { .. }), "{error}");
    assert_eq!(rig.color().await, "blue");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_candidate_that_is_gone_is_not_proven_though_the_other_stands_in() {
    let (mut rig, control) = installed().await;
    // Green's place is there in nginx's files, and nobody listens.
    rig.slots.green.endpoint = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let proxy = rig.live(control);
    proxy.install(&rig.app).await.unwrap();
    proxy.switch(&rig.app, Some(rig.slots.green.backend())).await.unwrap();
    assert_eq!(rig.color().await, "blue", "the backup answers");
    let error = proxy.verify(&rig.app, &rig.slots.green.backend()).await.unwrap_err();
    assert!(matches!(&error, ProxyError::NotProven { reason } if reason.contains(", 127.0.0.1")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn check_says_what_is_missing_step_by_step() {
    let rig = Rig::start(|rig| write(rig.path("conf.d/site.conf"), rig.server("return 204;"))).await;
    let proxy = rig.live(free_port());
    let reason = async || match proxy.check(&rig.app).await {
        Err(error @ ProxyError::Unrecognized { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(reason().await.contains("not installed"));
    let active = proxy.active(&rig.app).await.unwrap_err();
    assert!(
        matches!(&active, ProxyError::Unrecognized { found, .. } if found.contains("refused")),
        "{active}"
    );
    proxy.install(&rig.app).await.unwrap();
    let missing = reason().await;
    assert!(missing.contains("no location includes the live switch of web-api"), "{missing}");
    let traps = [
        (format!("rewrite ^/a /b break;\n{}", include(&rig)), "above the rewrite"),
        (format!("try_files $uri @x;\n{}", include(&rig)), "try_files"),
    ];
    for (lines, expected) in traps {
        write(rig.path("conf.d/site.conf"), rig.server(&lines));
        assert!(reason().await.contains(expected), "{}", reason().await);
    }
    write(rig.path("conf.d/site.conf"), rig.server(&include(&rig)));
    proxy.check(&rig.app).await.unwrap();
    let installation = proxy.installation(&rig.app).await.unwrap();
    // It is of the earlier form, which an install would bring into today's.
    assert!(!installation.loaded && !installation.included && installation.changes.len() == 5);
    write(rig.path("conf.d/bluegreen/web-api.location"), "return 200;\n");
    assert!(reason().await.contains("an install would change"));
    write(rig.path("conf.d/site.conf"), "nonsense;\n");
    assert!(matches!(proxy.check(&rig.app).await, Err(ProxyError::Broken { .. })));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn install_is_done_once_and_remove_leaves_nothing() {
    let (rig, control) = installed().await;
    let (proxy, with) = (rig.live(control), rig.files());
    rig.go(&proxy, Color::Blue).await;
    // Its line is of the earlier form.
    assert_eq!(proxy.install(&rig.app).await.unwrap().len(), 5);
    assert_eq!(proxy.install(&rig.app).await.unwrap(), []);
    // A repaired install does not take the colour away.
    write(rig.path("conf.d/bluegreen-web-api.conf"), "# edited by hand\n");
    assert_eq!(proxy.install(&rig.app).await.unwrap().len(), 1);
    assert_eq!(rig.color().await, "blue");
    // A file of the user's that cannot be fixed is not: nginx's test refuses, and all stays.
    write(rig.path("conf.d/more.conf"), "map $uri $more { include conf.d/bluegreen-web-api.conf; }\n");
    let before = rig.files();
    let error = proxy.remove(&rig.app).await.unwrap_err();
    assert!(matches!(error, ProxyError::Broken { .. }), "{error}");
    assert_eq!(rig.files(), before);
    assert_eq!(rig.color().await, "blue");
    fs::remove_file(rig.path("conf.d/more.conf")).unwrap();
    // With nothing of ours served the line names what it named before.
    proxy.switch(&rig.app, None).await.unwrap();
    assert_eq!(proxy.remove(&rig.app).await.unwrap().len(), 8);
    assert_eq!(rig.color().await, "blue");
    assert_eq!(rig.files().into_keys().collect::<Vec<_>>(), ["site.conf"]);
    assert!(with.len() > 5);
    assert_eq!(proxy.remove(&rig.app).await.unwrap(), []);
    let plain = rig.server(&format!("proxy_pass http://{};", rig.slots.blue.endpoint));
    assert_eq!(fs::read_to_string(rig.path("conf.d/site.conf")).unwrap(), plain);
    assert!(proxy.active(&rig.app).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn an_install_that_does_not_become_live_is_put_back() {
    let rig = Rig::start(|rig| write(rig.path("conf.d/site.conf"), rig.server("return 204;"))).await;
    // nginx's test does not notice that the port is taken; its master does, and goes on as before.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut site =
        rig.site(Mode::Live { dir: rig.path("conf.d"), control_port: taken.local_addr().unwrap().port() });
    site.reload_timeout = Duration::from_secs(1);
    site.request_timeout = Duration::from_millis(50);
    let (proxy, before) = (rig.proxy_of(site), rig.files());
    let error = proxy.install(&rig.app).await.unwrap_err();
    assert!(matches!(error, ProxyError::Refused { .. }), "{error}");
    assert_eq!(rig.files(), before);
    write(rig.path("conf.d/broken.conf"), "nonsense;\n");
    let error = rig.live(free_port()).install(&rig.app).await.unwrap_err();
    assert!(matches!(&error, ProxyError::Broken { output, .. } if output.contains("nonsense")), "{error}");
    assert_eq!(rig.files().len(), before.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn an_nginx_that_is_gone_is_told_and_nothing_is_switched() {
    let (rig, control) = installed().await;
    let proxy = rig.live(control);
    rig.go(&proxy, Color::Blue).await;
    let before = rig.files();
    let stopped = std::process::Command::new("nginx")
        .arg("-c")
        .arg(rig.path("nginx.conf"))
        .args(["-s", "stop"])
        .output()
        .unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    for error in [
        proxy.active(&rig.app).await.unwrap_err(),
        proxy.check(&rig.app).await.unwrap_err(),
        proxy.switch(&rig.app, Some(rig.slots.green.backend())).await.unwrap_err(),
    ] {
        assert!(matches!(error, ProxyError::NotRunning { .. }), "{error}");
    }
    assert_eq!(rig.files(), before);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn what_nginx_runs_with_is_known_without_its_command_until_a_file_changes() {
    let (rig, control) = installed().await;
    // A command that says what it was asked, a word a line: a path may have the same letters in it.
    let (asked, command) = (rig.path("asked"), rig.path("nginx-command"));
    write(&command, format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >> {}\nexec nginx \"$@\"\n", asked.display()));
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    let mut site = rig.site(Mode::Live { dir: rig.path("conf.d"), control_port: control });
    if let NginxInstance::Host(host) = &mut site.place {
        host.binary = command;
        host.pid_file = Some(rig.path("nginx.pid"));
    }
    let check = async || {
        let proxy = rig.proxy_of(site.clone());
        let said = proxy.check(&rig.app).await;
        let asked = fs::read_to_string(&asked).unwrap_or_default();
        (said, asked.lines().filter(|word| ["-t", "-T"].contains(word)).count())
    };
    // Not in the same moment as a write: as far as the kernel's clock tells, its workers may be older.
    let reload = async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.reload();
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    reload().await;
    // Flags are no configuration.
    rig.go(&rig.live(control), Color::Blue).await;
    let (said, times) = check().await;
    said.unwrap();
    assert_eq!(times, 0, "nginx's command was run");
    // What was edited is nginx's to judge, were it as sound as before.
    let sound = fs::read_to_string(rig.path("conf.d/site.conf")).unwrap();
    write(rig.path("conf.d/site.conf"), format!("{sound}# a note\n"));
    let (said, times) = check().await;
    said.unwrap();
    assert_eq!(times, 1);
    write(rig.path("conf.d/site.conf"), &sound);
    write(rig.path("conf.d/new.conf"), "listne 1;\n");
    let (said, times) = check().await;
    assert!(matches!(said, Err(ProxyError::Broken { output, .. }) if output.contains("listne")));
    assert_eq!(times, 2);
    fs::remove_file(rig.path("conf.d/new.conf")).unwrap();
    reload().await;
    let (said, times) = check().await;
    said.unwrap();
    assert_eq!(times, 2, "loaded again, and looked at by its command all the same");
}
