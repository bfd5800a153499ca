//! `nginx install | check | remove` on an application that runs: nobody may notice.

use std::time::Duration;

use bluegreen_testkit::docker::{AppImage, docker};
use bluegreen_testkit::load::{Config, Handle, Mode, Target};

use bluegreen_testkit::process;

use crate::stage::{Kind, Stage};

fn taken_over_and_given_back(kind: Kind) {
    let stage = Stage::live(kind);
    stage.deploy("v1");
    let site = stage.nginx.conf_dir().join("site.conf");
    let text = || std::fs::read_to_string(&site).expect("the site");
    let included = text();
    stage.bluegreen(&["nginx", "check"]).expect(0).says(&["can switch live"]);
    stage.bluegreen(&["nginx", "remove", "--dry-run"]).expect(0).says(&[
        "+",
        "proxy_pass",
        "nothing was touched",
    ]);
    assert_eq!(text(), included);

    // On new connections: a reload closes the others, which is why the switch itself makes none.
    let target = Target::parse(&stage.nginx.url()).expect("loopback");
    let config = Config::new(target).with(Mode::New, 4).at_most(40.0).lasting(Duration::from_secs(120));
    let load = Handle::spawn(config);
    assert!(load.wait_until(Duration::from_secs(10), |report| report.total.requests > 20), "no load");
    stage.bluegreen(&["nginx", "remove"]).expect(0).says(&["removed"]);
    stage.serves("v1");
    assert!(text().contains("proxy_pass http://") && !text().contains("include"), "{}", text());
    assert!(!stage.nginx.conf_dir().join("bluegreen.conf").exists());
    let plain = text();

    let ran = stage.bluegreen(&["--output", "json", "nginx", "check"]).expect(10);
    let line = format!("{}:1", site.display());
    ran.says(&[
        "\"ready\":false",
        "\"code\":\"line\"",
        "\"code\":\"files\"",
        &line,
        "bluegreen nginx install",
    ]);
    stage.bluegreen(&["deploy", "--image", "unused:1"]).expect(10);
    stage.bluegreen(&["nginx", "install", "--dry-run"]).expect(0).says(&["-server", "dry run"]);
    assert_eq!(text(), plain);
    stage.bluegreen(&["nginx", "install"]).expect(0).says(&["included by your server", "installed"]);
    assert!(text().contains(".line-1;") && !text().contains("proxy_pass"), "{}", text());
    stage.bluegreen(&["nginx", "install"]).expect(0).says(&["nothing to do"]);
    stage.bluegreen(&["nginx", "check"]).expect(0);
    stage.serves("v1");
    stage.deploy("v2");
    stage.serves("v2");
    let report = load.stop();
    report.assert_lossless();
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_nginx_on_the_host_is_taken_over_and_given_back() {
    taken_over_and_given_back(Kind::HostLive);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_nginx_in_a_container_is_taken_over_and_given_back() {
    taken_over_and_given_back(Kind::ContainerLive);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn nginx_is_left_alone_while_a_deploy_is_at_work() {
    let stage = Stage::live(Kind::HostLive);
    stage.deploy("v1");
    let slow = stage.image("v2", &AppImage::version("v2").env("START_DELAY_MS", "5000"));
    let mut deploy = stage.command(&["deploy", "--image", &slow]).spawn().expect("the command");
    assert!(process::wait_until(Duration::from_secs(10), || stage.running().len() == 2), "no candidate");
    stage.bluegreen(&["nginx", "remove"]).expect(10).says(&["deploy"]);
    stage.bluegreen(&["nginx", "check"]).expect(0);
    assert!(deploy.wait().expect("the command").success());
    stage.serves("v2");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn what_a_preview_says_of_an_nginx_in_a_container_is_tried_on_a_copy_that_goes_again() {
    let stage = Stage::live(Kind::ContainerLive);
    stage.deploy("v1");
    stage.bluegreen(&["nginx", "remove"]).expect(0);
    let files = || {
        let nginx = stage.run.name("nginx");
        docker([
            "exec",
            &nginx,
            "sh",
            "-c",
            "ls -la --time-style=+ /tmp /etc/nginx /etc/nginx/conf.d; cat /etc/nginx/conf.d/*.conf",
        ])
        .expect("it runs")
    };
    // Only nginx itself can tell that this name is taken.
    let name = format!("bluegreen_{}", stage.app.replace('-', "_"));
    let taken = format!("# ours?\nupstream {name} {{ server 127.0.0.1:1; }}\n");
    stage.nginx.write_conf("x.conf", &taken).expect("a file");
    let before = files();
    for arguments in [&["nginx", "install", "--dry-run"][..], &["nginx", "install"]] {
        let ran = stage.bluegreen(arguments).expect(20);
        ran.says(&["duplicate upstream", "conf.d/x.conf:2"]);
        assert_eq!(files(), before, "{arguments:?}");
    }
    std::fs::remove_file(stage.nginx.conf_dir().join("x.conf")).expect("it is there");
    let before = files();
    stage.bluegreen(&["nginx", "install", "--dry-run"]).expect(0);
    assert_eq!(files(), before);
    stage.bluegreen(&["nginx", "install"]).expect(0);
    assert!(!files().contains("bluegreen-test-"), "{}", files());
    stage.serves("v1");
}
