//! What is kept of earlier releases, on the in-memory World: warm, stopped, images, and room for the next.

use std::time::Duration;

use bluegreen_core::model::{AppName, AppSpec, Color};
use bluegreen_core::orchestrator::{Aftermath, Cause, Failure, Orchestrator, Report, Request, Retired};
use bluegreen_core::plan::Step;
use bluegreen_core::state::{AppState, Outcome, Record};
use bluegreen_core::testing::{Fault, Health, When, World};
use tokio::time::Instant;

const WARM: Duration = Duration::from_mins(10);

fn warm(world: &World) -> AppSpec {
    let mut spec = world.spec();
    spec.retain.warm = Some(WARM);
    spec
}

fn orchestrator(world: &World) -> Orchestrator {
    Orchestrator::new(world.ports(), warm(world))
}

async fn try_deploy(world: &World, tag: &str) -> Result<Report, Failure> {
    let id = format!("d{}", world.calls().len()).parse().unwrap();
    let image = format!("r.test/web:{tag}").parse().unwrap();
    orchestrator(world).deploy(Request::new(image, id)).await
}

async fn retire(world: &World, now: bool) -> Retired {
    let retired = orchestrator(world).retire("r".parse().unwrap(), now).await.unwrap();
    assert_eq!(world.violations(), Vec::<String>::new(), "{:#?}", world.calls());
    retired
}

/// A World where 2 serves and 1 is kept warm. Each takes five seconds to start.
async fn world() -> World {
    let world = World::new();
    for tag in ["1", "2", "3"] {
        world.publish(&format!("r.test/web:{tag}")).behaves(Health::After(Duration::from_secs(5)));
    }
    for tag in ["1", "2"] {
        try_deploy(&world, tag).await.unwrap();
    }
    world
}

#[track_caller]
fn runs(world: &World, serving: &str, running: &[&str]) {
    assert_eq!(world.serving().map(|served| served.tag).as_deref(), Some(serving));
    assert_eq!(world.running(), running);
    assert_eq!(world.violations(), Vec::<String>::new(), "{:#?}", world.calls());
}

#[tokio::test(start_paused = true)]
async fn a_warm_previous_is_a_settled_run_with_its_container_running() {
    let world = world().await;
    runs(&world, "2", &["web-blue", "web-green"]);
    let state = AppState::replay(&world.journal()).unwrap();
    assert!(state.runs.iter().all(|run| run.outcome == Some(Outcome::Committed)), "{state:?}");
    let status = orchestrator(&world).status().await.unwrap();
    let kept = status.warm.unwrap();
    assert_eq!((kept.name.as_str(), kept.left.as_secs().div_ceil(60)), ("web-blue", 10));
    assert_eq!(status.findings, Vec::<String>::new());
}

/// One flag and a drain: nothing is started, nothing is waited for.
#[tokio::test(start_paused = true)]
async fn a_rollback_to_a_warm_one_starts_nothing() {
    let world = world().await;
    let (before, began) = (world.containers(), Instant::now());
    let report = orchestrator(&world).rollback("back".parse().unwrap()).await.unwrap();
    assert_eq!(report.candidate, Color::Blue);
    // Started anew it would take five seconds.
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    assert_eq!(world.containers(), before);
    runs(&world, "1", &["web-blue", "web-green"]);
    // Also when its time is over: it is what is wanted.
    world.backdate(2 * WARM);
    assert_eq!(world.serving().unwrap().tag, "1");
}

#[tokio::test(start_paused = true)]
async fn a_warm_one_is_stopped_when_it_is_due_and_somebody_comes_by() {
    let world = world().await;
    let early = retire(&world, false).await;
    assert_eq!(
        (early.stopped, early.warm.map(|warm| warm.name.to_string())),
        (None, Some("web-blue".to_owned()))
    );
    runs(&world, "2", &["web-blue", "web-green"]);
    world.backdate(WARM);
    let due = retire(&world, false).await;
    assert_eq!(due.stopped.map(|name| name.to_string()).as_deref(), Some("web-blue"));
    runs(&world, "2", &["web-green"]);
    assert!(world.containers().contains(&"web-blue".to_owned()), "it is kept, stopped");
    // Once more there is nothing to do, and nothing to write.
    let records = world.journal().len();
    let again = retire(&world, true).await;
    assert_eq!((again.stopped, again.warm, world.journal().len()), (None, None, records));
    try_deploy(&world, "3").await.unwrap();
    runs(&world, "3", &["web-blue", "web-green"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_stopped_at_once_where_that_is_asked_for_and_by_a_deploy_that_has_nothing_else_to_do() {
    let world = world().await;
    assert!(retire(&world, true).await.stopped.is_some());
    runs(&world, "2", &["web-green"]);

    let world = self::world().await;
    assert!(try_deploy(&world, "2").await.unwrap().unchanged);
    runs(&world, "2", &["web-blue", "web-green"]);
    world.backdate(WARM);
    assert!(try_deploy(&world, "2").await.unwrap().unchanged);
    runs(&world, "2", &["web-green"]);
}

/// When what the proxy names is down, the warm one may be what answers.
#[tokio::test(start_paused = true)]
async fn what_may_be_answering_is_not_retired() {
    let world = world().await;
    world.change("r.test/web:2", Health::DiesAfter(Duration::ZERO, 1));
    world.backdate(2 * WARM);
    assert_eq!(retire(&world, true).await.stopped, None);
    assert_eq!(world.running(), ["web-blue"]);
}

#[tokio::test(start_paused = true)]
async fn the_next_deploy_takes_the_place_of_a_warm_one_and_a_failed_one_leaves_it_empty() {
    let world = world().await;
    try_deploy(&world, "3").await.unwrap();
    runs(&world, "3", &["web-blue", "web-green"]);
    world.publish("r.test/web:bad").behaves(Health::never("status 500"));
    try_deploy(&world, "bad").await.unwrap_err();
    runs(&world, "3", &["web-blue"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_stopped_is_no_danger_and_not_hidden() {
    let world = world().await;
    world.fault_always("runtime.ensure_stopped", Fault::Fail, When::Before);
    let failure = orchestrator(&world).retire("r".parse().unwrap(), true).await.unwrap_err();
    assert_eq!((failure.step, &failure.aftermath), (Some(Step::Retire), &Aftermath::Committed));
    assert_eq!(failure.serving.unwrap().color, Some(Color::Green));
    world.heal();
    assert!(retire(&world, true).await.stopped.is_some());
}

/// What cannot be announced does not happen.
#[tokio::test(start_paused = true)]
async fn it_is_written_ahead() {
    let world = world().await;
    world.fault_at("journal.append", Fault::Fail, When::Before);
    let failure = orchestrator(&world).retire("r".parse().unwrap(), true).await.unwrap_err();
    assert_eq!(failure.aftermath, Aftermath::Untouched);
    runs(&world, "2", &["web-blue", "web-green"]);
    retire(&world, true).await;
    assert!(matches!(world.journal().last().unwrap().record, Record::Retiring { color: Color::Blue }));
}

#[tokio::test(start_paused = true)]
async fn too_little_room_is_said_before_a_pull_and_pulls_nothing() {
    let world = world().await;
    world.free_space(Some(499_999_999));
    let failure = try_deploy(&world, "3").await.unwrap_err();
    assert_eq!((failure.step, &failure.aftermath), (Some(Step::Pull), &Aftermath::RolledBack));
    assert_eq!(
        failure.cause.to_string(),
        "only 499 MB are free where images are kept, and 500 MB are wanted before a pull"
    );
    assert!(matches!(failure.cause, Cause::DiskLow { .. }));
    assert!(!world.calls().iter().any(|call| call.starts_with("runtime.ensure_image r.test/web:3")));
    runs(&world, "2", &["web-blue", "web-green"]);
    // What is here needs no room.
    orchestrator(&world).rollback("back".parse().unwrap()).await.unwrap();
    world.free_space(Some(500_000_000));
    try_deploy(&world, "3").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_looked_at_and_a_limit_of_none_refuse_nothing() {
    let world = world().await;
    world.fault_at("runtime.free_space", Fault::Fail, When::Before);
    try_deploy(&world, "3").await.unwrap();
    world.publish("r.test/web:4");
    world.free_space(Some(0));
    let mut spec = warm(&world);
    spec.retain.min_free = 0;
    let request = Request::new("r.test/web:4".parse().unwrap(), "x".parse().unwrap());
    Orchestrator::new(world.ports(), spec).deploy(request).await.unwrap();
}

/// Room is made before it is measured, and by releases that are no longer kept alone.
#[tokio::test(start_paused = true)]
async fn images_are_pruned_before_the_room_is_looked_at() {
    let world = World::new();
    let mut spec = world.spec();
    spec.retain.releases = 1;
    let deploy = async |number: usize| {
        world.publish(&format!("r.test/web:{number}"));
        let before = world.calls().len();
        let request = Request::new(
            format!("r.test/web:{number}").parse().unwrap(),
            format!("d{number}").parse().unwrap(),
        );
        Orchestrator::new(world.ports(), spec.clone()).deploy(request).await.unwrap();
        world.calls().split_off(before)
    };
    for number in 1..=3 {
        deploy(number).await;
    }
    let calls = deploy(4).await;
    let at = |name: &str| calls.iter().position(|call| call.starts_with(name)).unwrap();
    assert!(at("runtime.ensure_image_removed") < at("runtime.free_space"), "{calls:#?}");
    assert!(at("runtime.free_space") < at("runtime.ensure_image r.test/web:4"), "{calls:#?}");
    // However long the journal gets, so are not the removals.
    let mut removals = 0;
    for number in 5..=30 {
        let calls = deploy(number).await;
        removals = calls.iter().filter(|call| call.starts_with("runtime.ensure_image_removed")).count();
    }
    assert!(removals <= 16, "{removals}");
    assert_eq!(world.images().len(), 2);
}

/// Somebody pointed the proxy at the warm one by hand. What is asked for serves then, whatever the journal says.
#[tokio::test(start_paused = true)]
async fn one_that_serves_although_the_journal_says_the_other_is_left_where_it_is() {
    let world = world().await;
    world.tamper_proxy(Some(Color::Blue));
    let report = try_deploy(&world, "1").await.unwrap();
    assert_eq!((report.unchanged, report.candidate), (true, Color::Blue));
    assert_eq!(world.serving().unwrap().tag, "1");
}

/// Until now somebody else's container served in the place: nobody gave it to us.
#[tokio::test(start_paused = true)]
async fn a_previous_one_that_is_not_ours_is_left_running() {
    for warm in [None, Some(WARM)] {
        let world = World::new();
        world.publish("r.test/web:1");
        world.foreign_container("web-blue");
        world.tamper_proxy(Some(Color::Blue));
        let mut spec = world.spec();
        spec.retain.warm = warm;
        let request = Request::new("r.test/web:1".parse().unwrap(), "d1".parse().unwrap());
        let report = Orchestrator::new(world.ports(), spec).deploy(request).await.unwrap();
        assert_eq!((report.candidate, report.previous), (Color::Green, Some(Color::Blue)));
        runs(&world, "1", &["web-blue", "web-green"]);
    }
}

/// The images that are left after deploys of these versions, each with the options that its letter stands for.
async fn images_after(releases: u32, deployed: &[(&str, &str)]) -> usize {
    let world = World::new();
    for tag in 1..=5 {
        world.publish(&format!("r.test/web:{tag}"));
    }
    for (number, (tag, options)) in deployed.iter().enumerate() {
        let mut spec = world.spec();
        spec.retain.releases = releases;
        spec.options.user = Some((*options).to_owned());
        let request =
            Request::new(format!("r.test/web:{tag}").parse().unwrap(), format!("d{number}").parse().unwrap());
        Orchestrator::new(world.ports(), spec).deploy(request).await.unwrap();
    }
    world.images().len()
}

#[tokio::test(start_paused = true)]
async fn images_of_releases_beyond_those_kept_are_removed() {
    let five = [("1", "x"), ("2", "x"), ("3", "x"), ("4", "x"), ("5", "x")];
    for releases in 1..=3 {
        assert_eq!(images_after(releases, &five).await, releases as usize + 1);
    }
    // One image is that of two releases, of which one is kept.
    assert_eq!(images_after(2, &[("1", "x"), ("1", "y"), ("2", "y"), ("3", "y")]).await, 3);
}

/// Two applications of one image: one's prune is the other's way back.
#[tokio::test(start_paused = true)]
async fn what_another_application_may_go_back_to_stays() {
    let [web, api] = [World::new(), World::new()];
    for world in [&web, &api] {
        // The same digests in both.
        for tag in ["1", "2", "3", "4", "5"] {
            world.publish(&format!("r.test/web:{tag}"));
        }
    }
    for tag in ["1", "2"] {
        try_deploy(&api, tag).await.unwrap();
    }
    let pruned = async |world: &World| {
        let mut spec = world.spec();
        spec.retain.releases = 0;
        for tag in ["1", "2", "3", "4", "5"] {
            let request = Request::new(
                format!("r.test/web:{tag}").parse().unwrap(),
                format!("d{tag}").parse().unwrap(),
            );
            Orchestrator::new(world.ports(), spec.clone()).deploy(request).await.unwrap();
        }
        world.images().len()
    };
    web.neighbour(AppName::new("api").unwrap(), api.journal());
    // Its own last one, that of the container that is kept, and both of its neighbour's.
    assert_eq!(pruned(&web).await, 4);
    let alone = World::new();
    for tag in ["1", "2", "3", "4", "5"] {
        alone.publish(&format!("r.test/web:{tag}"));
    }
    assert_eq!(pruned(&alone).await, 2);
}
