//! What a rollback goes to, and that it is offered only where it would be carried out.

use std::sync::Arc;

use bluegreen_core::event::Event;
use bluegreen_core::model::{AppSpec, Color, RestartPolicy, RunOptions};
use bluegreen_core::orchestrator::{
    Aftermath, Cause, Failure, Goal, NoRollback, Orchestrator, Report, Request, RollbackOffer,
};
use bluegreen_core::testing::{Health, Recorder, World};

const TAGS: [&str; 4] = ["1", "2", "3", "4"];

fn world() -> World {
    let world = World::new();
    for tag in TAGS {
        world.publish(&format!("registry.test/web:{tag}"));
    }
    world
}

fn at(world: &World) -> Orchestrator {
    Orchestrator::new(world.ports(), world.spec())
}

fn adopting(world: &World) -> AppSpec {
    let mut spec = world.spec();
    spec.adopt = true;
    spec
}

async fn try_deploy(world: &World, spec: AppSpec, tag: &str) -> Result<Report, Failure> {
    let image = format!("registry.test/web:{tag}").parse().unwrap();
    let id = format!("d{tag}").parse().unwrap();
    Orchestrator::new(world.ports(), spec).deploy(Request::new(image, id)).await
}

async fn deploy(world: &World, tag: &str) -> Report {
    try_deploy(world, world.spec(), tag).await.unwrap()
}

/// Goes back; which tag serves then. Everybody who offers a rollback said so before.
async fn back(world: &World, to: &str) -> Result<String, Failure> {
    let offered = at(world).status().await.unwrap().rollback;
    assert_eq!(at(world).history().await.unwrap().rollback, Some(offered.clone()));
    let goal = if to.is_empty() { Goal::Previous } else { to.parse().unwrap() };
    let id = format!("back-{}", world.calls().len()).parse().unwrap();
    let outcome = at(world).rollback_to(id, &goal).await;
    if goal == Goal::Previous {
        assert_eq!(outcome.is_ok(), offered.to().is_some(), "{offered:?}: {outcome:?}");
    }
    assert_eq!(world.violations(), Vec::<String>::new());
    let report = outcome?;
    assert_eq!(report.rollback, Some(at(world).status().await.unwrap().rollback), "it says what is next");
    Ok(world.serving().unwrap().tag)
}

fn refusal(outcome: Result<String, Failure>) -> NoRollback {
    match outcome {
        Err(Failure { cause: Cause::NoRollback(no), aftermath: Aftermath::Untouched, .. }) => no,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn it_never_goes_to_what_was_rolled_back_from() {
    let world = world();
    deploy(&world, "1").await;
    deploy(&world, "2").await;
    assert_eq!(back(&world, "").await.unwrap(), "1");
    assert_eq!(refusal(back(&world, "").await), NoRollback::NothingEarlier);
    deploy(&world, "3").await;
    assert_eq!(back(&world, "").await.unwrap(), "1");
    // Deployed once more it counts again.
    try_deploy(&world, world.spec(), "4").await.unwrap();
    let image = "registry.test/web:2".parse().unwrap();
    at(&world).deploy(Request::new(image, "again".parse().unwrap())).await.unwrap();
    assert_eq!(back(&world, "").await.unwrap(), "4");
    assert_eq!(back(&world, "").await.unwrap(), "1");
}

/// As after `status` has said to deploy what served again, by its digest.
#[tokio::test(start_paused = true)]
async fn it_never_goes_to_what_serves_under_another_name() {
    let world = world();
    deploy(&world, "1").await;
    let second = deploy(&world, "2").await;
    let image = format!("registry.test/web@{}", second.digest).parse().unwrap();
    let again = Request::new(image, "again".parse().unwrap()).forced();
    at(&world).deploy(again).await.unwrap();
    assert_eq!(back(&world, "").await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn it_never_goes_to_what_was_never_committed_and_twice_goes_further_back() {
    let world = world();
    deploy(&world, "1").await;
    deploy(&world, "2").await;
    world.change("registry.test/web:3", Health::never("status 500"));
    try_deploy(&world, world.spec(), "3").await.unwrap_err();
    deploy(&world, "4").await;
    assert_eq!(back(&world, "").await.unwrap(), "2");
    assert_eq!(back(&world, "").await.unwrap(), "1");
    assert_eq!(refusal(back(&world, "").await), NoRollback::NothingEarlier);
}

#[tokio::test(start_paused = true)]
async fn it_goes_where_it_is_told_by_deployment_or_digest() {
    let world = world();
    for tag in ["1", "2", "3"] {
        deploy(&world, tag).await;
    }
    let listed = at(&world).rollbacks().await.unwrap();
    let ids: Vec<_> =
        listed.iter().map(|(earlier, no)| (earlier.deployment.to_string(), no.is_none())).collect();
    assert_eq!(ids, [("d2".to_owned(), true), ("d1".to_owned(), true)]);
    let digest = listed[0].0.digest.clone();
    assert_eq!(back(&world, "d1").await.unwrap(), "1");
    assert!(at(&world).rollbacks().await.unwrap().is_empty(), "there is nothing before the first");
    assert_eq!(refusal(back(&world, "d2").await), NoRollback::RolledBackFrom { wanted: "d2".to_owned() });
    let wanted = digest.trim_start_matches("sha256:").to_owned();
    assert_eq!(refusal(back(&world, &digest).await), NoRollback::RolledBackFrom { wanted });
    assert_eq!(refusal(back(&world, "d1").await), NoRollback::Serves { wanted: "d1".to_owned() });
    assert_eq!(refusal(back(&world, "nobody").await), NoRollback::Unknown { wanted: "nobody".to_owned() });
    world.change("registry.test/web:4", Health::never("status 500"));
    try_deploy(&world, world.spec(), "4").await.unwrap_err();
    assert_eq!(refusal(back(&world, "d4").await), NoRollback::NeverServed { wanted: "d4".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_gone_is_said_beforehand_and_by_its_name() {
    let world = world();
    deploy(&world, "1").await;
    deploy(&world, "2").await;
    world.prune_everything();
    match at(&world).status().await.unwrap().rollback {
        RollbackOffer::To(to) => assert!(!to.here, "it would be pulled"),
        RollbackOffer::No(no) => panic!("{no}"),
    }
    // Its registry has it still.
    assert_eq!(back(&world, "").await.unwrap(), "1");
    deploy(&world, "3").await;
    world.prune_everything();
    world.unpublish("registry.test/web:1");
    let failure = at(&world).rollback("gone".parse().unwrap()).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::NoRollback(NoRollback::ImageGone { .. })), "{failure:?}");
    let said = failure.cause.to_string();
    assert!(said.contains("is gone from this host and from its registry"), "{said}");
    assert_eq!(world.serving().unwrap().tag, "3");
}

#[tokio::test(start_paused = true)]
async fn the_first_rollback_after_a_script_brings_its_container_back() {
    let world = world();
    let mut options = RunOptions::default();
    options.env.insert("MODE".to_owned(), "script".to_owned().into());
    world.made_by_script(Color::Blue, "registry.test/web:1", options.clone());
    let spec = adopting(&world);
    try_deploy(&world, spec.clone(), "2").await.unwrap();
    assert_eq!(world.serving().unwrap().tag, "2");
    let run = Orchestrator::new(world.ports(), spec.clone());
    run.rollback("back".parse().unwrap()).await.unwrap();
    assert_eq!((world.serving().unwrap().tag.as_str(), world.running()), ("1", vec!["web-blue".to_owned()]));
    assert_eq!(world.container_id("web-blue").as_deref(), Some("script-web-blue"), "the very one");
    // And once more after its place was taken: made again, as it was recorded.
    try_deploy(&world, spec.clone(), "3").await.unwrap();
    try_deploy(&world, spec.clone(), "4").await.unwrap();
    assert_ne!(world.container_id("web-blue").as_deref(), Some("script-web-blue"));
    run.rollback("back-2".parse().unwrap()).await.unwrap();
    run.rollback("back-3".parse().unwrap()).await.unwrap();
    assert_eq!(world.serving().unwrap().tag, "1");
    assert_eq!(world.options("web-blue"), Some(options));
    assert_eq!(world.violations(), Vec::<String>::new());
}

/// What the observer was warned of.
fn warnings(recorder: &Recorder) -> Vec<String> {
    let events = recorder.events();
    let warned = events.into_iter().filter_map(|event| match event {
        Event::Warning { message } => Some(message),
        _ => None,
    });
    warned.filter(|message| message.contains("--device")).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_script_s_container_was_made_with_and_is_not_recorded_is_said_when_it_matters() {
    let world = world();
    world.made_with(&["--device", "--workdir"]);
    world.made_by_script(Color::Blue, "registry.test/web:1", RunOptions::default());
    let said = async |goal: Option<&str>, id: &str| {
        let recorder = Arc::new(Recorder::default());
        let run = Orchestrator::new(world.ports(), adopting(&world)).observed_by(recorder.clone());
        let id = id.parse().unwrap();
        match goal {
            Some(tag) => {
                let image = format!("registry.test/web:{tag}").parse().unwrap();
                run.deploy(Request::new(image, id)).await.unwrap()
            }
            None => run.rollback(id).await.unwrap(),
        };
        warnings(&recorder)
    };
    let adopted = said(Some("2"), "d2").await;
    assert_eq!(adopted.len(), 1, "{adopted:?}");
    assert!(
        adopted[0].contains("web-blue was made with --device, --workdir, which is not recorded"),
        "{adopted:?}"
    );
    assert_eq!(said(None, "back").await, [""; 0], "the very container is started again");
    assert_eq!(said(Some("3"), "d3").await.len(), 1, "its place is taken again");
    assert_eq!(said(Some("4"), "d4").await, [""; 0]);
    assert_eq!(said(None, "back-2").await, [""; 0]);
    let again = said(None, "back-3").await;
    assert_eq!(again.len(), 1, "{again:?}");
    assert!(
        again[0]
            .starts_with("web-blue is made again from what is recorded of it: without --device, --workdir"),
        "{again:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_script_s_container_serves_again_when_the_candidate_is_lost_at_the_end() {
    let world = world();
    world.made_by_script(Color::Blue, "registry.test/web:1", RunOptions::default());
    world.change("registry.test/web:2", Health::DiesAfter(std::time::Duration::from_secs(1), 1));
    world.stops_take(std::time::Duration::from_secs(3));
    let failure = try_deploy(&world, adopting(&world), "2").await.unwrap_err();
    assert_eq!(failure.aftermath, Aftermath::RolledBack);
    assert_eq!((world.serving().unwrap().tag.as_str(), world.running()), ("1", vec!["web-blue".to_owned()]));
    assert_eq!(world.violations(), Vec::<String>::new());
}

/// nginx may lead to it by an address that is no colour's: until the first release serves, it does.
#[tokio::test(start_paused = true)]
async fn a_first_release_starts_beside_the_container_that_it_is_to_follow() {
    let world = world();
    world.foreign_container("web-blue");
    try_deploy(&world, adopting(&world), "1").await.unwrap();
    assert_eq!(world.running(), ["web-blue", "web-green"]);
    assert_eq!(world.violations(), Vec::<String>::new());
}

/// Today's configuration is for what is deployed today.
#[tokio::test(start_paused = true)]
async fn a_previous_release_is_let_go_by_its_own_options() {
    let world = world();
    let mut always = world.spec();
    always.options.restart = RestartPolicy::Always;
    try_deploy(&world, always.clone(), "1").await.unwrap();
    deploy(&world, "2").await;
    assert_eq!(world.containers(), ["web-green"], "the Engine would start it again at its next start");
    try_deploy(&world, always, "3").await.unwrap();
    assert_eq!(world.containers(), ["web-blue", "web-green"], "this one it would not");
}
