//! Taking a user's own line over and giving it back, under load where it matters.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use bluegreen_core::adapter::nginx::{Mode, Severity, UserLine};
use bluegreen_core::model::Color;
use bluegreen_core::port::{Proxy as _, ProxyError};

use crate::rig::{Load, Rig, free_port, write};

const SITE: &str = "conf.d/site.conf";

/// As hand-written: a comment in another encoding, DOS line ends, no line end at the end.
fn site(rig: &Rig, lines: &str) -> Vec<u8> {
    let mut text = b"# caf\xe9\r\n".to_vec();
    text.extend_from_slice(rig.server(lines).trim_end().as_bytes());
    text
}

async fn with(lines: impl FnOnce(&Rig) -> String) -> Rig {
    Rig::start(|rig| write(rig.path(SITE), site(rig, &lines(rig)))).await
}

fn codes(examination: &bluegreen_core::adapter::nginx::Examination) -> Vec<&'static str> {
    examination.findings.iter().map(|finding| finding.code).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn the_one_line_is_taken_over_and_given_back() {
    let rig = with(|rig| format!("proxy_pass http://{}/;", rig.slots.green.endpoint)).await;
    fs::set_permissions(rig.path(SITE), fs::Permissions::from_mode(0o640)).unwrap();
    let proxy = rig.live(free_port());
    let before = rig.files();
    let found = proxy.examine(&rig.app).await.unwrap();
    assert_eq!((found.can_switch(), codes(&found)), (false, vec!["files", "line"]), "{found:?}");
    let planned = proxy.installation(&rig.app).await.unwrap();
    let UserLine::Known(lines) = &planned.user_line else { panic!("{planned:?}") };
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((line.path.as_str(), line.line), (rig.path(SITE).to_str().unwrap(), 5));
    assert_eq!(rig.files(), before, "nothing was touched");
    // Fresh connections lose nothing by the one reload, and nobody meets a 503 or the other colour.
    let load = Load::start(rig.port, &[("GET", false, 3), ("POST", false, 2)]);
    assert_eq!(proxy.install(&rig.app).await.unwrap().len(), 8);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (asked, failures) = load.end().await;
    assert!(asked > 20 && failures.is_empty(), "{asked} asked, {failures:?}");
    let active = proxy.active(&rig.app).await.unwrap();
    assert_eq!((active.color, active.consistent), (Some(Color::Green), true), "{}", active.evidence);
    assert_eq!(rig.color().await, "green");
    let text = fs::read(rig.path(SITE)).unwrap();
    let ours = format!("include {}/bluegreen/web-api", rig.path("conf.d").display());
    let mut expected = String::from_utf8_lossy(&site(&rig, &format!("{ours}.line-1;"))).into_owned();
    expected = expected.replacen("  listen", &format!("  {ours}.color;\n  listen"), 1);
    assert_eq!(String::from_utf8_lossy(&text), expected, "every other byte stays");
    assert_eq!(fs::metadata(rig.path(SITE)).unwrap().mode() & 0o777, 0o640);
    let found = proxy.examine(&rig.app).await.unwrap();
    assert_eq!((found.can_switch(), found.findings.len()), (true, 0), "{found:?}");
    assert_eq!(proxy.install(&rig.app).await.unwrap(), []);
    rig.go(&proxy, Color::Blue).await;
    let preview = proxy.preview_removal(&rig.app).await.unwrap();
    assert_eq!(preview.len(), 8);
    assert_eq!(proxy.remove(&rig.app).await.unwrap(), preview);
    assert_eq!(rig.files().into_keys().collect::<Vec<_>>(), ["site.conf"]);
    let plain = format!("proxy_pass http://{}/;", rig.slots.blue.endpoint);
    assert_eq!(fs::read(rig.path(SITE)).unwrap(), site(&rig, &plain));
    assert_eq!(rig.color().await, "blue");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn whatever_fails_is_put_back_byte_for_byte() {
    let rig = with(|rig| format!("proxy_pass http://{};", rig.slots.green.endpoint)).await;
    let before = rig.files();
    // nginx's test does not notice that the port is taken; its master does, and goes on as before.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let control_port = taken.local_addr().unwrap().port();
    let mut site = rig.site(Mode::Live { dir: rig.path("conf.d"), control_port });
    site.reload_timeout = Duration::from_secs(1);
    site.request_timeout = Duration::from_millis(200);
    let error = rig.proxy_of(site).install(&rig.app).await.unwrap_err();
    assert!(matches!(error, ProxyError::Refused { .. }), "{error}");
    assert_eq!(rig.files(), before);
    // All is loaded, and what a client would ask does not answer: the proof fails, and the line goes back.
    let mut site = rig.site(Mode::Live { dir: rig.path("conf.d"), control_port: free_port() });
    site.public = Some(format!("http://127.0.0.1:{}/", free_port()).parse().unwrap());
    let error = rig.proxy_of(site).install(&rig.app).await.unwrap_err();
    assert!(matches!(error, ProxyError::NotProven { .. }), "{error}");
    assert_eq!(rig.files(), before);
    assert_eq!(rig.color().await, "green");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn where_it_cannot_be_sure_the_line_is_a_persons() {
    let rig = with(|rig| format!("proxy_pass http://{};", rig.slots.blue.endpoint)).await;
    let mut rig = rig;
    // Only one colour runs: it is the one to serve when the person has changed the line.
    rig.slots.blue.endpoint = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let proxy = rig.live(free_port());
    let text = fs::read(rig.path(SITE)).unwrap();
    assert_eq!(proxy.install(&rig.app).await.unwrap().len(), 5);
    assert_eq!(fs::read(rig.path(SITE)).unwrap(), text);
    let planned = proxy.installation(&rig.app).await.unwrap();
    let UserLine::ByHand { reason, candidates } = &planned.user_line else { panic!("{planned:?}") };
    assert!(
        reason.contains("no proxy_pass leads to") && candidates.len() == 1 && candidates[0].line == 5,
        "{planned:?}"
    );
    let found = proxy.examine(&rig.app).await.unwrap();
    assert_eq!(codes(&found), ["line"], "{found:?}");
    write(rig.path(SITE), site(&rig, &planned.include_line));
    rig.reload();
    for _ in 0..20 {
        assert_eq!(rig.get("/").await.0, 200, "no 503 on the way");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rig.color().await, "green");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn until_the_first_release_requests_go_where_they_went_by_name() {
    // A container's name that nginx resolves, at an address that no container has: the runtime knows none.
    let rig = with(|_| "return 204;".to_owned()).await;
    let mut rig = rig;
    let port = rig.slots.green.endpoint.port();
    rig.slots.green.port = port;
    rig.slots.green.name = bluegreen_core::model::InstanceName::new("localhost").unwrap();
    write(rig.path(SITE), site(&rig, &format!("proxy_pass http://localhost:{port};")));
    // The name is that of loopback, which the endpoint is as well: sure.
    let proxy = rig.live(free_port());
    assert!(matches!(proxy.installation(&rig.app).await.unwrap().user_line, UserLine::Known(_)));
    // The same name, with the place of the live switch elsewhere, where nobody answers.
    rig.slots.green.endpoint = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    rig.slots.blue.endpoint = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let proxy = rig.live(free_port());
    proxy.install(&rig.app).await.unwrap();
    let active = proxy.active(&rig.app).await.unwrap();
    assert_eq!((active.color, rig.color().await.as_str()), (None, "green"), "{}", active.evidence);
    assert!(active.evidence.contains(&format!("127.0.0.1:{port}, as before")), "{}", active.evidence);
    proxy.remove(&rig.app).await.unwrap();
    assert_eq!(
        fs::read(rig.path(SITE)).unwrap(),
        site(&rig, &format!("proxy_pass http://localhost:{port};"))
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn what_hinders_or_weakens_a_switch_is_found_with_its_place() {
    let rig =
        with(|rig| format!("open_file_cache max=10;\nproxy_pass http://{};", rig.slots.green.endpoint)).await;
    let endpoint = rig.slots.blue.endpoint.clone();
    write(
        rig.path("conf.d/left.conf"),
        format!("upstream left {{\n server {endpoint};\n keepalive 8;\n}}\n"),
    );
    let before = rig.files();
    let found = rig.live(free_port()).examine(&rig.app).await.unwrap();
    let at = |code: &str| {
        let finding = found.findings.iter().find(|finding| finding.code == code);
        let finding = finding.unwrap_or_else(|| panic!("no {code} in {found:?}"));
        (finding.severity, finding.place.clone().unwrap_or_default())
    };
    let place = |file: &str, line: usize| format!("{}:{line}", rig.path(file).display());
    assert_eq!(at("line"), (Severity::Blocks, place(SITE, 6)));
    assert_eq!(at("upstream-keepalive"), (Severity::Weakens, place("conf.d/left.conf", 1)));
    assert_eq!(at("files").0, Severity::Blocks);
    // Elsewhere than where nginx looks, and by a name.
    fs::create_dir(rig.path("other")).unwrap();
    let elsewhere = Mode::Live { dir: rig.path("other"), control_port: free_port() };
    let found = rig.proxy_of(rig.site(elsewhere)).examine(&rig.app).await.unwrap();
    assert!(codes(&found).contains(&"directory"), "{found:?}");
    let missing = Mode::live(rig.path("nowhere"));
    let found = rig.proxy_of(rig.site(missing)).examine(&rig.app).await.unwrap();
    assert_eq!((codes(&found), found.can_switch()), (vec!["place"], false));
    let mut named = rig.site(Mode::Live { dir: rig.path("conf.d"), control_port: free_port() });
    named.slots.green.endpoint = "web-green:3000".parse().unwrap();
    let found = rig.proxy_of(named).examine(&rig.app).await.unwrap();
    assert_eq!(codes(&found), ["name-resolution"]);
    // This nginx cannot wait for its clients at a reload: rewrite mode says what that costs.
    let rewrite = rig.proxy_of(rig.site(Mode::rewrite(rig.path(SITE))));
    let loss = rewrite.expected_loss(&rig.app).await.unwrap().unwrap();
    assert!(["reload-loss", "keepalive-min-timeout"].contains(&loss.code), "{loss:?}");
    assert!(rewrite.examine(&rig.app).await.unwrap().findings.contains(&loss));
    assert_eq!(rig.files(), before, "it is read-only");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_listener_that_only_speaks_tls_limits_the_proof() {
    let rig = with(|rig| format!("proxy_pass http://{};", rig.slots.green.endpoint)).await;
    let proxy = rig.live(free_port());
    proxy.install(&rig.app).await.unwrap();
    // `return` instead of a certificate: what counts is that no plain listener leads to the application.
    let include = proxy.installation(&rig.app).await.unwrap().include_line;
    let port = free_port();
    let tls = format!(
        "server {{ listen 127.0.0.1:{port}; return 204; }}\n\
         server {{ listen 127.0.0.1:{port} proxy_protocol; location / {{ {include} }} }}\n"
    );
    write(rig.path(SITE), tls.replace(&format!("{port};"), &format!("{};", rig.port)));
    let found = proxy.examine(&rig.app).await.unwrap();
    assert_eq!((codes(&found), found.can_switch()), (vec!["tls-only", "earlier-form"], true), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn from_the_line_of_a_person_to_the_last_release_and_back_nobody_is_lost() {
    // The application runs somewhere else than where releases will be: the green one's stand-in, on a port of its own.
    let rig = with(|_| "return 204;".to_owned()).await;
    let mut rig = rig;
    let elsewhere = rig.slots.green.endpoint.clone();
    let other = Rig::start(|rig| write(rig.path(SITE), site(rig, "return 204;"))).await;
    rig.slots = other.slots.clone();
    write(rig.path(SITE), site(&rig, &format!("proxy_pass http://{elsewhere};")));
    rig.reload();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = rig.files();
    let mut settings = rig.site(Mode::Live { dir: rig.path("conf.d"), control_port: free_port() });
    let unsure = rig.proxy_of(settings.clone()).installation(&rig.app).await.unwrap();
    assert!(matches!(unsure.user_line, UserLine::ByHand { .. }), "{unsure:?}");
    settings.lines = vec![format!("{}:5", rig.path(SITE).display()).parse().unwrap()];
    let proxy = rig.proxy_of(settings);
    let load = Load::start(rig.port, &[("GET", false, 3), ("POST", false, 2)]);
    proxy.install(&rig.app).await.unwrap();
    let active = proxy.active(&rig.app).await.unwrap();
    assert_eq!((active.color, rig.color().await.as_str()), (None, "green"), "{}", active.evidence);
    proxy.check(&rig.app).await.unwrap();
    rig.go(&proxy, Color::Blue).await;
    assert_eq!(rig.color().await, "blue", "the first deploy");
    proxy.switch(&rig.app, None).await.unwrap();
    assert_eq!(rig.color().await, "green", "taken back to what was there");
    for to in [Color::Blue, Color::Green, Color::Blue] {
        rig.go(&proxy, to).await;
    }
    proxy.remove(&rig.app).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (asked, failures) = load.end().await;
    eprintln!("{asked} requests from install to removal, {} failed", failures.len());
    assert!(asked > 100 && failures.is_empty(), "{asked} asked, {failures:?}");
    assert_eq!(
        fs::read(rig.path(SITE)).unwrap(),
        site(&rig, &format!("proxy_pass http://{};", rig.slots.blue.endpoint))
    );
    // And back at once: nothing was ever released.
    write(rig.path(SITE), &before["site.conf"]);
    rig.reload();
    proxy.install(&rig.app).await.unwrap();
    proxy.remove(&rig.app).await.unwrap();
    assert_eq!(rig.files(), before);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn what_a_preview_accepts_an_install_carries_out() {
    // All that lies in the directory is included: our folder would be, too.
    let rig = with(|rig| format!("proxy_pass http://{};", rig.slots.green.endpoint)).await;
    let main = fs::read_to_string(rig.path("nginx.conf")).unwrap();
    write(rig.path("nginx.conf"), main.replace("conf.d/*.conf", "conf.d/*"));
    rig.reload();
    let before = rig.files();
    let proxy = rig.live(free_port());
    let planned = proxy.installation(&rig.app).await.unwrap_err();
    let done = proxy.install(&rig.app).await.unwrap_err();
    assert_eq!(planned.to_string(), done.to_string());
    assert!(matches!(planned, ProxyError::Unrecognized { .. }), "{planned:?}");
    assert_eq!(rig.files(), before);
    // What only nginx itself can tell: an upstream of this name is there already. Its words name the real file.
    write(rig.path("nginx.conf"), &main);
    write(rig.path("conf.d/x.conf"), "# ours?\nupstream bluegreen_web_api { server 127.0.0.1:1; }\n");
    let before = rig.files();
    let planned = proxy.installation(&rig.app).await.unwrap_err();
    let ProxyError::Refused { reason } = &planned else { panic!("{planned:?}") };
    assert!(reason.contains(&format!("{}:2", rig.path("conf.d/x.conf").display())), "{reason}");
    assert_eq!(proxy.install(&rig.app).await.unwrap_err().to_string(), planned.to_string());
    assert_eq!(rig.files(), before);
    assert_eq!(rig.color().await, "green");
}
