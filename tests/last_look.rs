//! What a run says at its end is what is so at its end.

use std::time::Duration;

use bluegreen_core::model::AppSpec;
use bluegreen_core::orchestrator::{Aftermath, Cause, Failure, Orchestrator, Report, Request};
use bluegreen_core::plan::Step;
use bluegreen_core::testing::{Health, World};

async fn deploy(world: &World, spec: &AppSpec, tag: &str) -> Result<Report, Failure> {
    let image = format!("registry.test/web:{tag}").parse().unwrap();
    Orchestrator::new(world.ports(), spec.clone()).deploy(Request::new(image, tag.parse().unwrap())).await
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_dies_while_the_previous_one_is_stopped_is_taken_back() {
    for keep_stopped in [true, false] {
        let world = World::new();
        let mut spec = world.spec();
        spec.retain.keep_stopped = keep_stopped;
        world.publish("registry.test/web:1");
        world.publish("registry.test/web:2").behaves(Health::DiesAfter(Duration::from_secs(1), 1));
        deploy(&world, &spec, "1").await.unwrap();
        world.stops_take(Duration::from_secs(3));
        let failure = deploy(&world, &spec, "2").await.unwrap_err();
        assert!(matches!(failure.cause, Cause::CandidateLost { .. }), "{failure:?}");
        assert_eq!((failure.step, failure.aftermath), (Some(Step::Retire), Aftermath::RolledBack));
        assert!(failure.serving.unwrap().running);
        assert_eq!(world.serving().unwrap().tag, "1");
        assert_eq!(world.running(), ["web-blue"]);
        assert_eq!(world.violations(), Vec::<String>::new());
    }
}

/// nginx falls back to the other place where the one that it names does not answer. A candidate in the place that it
/// names would get clients as soon as it listens.
#[tokio::test(start_paused = true)]
async fn a_candidate_starts_out_of_clients_sight_also_in_the_place_that_the_proxy_names() {
    let world = World::new();
    let mut spec = world.spec();
    spec.retain.warm = Some(Duration::from_mins(10));
    for tag in ["1", "2"] {
        world.publish(&format!("registry.test/web:{tag}"));
        deploy(&world, &spec, tag).await.unwrap();
    }
    world.publish("registry.test/web:bad").behaves(Health::never("status 500"));
    world.change("registry.test/web:2", Health::DiesAfter(Duration::ZERO, 1));
    let failure = deploy(&world, &spec, "bad").await.unwrap_err();
    assert_eq!((failure.step, failure.aftermath), (Some(Step::Gate), Aftermath::RolledBack));
    assert_eq!(world.serving().map(|served| served.tag).as_deref(), Some("1"));
    assert_eq!(world.violations(), Vec::<String>::new());
}
