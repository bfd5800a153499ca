//! What a person is told at 3 a.m.

use std::time::Duration;

use bluegreen_core::model::{Color, RequestError};
use bluegreen_core::orchestrator::{Orchestrator, PublicLook, Request, RunEnding, Standing, Status};
use bluegreen_core::plan::Step;
use bluegreen_core::state::{Activity, Record};
use bluegreen_core::testing::{Fault, When, World};

async fn world(tags: &[&str]) -> World {
    let world = World::new();
    for tag in tags {
        world.publish(&format!("registry.test/web:{tag}"));
        at(&world).deploy(request(tag)).await.unwrap();
    }
    world
}

fn at(world: &World) -> Orchestrator {
    Orchestrator::new(world.ports(), world.spec())
}

fn request(tag: &str) -> Request {
    Request::new(format!("registry.test/web:{tag}").parse().unwrap(), format!("d{tag}").parse().unwrap())
}

async fn status(world: &World) -> Status {
    let (before, containers) = (world.journal(), world.containers());
    let status = at(world).status().await.unwrap();
    assert_eq!((world.journal(), world.containers()), (before, containers), "it touches nothing");
    status
}

#[tokio::test(start_paused = true)]
async fn clients_have_the_last_word() {
    let world = world(&["1", "2"]).await;
    let seen = status(&world).await;
    assert_eq!((seen.standing, seen.findings), (Standing::Serving, Vec::<String>::new()));
    world.answers("registry.test/web:2", Ok(502));
    let seen = status(&world).await;
    assert_eq!(seen.standing, Standing::NotServing, "{seen:?}");
    assert!(seen.findings.iter().any(|finding| finding.contains("502")), "{:?}", seen.findings);
    world.answers("registry.test/web:2", Ok(500));
    assert_eq!(status(&world).await.standing, Standing::Degraded);
    world.answers("registry.test/web:2", Ok(404));
    assert_eq!(status(&world).await.standing, Standing::Serving);
    world.outage(Duration::from_mins(1));
    let seen = status(&world).await;
    assert!(matches!(seen.public, PublicLook::Failed { miss: RequestError::Refused, .. }), "{seen:?}");
    assert_eq!(seen.standing, Standing::NotServing);
    world.shut_clients_out("only TLS is spoken");
    let seen = status(&world).await;
    assert!(matches!(seen.public, PublicLook::NotAsked { .. }), "{seen:?}");
    assert_eq!(seen.standing, Standing::Serving, "silence is no complaint");
    world.tamper_proxy(None);
    assert_eq!(status(&world).await.standing, Standing::NotServing);
}

/// Somebody has changed nginx's files in a way that its own answers do not show.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_could_not_switch_is_an_attention() {
    let world = world(&["1", "2"]).await;
    for operation in ["proxy.check", "proxy.verify"] {
        world.fault_at(operation, Fault::Fail, When::Before);
        let seen = status(&world).await;
        assert_eq!((seen.standing, seen.findings.len()), (Standing::Degraded, 1), "{operation}: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_at_work_is_at_work_and_not_cut_off() {
    let world = world(&["1"]).await;
    world.publish("registry.test/web:2");
    world.fault_at("proxy.switch", Fault::Hang, When::Before);
    let run = at(&world);
    let seen = tokio::select! {
        ended = run.deploy(request("2")) => panic!("{ended:?}"),
        seen = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            status(&world).await
        } => seen,
    };
    let at_work = seen.at_work.expect("somebody is at work");
    let holder = at_work.holder.expect("it is known who");
    assert_eq!((holder.pid, holder.verb), (std::process::id(), Activity::Deploy));
    assert_eq!((at_work.deployment.unwrap().as_str(), at_work.step), ("d2", Some(Step::Switch)));
    assert!(at_work.step_since.is_some());
    assert_eq!((seen.unfinished, seen.standing), (None, Standing::Serving));
    // Dropped in its middle it holds no lock any more: that is what cut off means.
    let seen = status(&world).await;
    assert_eq!(seen.at_work, None);
    assert_eq!(seen.unfinished.map(|run| run.ending), Some(RunEnding::CutOff));
    assert_eq!(seen.standing, Standing::Degraded);
}

#[tokio::test(start_paused = true)]
async fn it_serves_since_it_was_committed() {
    let world = world(&["1"]).await;
    let committed = Record::Succeeded { step: Step::Verify };
    let entry = world.journal().into_iter().find(|entry| entry.record == committed).unwrap();
    assert_eq!(status(&world).await.since, Some(entry.at));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_renamed_is_found_by_its_label() {
    let world = world(&["1", "2"]).await;
    world.set_aside(Color::Green);
    let seen = status(&world).await;
    let serving = seen.serving.unwrap();
    assert!(serving.running, "{serving:?}");
    let named = "the container of green is named web-green-replaced and not web-green";
    assert!(seen.findings.contains(&named.to_owned()), "{:?}", seen.findings);
    assert!(!seen.findings.iter().any(|finding| finding.contains("does not run")), "{:?}", seen.findings);
}
