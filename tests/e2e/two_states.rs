//! Two state directories for one application on one host: they would each take the other's containers for leftovers.

use std::process::{Command, Stdio};

use bluegreen_testkit::docker::AppImage;

use crate::stage::{Kind, Ran, Stage, program, ran};

impl Stage {
    /// The same command with another state directory.
    fn with_state(&self, state: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        let state = self.dir().join(state).display().to_string();
        command.args(["--state-dir", &state]).args(arguments).current_dir(self.dir()).stdin(Stdio::null());
        command.env_remove("DEPLOYMENT_ID");
        command
    }
}

/// Its end.
fn end(command: std::process::Child) -> Ran {
    let output = command.wait_with_output().expect("an end");
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn of_two_deploys_with_two_state_directories_one_wins_and_the_other_is_told_where_the_first_is_on_record() {
    let stage = Stage::with_v1(Kind::HostLive);
    let v2 = stage.image("v2", &AppImage::version("v2").env("START_DELAY_MS", "2000"));
    let v3 = stage.image("v3", &AppImage::version("v3"));
    let state = stage.dir().join("state").canonicalize().expect("it is there").display().to_string();
    stage.watched(&["v1", "v2"], || {
        let spawn = |state: &str, image: &str| {
            let mut command = stage.with_state(state, &["deploy", "--image", image]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command")
        };
        let (first, second) = (spawn("state", &v2), spawn("other", &v3));
        let second = end(second).expect(10);
        second.says(&[
            "is on record in the state directory",
            &state,
            "nothing touched",
            "next: bluegreen deploy",
        ]);
        end(first).expect(0);
    });
    stage.serves("v2");
    for verb in [&["plan", "--image", &v3][..], &["rollback"], &["recover"]] {
        ran(&mut stage.with_state("other", verb)).expect(10).says(&[&state]);
    }
    assert!(
        !stage.dir().join("other").join(&stage.app).join("journal").exists(),
        "the other has a journal of it"
    );
    // What is said to type next does what was wanted.
    stage.watched(&["v2", "v3"], || stage.bluegreen(&["deploy", "--image", &v3]).expect(0));
    // A directory that was moved is the same one: nobody else has it on record.
    std::fs::rename(stage.dir().join("state"), stage.dir().join("moved")).expect("a directory");
    let moved = |verb: &[&str]| ran(&mut stage.with_state("moved", verb));
    moved(&["plan", "--image", &v2]).expect(0);
    stage.watched(&["v3", "v2"], || moved(&["rollback"]).expect(0));
    stage.serves("v2");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn two_first_deploys_with_two_state_directories_do_not_take_each_others_candidate() {
    let stage = Stage::live(Kind::HostLive);
    let images = ["v1", "v2"]
        .map(|version| stage.image(version, &AppImage::version(version).env("START_DELAY_MS", "1500")));
    let both = ["one", "two"].map(|state| {
        let image = if state == "one" { &images[0] } else { &images[1] };
        let mut command = stage.with_state(state, &["deploy", "--image", image]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command")
    });
    let mut codes = both.map(|command| end(command).code);
    let serves = stage.version();
    let winner = if codes[0] == 0 { "v1" } else { "v2" };
    codes.sort_unstable();
    assert_eq!((codes, serves.as_deref()), ([0, 10], Some(winner)));
}
