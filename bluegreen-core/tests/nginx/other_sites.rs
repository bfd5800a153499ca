//! What other sites and other lines of the same nginx do to a switch: a certificate that is missing, a maintenance page,
//! a limit.

use std::fs;
use std::time::Duration;

use bluegreen_core::adapter::nginx::{Nginx, Severity};
use bluegreen_core::model::Color;
use bluegreen_core::port::{Location, MissingFile, Proxy as _, ProxyError};

use crate::rig::{Rig, certificate, free_port, write};

const OTHER: &str = "conf.d/other.conf";

/// A site that is installed, and another one with a certificate; nginx runs with just what lies there.
async fn with_another() -> (Rig, Nginx) {
    let rig = Rig::start(|rig| {
        certificate(rig);
        write(
            rig.path("conf.d/site.conf"),
            rig.server(&format!("proxy_pass http://{};", rig.slots.blue.endpoint)),
        );
        let other = format!(
            "server {{\n  listen 127.0.0.1:{} ssl;\n  ssl_certificate ../cert.pem;\n  ssl_certificate_key {};\n}}\n",
            free_port(),
            rig.path("key.pem").display()
        );
        write(rig.path(OTHER), other.replace("../", &rig.path("").display().to_string()));
    })
    .await;
    let proxy = rig.live(free_port());
    proxy.install(&rig.app).await.unwrap();
    // Not in the same moment as a write: as far as the kernel's clock tells, the workers may be older.
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.reload();
    tokio::time::sleep(Duration::from_millis(300)).await;
    rig.go(&proxy, Color::Blue).await;
    (rig, proxy)
}

/// Switches there and back, and it is what clients get.
async fn switches(rig: &Rig, proxy: &Nginx) {
    for color in [Color::Green, Color::Blue] {
        rig.go(proxy, color).await;
        assert_eq!(rig.color().await, color.as_str());
    }
}

fn missing(rig: &Rig, file: &str, line: usize, ours: bool) -> MissingFile {
    let at = Location::new(rig.path(file).display().to_string(), Some(line));
    MissingFile::new(at, "ssl_certificate", rig.path("cert.pem").display().to_string(), ours)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_certificate_of_another_site_that_is_missing_hinders_no_switch_and_is_named() {
    let (rig, proxy) = with_another().await;
    proxy.check(&rig.app).await.unwrap();
    assert_eq!(proxy.examine(&rig.app).await.unwrap().findings, []);
    fs::rename(rig.path("cert.pem"), rig.path("gone.pem")).unwrap();

    // nginx runs with what lies there, and could not load it again.
    proxy.check(&rig.app).await.unwrap();
    let found = proxy.examine(&rig.app).await.unwrap();
    let [finding] = &found.findings[..] else { panic!("{found:?}") };
    assert_eq!((finding.severity, finding.code, found.can_switch()), (Severity::Weakens, "test", true));
    assert_eq!(finding.place.as_deref(), Some(&*format!("{}:3", rig.path(OTHER).display())));
    assert!(finding.found.contains("not of this application"), "{finding:?}");
    switches(&rig, &proxy).await;

    // Somebody has edited it since, so what lies there is not what runs.
    let text = fs::read_to_string(rig.path(OTHER)).unwrap();
    write(rig.path(OTHER), format!("{text}# a note\n"));
    let before = rig.files();
    let expected = missing(&rig, OTHER, 3, false);
    for (error, works) in [
        (proxy.check(&rig.app).await.unwrap_err(), true),
        (proxy.examine(&rig.app).await.unwrap_err(), true),
        (proxy.preview_removal(&rig.app).await.unwrap_err(), true),
        (proxy.remove(&rig.app).await.unwrap_err(), true),
        // It reloads, whatever it would write.
        (rig.live(free_port()).install(&rig.app).await.unwrap_err(), false),
        (rig.live(free_port()).installation(&rig.app).await.unwrap_err(), false),
    ] {
        let ProxyError::Broken { missing, switches, output } = &error else { panic!("{error:?}") };
        assert_eq!((&missing[..], *switches), (&[expected.clone()][..], works), "{error}");
        assert!(output.contains("[emerg]"), "{output}");
    }
    assert_eq!(rig.files(), before);
    switches(&rig, &proxy).await;

    // The application's own.
    write(rig.path(OTHER), "# nothing\n");
    let site = fs::read_to_string(rig.path("conf.d/site.conf")).unwrap();
    let own = site.replacen("location", &format!("ssl_certificate {};\nlocation", expected.path), 1);
    write(
        rig.path("conf.d/site.conf"),
        own.replacen("listen", &format!("listen {} ssl; listen", free_port()), 1),
    );
    let error = proxy.check(&rig.app).await.unwrap_err();
    let ProxyError::Broken { missing: found, .. } = &error else { panic!("{error:?}") };
    assert_eq!(found[..], [missing(&rig, "conf.d/site.conf", 4, true)]);

    // A switch that reloads needs it.
    let rewrite = rig.rewrite();
    write(
        rig.path("conf.d/default.conf"),
        rig.server(&format!("proxy_pass http://{};", rig.slots.blue.endpoint)),
    );
    let error = rewrite.check(&rig.app).await.unwrap_err();
    let ProxyError::Broken { missing: found, switches, .. } = &error else { panic!("{error:?}") };
    assert_eq!((found.len(), *switches), (1, false), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn what_nginx_answers_itself_is_not_said_of_the_application() {
    let (rig, proxy) = with_another().await;
    let site = fs::read_to_string(rig.path("conf.d/site.conf")).unwrap();
    let page = rig.path("maintenance");
    let page = page.display();
    let zone = "limit_req_zone $binary_remote_addr zone=all:1m rate=1r/m;\n";
    for (front, said, lines) in [
        (format!("if (-f {page}) {{\n return 503;\n}}"), 5, ""),
        (
            format!(
                "error_page 503 @page;\nif (-f {page}) {{ return 503; }}\nlocation @page {{ return 200 sorry; }}"
            ),
            5,
            "",
        ),
        ("limit_req zone=all;".to_owned(), 5, zone),
    ] {
        let text = site.replacen("  location", &format!("{front}\n  location"), 1);
        write(rig.path("conf.d/site.conf"), format!("{lines}{text}"));
        rig.reload();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let backend = rig.slots.blue.backend();
        proxy.verify(&rig.app, &backend).await.unwrap();
        write(rig.path("maintenance"), "");
        assert_eq!(rig.get("/").await.0, 503, "{front}");
        let error = proxy.verify(&rig.app, &backend).await.unwrap_err();
        let at = Location::new(rig.path("conf.d/site.conf").display().to_string(), Some(said));
        assert!(
            matches!(&error, ProxyError::AnswersItself { status: 503, at: Some(found), .. } if *found == at),
            "{front}: {error:?}"
        );
        fs::remove_file(rig.path("maintenance")).unwrap();
    }
}
