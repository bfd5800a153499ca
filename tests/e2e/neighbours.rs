//! What is not this application's, and not today's: another one's image, an earlier release's own options, a
//! journal that a later version wrote.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bluegreen_testkit::docker::{AppImage, docker, free_port};
use bluegreen_testkit::process;

use crate::luck::Running;
use crate::stage::{Kind, Stage};

/// Pruning asks the other journals of the state directory: what one application is done with, another may go back to.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_image_that_another_application_may_go_back_to_stays() {
    let stage = Stage::live_with(Kind::HostLive, "[app.WEB.retain]\nreleases = 0\nkeep_stopped = false");
    let (api, port, [blue, green]) = (stage.run.name("api"), free_port(), [free_port(), free_port()]);
    let table = format!(
        "[app.{api}]\nports = {{ blue = {blue}, green = {green} }}\nimage = \"unused\"\npull = \"never\"\n\
         [app.{api}.retain]\nkeep_stopped = false\n"
    );
    // It is behind the same nginx, at a port of its own.
    let text = stage.config().replace(&format!("url = \"{}\"\n", stage.nginx.url()), "");
    stage.write_config(&format!("{text}{table}"));
    let line = format!("server {{ listen {port}; location / {{ proxy_pass http://127.0.0.1:{blue}; }} }}\n");
    stage.nginx.write_conf("api.conf", &line).expect("the other site");
    stage.nginx.reload().expect("a reload");
    stage.bluegreen(&["nginx", "install", &api]).expect(0);
    let web = |image: &str| stage.bluegreen(&["deploy", &stage.app, "--image", image]).expect(0);
    let other = |image: &str| stage.bluegreen(&["deploy", &api, "--image", image]).expect(0);
    let [one, two, three] =
        ["v1", "v2", "v3"].map(|version| stage.image(version, &AppImage::version(version).own_layer()));
    let id = |image: &str| docker(["inspect", "--format", "{{.Id}}", image]).expect("it is here");
    // Of images that were built here only those without a name are removed.
    let unnamed = |image: &str| {
        let id = id(image);
        docker(["rmi", "--force", image]).expect("a name");
        id
    };
    let here = |id: &str| docker(["inspect", id]).is_ok();
    web(&one);
    other(&one);
    let first = unnamed(&one);
    other(&three);
    web(&two);
    assert!(here(&first), "the other application cannot go back any more");
    let second = unnamed(&two);
    web(&three);
    assert!(!here(&second), "nobody needs this one: nothing was removed at all");
    assert!(here(&first), "the other application cannot go back any more");
    stage.bluegreen(&["rollback", &api]).expect(0);
    let url = format!("http://127.0.0.1:{port}/");
    assert!(process::output("curl", ["-sf", &url]).expect("an answer").contains("v1"));
}

/// Today's configuration is for what is deployed today: what serves was given its own time to stop.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_previous_release_gets_the_time_to_stop_that_it_was_deployed_with() {
    let stage = Stage::live_with(Kind::HostLive, "stop_timeout = \"1s\"");
    let stubborn = |version: &str| stage.image(version, &AppImage::version(version).env("ON_TERM", "ignore"));
    let [v1, v2] = ["v1", "v2"].map(stubborn);
    stage.bluegreen(&["deploy", "--image", &v1]).expect(0);
    stage.configure("stop_timeout = \"25s\"");
    let began = Instant::now();
    stage.bluegreen(&["deploy", "--image", &v2]).expect(0);
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "it was stopped as today's release is: {:?}",
        began.elapsed()
    );
    stage.serves("v2");
}

/// What this version does not know it would lose: it reads nothing then, writes nothing, and says why.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_journal_that_a_later_version_has_written_in_is_refused_and_left_as_it_is() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.deploy("v2");
    let journal = stage.dir().join("state").join(&stage.app).join("journal");
    let good = fs::read(&journal).expect("a journal");
    // The last record once more, whole, with its own checksum, as version 3.
    let text = String::from_utf8(good.clone()).expect("text");
    let last = text.lines().last().expect("a record").split_once(' ').expect("a version").1;
    let mut later = fs::OpenOptions::new().append(true).open(&journal).expect("the journal");
    writeln!(later, "v3 {last}").expect("a record");
    let newer = fs::read(&journal).expect("a journal");
    let v3 = stage.image("v3", &AppImage::version("v3"));
    let world = stage.world();
    let line = format!("line {}", text.lines().count() + 1);
    for arguments in [
        &["deploy", "--image", &v3][..],
        &["plan", "--image", &v3],
        &["rollback"],
        &["recover"],
        &["retire"],
        &["status"],
        &["history"],
    ] {
        let ran = stage.bluegreen(arguments).expect(10);
        ran.says(&["format v3", "reads up to v2", "a newer one wrote it", &line]).says_what_to_do();
    }
    assert_eq!(fs::read(&journal).expect("a journal"), newer);
    assert_eq!(stage.world(), world);
    stage.serves("v2");
    // The version that wrote it is put back, or its record goes.
    fs::File::create(&journal).and_then(|mut file| file.write_all(&good)).expect("a journal");
    stage.bluegreen(&["rollback"]).expect(0);
    stage.serves("v1");
}

/// What is shown of a run that is at work, of one that failed, and of a container that cannot stay up.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn status_tells_a_run_at_work_since_when_it_serves_and_a_crash_loop() {
    let stage = Stage::with_v1(Kind::HostLive);
    let status = || {
        let ran = stage.bluegreen(&["status", "--output", "json"]);
        let report = ran.out.lines().last().expect("a report");
        serde_json::from_str::<serde_json::Value>(report).expect("JSON")["result"].take()
    };
    let since = status()["since"].clone();
    assert!(since.is_string(), "{since}");

    let slow = stage.image_with("v2", &[("START_DELAY_MS", "4000"), ("EXIT_AFTER_MS", "4500")]);
    let mut run = Running::deploy(&stage, &slow, &["--deployment-id", "d-slow"]);
    run.until("step-started", Some("gate"));
    let seen = stage.bluegreen(&["status"]).expect(0);
    seen.says(&["IN PROGRESS", "deploy d-slow (pid ", "at gate since", "next: bluegreen cancel"]);
    let seen = status();
    assert!(seen["unfinished"].is_null(), "it is not cut off: {seen:#}");
    run.signal("TERM");
    run.end().expect(21);
    // What serves has served all the while.
    assert_eq!(status()["since"], since);

    stage.configure("restart = \"unless-stopped\"\n[app.WEB.health]\ntcp = true");
    let dying = stage.image_with("v3", &[("EXIT_AFTER_MS", "3000")]);
    stage.bluegreen(&["deploy", "--image", &dying]).expect(0);
    let mut seen = None;
    let told = process::wait_until(Duration::from_secs(60), || {
        let ran = stage.bluegreen(&["status"]);
        let told = ran.out.contains("is in a crash loop: restarted 3 times");
        seen = Some(ran);
        told
    });
    let seen = seen.expect("a look");
    assert!(told && matches!(seen.code, 50 | 51), "{}{}", seen.out, seen.err);
    seen.says(&["ATTENTION"]);
}
