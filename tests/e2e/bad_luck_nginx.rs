//! An nginx that is not as it should be, before we come and while we are at work.

use std::process::Command;

use bluegreen_testkit::docker::{AppImage, docker};
use bluegreen_testkit::load::Mode;
use bluegreen_testkit::process;

use crate::luck::{PATIENCE, Running, write};
use crate::nginx_life::{start_host_nginx, stop_host_nginx};
use crate::stage::{Kind, Stage, program};

const START: &str = "to do: start nginx";

/// Refused, with nothing touched, where nginx itself is down: nobody can be served, and nobody is worse off.
fn refused_while_nginx_is_down(stage: &Stage, says: &[&str]) {
    let image = stage.image("v2", &AppImage::version("v2"));
    let before = stage.world();
    let ran = stage.bluegreen(&["deploy", "--image", &image]);
    ran.expect(10).says(says).says(&["nothing touched", START]);
    assert_eq!(stage.world(), before, "something was touched");
    assert_eq!(stage.version(), None, "then this test tests nothing");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_nginx_of_the_host_that_does_not_run_is_refused_and_nothing_is_touched() {
    let stage = Stage::with_v1(Kind::HostLive);
    stop_host_nginx(&stage, "QUIT");
    refused_while_nginx_is_down(&stage, &["the proxy is not running", "nginx.pid"]);
    start_host_nginx(&stage);
    stage.serves("v1");
    stage.watched(&["v1", "v2"], || stage.deploy("v2"));
    stop_host_nginx(&stage, "QUIT");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_nginx_in_a_container_that_does_not_run_is_refused_and_nothing_is_touched() {
    let stage = Stage::with_v1(Kind::ContainerLive);
    let name = stage.run.name("nginx");
    docker(["stop", "--time", "5", &name]).expect("docker");
    refused_while_nginx_is_down(&stage, &["the proxy is not running", &name]);
    docker(["rm", "--force", &name]).expect("docker");
    refused_while_nginx_is_down(&stage, &["the proxy is not running", &name]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_configuration_that_was_broken_before_we_came_is_refused_with_nginx_own_words() {
    for kind in [Kind::HostLive, Kind::ContainerLive] {
        let stage = Stage::with_v1(kind);
        let image = stage.image("v2", &AppImage::version("v2"));
        stage.nginx.write_conf("broken.conf", "server {\n    listne 1;\n}\n").expect("a file");
        let says = [
            "the proxy's configuration does not pass its own test",
            "unknown directive \"listne\"",
            "broken.conf:2",
            "to do: fix nginx's own configuration",
        ];
        stage.refuses(&mut stage.command(&["deploy", "--image", &image]), &says);
        // And it is not reloaded by us: what nginx runs with is not what lies there.
        std::fs::remove_file(stage.nginx.conf_dir().join("broken.conf")).expect("it is there");
        stage.watched(&["v1", "v2"], || stage.bluegreen(&["deploy", "--image", &image]).expect(0));
        stage.serves("v2");
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn files_of_ours_that_were_edited_by_hand_are_refused_with_what_would_change() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image("v2", &AppImage::version("v2"));
    let location = stage.nginx.conf_dir().join(format!("bluegreen/{}.location", stage.app));
    let sound = std::fs::read_to_string(&location).expect("our file");
    let deploy = || stage.command(&["deploy", "--image", &image]);
    for edited in [format!("{sound}# a note of mine\n"), sound.replacen("proxy_pass", "#proxy_pass", 1)] {
        assert_ne!(edited, sound);
        write(&location, &edited);
        let says =
            [&*format!("{}.location", stage.app), "is not installed as it should be", "bluegreen nginx"];
        stage.refuses(&mut deploy(), &says);
    }
    write(&location, &sound);
    stage.watched(&["v1", "v2"], || stage.bluegreen(&["deploy", "--image", &image]).expect(0));
    stage.serves("v2");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_server_without_our_line_is_refused_with_what_puts_it_there() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image("v2", &AppImage::version("v2"));
    let site = stage.nginx.conf_dir().join("site.conf");
    let sound = std::fs::read_to_string(&site).expect("the site");
    let [blue, _] = stage.host_ports();
    // Somebody went back to what was there before bluegreen.
    let server =
        format!("server {{ listen @PORT@; location / {{ proxy_pass http://127.0.0.1:{blue}; }} }}\n");
    stage.nginx.write_conf("site.conf", &server).expect("a file");
    reload(&stage);
    stage.refuses(&mut stage.command(&["deploy", "--image", &image]), &["bluegreen nginx install"]);
    // The advice is valid: with it, it works.
    stage.bluegreen(&["nginx", "install"]).expect(0);
    assert_ne!(sound, std::fs::read_to_string(&site).expect("the site"));
    stage.watched(&["v1", "v2"], || stage.bluegreen(&["deploy", "--image", &image]).expect(0));
    stage.serves("v2");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_flag_directory_that_cannot_be_written_to_takes_the_deploy_back() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image("v2", &AppImage::version("v2"));
    // Read-only for the command alone, and only as long as it runs.
    let flags = stage.nginx.conf_dir().join("bluegreen");
    let script = "set -e; mount --bind \"$1\" \"$1\"; mount -o remount,ro,bind \"$1\"; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(&flags)
        .arg(program())
        .args(["--state-dir", &stage.dir().join("state").display().to_string(), "deploy", "--image", &image])
        .current_dir(stage.dir());
    let before = stage.world();
    let ran = stage.watched(&["v1"], || crate::stage::ran(&mut command));
    ran.expect(20).says(&["switch failed", "Read-only file system", "serving now: blue", "app:v1", "next: "]);
    assert_eq!(stage.world(), before, "it was not taken back");
    stage.serves("v1");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_candidate_that_clients_cannot_reach_is_taken_back_before_the_commit_point() {
    for kind in [Kind::HostLive, Kind::ContainerLive] {
        let stage = Stage::with_v1(kind);
        // It says that it is ready, and listens where nobody asks.
        stage.configure("[app.WEB.health]\nlog = \"listening on localhost:3001\"");
        let image = stage.image_with("v2", &[("PORT", "3001")]);
        // What clients POST in this second is lost where Docker's port proxy takes it for the candidate and lets go
        // of it: nginx must not send such a request twice. All else goes to the previous one, the backup.
        let load = stage.light_load_of(&[Mode::New, Mode::Keepalive, Mode::Gaps, Mode::Naive]);
        let ran = stage.bluegreen(&["deploy", "--image", &image]);
        let report = load.stop();
        ran.expect(20).says(&[
            "verify failed",
            "the switch cannot be proven",
            "nginx asked",
            "serving now: blue",
        ]);
        report.assert_lossless();
        assert_eq!(report.versions.keys().collect::<Vec<_>>(), ["v1"], "{report}");
        stage.serves("v1");
        assert_eq!(stage.containers(&[]), [stage.place("blue")], "the candidate is left");
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_public_address_that_leads_elsewhere_takes_the_deploy_back() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image("v2", &AppImage::version("v2"));
    let path = stage.dir().join("bluegreen.toml");
    let sound = std::fs::read_to_string(&path).expect("a configuration");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("bound").port();
    drop(nobody);
    let wrong = sound.replace(&stage.nginx.url(), &format!("http://127.0.0.1:{port}/"));
    assert_ne!(wrong, sound);
    write(&path, &wrong);
    // Between the switch and its undoing clients may see the candidate: it is healthy.
    let ran = stage.watched(&["v1", "v2"], || stage.bluegreen(&["deploy", "--image", &image]));
    let asked = format!("http://127.0.0.1:{port}/");
    ran.expect(20).says(&[
        "verify failed",
        "cannot be proven",
        &asked,
        "serving now: blue",
        "app:v1",
        "next: ",
    ]);
    stage.serves("v1");
    assert_eq!(stage.containers(&[]), [stage.place("blue")], "the candidate is left");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_nginx_that_dies_in_the_middle_is_reported_as_it_is_and_the_next_deploy_settles_it() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image_with("v2", &[("START_DELAY_MS", "1500")]);
    let mut run = Running::deploy(&stage, &image, &[]);
    run.until("step-started", Some("gate"));
    stop_host_nginx(&stage, "KILL");
    let ran = run.end();
    // Nothing serves, and nothing but nginx is to blame: a person is needed.
    let ran = ran.expect(30).says(&["the proxy is not running", r#""next":["bluegreen","recover""#]);
    assert!(!run.saw("step-succeeded", "switch"), "{}", ran.out);
    assert_eq!(stage.running().len(), 2, "nothing is removed while it is not known what serves");
    start_host_nginx(&stage);
    // The moment it is there again it serves what it served: the flags are as they were.
    stage.serves("v1");
    let status = stage.bluegreen(&["status"]).expect(50);
    status.says(&["UNFINISHED", "bluegreen recover"]);
    stage.watched(&["v1", "v2"], || stage.bluegreen(&["deploy", "--image", &image]).expect(0));
    stage.serves("v2");
    assert_eq!(stage.running(), [stage.place("green")]);
    stop_host_nginx(&stage, "QUIT");
}

/// Until the earlier workers are gone: they close connections that clients still have.
fn reload(stage: &Stage) {
    let before = stage.nginx.worker_pids().expect("nginx runs");
    stage.nginx.reload().expect("a reload");
    let gone = || before.iter().all(|pid| !process::is_alive(*pid));
    assert!(process::wait_until(PATIENCE, gone), "the earlier workers do not end");
}
