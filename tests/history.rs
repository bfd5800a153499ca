//! What the journal tells people.

use std::time::Duration;

use bluegreen_core::orchestrator::{Orchestrator, Request};
use bluegreen_core::testing::{Fault, When, World};

#[tokio::test(start_paused = true)]
async fn every_record_has_its_run_and_a_line_and_every_run_its_end() {
    let world = World::new();
    let mut spec = world.spec();
    spec.retain.warm = Some(Duration::from_mins(10));
    let orchestrator = || Orchestrator::new(world.ports(), spec.clone());
    let deploy = async |tag: &str| {
        let image = format!("registry.test/web:{tag}");
        world.publish(&image);
        let image = image.parse().unwrap();
        orchestrator().deploy(Request::new(image, format!("d{tag}").parse().unwrap())).await
    };
    deploy("1").await.unwrap();
    world.fault_at("proxy.verify", Fault::Fail, When::Before);
    deploy("2").await.unwrap_err();
    deploy("3").await.unwrap();
    // This belongs to no run.
    orchestrator().retire("r".parse().unwrap(), true).await.unwrap();
    let history = orchestrator().history().await.unwrap();
    let runs = history.runs.iter().map(|run| format!("{} {}: {}", run.verb, run.deployment, run.ending));
    let records = history.records.iter().map(|record| {
        let run = record.deployment.as_ref().map_or_else(String::new, ToString::to_string);
        format!("{} {run} {}: {}", record.seq, record.record, record.detail)
    });
    insta::assert_snapshot!(runs.chain(records).collect::<Vec<_>>().join("\n"));
}
