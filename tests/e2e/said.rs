//! What is said is what is so: at the end of a run, of a rollback before it is asked for, and at 3 a.m.

use std::time::Duration;

use bluegreen_testkit::docker::{AppImage, docker};

use crate::luck::Running;
use crate::nginx_life;
use crate::stage::{Kind, Stage};

/// The previous release takes its time to stop, and the candidate dies in it.
fn dies_at_the_end(kind: Kind) {
    let stage = Stage::live_with(kind, "stop_timeout = \"4s\"");
    let stubborn = stage.image("v1", &AppImage::version("v1").env("ON_TERM", "ignore"));
    stage.bluegreen(&["deploy", "--image", &stubborn]).expect(0);
    let v2 = stage.image("v2", &AppImage::version("v2"));
    let mut run = Running::deploy(&stage, &v2, &[]);
    run.until("step-started", Some("retire"));
    std::thread::sleep(Duration::from_millis(500));
    docker(["kill", &format!("{}-green", stage.app)]).expect("it runs");
    run.end().expect(20).says(&["the candidate", "exited with code 137", r#""serving":{"color":"blue""#]);
    stage.serves("v1");
    assert_eq!(stage.running(), [format!("{}-blue", stage.app)]);
    stage.bluegreen(&["status"]).expect(0).says(&["app:v1", "rolled back: retire failed"]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_candidate_that_dies_while_the_previous_release_stops_is_no_success_with_nginx_on_the_host() {
    dies_at_the_end(Kind::HostLive);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_candidate_that_dies_while_the_previous_release_stops_is_no_success_with_nginx_in_a_container() {
    dies_at_the_end(Kind::ContainerRewrite);
}

/// nginx's backup line would send clients to a candidate as soon as it listens.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn no_client_meets_a_candidate_before_its_gate_where_the_serving_colour_is_down() {
    let extra = "[app.WEB.retain]\nwarm = \"10m\"\n[app.WEB.health]\nhttp = \"/health\"\ndeadline = \"3s\"";
    let stage = Stage::live_with(Kind::HostLive, extra);
    stage.deploy("v1");
    stage.deploy("v2");
    docker(["kill", &format!("{}-green", stage.app)]).expect("it runs");
    stage.serves("v1");
    let sick = stage.image("sick", &AppImage::version("sick").env("HEALTH", "500"));
    let load = stage.load();
    stage.bluegreen(&["deploy", "--image", &sick]).expect(20);
    let report = load.stop();
    assert!(!report.versions.contains_key("sick"), "clients met the candidate: {report}");
    assert!(report.versions.contains_key("v1"), "{report}");
    stage.serves("v1");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_rollback_goes_to_what_served_before_and_is_offered_only_where_it_would() {
    let stage = Stage::live(Kind::HostLive);
    stage.deploy("v1");
    stage.deploy("v2").says(&["optional: go back to the previous release"]);
    let back = stage.bluegreen(&["rollback"]).expect(0);
    stage.serves("v1");
    assert!(!back.out.contains("go back to") && !back.err.contains("go back to"), "{}{}", back.out, back.err);
    stage.deploy("v3");
    stage.bluegreen(&["rollback", "--list"]).expect(0).says(&["app:v1"]);
    stage.bluegreen(&["rollback"]).expect(0);
    stage.serves("v1");
    stage.bluegreen(&["rollback"]).expect(10).says(&["there is no earlier release to roll back to"]);
    stage.deploy("v4");
    // Somebody makes room.
    docker(["rm", "-f", &format!("{}-blue", stage.app)]).expect("it is stopped");
    docker(["rmi", "-f", &format!("bgt-{}/app:v1", stage.run.id())]).expect("nobody uses it");
    let status = stage.bluegreen(&["status"]).expect(0).says(&["is gone from this host"]);
    assert!(!status.out.contains("go back to") && !status.err.contains("go back to"), "{}", status.out);
    stage.bluegreen(&["rollback"]).expect(10).says(&["is gone from this host"]);
    stage.serves("v4");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn status_sees_what_clients_see() {
    let stage = Stage::live(Kind::HostLive);
    stage.deploy("v1");
    stage.bluegreen(&["status"]).expect(0).says(&["answers 200"]);
    // Somebody renames the container: nginx still reaches it.
    let blue = format!("{}-blue", stage.app);
    docker(["rename", &blue, &format!("{blue}-renamed")]).expect("it is there");
    stage.bluegreen(&["status"]).expect(50).says(&["blue, ", "is named", "-renamed: running"]);
    docker(["rename", &format!("{blue}-renamed"), &blue]).expect("it is there");
    stage.bluegreen(&["status"]).expect(0);
    // Somebody sends all requests elsewhere by hand.
    let server = "server { listen @PORT@; location / { proxy_pass http://127.0.0.1:9; } }\n";
    stage.nginx.write_conf("site.conf", server).expect("the site");
    stage.nginx.reload().expect("a reload");
    let seen = || stage.bluegreen(&["status"]);
    let away = bluegreen_testkit::process::wait_until(Duration::from_secs(5), || seen().code == 51);
    let said = seen();
    assert!(away, "{}{}", said.out, said.err);
    said.says(&["answers 502", "ATTENTION"]);
    nginx_life::kill(&stage, Kind::HostLive);
    stage.bluegreen(&["status"]).expect(51).says(&["FAILS"]);
    nginx_life::start(&stage, Kind::HostLive);
}
