//! Clients that somebody else's limits count, and checks that take their time.

use std::time::{Duration, Instant};

use bluegreen_testkit::docker::{AppImage, docker};
use bluegreen_testkit::load::{Config, Handle, Mode, Target};

use crate::stage::{Kind, Stage};

/// Clients at a pace that an ordinary limit lets through.
fn ordinary_clients(stage: &Stage) -> Handle {
    let target = Target::parse(&stage.nginx.url()).expect("loopback");
    let load =
        Handle::spawn(Config::new(target).with(Mode::New, 1).at_most(6.0).lasting(Duration::from_secs(300)));
    assert!(load.wait_until(Duration::from_secs(10), |report| report.total.requests > 5), "no load");
    load
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_receipt_takes_nobodys_place_where_nginx_limits_requests() {
    let stage = Stage::live_with(Kind::HostLive, "[app.WEB.health]\nhttp = \"/health\"");
    let include = stage.nginx.conf_dir().join(format!("bluegreen/{}.location", stage.app));
    // nginx's own example: ten requests a second for a server, and a small burst.
    let server = format!(
        "limit_req_zone $server_port zone=all:1m rate=10r/s;\n\
         server {{ listen @PORT@; limit_req zone=all burst=3 nodelay; location / {{ include {}; }} }}\n",
        include.display()
    );
    stage.nginx.write_conf("site.conf", &server).expect("the site");
    stage.nginx.reload().expect("a reload");
    stage.deploy("v1");
    let load = ordinary_clients(&stage);
    let slow = stage.image("v2", &AppImage::version("v2").env("START_DELAY_MS", "6000"));
    let ran = stage.bluegreen(&["deploy", "--image", &slow]).expect(0);
    let report = load.stop();
    report.assert_lossless();
    assert!(report.total.requests > 30, "{report}");
    ran.says(&["one request every 2.0 s only", "600 a minute", "0 failed"]);
    // This can fail: what the receipt would send without a limit turns these clients away.
    let load = ordinary_clients(&stage);
    let crowd = Handle::spawn(
        Config::new(Target::parse(&stage.nginx.url()).expect("loopback"))
            .with(Mode::New, 2)
            .at_most(50.0)
            .lasting(Duration::from_secs(3)),
    );
    std::thread::sleep(Duration::from_secs(3));
    crowd.stop();
    assert!(load.stop().total.failed > 0, "nobody is turned away by 50 requests a second");
}

/// A limit that is not nginx's shows only in the answers.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_receipt_asks_ever_less_of_what_turns_it_away() {
    let extra = "[app.WEB.receipt]\npath = \"/full\"\n[app.WEB.health]\nhttp = \"/health\"";
    let stage = Stage::live_with(Kind::HostLive, extra);
    let include = stage.nginx.conf_dir().join(format!("bluegreen/{}.location", stage.app));
    let server = format!(
        "server {{ listen @PORT@; location = /full {{ return 429; }} location / {{ include {}; }} }}\n",
        include.display()
    );
    stage.nginx.write_conf("site.conf", &server).expect("the site");
    stage.nginx.reload().expect("a reload");
    stage.deploy("v1");
    let slow = stage.image("v2", &AppImage::version("v2").env("START_DELAY_MS", "6000"));
    let ran = stage.bluegreen(&["deploy", "--image", &slow]).expect(0);
    let line = ran.out.lines().find(|line| line.starts_with("clients saw: ")).expect("a receipt");
    let asked: u32 = line["clients saw: ".len()..].split(' ').next().expect("a number").parse().expect(line);
    assert!((1..=12).contains(&asked), "{line}");
    ran.says(&["as clients were turned away (429, 503)"]);
}

/// Docker asks such a container for the first time when the default deadline of others is over.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_healthcheck_of_dockers_defaults_has_its_time_or_is_refused_with_both_figures() {
    let stage = Stage::live_with(Kind::HostLive, "[app.WEB.health]\nimage = true");
    let image = stage.image("v1", &AppImage::version("v1").plain_healthcheck());
    let began = Instant::now();
    stage.bluegreen(&["deploy", "--image", &image]).expect(0);
    assert!(began.elapsed() > Duration::from_secs(25), "it was not Docker that was waited for");
    stage.serves("v1");
    stage.configure("[app.WEB.health]\nimage = true\ndeadline = \"10s\"");
    let image = stage.image("v2", &AppImage::version("v2").plain_healthcheck());
    let began = Instant::now();
    let ran = stage.bluegreen(&["deploy", "--image", &image]).expect(20);
    ran.says(&["10 s", "30 s"]).says_what_to_do();
    assert!(began.elapsed() < Duration::from_secs(9), "what cannot come was waited for");
    stage.serves("v1");
}

/// A live switch asks nginx for nothing: what hinders a reload does not hinder the way back.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_rollback_works_while_another_sites_certificate_is_missing() {
    let stage = Stage::live(Kind::HostLive);
    let file = |name: &str| stage.dir().join(name).display().to_string();
    let (key, certificate) = (file("key.pem"), file("cert.pem"));
    let mut openssl = vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    openssl.extend(["-nodes", "-subj", "/CN=other", "-keyout", &key, "-out", &certificate]);
    bluegreen_testkit::process::output("openssl", openssl).expect("a certificate");
    let port = bluegreen_testkit::docker::free_port();
    let other = format!(
        "server {{ listen {port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; return 204; }}\n"
    );
    stage.nginx.write_conf("other.conf", &other).expect("another site");
    stage.nginx.reload().expect("a reload");
    // Workers of the earlier configuration are no measure of what is loaded.
    std::thread::sleep(Duration::from_secs(1));
    stage.deploy("v1");
    stage.deploy("v2");
    std::fs::remove_file(&certificate).expect("it is there");
    assert!(stage.nginx.reload().is_err(), "nginx does without it: this test tests nothing");
    stage.bluegreen(&["rollback"]).expect(0);
    stage.serves("v1");
    assert_eq!(stage.running(), [stage.place("blue")]);
}

/// Docker's own client would ask another Engine.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_docker_context_counts_and_one_that_is_not_there_is_named() {
    let stage = Stage::with_v1(Kind::HostLive);
    let v2 = stage.image("v2", &AppImage::version("v2"));
    let config = stage.dir().join("docker").display().to_string();
    let with = |context: &str, arguments: &[&str]| {
        let mut command = stage.command(arguments);
        crate::stage::ran(command.env("DOCKER_CONFIG", &config).env("DOCKER_CONTEXT", context))
    };
    let world = stage.world();
    let none = with("elsewhere", &["deploy", "--image", &v2]).expect(10);
    none.says(&["Docker's context elsewhere", "there is no such context"]);
    let create = |name: &str, socket: &str| {
        let host = format!("host={socket}");
        docker(["--config", &config, "context", "create", name, "--docker", &host]).expect("a context");
    };
    create("away", "unix:///nowhere/docker.sock");
    with("away", &["deploy", "--image", &v2]).expect(10).says(&["/nowhere/docker.sock"]);
    assert_eq!(stage.world(), world);
    create("here", "unix:///var/run/docker.sock");
    with("here", &["deploy", "--image", &v2]).expect(0);
    stage.serves("v2");
}
