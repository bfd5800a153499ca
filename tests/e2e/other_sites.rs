//! What other people's lines in the same nginx do to a run, and what is said of it: another site's certificate that is
//! missing, and a maintenance page.

use std::process::Command;

use bluegreen_testkit::docker::{AppImage, free_port};
use bluegreen_testkit::load::{Config, Handle, Mode, Target};
use bluegreen_testkit::process::wait_until;

use crate::luck::{PATIENCE, write};
use crate::stage::{Kind, Stage, ran};
use crate::typed::next;

const SITE: &str = "site.conf";

fn certificate(stage: &Stage) -> std::path::PathBuf {
    let [key, cert] = ["key.pem", "cert.pem"].map(|name| stage.dir().join(name));
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=b", "-keyout"]);
    ran(openssl.arg(&key).arg("-out").arg(&cert)).expect(0);
    let server = format!(
        "server {{\n    listen {} ssl;\n    server_name b.example;\n    ssl_certificate {};\n    ssl_certificate_key {};\n}}\n",
        free_port(),
        cert.display(),
        key.display()
    );
    stage.nginx.write_conf("b.conf", &server).expect("a site");
    stage.nginx.reload().expect("a reload");
    cert
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_rollback_works_while_another_sites_certificate_is_missing() {
    let stage = Stage::live(Kind::HostLive);
    stage.deploy("v1");
    let cert = certificate(&stage);
    stage.deploy("v2");
    let gone = cert.with_extension("gone");
    std::fs::rename(&cert, &gone).expect("it is there");
    let at = format!("{}:4", stage.nginx.conf_dir().join("b.conf").display());
    let cert_text = cert.display().to_string();
    let names = [&*at, &cert_text, "is not there", "not of this application"];
    // nginx has loaded just what lies there: nothing but a reload would fail.
    stage.nginx.reload().expect_err("nginx can load that");
    stage.bluegreen(&["nginx", "check"]).expect(0).says(&names).says(&["weakens", "can switch live"]);
    let image = stage.image("v3", &AppImage::version("v3"));
    stage.bluegreen(&["doctor", "--image", &image]).expect(0).says(&names);

    // Somebody has edited that site since.
    let conf = stage.nginx.conf_dir().join("b.conf");
    let text = std::fs::read_to_string(&conf).expect("the site");
    write(&conf, &format!("{text}# a note\n"));
    let before = stage.world();
    stage.bluegreen(&["deploy", "--image", &image]).expect(10).says(&names).says(&["nothing touched"]);
    assert_eq!(stage.world(), before, "something was touched");
    stage.bluegreen(&["nginx", "check"]).expect(10).says(&names);
    stage.bluegreen(&["doctor", "--image", &image]).expect(10).says(&names);
    let status = stage.bluegreen(&["status"]).expect(50).says(&names);
    let status = status.says(&["a rollback works meanwhile"]);
    assert!(next(&status).ends_with("nginx -t"), "{}", status.err);

    let target = Target::parse(&stage.nginx.url()).expect("loopback");
    let load = Handle::spawn(Config::new(target).with(Mode::New, 2).with(Mode::Naive, 2).at_most(40.0));
    stage.bluegreen(&["rollback"]).expect(0);
    load.stop().assert_lossless();
    stage.serves("v1");

    // As it was advised.
    std::fs::rename(&gone, &cert).expect("it is there");
    stage.bluegreen(&["status"]).expect(0);
    stage.watched(&["v1", "v3"], || stage.bluegreen(&["deploy", "--image", &image]).expect(0));
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_maintenance_page_is_nginx_own_answer_and_no_fault_of_the_application() {
    let stage = Stage::with_v1(Kind::HostLive);
    let flag = stage.nginx.flag_dir().join("maintenance");
    let conf = stage.nginx.conf_dir().join(SITE);
    let text = std::fs::read_to_string(&conf).expect("the site");
    let page = format!("\n    if (-f {}) {{ return 503; }}\n    location / ", flag.display());
    write(&conf, &text.replacen("location / ", &page, 1));
    stage.nginx.reload().expect("a reload");
    stage.serves("v1");
    write(&flag, "");
    // A reload takes its time.
    assert!(wait_until(PATIENCE, || stage.version().is_none()), "there is no maintenance page");
    let line = std::fs::read_to_string(&conf).expect("the site");
    let line = line.lines().position(|line| line.contains("return 503")).expect("it is there") + 1;
    let at = format!("{}:{line}", conf.display());
    let says = ["answers 503: so says the proxy itself", &at, "maintenance page or limit"];
    let status = stage.bluegreen(&["status"]).expect(51).says(&says);
    assert!(!status.out.contains("was answered with 503"), "{}", status.out);
    let image = stage.image("v2", &AppImage::version("v2"));
    let ran = stage.bluegreen(&["deploy", "--image", &image]).expect(20);
    ran.says(&says).says(&["serving now: blue", "app:v1"]);
    std::fs::remove_file(&flag).expect("it is there");
    stage.serves("v1");
    stage.bluegreen(&["status"]).expect(0);
    stage.bluegreen(&["deploy", "--image", &image]).expect(0);
    stage.serves("v2");
}
