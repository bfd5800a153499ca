//! What is decided by a look at what is there: whether a switch was seen, whether the candidate is still the one that
//! passed the gate, and how a run goes on whose commit is on record.

use std::sync::Arc;
use std::time::Duration;

use bluegreen_core::model::Color;
use bluegreen_core::orchestrator::{Aftermath, Cause, Failure, Orchestrator, Report, Request};
use bluegreen_core::plan::Step;
use bluegreen_core::port::ProxyError;
use bluegreen_core::state::Outcome;
use bluegreen_core::testing::{Fault, Health, OnEvent, When, World};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

fn orchestrator(world: &World) -> Orchestrator {
    Orchestrator::new(world.ports(), world.spec())
}

fn request(tag: &str) -> Request {
    Request::new(format!("registry.test/web:{tag}").parse().unwrap(), tag.parse().unwrap())
}

/// Version 1 serves on blue.
async fn world() -> World {
    let world = World::new();
    for tag in ["1", "2"] {
        world.publish(&format!("registry.test/web:{tag}"));
    }
    orchestrator(&world).deploy(request("1")).await.unwrap();
    world
}

/// `docker stop`, by somebody.
async fn stop(world: &World, color: Color) {
    let runtime = world.ports().runtime;
    let instance = runtime.find(&world.spec().slots.of(color).name).await.unwrap().unwrap();
    runtime.ensure_stopped(&instance.id, None).await.unwrap();
}

async fn deploy_2_with(world: &World, what: fn(World)) -> Result<Report, Failure> {
    let inside = world.clone();
    let at = OnEvent::at_step(Step::Verify, move || what(inside.clone()));
    orchestrator(world).observed_by(Arc::new(at)).deploy(request("2")).await
}

#[tokio::test(start_paused = true)]
async fn a_switch_has_a_moment_to_be_seen() {
    let world = world().await;
    let deployed = deploy_2_with(&world, |world| {
        world.tamper_proxy(Some(Color::Blue));
        tokio::spawn(async move {
            sleep(Duration::from_millis(500)).await;
            world.tamper_proxy(Some(Color::Green));
        });
    });
    deployed.await.unwrap();
    assert_eq!(world.serving().unwrap().tag, "2");
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_is_not_seen_within_a_second_is_taken_back() {
    let world = world().await;
    let began = Instant::now();
    let failure = deploy_2_with(&world, |world| world.tamper_proxy(Some(Color::Blue))).await.unwrap_err();
    assert_eq!((failure.step, &failure.aftermath), (Some(Step::Verify), &Aftermath::RolledBack));
    assert!(matches!(failure.cause, Cause::Proxy(ProxyError::NotProven { .. })), "{failure:?}");
    assert_eq!(failure.log, ["the last line"]);
    let took = began.elapsed();
    assert!((1..10).contains(&took.as_secs()), "{took:?}");
    assert_eq!(world.serving().unwrap().tag, "1");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_is_lost_while_its_switch_is_verified_is_not_committed() {
    let world = world().await;
    let failure = deploy_2_with(&world, |world| {
        world.tamper_proxy(Some(Color::Blue));
        tokio::spawn(async move {
            sleep(Duration::from_millis(300)).await;
            stop(&world, Color::Green).await;
            world.tamper_proxy(Some(Color::Green));
        });
    });
    let failure = failure.await.unwrap_err();
    assert!(matches!(failure.cause, Cause::CandidateLost { .. }), "{failure:?}");
    assert_eq!((failure.step, &failure.aftermath), (Some(Step::Verify), &Aftermath::RolledBack));
    assert_eq!(world.serving().unwrap().tag, "1");
}

/// Version 2 was committed on green, and its run was killed before it let go of blue.
async fn committed_and_killed() -> World {
    let world = world().await;
    world.fault_at("proxy.in_flight", Fault::Crash, When::Before);
    let run = orchestrator(&world);
    tokio::select! {
        ended = run.deploy(request("2")) => panic!("{ended:?}"),
        () = world.crash() => world.restart_process(),
    }
    assert_eq!(world.running(), ["web-blue", "web-green"]);
    world
}

async fn recovered(world: &World) -> Outcome {
    orchestrator(world).recover("r".parse().unwrap()).await.unwrap().unwrap().1
}

/// Only a previous one that serves beside a candidate that is gone tells of a run that was rolled back.
#[tokio::test(start_paused = true)]
async fn a_committed_run_goes_forward_whatever_was_done_to_one_of_the_two() {
    for what in ["nothing", "candidate stopped", "proxy elsewhere", "proxy nowhere"] {
        let world = committed_and_killed().await;
        match what {
            "candidate stopped" => stop(&world, Color::Green).await,
            "proxy elsewhere" => world.tamper_proxy(Some(Color::Blue)),
            "proxy nowhere" => world.tamper_proxy(None),
            _ => {}
        }
        assert_eq!(recovered(&world).await, Outcome::Committed, "{what}");
        assert_eq!(world.serving().map(|served| served.tag).as_deref(), Some("2"), "{what}");
        assert_eq!(world.running(), ["web-green"], "{what}");
    }
}

/// The run never learned that its commit was on record, took everything back and said so.
#[tokio::test(start_paused = true)]
async fn a_run_that_was_taken_back_although_its_commit_is_on_record_stays_taken_back() {
    let world = committed_and_killed().await;
    world.tamper_proxy(Some(Color::Blue));
    stop(&world, Color::Green).await;
    assert_eq!(recovered(&world).await, Outcome::RolledBack);
    assert_eq!(world.serving().unwrap().tag, "1");
    assert_eq!(world.containers(), ["web-blue"]);
}

/// Also where the candidate must first be started and judged, and a hook's deadline is over meanwhile.
#[tokio::test(start_paused = true)]
async fn a_committed_run_is_finished_also_when_somebody_asks_to_stop() {
    let world = committed_and_killed().await;
    stop(&world, Color::Green).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let recovered = orchestrator(&world).cancelled_by(cancel).recover("r".parse().unwrap()).await;
    assert_eq!(recovered.unwrap().unwrap().1, Outcome::Committed);
    assert_eq!(world.serving().unwrap().tag, "2");
}

/// It was started, judged and switched to: that its proof cannot be asked for says nothing against it.
#[tokio::test(start_paused = true)]
async fn a_candidate_that_serves_again_is_not_taken_back_for_a_proof_that_could_not_be_asked_for() {
    for fault in [Fault::Fail, Fault::Hang] {
        let world = committed_and_killed().await;
        world.tamper_proxy(Some(Color::Blue));
        world.fault_at("proxy.verify", fault, When::Before);
        let failure = orchestrator(&world).recover("r".parse().unwrap()).await.unwrap_err();
        assert!(matches!(failure.aftermath, Aftermath::Stuck { .. }), "{fault:?}: {failure:?}");
        assert_eq!(world.serving().unwrap().tag, "2", "{fault:?}");
        assert_eq!(recovered(&world).await, Outcome::Committed, "{fault:?}");
        assert_eq!(world.running(), ["web-green"], "{fault:?}");
    }
}

/// The next deploy must get through.
#[tokio::test(start_paused = true)]
async fn a_committed_candidate_that_cannot_serve_any_more_is_taken_back() {
    let world = committed_and_killed().await;
    world.tamper_proxy(Some(Color::Blue));
    world.change("registry.test/web:2", Health::never("status 500"));
    assert_eq!(recovered(&world).await, Outcome::RolledBack);
    assert_eq!((world.serving().unwrap().tag.as_str(), world.running()), ("1", vec!["web-blue".to_owned()]));
}
