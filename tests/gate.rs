//! What a refused candidate is said to have answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bluegreen_core::model::{Check, Healthcheck, LogPattern, RestartPolicy, RunOptions};
use bluegreen_core::orchestrator::{Aftermath, CannotPass, Cause, Orchestrator, Request};
use bluegreen_core::port::{Health, HealthProbe, Instance, ProbeError};
use bluegreen_core::testing::World;

/// Answers so many times; then every attempt takes all of its time.
#[derive(Debug)]
struct HangsAfter {
    answers: u32,
    attempts: AtomicU32,
}

#[async_trait]
impl HealthProbe for HangsAfter {
    async fn probe(&self, _: &Check, _: &Instance, within: Duration) -> Result<Health, ProbeError> {
        if self.attempts.fetch_add(1, Ordering::Relaxed) < self.answers {
            return Ok(Health::unhealthy("status 500"));
        }
        tokio::time::sleep(within).await;
        Ok(Health::unhealthy("nothing came"))
    }
}

async fn refusal(answers: u32, attempt: Duration) -> String {
    let world = World::new();
    world.publish("registry.test/web:1");
    let mut ports = world.ports();
    ports.probe = Arc::new(HangsAfter { answers, attempts: AtomicU32::new(0) });
    let mut spec = world.spec();
    spec.gate.deadline = Some(Duration::from_secs(10));
    spec.gate.attempt_timeout = attempt;
    let request = Request::new("registry.test/web:1".parse().unwrap(), "d-1".parse().unwrap());
    Orchestrator::new(ports, spec).deploy(request).await.unwrap_err().cause.to_string()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_the_deadline_cut_short_does_not_hide_the_answer_before_it() {
    let cause = refusal(1, Duration::from_mins(1)).await;
    assert!(cause.ends_with("status 500; then nothing came"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_the_deadline_cut_short_is_told_of_when_there_was_no_other() {
    let cause = refusal(0, Duration::from_mins(1)).await;
    assert!(cause.ends_with(": nothing came"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_cut_short_at_once_is_not_told_of() {
    let cause = refusal(1, Duration::from_millis(9_700)).await;
    assert!(cause.ends_with("nothing came") && !cause.contains("then"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_had_all_its_time_is_the_last_answer() {
    let cause = refusal(1, Duration::from_secs(3)).await;
    assert!(cause.contains("nothing came") && !cause.contains("status 500"), "{cause}");
}

/// Healthy once; at the next attempt the Engine goes down and comes back with every container stopped.
#[derive(Debug)]
struct EngineGoesDown {
    world: World,
    attempts: AtomicU32,
}

#[async_trait]
impl HealthProbe for EngineGoesDown {
    async fn probe(&self, _: &Check, _: &Instance, _: Duration) -> Result<Health, ProbeError> {
        // The candidate's: the first release passed with the first, and what is started again is asked later.
        if self.attempts.fetch_add(1, Ordering::Relaxed) != 1 {
            return Ok(Health::Healthy);
        }
        self.world.reboot();
        Ok(Health::unhealthy("connection refused"))
    }
}

#[tokio::test(start_paused = true)]
async fn what_served_is_started_again_when_the_engine_stopped_it_while_the_gate_was_open() {
    let world = World::new();
    let mut ports = world.ports();
    ports.probe = Arc::new(EngineGoesDown { world: world.clone(), attempts: AtomicU32::new(0) });
    let mut spec = world.spec();
    // As an Engine that was killed leaves them, whatever their policy.
    spec.options.restart = RestartPolicy::No;
    let orchestrator = Orchestrator::new(ports, spec);
    for tag in ["1", "2"] {
        let image = format!("registry.test/web:{tag}");
        world.publish(&image);
        let request = Request::new(image.parse().unwrap(), format!("d-{tag}").parse().unwrap());
        let outcome = orchestrator.deploy(request).await;
        assert_eq!(outcome.is_ok(), tag == "1");
        if let Err(failure) = outcome {
            assert!(matches!(failure.aftermath, Aftermath::RolledBack), "{failure:?}");
        }
    }
    assert_eq!(world.serving().map(|served| served.tag), Some("1".to_owned()));
    assert_eq!(world.running(), ["web-blue"]);
    assert_eq!(world.violations(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_no_candidate_of_an_image_could_pass_is_refused_before_anything_is_touched() {
    let usual = Some(Healthcheck::default());
    let line = || Check::Log(LogPattern::text("ready"));
    let mut none = RunOptions::default();
    none.log_driver = Some("none".to_owned());
    type Expected = fn(&CannotPass) -> bool;
    type Case = (Check, Option<u64>, Option<Healthcheck>, RunOptions, Option<Expected>);
    let cases: [Case; 6] = [
        (
            Check::Image,
            Some(30),
            usual,
            RunOptions::default(),
            Some(|why| matches!(why, CannotPass::TooLate(_))),
        ),
        (
            Check::Image,
            None,
            None,
            RunOptions::default(),
            Some(|why| matches!(why, CannotPass::NoHealthcheck)),
        ),
        (line(), None, None, none.clone(), Some(|why| matches!(why, CannotPass::UnreadableLog { .. }))),
        (Check::Image, None, usual, none.clone(), None),
        (Check::Image, Some(31), usual, RunOptions::default(), None),
        (Check::Tcp { port: 3000 }, Some(1), None, none, None),
    ];
    for (check, deadline, healthcheck, options, expected) in cases {
        let world = World::new();
        world.publish("registry.test/web:1").is_here_with(healthcheck);
        let mut spec = world.spec();
        spec.gate.checks = vec![check];
        spec.gate.deadline = deadline.map(Duration::from_secs);
        spec.options = options;
        let orchestrator = Orchestrator::new(world.ports(), spec);
        let request = Request::new("registry.test/web:1".parse().unwrap(), "d-1".parse().unwrap());
        let planned = orchestrator.plan(request.clone()).await.map(drop);
        let deployed = orchestrator.deploy(request).await.map(drop);
        for outcome in [planned, deployed] {
            match (outcome, expected) {
                (Ok(()), None) => {}
                (Err(failure), Some(expected)) => {
                    let Cause::CannotPass(why) = &failure.cause else { panic!("{failure:?}") };
                    assert!(expected(why), "{why}");
                    assert_eq!(failure.aftermath, Aftermath::Untouched);
                    assert!(world.containers().is_empty());
                }
                (outcome, _) => panic!("{outcome:?}"),
            }
        }
    }
}

/// What is not here yet is seen once it is.
#[tokio::test(start_paused = true)]
async fn an_image_that_is_to_be_pulled_is_not_judged_before() {
    let world = World::new();
    world.publish("registry.test/web:1");
    let mut spec = world.spec();
    spec.gate.checks = vec![Check::Image];
    let request = Request::new("registry.test/web:1".parse().unwrap(), "d-1".parse().unwrap());
    Orchestrator::new(world.ports(), spec).plan(request).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn where_an_application_listens_that_nobody_reaches_is_said_as_a_fact() {
    for (listens_on, said) in [
        (vec!["127.0.0.1:3000"], true),
        (vec!["127.0.0.11:41000", "[::1]:3000"], true),
        (vec!["127.0.0.11:41000"], false),
        (vec!["127.0.0.1:9229", "0.0.0.0:3000"], false),
        (vec![], false),
    ] {
        let world = World::new();
        world
            .publish("registry.test/web:1")
            .behaves(bluegreen_core::testing::Health::never("connection refused"));
        let all: Vec<std::net::SocketAddr> = listens_on.iter().map(|at| at.parse().unwrap()).collect();
        world.listens_on(&all);
        let request = Request::new("registry.test/web:1".parse().unwrap(), "d-1".parse().unwrap());
        let failure = Orchestrator::new(world.ports(), world.spec()).deploy(request).await.unwrap_err();
        let Cause::Gate(gate) = &failure.cause else { panic!("{failure:?}") };
        assert_eq!(!gate.unreachable.is_empty(), said, "{gate}");
        assert_eq!(gate.to_string().contains("inside its container, where nobody outside reaches it"), said);
        assert!(!gate.to_string().contains("127.0.0.11"), "{gate}");
    }
}
