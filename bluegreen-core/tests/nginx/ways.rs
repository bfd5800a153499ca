//! Other directives than the one that is switched lead to the same places: published cases.

use bluegreen_core::model::Color;
use bluegreen_core::port::{Proxy as _, ProxyError, Way};

use crate::rig::{Rig, free_port, write};

async fn ways(proxy: &bluegreen_core::adapter::nginx::Nginx, rig: &Rig) -> Vec<Way> {
    match proxy.check(&rig.app).await {
        Err(ProxyError::SecondWay { ways }) => ways,
        other => panic!("{other:?}"),
    }
}

fn at(ways: &[Way]) -> Vec<(String, Option<usize>)> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    ways.iter().map(|way| (name(&way.at.path), way.at.line)).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn live_a_variable_in_another_location_is_seen_until_it_has_our_line() {
    let site = |rig: &Rig, api: &str| {
        let (port, blue) = (rig.port, &rig.slots.blue.endpoint);
        format!(
            "server {{\n listen 127.0.0.1:{port};\n location / {{ proxy_pass http://{blue}; }}\n \
             location /api/ {{ {api} }}\n}}\n"
        )
    };
    let api = |rig: &Rig| format!("set $backend http://{}; proxy_pass $backend;", rig.slots.blue.endpoint);
    let rig = Rig::start(|rig| write(rig.path("conf.d/site.conf"), site(rig, &api(rig)))).await;
    let proxy = rig.live(free_port());
    // Not even the install is made, which a deploy could not follow.
    let before = rig.files();
    let refused = proxy.install(&rig.app).await;
    assert!(matches!(refused, Err(ProxyError::SecondWay { .. })), "{refused:?}");
    assert_eq!(rig.files(), before);
    // One that comes later is seen all the same.
    write(rig.path("conf.d/site.conf"), site(&rig, "return 204;"));
    rig.reload();
    proxy.install(&rig.app).await.unwrap();
    let text = std::fs::read_to_string(rig.path("conf.d/site.conf")).unwrap();
    write(rig.path("conf.d/site.conf"), text.replace("return 204;", &api(&rig)));
    rig.reload();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let found = ways(&proxy, &rig).await;
    assert_eq!(at(&found), [("site.conf".to_owned(), Some(5)), ("site.conf".to_owned(), Some(5))]);
    assert_eq!(found[0].colors, [Color::Blue]);
    let examined = proxy.examine(&rig.app).await.unwrap();
    assert!(!examined.can_switch(), "{examined:?}");
    assert!(examined.findings.iter().any(|finding| finding.code == "second-way"), "{examined:?}");
    let line = format!("include {}/bluegreen/web-api.location;", rig.path("conf.d").display());
    let text = std::fs::read_to_string(rig.path("conf.d/site.conf")).unwrap();
    write(rig.path("conf.d/site.conf"), text.replace(&api(&rig), &line));
    rig.reload();
    proxy.check(&rig.app).await.unwrap();
    assert!(proxy.examine(&rig.app).await.unwrap().can_switch());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn rewrite_another_file_is_seen_and_an_unread_value_does_not_hinder() {
    let rig = Rig::start(|rig| {
        write(
            rig.path("conf.d/default.conf"),
            rig.server(&format!("proxy_pass http://{};", rig.slots.blue.endpoint)),
        );
        let port = rig.slots.blue.endpoint.port();
        let admin = format!(
            "server {{ listen 127.0.0.1:{}; server_name admin.example;\n\
             location / {{ proxy_pass http://localhost:{port}; }} }}\n",
            rig.port
        );
        write(rig.path("conf.d/web-admin.conf"), admin);
        let unread = format!("upstream nobody {{ server 127.0.0.1:{port}; }}\n");
        write(rig.path("conf.d/unread.conf"), unread);
    })
    .await;
    let proxy = rig.rewrite();
    let before = rig.files();
    assert_eq!(at(&ways(&proxy, &rig).await), [("web-admin.conf".to_owned(), Some(2))]);
    assert_eq!(rig.files(), before);
    std::fs::remove_file(rig.path("conf.d/web-admin.conf")).unwrap();
    rig.reload();
    proxy.check(&rig.app).await.unwrap();
    rig.go(&proxy, Color::Green).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn rewrite_what_names_the_same_place_in_the_file_goes_along() {
    let rig = Rig::start(|rig| {
        let (port, blue) = (rig.port, &rig.slots.blue.endpoint);
        let text = format!(
            "split_clients \"${{remote_addr}}AAA\" $canary {{ 50% {blue}; * {blue}; }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{blue}; proxy_redirect http://{blue}/ /; }}\n\
             location /canary {{ proxy_pass http://$canary; }} }}\n"
        );
        write(rig.path("conf.d/default.conf"), text);
    })
    .await;
    let proxy = rig.rewrite();
    proxy.check(&rig.app).await.unwrap();
    rig.go(&proxy, Color::Green).await;
    let text = std::fs::read_to_string(rig.path("conf.d/default.conf")).unwrap();
    assert!(!text.contains(&rig.slots.blue.endpoint.to_string()), "{text}");
    assert_eq!(rig.get("/canary").await.1, "green");
    // Another spelling of the place would stay behind.
    let port = rig.slots.green.endpoint.port();
    write(
        rig.path("conf.d/default.conf"),
        format!(
            "{text}upstream u {{ server localhost:{port}; }}\n\
        server {{ listen 127.0.0.1:{}; server_name b; location / {{ proxy_pass http://u; }} }}\n",
            rig.port
        ),
    );
    rig.reload();
    assert_eq!(at(&ways(&proxy, &rig).await), [("default.conf".to_owned(), Some(4))]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn patterns_of_glob_and_bytes_that_are_no_utf8_are_read_as_nginx_does() {
    let rig = Rig::start(|rig| {
        let main = std::fs::read_to_string(rig.path("nginx.conf")).unwrap();
        write(rig.path("nginx.conf"), main.replace("conf.d/*.conf", "conf.[d]/[!_]*.conf"));
        write(rig.path("conf.d/_off.conf"), "this is } no configuration");
        let server = rig.server(&format!("proxy_pass http://{};", rig.slots.blue.endpoint));
        let mut bytes = b"# caf\xe9 \xff\n".to_vec();
        bytes.extend(server.bytes());
        write(rig.path("conf.d/site.conf"), bytes);
    })
    .await;
    let proxy = rig.live(free_port());
    let before = rig.files();
    proxy.install(&rig.app).await.unwrap();
    proxy.check(&rig.app).await.unwrap();
    rig.go(&proxy, Color::Green).await;
    rig.go(&proxy, Color::Blue).await;
    assert!(rig.files()["site.conf"].starts_with(b"# caf\xe9 \xff\n"));
    proxy.remove(&rig.app).await.unwrap();
    assert_eq!(rig.files(), before);
}
