//! Each `next:` is typed as it stands, by a shell, in the state in which it was printed, and that state gets better.

use std::process::{Command, Stdio};

use bluegreen_testkit::docker::AppImage;

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
