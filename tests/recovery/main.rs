//! Every fault at every call, and then every crash during what follows: the end is always one complete release.
//!
//! A failing combination prints the line that replays it alone.

mod planted;

use std::io::Write as _;
use std::time::Duration;

use bluegreen_core::model::Color;
use bluegreen_core::orchestrator::{Orchestrator, Request};
use bluegreen_core::port::Ports;
use bluegreen_core::state::{AppState, Run};
use bluegreen_core::testing::{Fault, Health, When, World};

/// The ports of a run under test: those of the World, or those with a bug in them.
type Wiring = fn(&World) -> Ports;

/// What the run under test is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    FirstDeploy,
    Deploy,
    UnhealthyDeploy,
    Rollback,
    /// The same with the previous container kept running.
    WarmRollback,
    /// What is kept running is stopped.
    Retire,
    /// A deploy that was cut off when it had switched is rolled back.
    RecoverBack,
    /// A deploy that was cut off when it was committed is finished.
    RecoverForward,
    /// The same after somebody has pointed the proxy back.
    Reinstate,
    /// The candidate dies while the previous container is being stopped.
    LostAtTheEnd,
}

const SCENES: [Scene; 10] = [
    Scene::FirstDeploy,
    Scene::Deploy,
    Scene::UnhealthyDeploy,
    Scene::Rollback,
    Scene::WarmRollback,
    Scene::Retire,
    Scene::RecoverBack,
    Scene::RecoverForward,
    Scene::Reinstate,
    Scene::LostAtTheEnd,
];

/// What settles what was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// `recover`.
    Recover,
    /// Simply the next deploy.
    Deploy,
}

fn request(tag: &str, id: &str) -> Request {
    Request::new(format!("registry.test/web:{tag}").parse().unwrap(), id.parse().unwrap())
}

fn orchestrator(world: &World, scene: Scene) -> Orchestrator {
    wired(world, scene, World::ports)
}

fn wired(world: &World, scene: Scene, wiring: Wiring) -> Orchestrator {
    let mut spec = world.spec();
    spec.retain.warm = scene.is_warm().then_some(Duration::from_mins(10));
    // Long enough for several attempts; each further one would only repeat the same combination.
    spec.gate.deadline = Some(Duration::from_millis(60));
    spec.drain.timeout = Duration::from_secs(2);
    // Slow, or hours of waiting for calls that hang would be filled with requests.
    spec.receipt.as_mut().unwrap().rate = bluegreen_core::model::Rate::new(1).unwrap();
    Orchestrator::new(wiring(world), spec)
}

impl Scene {
    fn is_warm(self) -> bool {
        matches!(self, Self::WarmRollback | Self::Retire)
    }

    async fn prepare(self) -> World {
        let world = World::new();
        for tag in ["1", "2", "next"] {
            world.publish(&format!("registry.test/web:{tag}"));
        }
        world.publish("registry.test/web:bad").behaves(Health::never("status 500"));
        world.foreign_container("somebody-elses");
        let before: &[&str] = match self {
            Self::FirstDeploy => &[],
            Self::Rollback | Self::WarmRollback | Self::Retire => &["1", "2"],
            _ => &["1"],
        };
        for tag in before {
            orchestrator(&world, self).deploy(request(tag, tag)).await.unwrap();
        }
        if let Some((operation, when)) = self.cut_off_at() {
            world.fault_at(operation, Fault::Crash, when);
            let run = async { drop(orchestrator(&world, self).deploy(request("2", "tested")).await) };
            assert!(until_crash(&world, run).await, "it was not cut off");
            assert_eq!(is_committed(&world), self != Self::RecoverBack);
        }
        if self == Self::LostAtTheEnd {
            world.publish("registry.test/web:dying").behaves(Health::DiesAfter(Duration::from_secs(1), 1));
            world.stops_take(Duration::from_secs(3));
        }
        if self == Self::Reinstate {
            world.tamper_proxy(Some(Color::Blue));
        }
        world
    }

    /// Where the run that a recovery is for was cut off.
    fn cut_off_at(self) -> Option<(&'static str, When)> {
        match self {
            Self::RecoverBack => Some(("proxy.switch", When::After)),
            Self::RecoverForward | Self::Reinstate => Some(("proxy.in_flight", When::Before)),
            _ => None,
        }
    }

    async fn run(self, world: &World, wiring: Wiring) {
        let run = wired(world, self, wiring);
        // Success or failure: what counts is what is there afterwards.
        match self {
            Self::FirstDeploy | Self::Deploy => drop(run.deploy(request("2", "tested")).await),
            Self::UnhealthyDeploy => drop(run.deploy(request("bad", "tested")).await),
            Self::LostAtTheEnd => drop(run.deploy(request("dying", "tested")).await),
            Self::Rollback | Self::WarmRollback => drop(run.rollback("tested".parse().unwrap()).await),
            Self::Retire => drop(run.retire("tested".parse().unwrap(), true).await),
            Self::RecoverBack | Self::RecoverForward | Self::Reinstate => {
                drop(run.recover("recovery".parse().unwrap()).await);
            }
        }
    }

    /// What serves once it is committed and settled.
    fn candidate(self) -> Option<&'static str> {
        match self {
            Self::FirstDeploy | Self::Deploy | Self::RecoverForward | Self::Reinstate => Some("2"),
            Self::Rollback | Self::WarmRollback | Self::LostAtTheEnd => Some("1"),
            Self::UnhealthyDeploy | Self::Retire | Self::RecoverBack => None,
        }
    }

    /// What may serve when the run is settled.
    fn allowed(self) -> &'static [Option<&'static str>] {
        match self {
            Self::FirstDeploy => &[None, Some("2")],
            Self::Deploy | Self::Reinstate => &[Some("1"), Some("2")],
            Self::UnhealthyDeploy | Self::RecoverBack | Self::LostAtTheEnd => &[Some("1")],
            Self::Rollback | Self::WarmRollback => &[Some("1"), Some("2")],
            Self::Retire | Self::RecoverForward => &[Some("2")],
        }
    }
}

/// Whether the run under test is past its commit point.
fn is_committed(world: &World) -> bool {
    let state = AppState::replay(&world.journal()).expect("a journal that makes sense");
    state.run(&"tested".parse().unwrap()).is_some_and(Run::is_committed)
}

/// Runs until the end or a planned crash; whether it crashed.
async fn until_crash(world: &World, run: impl Future<Output = ()>) -> bool {
    let crashed = tokio::select! {
        () = run => false,
        () = world.crash() => true,
    };
    // Each run is a process of its own: what it held is gone with it.
    world.restart_process();
    crashed
}

#[track_caller]
fn check(world: &World, scene: Scene, replay: &str) {
    let serving = world.serving().map(|served| served.tag);
    let explain = || format!("replay: {replay}\ncalls: {:#?}", world.calls());
    assert!(scene.allowed().contains(&serving.as_deref()), "{serving:?} serves\n{}", explain());
    let ours: Vec<String> = world.running().into_iter().filter(|name| name.starts_with("web-")).collect();
    let expected: Vec<String> = world.serving().map(|served| served.name.to_string()).into_iter().collect();
    if scene.is_warm() {
        // The other one may be kept running, or have been stopped by what was cut off.
        assert!(
            expected.iter().all(|serves| ours.contains(serves)),
            "what serves does not run\n{}",
            explain()
        );
    } else {
        assert_eq!(ours, expected, "not exactly what serves is running\n{}", explain());
    }
    assert_eq!(world.violations(), Vec::<String>::new(), "{}", explain());
}

/// One combination: a fault in the run, perhaps a crash in the recovery, then a recovery in peace or none, and a deploy
/// that goes on as if nothing had been. How many calls the recovery took.
async fn combination(
    scene: Scene,
    wiring: Wiring,
    first: (usize, Fault, When),
    second: Option<(usize, When)>,
    settled: Settled,
) -> usize {
    let replay = format!(
        "REPLAY='{scene:?} {} {:?} {:?} {} {settled:?}' cargo test --test recovery replay",
        first.0,
        first.1,
        first.2,
        second.map_or_else(|| "-".to_owned(), |(call, when)| format!("{call} {when:?}"))
    );
    let world = scene.prepare().await;
    world.fault_at_call(world.calls().len() + first.0, first.1, first.2);
    until_crash(&world, scene.run(&world, wiring)).await;
    // A run that failed may have rolled back what it could not know to be committed; one that was cut off has not.
    let committed = first.1 == Fault::Crash && is_committed(&world);
    if let Some((call, when)) = second {
        world.fault_at_call(world.calls().len() + call, Fault::Crash, when);
        until_crash(&world, async {
            drop(wired(&world, scene, wiring).recover("second".parse().unwrap()).await)
        })
        .await;
    }
    world.heal();
    let before = world.calls().len();
    if settled == Settled::Recover {
        let recovered = wired(&world, scene, wiring).recover("third".parse().unwrap()).await;
        assert!(recovered.is_ok(), "{recovered:?}\nreplay: {replay}\ncalls: {:#?}", world.calls());
        check(&world, scene, &replay);
        if committed {
            let serving = world.serving().map(|served| served.tag);
            let kept = serving.as_deref() == scene.candidate();
            assert!(kept, "a committed run was taken back: {serving:?} serves\nreplay: {replay}");
        }
    }
    let calls = world.calls().len() - before;
    let next = orchestrator(&world, scene).deploy(request("next", "next")).await;
    assert!(next.is_ok(), "{next:?}\nreplay: {replay}\ncalls: {:#?}", world.calls());
    assert_eq!(world.serving().unwrap().tag, "next", "replay: {replay}");
    // What it has kept warm can be let go, and then exactly what serves is running.
    let retired = orchestrator(&world, scene).retire("last".parse().unwrap(), true).await;
    assert!(retired.is_ok(), "{retired:?}\nreplay: {replay}\ncalls: {:#?}", world.calls());
    let ours = world.running().into_iter().filter(|name| name.starts_with("web-")).count();
    assert_eq!((world.serving().unwrap().tag.as_str(), ours), ("next", 1), "replay: {replay}");
    assert_eq!(world.violations(), Vec::<String>::new(), "replay: {replay}");
    calls
}

async fn calls_of(scene: Scene) -> usize {
    let world = scene.prepare().await;
    let before = world.calls().len();
    scene.run(&world, World::ports).await;
    world.calls().len() - before
}

/// Every fault at every call of a scene, and every crash in the recovery from it.
async fn every_combination_of(scene: Scene) {
    let mut combinations = 0;
    for call in 0..calls_of(scene).await {
        for fault in Fault::ALL {
            for when in When::ALL {
                let first = (call, fault, when);
                let recovery = combination(scene, World::ports, first, None, Settled::Recover).await;
                // A deploy settles first, with the same calls.
                combination(scene, World::ports, first, None, Settled::Deploy).await;
                combinations += 2;
                for second in (0..recovery).flat_map(|call| When::ALL.map(|when| (call, when))) {
                    combination(scene, World::ports, first, Some(second), Settled::Recover).await;
                    combinations += 1;
                }
            }
        }
    }
    // Past the harness, which keeps to itself what a passing test prints.
    writeln!(std::io::stderr(), "{scene:?}: {combinations} combinations").ok();
    let least = if scene == Scene::Retire { 100 } else { 500 };
    assert!(combinations > least, "only {combinations} combinations were run");
}

#[tokio::test(start_paused = true)]
async fn a_first_deploy_survives_every_fault_and_every_crash_in_its_recovery() {
    every_combination_of(Scene::FirstDeploy).await;
}

#[tokio::test(start_paused = true)]
async fn a_deploy_survives_every_fault_and_every_crash_in_its_recovery() {
    every_combination_of(Scene::Deploy).await;
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_deploy_survives_every_fault_and_every_crash_in_its_recovery() {
    every_combination_of(Scene::UnhealthyDeploy).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_survives_every_fault_and_every_crash_in_its_recovery() {
    every_combination_of(Scene::Rollback).await;
}

#[tokio::test(start_paused = true)]
async fn a_warm_rollback_survives_every_fault_and_every_crash_in_its_recovery() {
    every_combination_of(Scene::WarmRollback).await;
}

#[tokio::test(start_paused = true)]
async fn retiring_what_was_kept_warm_survives_every_fault_and_every_crash_in_its_recovery() {
    every_combination_of(Scene::Retire).await;
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_takes_back_survives_every_fault_and_every_crash_in_the_next() {
    every_combination_of(Scene::RecoverBack).await;
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_finishes_survives_every_fault_and_every_crash_in_the_next() {
    every_combination_of(Scene::RecoverForward).await;
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_switches_once_more_survives_every_fault_and_every_crash_in_the_next() {
    every_combination_of(Scene::Reinstate).await;
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_dies_at_the_end_survives_every_fault_and_every_crash_in_its_recovery() {
    every_combination_of(Scene::LostAtTheEnd).await;
}

/// Runs the one combination that `REPLAY` names; without it, one that is known.
#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the replay line is given by the environment")]
async fn replay() {
    let line = std::env::var("REPLAY").unwrap_or_else(|_| "Deploy 5 Crash After - Deploy".to_owned());
    let words: Vec<&str> = line.split_whitespace().collect();
    let scene = SCENES.into_iter().find(|scene| format!("{scene:?}") == words[0]).expect("a scene");
    let fault = Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == words[2]).expect("a fault");
    let when =
        |word: &str| When::ALL.into_iter().find(|when| format!("{when:?}") == word).expect("Before or After");
    let second = (words[4] != "-").then(|| (words[4].parse().expect("a call's number"), when(words[5])));
    let settled = match words.last() {
        Some(&"Recover") => Settled::Recover,
        Some(&"Deploy") => Settled::Deploy,
        _ => panic!("REPLAY does not end with what settles it: {line}"),
    };
    combination(
        scene,
        World::ports,
        (words[1].parse().expect("a call's number"), fault, when(words[3])),
        second,
        settled,
    )
    .await;
}

/// The container that a start has set aside for its own goes with the run, whichever command settles it.
#[tokio::test(start_paused = true)]
async fn what_a_start_that_was_cut_off_had_set_aside_is_removed_with_it() {
    let world = Scene::Rollback.prepare().await;
    let run = orchestrator(&world, Scene::Deploy);
    world.fault_at("runtime.ensure_running", Fault::Crash, When::Before);
    assert!(until_crash(&world, async { drop(run.deploy(request("next", "cut")).await) }).await);
    world.set_aside(Color::Blue);
    run.recover("recovery".parse().unwrap()).await.unwrap();
    assert_eq!(world.containers(), ["somebody-elses", "web-green"]);
    check(&world, Scene::Rollback, "this test");
}

/// Without this the suite above would prove nothing: a World that accepts everything has no violations either.
#[tokio::test(start_paused = true)]
async fn the_world_notices_a_stop_of_what_serves() {
    let world = Scene::Deploy.prepare().await;
    let runtime = world.ports().runtime;
    let serving = world.serving().unwrap().name;
    let instance = runtime.find(&serving).await.unwrap().unwrap();
    runtime.ensure_stopped(&instance.id, None).await.unwrap();
    let violations = world.violations();
    assert!(violations.iter().any(|v| v.contains("which does not answer")), "{violations:?}");
    assert!(violations.iter().any(|v| v.contains("was not announced")), "{violations:?}");
}
