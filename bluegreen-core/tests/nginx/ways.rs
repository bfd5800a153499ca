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
    // For a moment an earlier worker still takes connections.
    let mut canary = String::new();
    for _ in 0..100 {
        canary = rig.get("/canary").await.1;
        if canary == "green" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(canary, "green");
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

/// Whatever the module that sends requests there is called, and wherever the address stands.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn each_directive_that_leads_there_is_listed_in_both_modes() {
    let rig = Rig::start(|rig| {
        let (port, blue) = (rig.port, &rig.slots.blue.endpoint);
        write(rig.path("conf.d/default.conf"), rig.server(&format!("proxy_pass http://{blue};")));
        write(
            rig.path("conf.d/other.conf"),
            format!(
                "map $host $pool {{ default {blue}; }}\n\
                 upstream spare {{ server {blue}; }}\n\
                 server {{ listen 127.0.0.1:{port}; server_name b;\n\
                 location /grpc {{ grpc_pass grpc://{blue}; }}\n\
                 location /uwsgi {{ uwsgi_pass {blue}; }}\n\
                 location /scgi {{ scgi_pass {blue}; }}\n\
                 location /fastcgi {{ fastcgi_pass {blue}; }}\n\
                 location /map {{ proxy_pass http://$pool; }}\n\
                 location /spare {{ proxy_pass http://spare; }}\n\
                 location /socket.io {{ proxy_pass http://localhost:{}; }}\n}}\n",
                blue.port()
            ),
        );
    })
    .await;
    let listed = |found: &[Way]| {
        assert!(found.iter().all(|way| way.colors == [Color::Blue] && way.at.path.ends_with("other.conf")));
        found.iter().filter_map(|way| way.at.line).collect::<Vec<_>>()
    };
    // What names the address; in live mode also what gets it from there.
    assert_eq!(listed(&ways(&rig.rewrite(), &rig).await), [1, 2, 4, 5, 6, 7, 10]);
    let before = rig.files();
    match rig.live(free_port()).install(&rig.app).await {
        Err(ProxyError::SecondWay { ways }) => {
            let lines = listed(&ways);
            for line in [1, 4, 5, 6, 7] {
                assert!(lines.contains(&line), "line {line}: {ways:?}");
            }
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.files(), before);
}

/// nginx reads it, and we do not: what is looked for there is not said to be missing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_file_that_cannot_be_read_is_named_and_not_taken_for_an_empty_one() {
    let rig = Rig::start(|rig| {
        let server = rig.server(&format!("proxy_pass http://{};", rig.slots.blue.endpoint));
        // Longer than what is read of one file.
        let text = format!("{server}{}", "# a long list\n".repeat(400_000));
        write(rig.path("conf.d/default.conf"), text);
    })
    .await;
    assert_eq!(rig.color().await, "blue");
    let before = rig.files();
    let proxy = rig.live(free_port());
    let named = |result: Result<(), ProxyError>| match result {
        Err(ProxyError::Unreadable { at, reason }) => {
            assert!(at.path.ends_with("conf.d/default.conf") && reason.contains("bytes"), "{at} {reason}");
        }
        other => panic!("{other:?}"),
    };
    named(proxy.installation(&rig.app).await.map(drop));
    named(proxy.install(&rig.app).await.map(drop));
    assert_eq!((rig.color().await.as_str(), rig.files()), ("blue", before));
}

/// Braces, quotes and semicolons of Lua are no syntax of nginx's.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and its Lua module: ./scripts/test"]
async fn lua_in_the_configuration_is_passed_over() {
    let lua = "access_by_lua_block {\n\
        if ngx.var.http_authorization == \"nobody\" then\n\
        ngx.status = 401 -- it's a comment with a }\n\
        ngx.say('{\"error\":\"' .. \"x\" .. '\"}') ngx.say([==[ } ]] ]==])\n\
        ngx.exit(401)\nend\n}\n";
    let rig = Rig::start(|rig| {
        rig.load_lua();
        let text = rig.server(&format!("{lua} proxy_pass http://{};", rig.slots.blue.endpoint));
        write(rig.path("conf.d/default.conf"), text);
    })
    .await;
    let before = rig.files();
    let rewrite = rig.rewrite();
    rewrite.check(&rig.app).await.unwrap();
    rig.go(&rewrite, Color::Green).await;
    rig.go(&rewrite, Color::Blue).await;
    assert_eq!(rig.files(), before);
    let live = rig.live(free_port());
    live.install(&rig.app).await.unwrap();
    live.check(&rig.app).await.unwrap();
    rig.go(&live, Color::Green).await;
    assert_eq!(rig.color().await, "green");
    rig.go(&live, Color::Blue).await;
    live.remove(&rig.app).await.unwrap();
    assert_eq!(rig.files(), before);
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
