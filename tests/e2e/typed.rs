//! Each `next:` is typed as it stands, by a shell, in the state in which it was printed, and that state gets better.

use std::process::{Command, Stdio};

use bluegreen_testkit::docker::{AppImage, docker};
use bluegreen_testkit::process;

use crate::luck::PATIENCE;
use crate::stage::{Kind, Ran, Stage, program, ran};

/// The line that says what to type.
#[track_caller]
pub fn next(ran: &Ran) -> String {
    let line = ran.err.lines().find_map(|line| line.strip_prefix("next: "));
    line.unwrap_or_else(|| panic!("nothing to type\n{}\n{}", ran.out, ran.err)).to_owned()
}

/// Types it, where `bluegreen` is what is tested.
#[track_caller]
pub fn typed(stage: &Stage, line: &str) -> Ran {
    let bin = stage.dir().join("bin");
    std::fs::create_dir_all(&bin).expect("a directory");
    std::os::unix::fs::symlink(program(), bin.join("bluegreen")).ok();
    ran(Command::new("sh")
        .args(["-c", &format!("PATH={}:$PATH; {line}", bin.display())])
        .current_dir(stage.dir())
        .env_remove("DEPLOYMENT_ID")
        .stdin(Stdio::null()))
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn what_to_type_next_can_be_typed_and_makes_it_better() {
    let stage = Stage::live(Kind::HostLive);
    let nothing = stage.bluegreen(&["status"]).expect(51);
    assert!(next(&nothing).starts_with("bluegreen deploy "), "{}", nothing.err);

    // A look before, and what it was about.
    let v1 = stage.image("v1", &AppImage::version("v1"));
    typed(&stage, &next(&stage.bluegreen(&["doctor", "--image", &v1]).expect(0))).expect(0);
    stage.serves("v1");

    // Back from what was deployed.
    typed(&stage, &next(&stage.deploy("v2"))).expect(0);
    stage.serves("v1");

    // A deadline that is too short is doubled until it is long enough.
    let slow = stage.image("v3", &AppImage::version("v3").env("START_DELAY_MS", "3000"));
    let mut run = stage.bluegreen(&["deploy", "--image", &slow, "--deadline", "1s"]).expect(21);
    run.err.lines().find(|line| line.contains("what is not committed is taken back")).expect("said");
    for _ in 0..4 {
        if run.code == 21 {
            run = typed(&stage, &next(&run));
        }
    }
    run.expect(0);
    stage.serves("v3");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn where_nginx_names_a_place_that_is_down_the_next_line_mends_it() {
    let extra = "restart = \"no\"\n[app.WEB.retain]\nwarm = \"10m\"";
    let stage = Stage::live_with(Kind::HostLive, extra);
    let mends = |version: &str| {
        let status = stage.bluegreen(&["status"]).expect(50).says(&["does not run"]);
        let line = next(&status);
        typed(&stage, &line).expect(0);
        stage.serves(version);
        stage.bluegreen(&["status"]).expect(0);
        line
    };
    stage.deploy("v1");
    stage.deploy("v2");
    // Somebody stops what serves: nginx falls back to the one that is kept warm.
    docker(["stop", &stage.place("green")]).expect("it runs");
    stage.serves("v1");
    assert!(mends("v2").contains(" deploy "));
    // Somebody takes the flag away: nginx names the place whose container is stopped by now.
    docker(["stop", &stage.place("blue")]).expect("it is kept warm");
    let flag = stage.nginx.conf_dir().join(format!("bluegreen/{}.green", stage.app));
    std::fs::remove_file(flag).expect("green serves");
    stage.serves("v2");
    let line = mends("v2");
    assert!(line.contains(" deploy ") && line.contains("app:v2") | line.contains("app@sha256"), "{line}");
    // A release that does not stay up.
    let dies = stage.image_with("v3", &[("EXIT_AFTER_MS", "5000")]);
    stage.bluegreen(&["deploy", "--image", &dies]).expect(0);
    let down = || stage.bluegreen(&["status"]).out.contains("does not run");
    assert!(process::wait_until(PATIENCE, down), "it stays up");
    assert!(mends("v2").contains(" rollback "));
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn words_of_other_tools_are_answered_with_what_works_here() {
    let stage = Stage::live(Kind::HostLive);
    stage.deploy("v1");
    stage.deploy("v2");
    let answered = |word: &str| {
        let ran = stage.bluegreen(&[word]).expect(2);
        assert!(!ran.err.contains("did you mean"), "{}", ran.err);
        next(&ran)
    };
    let logs = answered("logs").replace(" --follow", "");
    let log = typed(&stage, &logs).expect(0);
    assert!(format!("{}{}", log.out, log.err).contains("version=v2"), "{logs}: {}", log.out);
    for word in ["list", "ps"] {
        typed(&stage, &answered(word)).expect(0).says(&["app:v2"]);
    }
    typed(&stage, &answered("versions")).expect(0).says(&["app:v1", "app:v2"]);
    let before = stage.running();
    typed(&stage, &answered("restart")).expect(0).says(&["committed: "]);
    stage.serves("v2");
    assert_ne!(stage.running(), before, "it was started anew, in the other place");
    typed(&stage, &answered("undo")).expect(0);
}
