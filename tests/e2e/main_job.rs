//! The main job: releases follow each other under load, a bad one is refused, and one goes back.

use bluegreen_testkit::docker::AppImage;

use crate::stage::{Kind, Stage};

/// Every kind of client, all the time: nobody may notice anything but the version.
fn main_job(kind: Kind) {
    let stage = Stage::live_with(kind, "[app.WEB.health]\ndeadline = \"3s\"\nhttp = \"/health\"");
    stage.deploy("v1").says(&["blue"]);
    stage.serves("v1");
    let load = stage.load();
    stage.deploy("v2").says(&["green"]);
    stage.serves("v2");
    let bad = stage.image("v3", &AppImage::version("v3").env("HEALTH", "500"));
    stage.bluegreen(&["deploy", "--image", &bad]).expect(20).says(&[
        "status 500",
        "not healthy within 3 s",
        "v2",
    ]);
    stage.serves("v2");
    stage.bluegreen(&["rollback"]).expect(0).says(&["v1"]);
    stage.serves("v1");
    let report = load.stop();
    eprintln!("{kind:?}\n{report}");
    report.assert_lossless();
    assert!(report.versions.contains_key("v1") && report.versions.contains_key("v2"), "{report}");
    assert!(!report.versions.contains_key("v3"), "a refused version got traffic\n{report}");
    assert_eq!(stage.running(), [format!("{}-blue", stage.app)]);
    assert_eq!(stage.containers(&[]).len(), 2, "the previous one is kept");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn the_main_job_with_nginx_on_the_host_loses_no_request() {
    main_job(Kind::HostLive);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn the_main_job_with_nginx_in_a_container_loses_no_request() {
    main_job(Kind::ContainerLive);
}
