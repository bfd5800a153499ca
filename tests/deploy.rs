//! Scenarios of the orchestrator on the in-memory World: what happens, in which order, and what it says.

use std::sync::Arc;
use std::time::Duration;

use bluegreen_core::event::Event;
use bluegreen_core::model::{Color, RestartPolicy};
use bluegreen_core::orchestrator::{Aftermath, Cause, Failure, NoRollback, Orchestrator, Report, Request};
use bluegreen_core::plan::Step;
use bluegreen_core::port::{JournalError, RegistryError};
use bluegreen_core::testing::{Fault, Health, OnEvent, Recorder, When, World};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn request(tag: &str, id: &str) -> Request {
    Request::new(format!("registry.test/web:{tag}").parse().unwrap(), id.parse().unwrap())
}

/// A World with three versions published.
fn world() -> World {
    let world = World::new();
    for tag in ["1", "2", "3"] {
        world.publish(&format!("registry.test/web:{tag}"));
    }
    world.foreign_container("somebody-elses");
    world
}

fn orchestrator(world: &World) -> Orchestrator {
    Orchestrator::new(world.ports(), world.spec())
}

async fn deploy(world: &World, tag: &str) -> Result<Report, Failure> {
    orchestrator(world).deploy(request(tag, &format!("deployment-{tag}"))).await
}

#[track_caller]
fn serves(world: &World, tag: &str, running: &[&str]) {
    assert_eq!(world.serving().map(|served| served.tag).as_deref(), Some(tag), "{:#?}", world.calls());
    let ours: Vec<String> = world.running().into_iter().filter(|name| name.starts_with("web-")).collect();
    assert_eq!(ours, running);
    assert_eq!(world.violations(), Vec::<String>::new(), "{:#?}", world.calls());
}

#[tokio::test(start_paused = true)]
async fn the_first_deploy_goes_to_blue() {
    let world = world();
    let report = deploy(&world, "1").await.unwrap();
    assert_eq!((report.candidate, report.previous, report.unchanged), (Color::Blue, None, false));
    serves(&world, "1", &["web-blue"]);
}

#[tokio::test(start_paused = true)]
async fn the_order_of_calls_is_the_plan() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    let before = world.calls().len();
    deploy(&world, "2").await.unwrap();
    let effects: Vec<String> = world.calls()[before..]
        .iter()
        .filter(|call| {
            !["runtime.find ", "proxy.in_flight", "probe."].iter().any(|quiet| call.starts_with(quiet))
        })
        .cloned()
        .collect();
    insta::assert_snapshot!(effects.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn releases_alternate_and_the_previous_one_is_kept_stopped() {
    let world = world();
    for (tag, running) in [("1", "web-blue"), ("2", "web-green"), ("3", "web-blue")] {
        deploy(&world, tag).await.unwrap();
        serves(&world, tag, &[running]);
    }
    assert_eq!(world.containers(), ["somebody-elses", "web-blue", "web-green"]);
}

#[tokio::test(start_paused = true)]
async fn what_serves_already_is_not_started_again() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    let before = world.calls().len();
    let report = orchestrator(&world).deploy(request("1", "again")).await.unwrap();
    assert!(report.unchanged);
    assert!(
        !world.calls()[before..].iter().any(|call| call.starts_with("runtime.ensure")),
        "{:#?}",
        world.calls()
    );
    serves(&world, "1", &["web-blue"]);
}

#[tokio::test(start_paused = true)]
async fn force_starts_it_again() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    let report = orchestrator(&world).deploy(request("1", "again").forced()).await.unwrap();
    assert_eq!((report.unchanged, report.candidate), (false, Color::Green));
    serves(&world, "1", &["web-green"]);
}

/// Containers right, proxy wrong, and the next run says "nothing to do": others' worst bug.
#[tokio::test(start_paused = true)]
async fn already_at_this_version_still_reconciles_the_proxy() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    world.tamper_proxy(None);
    deploy(&world, "1").await.unwrap();
    assert_eq!(world.serving().unwrap().tag, "1");
}

#[tokio::test(start_paused = true)]
async fn changed_options_are_another_release() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    let mut spec = world.spec();
    spec.options.env.insert("MODE".to_owned(), "fast".to_owned().into());
    let report = Orchestrator::new(world.ports(), spec).deploy(request("1", "again")).await.unwrap();
    assert!(!report.unchanged);
    serves(&world, "1", &["web-green"]);
}

#[tokio::test(start_paused = true)]
async fn a_moved_tag_is_another_release() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    world.publish("registry.test/web:1");
    let report = orchestrator(&world).deploy(request("1", "again")).await.unwrap();
    assert!(!report.unchanged);
    serves(&world, "1", &["web-green"]);
}

async fn refused(health: Health) -> (World, Failure) {
    let world = world();
    world.publish("registry.test/web:bad").behaves(health);
    deploy(&world, "1").await.unwrap();
    let failure = deploy(&world, "bad").await.unwrap_err();
    serves(&world, "1", &["web-blue"]);
    assert_eq!(failure.aftermath, Aftermath::RolledBack);
    assert_eq!(failure.step, Some(Step::Gate));
    assert_eq!(failure.serving.as_ref().unwrap().image.as_deref(), Some("registry.test/web:1"));
    assert_eq!(failure.log, ["the last line"]);
    assert!(!world.containers().contains(&"web-green".to_owned()), "the candidate is still there");
    (world, failure)
}

fn gate(failure: &Failure) -> String {
    match &failure.cause {
        Cause::Gate(gate) => gate.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_never_gets_healthy_is_refused_at_the_deadline() {
    let began = Instant::now();
    let (_, failure) = refused(Health::never("status 500")).await;
    assert_eq!(began.elapsed().as_secs(), 30);
    insta::assert_snapshot!(gate(&failure), @"the candidate web-green was not healthy within 30 s; GET :3000/health: status 500");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_dies_is_refused_at_once_and_says_how() {
    let began = Instant::now();
    let (_, failure) = refused(Health::OomAfter(Duration::from_secs(5))).await;
    assert_eq!(began.elapsed().as_secs(), 5);
    let text = gate(&failure);
    assert!(text.contains("killed for lack of memory (OOM, exit code 137)"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn several_successes_in_a_row_are_not_given_by_a_flapping_candidate() {
    let world = world();
    world.publish("registry.test/web:flaps").behaves(Health::Flapping(Duration::from_millis(500)));
    deploy(&world, "1").await.unwrap();
    let mut spec = world.spec();
    spec.gate.min_healthy = Duration::from_secs(2);
    let failure = Orchestrator::new(world.ports(), spec).deploy(request("flaps", "x")).await.unwrap_err();
    assert!(gate(&failure).contains("status 503"), "{failure:?}");
    serves(&world, "1", &["web-blue"]);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_dies_while_the_previous_one_drains_is_taken_back() {
    let world = world();
    world.publish("registry.test/web:bad").behaves(Health::DiesAfter(Duration::from_secs(3), 1));
    deploy(&world, "1").await.unwrap();
    world.in_flight(Color::Blue, 1, Some(Duration::from_secs(10)));
    let failure = deploy(&world, "bad").await.unwrap_err();
    assert_eq!(
        (failure.step, &failure.aftermath),
        (Some(Step::Drain), &Aftermath::RolledBack),
        "{failure:?}"
    );
    assert!(matches!(failure.cause, Cause::CandidateLost { .. }));
    serves(&world, "1", &["web-blue"]);
    deploy(&world, "2").await.unwrap();
    serves(&world, "2", &["web-green"]);
}

/// It dies while nobody looks: the run that committed it is dead too.
#[tokio::test(start_paused = true)]
async fn a_committed_candidate_that_cannot_serve_any_more_gives_way_to_who_can() {
    let world = world();
    world.publish("registry.test/web:bad").behaves(Health::DiesAfter(Duration::from_secs(3), 1));
    deploy(&world, "1").await.unwrap();
    world.fault_at("runtime.ensure_stopped", Fault::Fail, When::Before);
    assert_eq!(deploy(&world, "bad").await.unwrap_err().aftermath, Aftermath::Committed);
    world.change("registry.test/web:bad", Health::never("status 500"));
    let recovered = orchestrator(&world).recover("r".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(recovered.1, bluegreen_core::state::Outcome::Committed, "it still runs and still is served");
    drop(world);
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_touches_nothing() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    let records = world.journal().len();
    let failure = deploy(&world, "404").await.unwrap_err();
    assert_eq!(failure.aftermath, Aftermath::Untouched);
    assert!(matches!(failure.cause, Cause::Registry(RegistryError::ImageNotFound { .. })));
    assert_eq!(world.journal().len(), records);
    serves(&world, "1", &["web-blue"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_deploy_that_fails_leaves_nothing() {
    let world = world();
    world.publish("registry.test/web:bad").behaves(Health::never("status 500"));
    let failure = deploy(&world, "bad").await.unwrap_err();
    assert_eq!(failure.aftermath, Aftermath::RolledBack);
    assert_eq!(world.containers(), ["somebody-elses"]);
    deploy(&world, "1").await.unwrap();
    serves(&world, "1", &["web-blue"]);
}

#[tokio::test(start_paused = true)]
async fn two_at_once_is_a_refusal_at_once() {
    let world = world();
    world.publish("registry.test/web:slow").behaves(Health::After(Duration::from_secs(20)));
    let (first, second) = (orchestrator(&world), orchestrator(&world));
    let (first, second) = tokio::join!(first.deploy(request("slow", "first")), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        second.deploy(request("2", "second")).await
    });
    let refusal = second.unwrap_err();
    assert!(matches!(refusal.cause, Cause::Journal(JournalError::Held { .. })), "{refusal:?}");
    assert_eq!(refusal.aftermath, Aftermath::Untouched);
    first.unwrap();
    serves(&world, "slow", &["web-blue"]);
}

#[tokio::test(start_paused = true)]
async fn with_waiting_the_second_follows_the_first() {
    let world = world();
    world.publish("registry.test/web:slow").behaves(Health::After(Duration::from_secs(20)));
    let first = orchestrator(&world);
    let second = orchestrator(&world).waiting(Duration::from_secs(60));
    let (first, second) = tokio::join!(first.deploy(request("slow", "first")), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        second.deploy(request("2", "second")).await
    });
    first.unwrap();
    second.unwrap();
    serves(&world, "2", &["web-green"]);
}

#[tokio::test(start_paused = true)]
async fn rollback_is_the_same_plan_with_the_release_before() {
    let world = world();
    for tag in ["1", "2", "3"] {
        deploy(&world, tag).await.unwrap();
    }
    let back = orchestrator(&world).rollback("back".parse().unwrap()).await.unwrap();
    assert_eq!(back.image, "registry.test/web:2");
    serves(&world, "2", &["web-green"]);
    // Once more goes further back, not forth again.
    let further = orchestrator(&world).rollback("further".parse().unwrap()).await.unwrap();
    assert_eq!(further.image, "registry.test/web:1");
    serves(&world, "1", &["web-blue"]);
    let failure = orchestrator(&world).rollback("too-far".parse().unwrap()).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::NoRollback(NoRollback::NothingEarlier)));
    serves(&world, "1", &["web-blue"]);
}

#[tokio::test(start_paused = true)]
async fn rollback_uses_the_recorded_options_and_digest() {
    let world = world();
    let mut spec = world.spec();
    spec.options.env.insert("MODE".to_owned(), "first".to_owned().into());
    Orchestrator::new(world.ports(), spec).deploy(request("1", "a")).await.unwrap();
    let first = world.images();
    deploy(&world, "2").await.unwrap();
    world.publish("registry.test/web:1"); // the tag moves on
    let back = orchestrator(&world).rollback("back".parse().unwrap()).await.unwrap();
    assert_eq!(back.digest, first[0].to_string());
    let journal = serde_json::to_string(&world.journal()).unwrap();
    assert_eq!(
        journal.matches(r#""MODE":"first""#).count(),
        2,
        "the options of the first release were not used"
    );
}

#[tokio::test(start_paused = true)]
async fn a_kept_container_is_started_and_not_made_again() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    deploy(&world, "2").await.unwrap();
    let before = world.calls().len();
    orchestrator(&world).rollback("back".parse().unwrap()).await.unwrap();
    assert!(!world.calls()[before..].iter().any(|call| call.starts_with("runtime.ensure_removed")));
    serves(&world, "1", &["web-blue"]);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_fails_leaves_what_serves_and_stops_the_kept_one_again() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    deploy(&world, "2").await.unwrap();
    world.fault_at("proxy.switch", Fault::Fail, When::After);
    let failure = orchestrator(&world).rollback("back".parse().unwrap()).await.unwrap_err();
    assert_eq!((failure.step, failure.aftermath), (Some(Step::Switch), Aftermath::RolledBack));
    serves(&world, "2", &["web-green"]);
    assert!(world.containers().contains(&"web-blue".to_owned()), "the kept container is gone");
    // Also when there is nothing of it left to stop.
    world.change("registry.test/web:1", Health::DiesAfter(Duration::ZERO, 1));
    let failure = orchestrator(&world).rollback("again".parse().unwrap()).await.unwrap_err();
    assert_eq!((failure.step, failure.aftermath), (Some(Step::Gate), Aftermath::RolledBack));
    serves(&world, "2", &["web-green"]);
    assert!(world.containers().contains(&"web-blue".to_owned()), "the kept container is gone");
}

#[tokio::test(start_paused = true)]
async fn a_retire_that_fails_leaves_the_candidate_serving_and_the_next_run_finishes() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    world.fault_at("runtime.ensure_stopped", Fault::Fail, When::Before);
    let failure = deploy(&world, "2").await.unwrap_err();
    assert_eq!((failure.step, failure.aftermath), (Some(Step::Retire), Aftermath::Committed));
    assert_eq!(world.serving().unwrap().tag, "2");
    let recovered = orchestrator(&world).recover("r".parse().unwrap()).await.unwrap();
    assert_eq!(recovered.unwrap().0.as_str(), "deployment-2");
    serves(&world, "2", &["web-green"]);
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_keeps_failing_is_stuck_and_removes_nothing_that_traffic_may_point_at() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    world.fault_always("proxy.verify", Fault::Fail, When::Before);
    world.fault_always("proxy.switch", Fault::Fail, When::After);
    let failure = deploy(&world, "2").await.unwrap_err();
    assert!(matches!(failure.aftermath, Aftermath::Stuck { step: Step::Switch, .. }), "{failure:?}");
    assert!(
        world.running().contains(&"web-green".to_owned()) && world.running().contains(&"web-blue".to_owned())
    );
    world.heal();
    // Nobody has to come: the next deploy settles it first.
    deploy(&world, "3").await.unwrap();
    assert_eq!(world.serving().unwrap().tag, "3");
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn cancelling_before_the_commit_point_takes_everything_back_and_after_it_nothing() {
    for step in [Step::Pull, Step::Start, Step::Gate, Step::Switch, Step::Verify, Step::Drain, Step::Retire] {
        let world = world();
        world.publish("registry.test/web:next").behaves(Health::After(Duration::from_secs(3)));
        deploy(&world, "1").await.unwrap();
        let token = CancellationToken::new();
        let run = orchestrator(&world)
            .cancelled_by(token.clone())
            .observed_by(Arc::new(OnEvent::at_step(step, move || token.cancel())));
        let outcome = run.deploy(request("next", "d")).await;
        if step < Step::Verify {
            let failure = outcome.unwrap_err();
            assert_eq!((&failure.aftermath, failure.log.len()), (&Aftermath::Cancelled, 0), "{step}");
            serves(&world, "1", &["web-blue"]);
        } else {
            // While it verifies there is nothing left to wait for, and undoing costs more than finishing.
            outcome.unwrap();
            serves(&world, "next", &["web-green"]);
        }
    }
}

/// What a deployment id promises: the same one twice is one deployment.
#[tokio::test(start_paused = true)]
async fn the_same_deployment_twice_is_one_and_a_stale_one_is_refused() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    deploy(&world, "1").await.unwrap();
    deploy(&world, "2").await.unwrap();
    let failure = deploy(&world, "1").await.unwrap_err();
    assert!(matches!(failure.cause, Cause::Superseded { .. }), "{failure:?}");
    serves(&world, "2", &["web-green"]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_not_ours_keeps_its_name_and_its_life() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    world.foreign_container("web-green");
    let failure = deploy(&world, "2").await.unwrap_err();
    assert_eq!((failure.step, failure.aftermath), (Some(Step::Start), Aftermath::RolledBack));
    assert_eq!(world.violations(), Vec::<String>::new());
    assert_eq!(world.serving().unwrap().tag, "1");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_the_engine_would_start_again_is_not_kept() {
    let world = world();
    let mut spec = world.spec();
    spec.options.restart = RestartPolicy::Always;
    for tag in ["1", "2"] {
        Orchestrator::new(world.ports(), spec.clone()).deploy(request(tag, tag)).await.unwrap();
    }
    assert_eq!(world.containers(), ["somebody-elses", "web-green"]);
}

#[tokio::test(start_paused = true)]
async fn events_are_a_stable_format() {
    let world = world();
    let recorder = Arc::new(Recorder::default());
    deploy(&world, "1").await.unwrap();
    world.in_flight(Color::Blue, 2, Some(Duration::from_secs(1)));
    let run = orchestrator(&world).observed_by(recorder.clone());
    run.deploy(request("2", "second")).await.unwrap();
    let told = recorder.events().into_iter().filter(|event| !matches!(event, Event::Pulling { .. }));
    let lines: Vec<_> = told.map(|event| serde_json::to_string(&event).unwrap()).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn plan_says_what_deploy_would_do_and_touches_nothing() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    let (records, containers) = (world.journal().len(), world.containers());
    let plan = orchestrator(&world).plan(request("2", "x")).await.unwrap();
    let lines: Vec<String> =
        plan.steps.iter().map(|step| format!("{}: {}", step.step, step.detail)).collect();
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(plan.changes.len(), 1, "what the proxy would change: {plan:?}");
    assert_eq!((world.journal().len(), world.containers()), (records, containers));
}

#[tokio::test(start_paused = true)]
async fn status_names_what_does_not_fit_together() {
    let world = world();
    deploy(&world, "1").await.unwrap();
    deploy(&world, "2").await.unwrap();
    let status = orchestrator(&world).status().await.unwrap();
    assert_eq!(status.findings, Vec::<String>::new());
    assert_eq!(status.rollback.to().map(|to| to.image.as_str()), Some("registry.test/web:1"));
    world.tamper_proxy(Some(Color::Blue));
    let status = orchestrator(&world).status().await.unwrap();
    insta::assert_snapshot!(status.findings.join("\n"));
    let mut elsewhere = world.spec();
    elsewhere.slots.green.name = "web-verde".parse().unwrap();
    let status = Orchestrator::new(world.ports(), elsewhere).status().await.unwrap();
    let named = "the container of green is named web-green and not web-verde";
    assert!(status.findings.contains(&named.to_owned()), "{:?}", status.findings);
    assert!(!status.findings.iter().any(|finding| finding.contains("web-blue (")), "{:?}", status.findings);
}
