//! Disks that are full: nginx's, that of the journal at each record, and Docker's own.

use bluegreen_testkit::disk::Disk;
use bluegreen_testkit::docker::AppImage;
use bluegreen_testkit::engine::{Engine, EngineOptions};
use bluegreen_testkit::load::Mode;
use serde_json::Value;

use crate::ecr_stage::EcrStage;
use crate::nginx_life;
use crate::stage::{Kind, Stage};

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_flag_directory_that_is_full_takes_the_deploy_back_and_is_no_matter_once_there_is_room() {
    let stage = Stage::with_v1(Kind::HostLive);
    let flags = stage.nginx.conf_dir().join("bluegreen");
    let disk = Disk::over(&stage.run, &flags, "64k", 32).expect("a disk");
    stage.serves("v1");
    disk.fill_but(0).and_then(|()| disk.fill_files()).expect("a full disk");
    let v2 = stage.image("v2", &AppImage::version("v2"));
    stage.rolls_back(&v2, &["switch failed", "No space left on device"]);
    disk.make_room().expect("room");
    stage.watched(&["v1", "v2"], || stage.deploy("v2"));
    stage.serves("v2");
    // The way back takes flags away, which needs no room.
    disk.fill_but(0).and_then(|()| disk.fill_files()).expect("a full disk");
    stage.watched(&["v2", "v3"], || stage.deploy("v3"));
    stage.serves("v3");
    assert_eq!(stage.running(), [stage.place("blue")]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_full_directory_of_the_file_that_is_rewritten_takes_the_deploy_back_and_leaves_the_file_as_it_is() {
    let stage = Stage::live(Kind::ContainerRewrite);
    stage.deploy("v1");
    let disk = Disk::over(&stage.run, stage.nginx.conf_dir(), "64k", 32).expect("a disk");
    // A container sees what is mounted when it starts.
    nginx_life::kill(&stage, Kind::ContainerRewrite);
    nginx_life::start(&stage, Kind::ContainerRewrite);
    stage.serves("v1");
    let left = || {
        let dir = std::fs::read_dir(stage.nginx.conf_dir()).expect("nginx's directory");
        let mut files: Vec<_> = dir
            .map(|entry| entry.expect("an entry").path())
            .map(|path| (std::fs::read(&path).expect("a file"), path))
            .collect();
        files.sort();
        (files, stage.containers(&[]))
    };
    let before = left();
    for full_of in ["bytes", "files"] {
        disk.fill_but(0).expect("a full disk");
        if full_of == "files" {
            disk.fill_files().expect("a full disk");
        }
        let v2 = stage.image("v2", &AppImage::version("v2"));
        let load = stage.light_load_of(&[Mode::New]);
        let ran = stage.bluegreen(&["deploy", "--image", &v2]);
        let report = load.stop();
        ran.expect(20).says(&["switch failed", "No space left on device", "serving now: blue", "next: "]);
        report.assert_lossless();
        assert_eq!(report.versions.keys().collect::<Vec<_>>(), ["v1"], "{report}");
        disk.make_room().expect("room");
        assert!(left() == before, "something is left: {:?}", left().1);
    }
    let load = stage.light_load_of(&[Mode::New]);
    stage.deploy("v2");
    load.stop().assert_lossless();
    stage.serves("v2");
}

/// What a disk gives room in.
const PAGE: u64 = 4096;
/// Less than two of a run's records.
const MORE: u64 = 180;

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_state_directory_that_is_full_at_any_record_is_settled_by_the_next_deploy_once_there_is_room() {
    let stage = Stage::with_v1(Kind::HostLive);
    let state = stage.dir().join("state");
    let disk = Disk::over(&stage.run, &state, "512k", 64).expect("a disk");
    let journal = state.join(&stage.app).join("journal");
    let images = ["a", "b"].map(|version| stage.image_with(version, &[]));
    let load = stage.light_load();
    let mut codes = Vec::new();
    for n in 0.. {
        // Room for the record that a run begins with, and for some more bytes. A variable makes that first record as
        // long as it takes to leave just that in the journal's last page.
        stage.configure("[app.WEB.env]\nPAD = \"\"");
        let text = std::fs::read_to_string(&journal).expect("a journal");
        let begun = text.lines().rfind(|line| line.contains("\"type\":\"begun\"")).expect("a first record");
        let padded = begun.find("\"PAD\":\"").map_or(0, |at| begun[at + 7..].find('"').expect("its end"));
        let wanted = (begun.len() - padded + 40) as u64 + n * MORE;
        let in_last = (PAGE - text.len() as u64 % PAGE) % PAGE;
        let pages = wanted.saturating_sub(in_last).div_ceil(PAGE);
        let pad = "x".repeat(usize::try_from(in_last + pages * PAGE - wanted).expect("less than a page"));
        stage.configure(&format!("[app.WEB.env]\nPAD = \"{pad}\""));
        disk.fill_but(pages).expect("a full disk");
        let ran = stage.bluegreen(&["deploy", "--output", "json", "--image", &images[n as usize % 2]]);
        let serves = stage.version().expect("somebody serves");
        let report: Value =
            ran.out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        codes.push(ran.code);
        eprintln!("{wanted} bytes: {}, {serves} serves", ran.code);
        assert!([0, 10, 20, 30, 40].contains(&ran.code), "{}\n{}", ran.out, ran.err);
        if ran.code != 0 {
            let told = report["cause"]["causes"].to_string();
            assert!(told.contains("No space left on device"), "{report:#}\n{}", ran.err);
            let status = stage.bluegreen(&["status"]);
            // It may have been rolled back whole, with no room to say so.
            let standing = if status.out.contains("UNFINISHED") { 50 } else { 0 };
            let status = status.expect(standing);
            status.says(&[&format!("app:{serves}")]);
        }
        disk.make_room().expect("room");
        load.snapshot().assert_lossless();
        // Simply the same deploy, which now has room.
        stage.bluegreen(&["deploy", "--image", &images[n as usize % 2]]).expect(0);
        stage.serves(["a", "b"][n as usize % 2]);
        assert!(
            stage.running().len() == 1 && stage.containers(&[]).len() <= 2,
            "{:?}",
            stage.containers(&[])
        );
        let status = stage.bluegreen(&["status"]).expect(0);
        assert!(!["UNFINISHED", "ATTENTION"].iter().any(|word| status.out.contains(word)), "{}", status.out);
        if ran.code == 0 {
            break;
        }
    }
    load.stop().assert_lossless();
    assert!(codes.contains(&20) && codes.contains(&40), "{codes:?}");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_disk_of_docker_that_fills_up_in_a_pull_fails_it_and_the_next_deploy_finds_room() {
    let ecr = EcrStage::new();
    let stage = &ecr.stage;
    let options = EngineOptions { disk: Some("32m".to_owned()), ..EngineOptions::default() };
    let engine = Engine::start(&stage.run, options).expect("an Engine");
    let disk = engine.disk.as_ref().expect("its disk");
    let path = stage.dir().join("bluegreen.toml");
    let config = std::fs::read_to_string(&path).expect("a configuration");
    let with = |min_free: &str| {
        let retain = format!("[app.{}.retain]\nmin_free = \"{min_free}\"\n", stage.app);
        let text = format!("[docker]\nhost = \"{}\"\n{config}{retain}", engine.host());
        crate::ecr_stage::write(&path, text);
    };
    let containers = || engine.docker(["ps", "--all", "--format", "{{.Names}} {{.State}}"]).expect("docker");
    with("0b");
    let v1 = ecr.push("v1", "shop/web:v1");
    ecr.deploy(&v1.uri).expect(0);
    let before = containers();
    let v2 = ecr.push("v2", "shop/web:v2");

    // 2 MB are left: enough for the layer as it comes, and not for what is in it.
    disk.fill_but(512).expect("a full disk");
    let ran = stage.watched(&["v1"], || ecr.deploy(&v2.uri));
    ran.expect(20).says(&[
        "pull failed",
        "no space left on device",
        "serving now: blue",
        "to do: free some space",
    ]);
    assert_eq!(containers(), before, "something is left");
    // By default it is not even tried.
    with("500m");
    let ran = stage.watched(&["v1"], || ecr.deploy(&v2.uri));
    ran.expect(20).says(&["next: docker system df"]);
    assert_eq!(containers(), before, "something is left");

    disk.make_room().expect("room");
    with("0b");
    stage.watched(&["v1", "v2"], || ecr.deploy(&v2.uri).expect(0));
    stage.serves("v2");
}
