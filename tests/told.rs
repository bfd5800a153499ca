//! What goes wrong and stops no run is told, and so is who is at work.

use std::sync::{Arc, Mutex};

use bluegreen_core::event::{Event, Observer};
use bluegreen_core::orchestrator::{Orchestrator, Request};
use bluegreen_core::port::Holder;
use bluegreen_core::testing::{Fault, When, World};

fn request(tag: &str) -> Request {
    Request::new(format!("registry.test/web:{tag}").parse().unwrap(), tag.parse().unwrap())
}

#[derive(Debug, Default)]
struct Warnings(Mutex<Vec<String>>);

impl Observer for Warnings {
    fn on_event(&self, event: &Event) {
        if let Event::Warning { message } = event {
            self.0.lock().unwrap().push(message.clone());
        }
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
    let told = Arc::new(Warnings::default());
    world.fault_at(operation, Fault::Fail, When::Before);
    Orchestrator::new(world.ports(), spec).observed_by(told.clone()).deploy(request("3")).await.unwrap();
    assert_eq!(world.serving().unwrap().tag, "3");
    assert_eq!(world.violations(), Vec::<String>::new());
    told.0.lock().unwrap().clone()
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
    let holder = Holder::new(1, "here", "deploy", "d".parse().unwrap());
    let lease = world.ports().journal.lock(&world.spec().name, &holder).await.unwrap();
    let queue = run.at_work().await.unwrap();
    assert!(queue.held);
    assert_eq!(queue.holder.unwrap().deployment, holder.deployment);
    drop(lease);
    assert!(!run.at_work().await.unwrap().held);
}
