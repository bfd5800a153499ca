//! Output that nobody reads: a full pipe, a reader that has gone away, a terminal that was stopped with Ctrl-S. None of
//! them holds up a run, nor what ends one.

use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bluegreen_testkit::process;

use crate::luck::PATIENCE;
use crate::stage::{Kind, Stage};

/// What a pipe holds unless it is told otherwise.
const PIPE: usize = 64 * 1024;

/// A pipe that is full already. The reader is kept open and reads nothing.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("a pipe");
    writer.write_all(&vec![b'\n'; PIPE]).expect("room for as much as a pipe holds");
    (reader, writer)
}

/// Starts it with both streams into that pipe.
fn into_pipe(command: &mut Command, pipe: &PipeWriter) -> Child {
    let end = || Stdio::from(pipe.try_clone().expect("an end of the pipe"));
    command.stdout(end()).stderr(end()).spawn().expect("the command starts")
}

/// Waits for its exit code. It must come, and not only when this test gives up.
#[track_caller]
fn ends(mut child: Child) -> Option<i32> {
    let mut status = None;
    let ended = process::wait_until(PATIENCE, || {
        status = child.try_wait().expect("it can be waited for");
        status.is_some()
    });
    if !ended {
        child.kill().and_then(|()| child.wait()).expect("an end");
        panic!("it waits for its reader");
    }
    status.and_then(|status| status.code())
}

impl Stage {
    /// Waits until a step of that run has begun, by its journal: its output tells nothing here.
    #[track_caller]
    pub fn until_journalled(&self, deployment: &str, step: &str) {
        let path = self.dir().join("state").join(&self.app).join("journal");
        let began = || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.rsplit_once(deployment).is_some_and(|(_, after)| after.contains(&format!("\"{step}\"")))
        };
        assert!(process::wait_until(PATIENCE, began), "{step} of {deployment} never came");
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_run_whose_output_nobody_reads_ends_by_itself_and_by_all_that_ends_one() {
    let stage = Stage::with_v1(Kind::HostLive);
    let (_reader, pipe) = full_pipe();
    let slow = stage.image_with("slow", &[("START_DELAY_MS", "40000")]);
    for (id, more) in [("d-term", ""), ("d-cancel", ""), ("d-deadline", "--deadline=3s")] {
        let mut arguments = vec!["deploy", "-v", "--image", &slow, "--deployment-id", id];
        arguments.extend((!more.is_empty()).then_some(more));
        let began = Instant::now();
        let run = into_pipe(&mut stage.command(&arguments), &pipe);
        stage.until_journalled(id, "gate");
        match id {
            "d-term" => process::signal(run.id(), "TERM"),
            "d-cancel" => drop(stage.bluegreen(&["cancel"]).expect(0).says(&["cancelled: deploy d-cancel"])),
            _ => {}
        }
        assert_eq!(ends(run), Some(21), "{id}");
        assert!(began.elapsed() < Duration::from_secs(38), "{id} waited for the application");
        stage.serves("v1");
        assert_eq!(stage.containers(&[]), [stage.place("blue")], "{id} left its candidate");
    }
    // And one that nothing ends, in each format; the report is written whole.
    let report = stage.dir().join("report.json").display().to_string();
    for (version, format) in [("v2", "human"), ("v3", "json")] {
        let image = stage.image_with(version, &[]);
        let arguments = ["deploy", "--image", &image, "--output", format, "--report", &report];
        assert_eq!(ends(into_pipe(&mut stage.command(&arguments), &pipe)), Some(0));
        stage.serves(version);
        let text = std::fs::read_to_string(&report).expect("the report");
        assert!(text.contains("\"exit_code\": 0") && text.contains(&format!(":{version}\"")), "{text}");
    }
    stage.bluegreen(&["history"]).expect(0).says(&["committed", "rolled back"]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_reader_that_goes_away_changes_nothing() {
    let stage = Stage::with_v1(Kind::HostLive);
    let v2 = stage.image_with("v2", &[("START_DELAY_MS", "1500")]);
    let (reader, writer) = pipe().expect("a pipe");
    let run =
        into_pipe(&mut stage.command(&["deploy", "--image", &v2, "--deployment-id", "d-gone"]), &writer);
    stage.until_journalled("d-gone", "gate");
    drop((reader, writer));
    assert_eq!(ends(run), Some(0));
    stage.serves("v2");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_terminal_that_was_stopped_with_ctrl_s_stops_no_run() {
    const CTRL_S: &[u8] = b"\x13";
    let stage = Stage::with_v1(Kind::HostLive);
    let v2 = stage.image_with("v2", &[("START_DELAY_MS", "2000")]);
    // `script` gives it a terminal, whose keys are what we write.
    let deploy = stage.command(&["deploy", "-v", "--image", &v2, "--deployment-id", "d-stopped"]);
    let words = std::iter::once(deploy.get_program()).chain(deploy.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &format!("exec {}; :", words.join(" ")), "/dev/null"]).current_dir(stage.dir());
    let mut terminal =
        terminal.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("util-linux's script");
    let mut keys = terminal.stdin.take().expect("its keys");
    // Long before its first line.
    keys.write_all(CTRL_S).and_then(|()| keys.flush()).expect("a key");
    let committed = || stage.version().as_deref() == Some("v2");
    assert!(process::wait_until(PATIENCE, committed), "the run waits for its terminal");
    // The lock is let go: nobody has to press a key.
    let free = || stage.bluegreen(&["rollback"]).code == 0;
    assert!(process::wait_until(PATIENCE, free), "the run did not end");
    stage.serves("v1");
    drop(keys);
    terminal.kill().and_then(|()| terminal.wait()).expect("an end");
}
