//! Runs that are asked to stop, cut off, or left alone by their reader, at each step.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use bluegreen_testkit::process;
use serde_json::Value;

use crate::luck::{PATIENCE, Running};
use crate::stage::{Kind, Ran, Stage, ran};

pub const STEPS: [&str; 7] = ["pull", "start", "gate", "switch", "verify", "drain", "retire"];

/// Two versions that take turns. Each takes half a second to start, so that its gate is open for a while.
pub struct Turns {
    pub stage: Stage,
    pub images: [String; 2],
    pub serving: usize,
}

pub const VERSIONS: [&str; 2] = ["a", "b"];

impl Turns {
    pub fn new(kind: Kind) -> Self {
        let stage = Stage::live(kind);
        let images = VERSIONS.map(|version| stage.image_with(version, &[("START_DELAY_MS", "1000")]));
        stage.bluegreen(&["deploy", "--image", &images[0]]).expect(0);
        stage.serves(VERSIONS[0]);
        Self { stage, images, serving: 0 }
    }

    pub fn candidate(&self) -> usize {
        1 - self.serving
    }

    /// Starts a deploy of the other version and sends it a signal when `step` begins. While it is in its gate a
    /// slow request begins, so that there is something to drain.
    fn signalled(&self, step: &str, signal: &str) -> (Running, Ran) {
        let mut run = Running::deploy(&self.stage, &self.images[self.candidate()], &[]);
        let slow = (STEPS.iter().position(|at| *at == step) > Some(2)).then(|| {
            run.until("step-started", Some("gate"));
            let url = format!("{}slow?ms=1500", self.stage.nginx.url());
            thread::spawn(move || process::output("curl", ["-sf", "-m", "30", &url]))
        });
        run.until("step-started", Some(step));
        run.signal(signal);
        let ran = run.end();
        if let Some(slow) = slow {
            let answer = slow.join().expect("curl").expect("the slow request is answered");
            assert!(answer.contains(VERSIONS[self.serving]), "{answer}");
        }
        (run, ran)
    }

    /// One version serves, its container is the only one that runs, and at most one other is kept.
    #[track_caller]
    pub fn settled_on(&mut self, version: usize, of: &str) {
        self.stage.serves(VERSIONS[version]);
        assert_eq!(self.stage.running().len(), 1, "{of}");
        assert!(self.stage.containers(&[]).len() <= 2, "{of}");
        self.serving = version;
    }
}

fn report(ran: &Ran) -> Value {
    ran.out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}

/// Asked to stop at each step: 21 and the previous one before the commit point, 0 and the candidate after it.
fn asked_to_stop(kind: Kind, signal: &str) {
    let mut turns = Turns::new(kind);
    let load = turns.stage.light_load();
    for step in STEPS {
        let of = format!("{signal} at {step}");
        let (run, ran) = turns.signalled(step, signal);
        let committed = run.saw("step-succeeded", "verify");
        match step {
            "pull" | "start" | "gate" => assert!(!committed, "{of} came too late\n{}", ran.out),
            "drain" | "retire" => assert!(committed, "{of} came too early\n{}", ran.out),
            _ => {}
        }
        let told = report(&ran);
        if committed {
            let ran = ran.expect(0);
            assert_eq!(told["result"]["unchanged"], false, "{}", ran.out);
            turns.settled_on(turns.candidate(), &of);
        } else {
            let ran = ran.expect(21).says(&[
                "stopped on request",
                r#""todo":"when you are ready""#,
                r#""next":["bluegreen","deploy""#,
            ]);
            let previous = turns.images[turns.serving].as_str();
            assert_eq!(told["serving"]["image"], previous, "{}", ran.out);
            let containers = turns.stage.containers(&[]).len();
            turns.settled_on(turns.serving, &of);
            // A container that an earlier deploy kept may be there; this run's own may not.
            let left = run.seen.iter().find(|line| line.contains("\"begun\""));
            let id = serde_json::from_str::<Value>(left.expect("it began")).expect("JSON");
            let label = format!("label=bluegreen.deployment={}", id["deployment"].as_str().expect("an id"));
            assert!(turns.stage.containers(&["--filter", &label]).is_empty(), "{of}: the candidate is left");
            assert!(containers <= 2, "{of}");
        }
        assert!(run.seen.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{of}");
    }
    let report = load.stop();
    report.assert_lossless();
    assert!(report.versions.keys().all(|version| VERSIONS.contains(&version.as_str())), "{report}");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn sigterm_at_each_step_ends_in_exactly_one_release_and_loses_no_request() {
    asked_to_stop(Kind::HostLive, "TERM");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn ctrl_c_at_each_step_ends_in_exactly_one_release_and_loses_no_request() {
    asked_to_stop(Kind::ContainerLive, "INT");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_second_signal_does_not_cut_a_rollback_short() {
    let mut turns = Turns::new(Kind::HostLive);
    let stage = &turns.stage;
    let ran = stage.watched(&VERSIONS[..1], || {
        let mut run = Running::deploy(stage, &turns.images[1], &[]);
        run.until("step-started", Some("gate"));
        for signal in ["INT", "INT", "TERM", "HUP"] {
            run.signal(signal);
            thread::sleep(Duration::from_millis(10));
        }
        run.end()
    });
    ran.expect(21).says(&["stopping; a run that is not committed is rolled back", "stopped on request"]);
    assert_eq!(stage.containers(&[]).len(), 1);
    turns.settled_on(0, "signals");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn sigkill_at_each_step_is_settled_by_simply_the_next_deploy_and_loses_no_request() {
    let mut turns = Turns::new(Kind::HostLive);
    let load = turns.stage.light_load();
    for step in STEPS {
        let of = format!("SIGKILL at {step}");
        let (run, ran) = turns.signalled(step, "KILL");
        let ran = ran.expect(-1);
        // Whoever serves now is one of the two, and what nobody settled is known.
        let serves = turns.stage.version().expect("somebody serves");
        assert!(VERSIONS.contains(&serves.as_str()), "{of}: {serves}");
        assert!(!run.saw("step-succeeded", "retire"), "{of} came too late\n{}", ran.out);
        turns.stage.bluegreen(&["status"]).expect(50).says(&["UNFINISHED", "next: bluegreen recover"]);
        let candidate = turns.candidate();
        let next = turns.stage.bluegreen(&["deploy", "--image", &turns.images[candidate]]).expect(0);
        let next = next.says(&["which was interrupted"]);
        assert!(!next.err.contains("error:"), "{of}\n{}", next.err);
        turns.settled_on(candidate, &of);
        let status = turns.stage.bluegreen(&["status"]).expect(0);
        assert!(
            !status.out.contains("UNFINISHED") && !status.out.contains("ATTENTION"),
            "{of}\n{}",
            status.out
        );
    }
    let report = load.stop();
    report.assert_lossless();
    assert!(report.versions.keys().all(|version| VERSIONS.contains(&version.as_str())), "{report}");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn recover_alone_settles_what_was_cut_off_in_the_right_direction() {
    let mut turns = Turns::new(Kind::HostLive);
    turns.stage.bluegreen(&["recover"]).expect(0).says(&["nothing to recover"]);
    for (step, forward, says) in [("gate", false, "rolled back: "), ("drain", true, "finished: ")] {
        let (_, ran) = turns.signalled(step, "KILL");
        ran.expect(-1);
        let stage = &turns.stage;
        let ran = stage.watched(&VERSIONS, || stage.bluegreen(&["recover", "--output", "json"]).expect(0));
        let told = report(&ran);
        let outcome = if forward { "committed" } else { "rolledback" };
        let said = told["result"]["settled"]["outcome"].as_str().unwrap_or_default().replace(['-', '_'], "");
        assert_eq!(said.to_lowercase(), outcome, "{}", ran.out);
        let serves = if forward { turns.candidate() } else { turns.serving };
        turns.settled_on(serves, step);
        turns.stage.bluegreen(&["recover"]).expect(0).says(&["nothing to recover"]);
        // In words too, for the next person: once more the same way.
        let (_, ran) = turns.signalled(step, "KILL");
        ran.expect(-1);
        turns.stage.bluegreen(&["recover"]).expect(0).says(&[says]);
        let serves = if forward { turns.candidate() } else { turns.serving };
        turns.settled_on(serves, step);
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_reader_that_goes_away_stops_neither_a_rollback_nor_a_deploy() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure("[app.WEB.health]\nhttp = \"/health\"\ndeadline = \"2s\"");
    let bad = stage.image_with("v2", &[("HEALTH", "500")]);
    let good = stage.image_with("v3", &[]);
    for (image, code, serves) in [(&bad, 20, "v1"), (&good, 0, "v3")] {
        for format in ["human", "json"] {
            let arguments = ["-v", "--output", format, "deploy", "--force", "--image", image];
            let mut command = stage.command(&arguments);
            let mut child =
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
            // One byte, so that the pipes are in use, and then nobody reads any more.
            let mut first = [0];
            let (mut out, mut err) =
                (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
            let read = if format == "json" { out.read(&mut first) } else { err.read(&mut first) };
            assert_eq!(read.expect("a pipe"), 1);
            drop((out, err));
            let status = stage.watched(&["v1", "v3"], || child.wait().expect("it ends"));
            assert_eq!(status.code(), Some(code), "{format}");
            stage.serves(serves);
            assert_eq!(stage.running().len(), 1, "{format}");
        }
    }
    assert!(!stage.bluegreen(&["status"]).expect(0).out.contains("UNFINISHED"));
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_deadline_that_runs_out_in_the_gate_takes_the_deploy_back_and_says_so() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure("[app.WEB.health]\nhttp = \"/health\"\ndeadline = \"60s\"\nattempt_timeout = \"60s\"");
    let bad = stage.image_with("v2", &[("HEALTH", "hang")]);
    let ran = stage.watched(&["v1"], || stage.bluegreen(&["deploy", "--image", &bad, "--deadline", "3s"]));
    ran.expect(21).says(&["the deadline of 3", "has passed", "serving now: blue", "app:v1", "next: "]);
    stage.serves("v1");
    assert_eq!(stage.containers(&[]), [stage.place("blue")], "the candidate is left");
}

/// The agent's part: a script of a revision in the agent's own place, which gets SIGTERM after its `timeout`.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_codedeploy_hook_takes_the_deploy_back_within_its_own_limit_and_needs_no_signal() {
    const LIMIT: &str = "20";
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure("[app.WEB.health]\nhttp = \"/health\"\ndeadline = \"60s\"\nattempt_timeout = \"60s\"");
    let bad = stage.image_with("v2", &[("HEALTH", "hang")]);
    let deploy = stage.command(&["deploy", "--image", &bad]);
    let words = std::iter::once(deploy.get_program()).chain(deploy.get_args());
    let line: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let revision = stage.dir().join("revision");
    std::fs::create_dir(&revision).expect("a directory");
    let spec = format!("hooks:\n  ApplicationStart:\n    - location: start.sh\n      timeout: {LIMIT}\n");
    std::fs::write(revision.join("appspec.yml"), spec).expect("a file");
    // Found by its path among our ancestors, and, where it gave us its place and nobody names it, by its deployment.
    for (exec, at) in [("", "$at"), ("exec ", ".")] {
        let script = format!("#!/bin/sh\ncd {}\nsleep 2\n{exec}{}\n", stage.dir().display(), line.join(" "));
        std::fs::write(revision.join("start.sh"), script).expect("a file");
        let agent = format!(
            "set -e; mount -t tmpfs none /opt; at=/opt/codedeploy-agent/deployment-root/group/d-HOOK; mkdir -p $at; \
             at=$at/deployment-archive; cp -r {} $at; chmod +x $at/start.sh; cd $at; exec timeout {LIMIT} {at}/start.sh",
            revision.display(),
        );
        let ran = stage.watched(&["v1"], || {
            let mut hook = Command::new("unshare");
            hook.args(["--mount", "sh", "-c", &agent]).env("LIFECYCLE_EVENT", "ApplicationStart");
            ran(hook.env("DEPLOYMENT_ID", "d-HOOK"))
        });
        let ran = ran.expect(21).says(&[
            "this hook may take 20 s",
            "serving now: blue",
            "app:v1",
            "to do: if it only needs more time, raise this hook's `timeout`",
        ]);
        assert!(!ran.err.contains("SIGTERM"), "{}", ran.err);
        assert_eq!(stage.containers(&[]), [stage.place("blue")], "the candidate is left");
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_second_deploy_is_refused_at_once_with_who_is_at_work_or_waits_for_its_turn() {
    let stage = Stage::with_v1(Kind::HostLive);
    let slow = stage.image_with("v2", &[("START_DELAY_MS", "6000")]);
    let v3 = stage.image_with("v3", &[]);
    let load = stage.light_load();
    let mut first = Running::deploy(&stage, &slow, &["--deployment-id", "d-first"]);
    first.until("step-started", Some("gate"));

    let second = stage.bluegreen(&["deploy", "--image", &v3]).expect(10);
    let pid = format!("pid {} on ", first.pid());
    let says = [
        "another run of this application is in progress",
        "deploy d-first",
        &pid,
        "since 20",
        "nothing touched",
        "--wait 10m",
    ];
    let second = second.says(&says);
    assert!(!second.err.contains("serving now"), "{}", second.err);
    // The same for the other verbs that change something; those that only look are answered.
    for verb in [&["rollback"][..], &["recover"]] {
        stage.bluegreen(verb).expect(10).says(&[
            "another run of this application is in progress",
            "deploy d-first",
            &pid,
        ]);
    }
    stage.bluegreen(&["status"]).expect(0).says(&[
        "IN PROGRESS",
        "deploy d-first",
        &pid,
        "; at ",
        "bluegreen cancel",
    ]);
    // A wait that is not long enough.
    let short = stage.bluegreen(&["deploy", "--image", &v3, "--wait", "300ms"]).expect(10);
    short.says(&[
        "waiting for another run to end: deploy d-first",
        "another run of this application is in progress",
        &pid,
    ]);
    assert!(process::is_alive(first.pid()), "the first one was to be at work all this time");

    // And one that is.
    let mut third = Running::deploy(&stage, &v3, &["--wait", "5m"]);
    let waiting = third.until("waiting", None);
    assert_eq!(waiting["holder"]["deployment"], "d-first");
    assert_eq!(waiting["holder"]["pid"], first.pid());
    first.end().expect(0);
    third.end().expect(0);
    stage.serves("v3");
    assert_eq!(stage.running(), [stage.place("blue")]);
    load.stop().assert_lossless();
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_run_that_waits_for_its_turn_can_be_stopped() {
    let stage = Stage::with_v1(Kind::HostLive);
    let slow = stage.image_with("v2", &[("START_DELAY_MS", "4000")]);
    let v3 = stage.image_with("v3", &[]);
    let mut first = Running::deploy(&stage, &slow, &[]);
    first.until("step-started", Some("gate"));
    let mut second = Running::deploy(&stage, &v3, &["--wait", "5m"]);
    second.until("waiting", None);
    second.signal("TERM");
    second.end().expect(21).says(&["stopped on request"]);
    first.end().expect(0);
    stage.serves("v2");
    // A run that was killed holds nothing.
    let mut killed = Running::deploy(&stage, &v3, &[]);
    killed.until("step-started", Some("start"));
    killed.signal("KILL");
    killed.end().expect(-1);
    let mut command = stage.command(&["deploy", "--image", &v3]);
    stage.watched(&["v2", "v3"], || ran(&mut command)).expect(0);
    assert!(process::wait_until(PATIENCE, || stage.version().as_deref() == Some("v3")));
}
