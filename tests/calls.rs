//! Calls on the ports: how long one may take, how often one that may work a moment later is made (paused time shows it
//! to the millisecond), and that a failure which stops nothing is told.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bluegreen_core::event::Event;
use bluegreen_core::model::{ImageRef, PinnedImage};
use bluegreen_core::orchestrator::{Aftermath, Cause, Orchestrator, Request};
use bluegreen_core::plan::Step;
use bluegreen_core::port::{
    Credentials, Holder, MockContainerRuntime, Registry, RegistryError, RuntimeError,
};
use bluegreen_core::state::Activity;
use bluegreen_core::testing::{Fault, Recorder, When, World};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn request(tag: &str) -> Request {
    Request::new(format!("registry.test/web:{tag}").parse().unwrap(), tag.parse().unwrap())
}

/// Fails every time, each time after a while.
#[derive(Debug)]
struct Fails {
    after: Duration,
    transient: bool,
    calls: AtomicU32,
}

#[async_trait]
impl Registry for Fails {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage, RegistryError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.after).await;
        let (registry, source) = (image.to_string(), "planned".into());
        Err(if self.transient {
            RegistryError::Unreachable { registry, source }
        } else {
            RegistryError::AccessDenied { registry, source }
        })
    }

    async fn credentials(&self, _: &PinnedImage) -> Result<Option<Credentials>, RegistryError> {
        Ok(None)
    }
}

fn warnings(told: &Recorder) -> Vec<String> {
    let warning = |event| if let Event::Warning { message } = event { Some(message) } else { None };
    told.events().into_iter().filter_map(warning).collect()
}

/// How often a registry was asked within 10 s, how many milliseconds that took, and what was told of it.
async fn asked(after: Duration, transient: bool) -> (u32, u128, Vec<String>) {
    let world = World::new();
    let (mut spec, mut ports) = (world.spec(), world.ports());
    let registry = Arc::new(Fails { after, transient, calls: AtomicU32::new(0) });
    (spec.limits.registry, ports.registry) = (Duration::from_secs(10), registry.clone());
    let (told, began) = (Arc::new(Recorder::default()), Instant::now());
    let failure = Orchestrator::new(ports, spec).observed_by(told.clone()).deploy(request("1")).await;
    assert!(matches!(failure.unwrap_err().cause, Cause::Registry(_)));
    let told = warnings(&told);
    (registry.calls.load(Ordering::Relaxed), began.elapsed().as_millis(), told)
}

#[tokio::test(start_paused = true)]
async fn what_may_work_a_moment_later_is_asked_four_times_and_told_of_once() {
    let (calls, took, told) = asked(Duration::ZERO, true).await;
    assert_eq!((calls, took), (4, 250 + 500 + 1000));
    assert!(told.len() == 1 && told[0].ends_with("planned; trying 3 more times"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_when_the_time_is_over() {
    assert_eq!(asked(Duration::from_millis(9_800), true).await, (1, 9_800, vec![]));
    // 4 s, a pause, 4 s, a pause, and the third ends behind the limit, which counts from the first attempt's begin.
    let (calls, took, _) = asked(Duration::from_secs(4), true).await;
    assert_eq!((calls, took), (3, 3 * 4_000 + 250 + 500));
}

#[tokio::test(start_paused = true)]
async fn what_will_not_work_a_moment_later_either_is_asked_once() {
    assert_eq!(asked(Duration::ZERO, false).await, (1, 0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_pull_is_made_again_while_the_registry_may_come_back_and_once_with_a_fresh_token() {
    let errors: [(fn() -> RuntimeError, usize); 3] = [
        (|| RuntimeError::RegistryUnreachable { image: "web:1".to_owned(), source: "planned".into() }, 4),
        (
            || RuntimeError::PullDenied {
                image: "web:1".to_owned(),
                registry: "r.io".to_owned(),
                source: "planned".into(),
            },
            2,
        ),
        (|| RuntimeError::DiskFull { source: "planned".into() }, 1),
    ];
    for (error, times) in errors {
        let mut runtime = MockContainerRuntime::new();
        runtime.expect_list().returning(|_| Ok(vec![]));
        runtime.expect_find().returning(|_| Ok(None));
        runtime.expect_has_image().returning(|_| Ok(false));
        runtime.expect_free_space().returning(|| Ok(None));
        runtime.expect_ensure_image().times(times).returning(move |_, _, _| Err(error()));
        let world = World::new();
        world.publish("registry.test/web:1");
        let mut ports = world.ports();
        ports.runtime = Arc::new(runtime);
        let failure = Orchestrator::new(ports, world.spec()).deploy(request("1")).await.unwrap_err();
        assert_eq!(failure.step, Some(Step::Pull), "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_is_tried_five_times_ever_later() {
    let world = World::new();
    world.publish("registry.test/web:1");
    world.fault_at("runtime.ensure_running", Fault::Fail, When::After);
    world.fault_always("runtime.ensure_removed", Fault::Fail, When::Before);
    let (told, began) = (Arc::new(Recorder::default()), Instant::now());
    let run = Orchestrator::new(world.ports(), world.spec()).observed_by(told.clone());
    let failure = run.deploy(request("1")).await.unwrap_err();
    assert!(matches!(failure.aftermath, Aftermath::Stuck { step: Step::Start, .. }), "{failure:?}");
    assert_eq!(began.elapsed().as_millis(), 100 + 200 + 400 + 800);
    let told = warnings(&told);
    assert!(told.len() == 1 && told[0].ends_with("trying again"), "it is said once: {told:?}");
}

/// What a deploy says whose calls of an operation hang.
async fn of_hanging(operation: &str) -> String {
    let world = World::new();
    let mut spec = world.spec();
    spec.options.stop_timeout = Some(Duration::from_secs(20));
    for tag in ["1", "2"] {
        world.publish(&format!("registry.test/web:{tag}"));
    }
    Orchestrator::new(world.ports(), spec.clone()).deploy(request("1")).await.unwrap();
    world.fault_always(operation, Fault::Hang, When::Before);
    let failure = Orchestrator::new(world.ports(), spec).deploy(request("2")).await.unwrap_err();
    format!("{failure}: {}", failure.source().expect("its cause"))
}

#[tokio::test(start_paused = true)]
async fn a_call_has_its_limit_and_a_stop_the_containers_own_time_beside() {
    for (operation, says) in [
        ("runtime.ensure_stopped", "retire failed for web: stopping the container took longer than 80 s"),
        ("runtime.ensure_running", "start failed for web: starting the container took longer than 60 s"),
        ("proxy.check", "web cannot be deployed: checking the proxy took longer than 30 s"),
    ] {
        assert_eq!(of_hanging(operation).await, says);
    }
}

/// The warnings of a deploy that does what it is for although an operation fails once.
async fn of_a_deploy_where(operation: &str) -> Vec<String> {
    let world = World::new();
    let mut spec = world.spec();
    spec.retain.releases = 0;
    spec.retain.min_free = 1;
    for tag in ["1", "2", "3"] {
        world.publish(&format!("registry.test/web:{tag}"));
    }
    for tag in ["1", "2"] {
        Orchestrator::new(world.ports(), spec.clone()).deploy(request(tag)).await.unwrap();
    }
    let told = Arc::new(Recorder::default());
    world.fault_at(operation, Fault::Fail, When::Before);
    Orchestrator::new(world.ports(), spec).observed_by(told.clone()).deploy(request("3")).await.unwrap();
    assert_eq!(world.serving().unwrap().tag, "3");
    assert_eq!(world.violations(), Vec::<String>::new());
    warnings(&told)
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_and_stops_nothing_is_told_once() {
    for (operation, says) in [
        ("journal.enqueue", "planned"),
        ("runtime.free_space", "planned"),
        ("proxy.in_flight", "planned"),
        ("runtime.ensure_image_removed", "was not removed"),
    ] {
        let told = of_a_deploy_where(operation).await;
        assert!(told.len() == 1 && told[0].contains(says), "{operation}: {told:?}");
    }
    assert_eq!(of_a_deploy_where("nothing").await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn who_is_at_work_is_told_and_nobody_else() {
    let world = World::new();
    let run = Orchestrator::new(world.ports(), world.spec());
    assert!(!run.at_work().await.unwrap().held);
    let holder = Holder::new(1, "here", Activity::Deploy, "d".parse().unwrap());
    let lease = world.ports().journal.lock(&world.spec().name, &holder).await.unwrap();
    let queue = run.at_work().await.unwrap();
    assert!(queue.held);
    assert_eq!(queue.holder.unwrap().deployment, holder.deployment);
    drop(lease);
    assert!(!run.at_work().await.unwrap().held);
}

/// A first deploy whose call of this number ends in a fault, and the numbers of all calls of the journal's writing.
async fn deploy_with(fault: Option<(usize, When)>) -> (World, Result<(), Cause>, Vec<usize>) {
    let world = World::new();
    world.publish("registry.test/web:1");
    if let Some((number, when)) = fault {
        world.fault_at_call(number, Fault::Fail, when);
    }
    let ended = Orchestrator::new(world.ports(), world.spec()).deploy(request("1")).await;
    assert_eq!(world.violations(), Vec::<String>::new());
    let numbered = world.calls().into_iter().enumerate();
    let writes = numbered.filter(|(_, call)| call.starts_with("journal.append")).map(|(number, _)| number);
    (world, ended.map(drop).map_err(|failure| failure.cause), writes.collect())
}

#[tokio::test(start_paused = true)]
async fn a_record_that_the_journal_has_is_no_failure_although_its_answer_was_lost() {
    let (whole, ended, writes) = deploy_with(None).await;
    ended.unwrap();
    for number in writes {
        let (world, ended, _) = deploy_with(Some((number, When::After))).await;
        assert!(ended.is_ok(), "{ended:?} at call {number}, {}", whole.calls()[number]);
        assert_eq!(world.journal().len(), whole.journal().len());
        assert_eq!(world.serving().unwrap().tag, "1");
    }
}

/// It may take a quarter of an hour, and who asks to stop has not that long.
#[tokio::test(start_paused = true)]
async fn a_pull_that_hangs_ends_when_somebody_asks_to_stop() {
    let world = World::new();
    for tag in ["1", "2"] {
        world.publish(&format!("registry.test/web:{tag}"));
    }
    Orchestrator::new(world.ports(), world.spec()).deploy(request("1")).await.unwrap();
    for operation in ["registry.credentials", "runtime.ensure_image"] {
        world.fault_at(operation, Fault::Hang, When::Before);
        let (stop, began) = (CancellationToken::new(), Instant::now());
        let soon = tokio::time::sleep(Duration::from_secs(5));
        let run = Orchestrator::new(world.ports(), world.spec()).cancelled_by(stop.clone());
        let (ended, ()) = tokio::join!(run.deploy(request("2")), async {
            soon.await;
            stop.cancel();
        });
        let failure = ended.unwrap_err();
        assert_eq!(
            (failure.step, failure.aftermath),
            (Some(Step::Pull), Aftermath::Cancelled),
            "{operation}"
        );
        assert_eq!(began.elapsed().as_secs(), 5, "{operation}");
        assert_eq!(world.serving().unwrap().tag, "1");
        assert_eq!(world.violations(), Vec::<String>::new());
    }
}
