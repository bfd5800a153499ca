//! What a refused candidate is said to have answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bluegreen_core::model::{Check, RestartPolicy};
use bluegreen_core::orchestrator::{Aftermath, Orchestrator, Request};
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
