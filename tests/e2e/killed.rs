//! The real command killed by SIGKILL at every record of its journal, under load; then simply the next command.
//!
//! The kinds of nginx share the records among them, so that each record is killed at by one of them;
//! `scripts/kill-storm --every-record` has each kind do all of them.
//!
//! A failing one prints the line that replays it alone.

use std::io::{Write as _, stderr};
use std::thread;

use bluegreen_testkit::load::Handle;
use tokio::time::Instant;

use crate::rounds::{Cut, Rounds};
use crate::stage::Kind;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    Deploy,
    Rollback,
    /// A recovery that takes a deploy back.
    RecoverBack,
    /// A recovery that finishes a deploy.
    RecoverForward,
}

const SCENES: [Scene; 4] = [Scene::Deploy, Scene::Rollback, Scene::RecoverBack, Scene::RecoverForward];
/// Where nginx runs and how it is switched.
pub const KINDS: [Kind; 3] = [Kind::HostLive, Kind::ContainerLive, Kind::ContainerRewrite];

/// How often a record is tried again that the kill came too late for.
const TRIES: usize = 20;

/// Up to the record that Verify begins with, and up to the one that commits.
const BEFORE_THE_COMMIT: usize = 10;
const BEHIND_THE_COMMIT: usize = 11;

/// Says how to do it again when the test fails while this is there.
struct Replay(Kind, Scene, usize);

impl Drop for Replay {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self(kind, scene, n) = self;
            eprintln!(
                "replay: REPLAY='{kind:?} {scene:?} {n}' cargo test --test e2e killed::replay -- --ignored"
            );
        }
    }
}

/// Kills the scene's run as soon as its `n`th record is there, and lets the next command settle it. `None` when that
/// came to nothing, because an earlier kill was late.
fn round(rounds: &mut Rounds, scene: Scene, n: usize) -> Option<Cut> {
    let verb = match scene {
        Scene::Deploy => rounds.next(),
        Scene::Rollback => vec!["rollback".to_owned()],
        Scene::RecoverBack | Scene::RecoverForward => {
            let at = if scene == Scene::RecoverBack { BEFORE_THE_COMMIT } else { BEHIND_THE_COMMIT };
            let deploy = rounds.next();
            if rounds.cut(&deploy, |records| records >= at).records.len() != at {
                rounds.deploy_next().expect(0);
                return None;
            }
            vec!["recover".to_owned()]
        }
    };
    let cut = rounds.cut(&verb, |records| records >= n);
    assert!(rounds.stage.version().is_some(), "nothing serves");
    if scene == Scene::Rollback {
        // A deploy would do as well; and only after one is there something to roll back to again.
        rounds.stage.bluegreen(&["recover"]).expect(0);
        rounds.settled();
    }
    // After a rollback the version whose turn it is may be the one that serves: then there is still nothing to go back to.
    if rounds.deploy_next().expect(0).out.contains("unchanged: ") {
        rounds.deploy_next().expect(0);
    }
    rounds.settled();
    Some(cut)
}

/// These records of a scene's run, until it ends by itself before it has so many.
fn each_record(rounds: &mut Rounds, load: &Handle, scene: Scene, records: impl Iterator<Item = usize>) {
    for n in records {
        let _replay = Replay(rounds.kind, scene, n);
        for tries in 1.. {
            let cut = round(rounds, scene, n);
            load.snapshot().assert_lossless();
            match cut {
                Some(Cut { ended: None, records }) if records.len() == n => break,
                Some(Cut { ended: Some(ran), records }) if records.len() < n => {
                    ran.expect(0);
                    return;
                }
                // A record came between the look and the kill.
                _ => assert!(tries < TRIES, "never killed between record {n} and the next"),
            }
        }
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
#[expect(clippy::disallowed_methods, reason = "the script asks for more by the environment")]
fn sigkill_at_every_record_is_settled_by_the_next_command_and_loses_no_request() {
    let began = Instant::now();
    let all = std::env::var_os("KILL_EVERY_RECORD").is_some();
    let of = |at: usize, kind| {
        let mut rounds = Rounds::new(kind);
        let load = rounds.load();
        for (turn, scene) in SCENES.into_iter().enumerate() {
            let before = rounds.kills.get();
            if all {
                each_record(&mut rounds, &load, scene, 1..);
            } else {
                let first = 1 + (at + turn) % KINDS.len();
                each_record(&mut rounds, &load, scene, (first..).step_by(KINDS.len()));
            }
            eprintln!("{kind:?} {scene:?}: {} kills", rounds.kills.get() - before);
        }
        let report = load.stop();
        report.assert_lossless();
        let (kills, requests) = (rounds.kills.get(), report.total.requests);
        // Past the harness, which keeps to itself what a passing test prints.
        writeln!(stderr(), "{kind:?}: {kills} kills at records, {requests} requests, 0 failed").ok();
    };
    thread::scope(|scope| {
        let of = &of;
        let running: Vec<_> =
            (0..).zip(KINDS).map(|(at, kind)| (kind, scope.spawn(move || of(at, kind)))).collect();
        for (kind, thread) in running {
            assert!(thread.join().is_ok(), "{kind:?} failed, see above");
        }
    });
    writeln!(stderr(), "killed at every record in {:.0?}", began.elapsed()).ok();
}

/// Kills the one run at the one record that `REPLAY` names; without it, where a switch is under way.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
#[expect(clippy::disallowed_methods, reason = "the replay line is given by the environment")]
fn replay() {
    let line = std::env::var("REPLAY").unwrap_or_else(|_| "HostLive Deploy 8".to_owned());
    let words: Vec<&str> = line.split_whitespace().collect();
    let [kind, scene, n] = words[..] else { panic!("REPLAY is not KIND SCENE RECORD: {line}") };
    let kind = KINDS.into_iter().find(|known| format!("{known:?}") == kind).expect("a kind");
    let scene = SCENES.into_iter().find(|known| format!("{known:?}") == scene).expect("a scene");
    let mut rounds = Rounds::new(kind);
    let load = rounds.load();
    round(&mut rounds, scene, n.parse().expect("a record's number"));
    load.stop().assert_lossless();
}
