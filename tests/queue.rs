//! Runs that wait for each other: of deploys only the last is wanted.

use std::time::Duration;

use bluegreen_core::model::AppName;
use bluegreen_core::orchestrator::{Aftermath, Cause, Orchestrator, Request};
use bluegreen_core::port::Holder;
use bluegreen_core::state::Activity;
use bluegreen_core::testing::World;
use tokio::time::sleep;

fn request(tag: &str) -> Request {
    Request::new(format!("registry.test/web:{tag}").parse().unwrap(), tag.parse().unwrap())
}

fn world() -> World {
    let world = World::new();
    for tag in ["1", "2", "3", "4"] {
        world.publish(&format!("registry.test/web:{tag}"));
    }
    world
}

fn waiting(world: &World) -> Orchestrator {
    Orchestrator::new(world.ports(), world.spec()).waiting(Duration::from_mins(10))
}

/// Somebody who is at work until the lease is dropped.
async fn at_work(world: &World) -> bluegreen_core::port::Lease {
    let holder = Holder::new(1, "here", Activity::Deploy, "at-work".parse().unwrap());
    world.ports().journal.lock(&AppName::new("web").unwrap(), &holder).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_waiting_deploy_gives_way_to_a_later_one() {
    let world = world();
    let lease = at_work(&world).await;
    let older = waiting(&world);
    let older = tokio::spawn(async move { older.deploy(request("2")).await });
    sleep(Duration::from_secs(1)).await;
    let newer = waiting(&world);
    let newer = tokio::spawn(async move { newer.deploy(request("3")).await });
    let failure = older.await.unwrap().unwrap_err();
    assert_eq!(failure.aftermath, Aftermath::Untouched);
    let Cause::Overtaken { by } = &failure.cause else { panic!("{failure:?}") };
    assert_eq!(by.deployment, "3".parse().unwrap());
    drop(lease);
    newer.await.unwrap().unwrap();
    assert_eq!(world.serving().unwrap().tag, "3");
}

/// The lock is free for a moment, and a later deploy has it before one that waits looks again.
#[tokio::test(start_paused = true)]
async fn a_waiting_deploy_does_not_run_after_a_later_one_that_found_the_lock_free() {
    let world = world();
    let lease = at_work(&world).await;
    let older = waiting(&world);
    let older = tokio::spawn(async move { older.deploy(request("2")).await });
    sleep(Duration::from_millis(1050)).await;
    drop(lease);
    Orchestrator::new(world.ports(), world.spec()).deploy(request("3")).await.unwrap();
    assert!(matches!(older.await.unwrap().unwrap_err().cause, Cause::Overtaken { .. }));
    assert_eq!(world.serving().unwrap().tag, "3");
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_same_deployment_twice_and_other_verbs_do_not_overtake_each_other() {
    let world = world();
    for tag in ["1", "2"] {
        waiting(&world).deploy(request(tag)).await.unwrap();
    }
    let lease = at_work(&world).await;
    let (first, again, back) = (waiting(&world), waiting(&world), waiting(&world));
    let first = tokio::spawn(async move { first.deploy(request("3")).await });
    sleep(Duration::from_secs(1)).await;
    let again = tokio::spawn(async move { again.deploy(request("3")).await });
    let recover = tokio::spawn(async move { back.recover("r".parse().unwrap()).await });
    sleep(Duration::from_secs(1)).await;
    drop(lease);
    let (first, again) = (first.await.unwrap().unwrap(), again.await.unwrap().unwrap());
    assert!(first.unchanged != again.unchanged, "one of the two does it and the other finds it done");
    assert_eq!(recover.await.unwrap().unwrap(), None);
    assert_eq!(world.serving().unwrap().tag, "3");
}

/// A deploy that is refused at once wants nothing any more.
#[tokio::test(start_paused = true)]
async fn a_deploy_that_does_not_wait_overtakes_nobody() {
    let world = world();
    let lease = at_work(&world).await;
    let older = waiting(&world);
    let older = tokio::spawn(async move { older.deploy(request("2")).await });
    sleep(Duration::from_secs(1)).await;
    let refused = Orchestrator::new(world.ports(), world.spec()).deploy(request("3")).await;
    assert!(matches!(refused.unwrap_err().cause, Cause::Journal(_)));
    drop(lease);
    older.await.unwrap().unwrap();
    assert_eq!(world.serving().unwrap().tag, "2");
}
