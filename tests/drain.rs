//! How the previous colour is let go, on the in-memory World.

use std::time::Duration;

use bluegreen_core::model::{AppSpec, Color, LongLived};
use bluegreen_core::orchestrator::{DrainReport, Orchestrator, Request};
use bluegreen_core::testing::{Fault, When, World};

async fn world() -> World {
    let world = World::new();
    for tag in ["1", "2"] {
        world.publish(&format!("r.test/web:{tag}"));
    }
    deploy(&world, world.spec(), "1").await;
    world
}

async fn deploy(world: &World, spec: AppSpec, tag: &str) -> Option<DrainReport> {
    let request =
        Request::new(format!("r.test/web:{tag}").parse().unwrap(), format!("d{tag}").parse().unwrap());
    let report = Orchestrator::new(world.ports(), spec).deploy(request).await.unwrap();
    assert_eq!(world.serving().unwrap().tag, tag);
    assert_eq!(world.violations(), Vec::<String>::new());
    report.drain
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_what_is_in_flight_and_no_longer() {
    let world = world().await;
    world.in_flight(Color::Blue, 3, Some(Duration::from_secs(7)));
    let drain = deploy(&world, world.spec(), "2").await.unwrap();
    assert!(drain.is_clean());
    assert!((7000..7200).contains(&drain.elapsed.as_millis()), "{drain:?}");
}

#[tokio::test(start_paused = true)]
async fn it_ends_at_its_cap_and_says_what_was_left_and_for_how_long() {
    let world = world().await;
    world.in_flight(Color::Blue, 5, None);
    let fewer = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.in_flight(Color::Blue, 3, None);
    };
    let (drain, ()) = tokio::join!(deploy(&world, world.spec(), "2"), fewer);
    let drain = drain.unwrap();
    assert!((30_000..30_200).contains(&drain.elapsed.as_millis()), "{drain:?}");
    assert!(!drain.is_clean());
    let left = drain.left.unwrap();
    assert_eq!((left.connections, left.policy), (Some(3), LongLived::Wait));
    assert!((19_900..20_100).contains(&left.unchanged.as_millis()), "{left:?}");
    assert_eq!(left.to_string(), "3 connections");
    assert_eq!(world.running(), ["web-green"]);
}

#[tokio::test(start_paused = true)]
async fn cut_waits_for_what_ends_at_once_and_for_nothing_else() {
    let cut = |world: &World| {
        let mut spec = world.spec();
        spec.drain.long_lived = LongLived::Cut;
        spec
    };
    let world = world().await;
    world.in_flight(Color::Blue, 1, Some(Duration::from_secs(1)));
    let drain = deploy(&world, cut(&world), "2").await.unwrap();
    assert_eq!(
        drain.left.as_ref().map(|left| (left.connections, left.policy)),
        Some((Some(1), LongLived::Cut))
    );
    assert!(drain.elapsed < Duration::from_millis(50), "{drain:?}");

    let world = self::world().await;
    world.in_flight(Color::Blue, 1, Some(Duration::from_millis(15)));
    assert!(deploy(&world, cut(&world), "2").await.unwrap().is_clean());
}

/// A number that is not known is neither none nor four billion.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_counted_is_waited_for_to_the_cap_and_has_no_number() {
    let world = world().await;
    world.fault_always("proxy.in_flight", Fault::Fail, When::Before);
    let drain = deploy(&world, world.spec(), "2").await.unwrap();
    let left = drain.left.unwrap();
    assert_eq!(
        (left.connections, left.to_string().as_str()),
        (None, "connections that could not be counted")
    );
    assert!(drain.elapsed >= Duration::from_secs(30));
}
