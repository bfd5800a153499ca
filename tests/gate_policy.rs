//! The gate's policy, on paused time: how often it asks, how long a candidate must stay healthy, and what is no longer
//! the candidate.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bluegreen_core::event::Event;
use bluegreen_core::model::{Check, GatePolicy, HttpCheck, LogPattern};
use bluegreen_core::orchestrator::{Aftermath, Cause, Failure, Orchestrator, Report, Request};
use bluegreen_core::plan::Step;
use bluegreen_core::port::{
    Health, HealthProbe, Instance, InstanceId, InstanceState, MockContainerRuntime, ProbeError,
};
use bluegreen_core::testing::{Recorder, World};
use tokio::time::Instant;

type Answer = fn(millis: u128) -> Result<Health, ProbeError>;

/// Answers by how long ago it was asked first, and remembers when it was asked what.
#[derive(Debug)]
struct Scripted {
    answer: Answer,
    began: Instant,
    asked: Mutex<Vec<(String, u128)>>,
}

impl Scripted {
    fn new(answer: Answer) -> Self {
        Self { answer, began: Instant::now(), asked: Mutex::default() }
    }
}

#[async_trait]
impl HealthProbe for Scripted {
    async fn probe(&self, check: &Check, _: &Instance, _: Duration) -> Result<Health, ProbeError> {
        let millis = self.began.elapsed().as_millis();
        self.asked.lock().unwrap().push((check.to_string(), millis));
        if matches!(check, Check::Log(_)) { Ok(Health::Healthy) } else { (self.answer)(millis) }
    }
}

/// A deploy that a probe let through or not.
struct Deployed {
    /// What was asked, and how many milliseconds after the beginning.
    asked: Vec<(String, u128)>,
    /// What people were told of a candidate that is not healthy yet.
    told: Vec<String>,
    ended: Result<Report, Failure>,
}

async fn deploy(policy: GatePolicy, answer: Answer) -> Deployed {
    let world = World::new();
    world.publish("registry.test/web:1");
    let probe = Arc::new(Scripted::new(answer));
    let mut ports = world.ports();
    ports.probe = probe.clone();
    let mut spec = world.spec();
    spec.gate = policy;
    let told = Arc::new(Recorder::default());
    let ended = Orchestrator::new(ports, spec).observed_by(told.clone()).deploy(request()).await;
    let reason = |event| if let Event::NotHealthyYet { reason, .. } = event { Some(reason) } else { None };
    let told = told.events().into_iter().filter_map(reason).collect();
    let asked = probe.asked.lock().unwrap().clone();
    Deployed { asked, told, ended }
}

fn request() -> Request {
    Request::new("registry.test/web:1".parse().unwrap(), "d".parse().unwrap())
}

fn policy() -> GatePolicy {
    let mut policy = GatePolicy::default();
    policy.checks = vec![Check::Http(HttpCheck::get(3000, "/"))];
    policy
}

fn pauses(asked: &[(String, u128)]) -> Vec<u128> {
    asked.windows(2).map(|two| two[1].1 - two[0].1).collect()
}

fn no(_: u128) -> Result<Health, ProbeError> {
    Ok(Health::unhealthy("no"))
}

#[tokio::test(start_paused = true)]
async fn attempts_are_dense_for_a_second_and_then_ever_rarer_up_to_four_a_second() {
    let pauses = pauses(&deploy(policy(), no).await.asked);
    let dense = pauses.iter().take_while(|pause| **pause <= 6).count();
    assert!((150..=201).contains(&dense), "{dense} in the first second");
    let slower = &pauses[dense..];
    assert!(slower[..8].is_sorted_by(|one, next| one * 5 / 4 <= *next), "{slower:?}");
    let rare = slower.iter().filter(|pause| (250..=252).contains(*pause)).count();
    // The last one is cut off by the deadline.
    assert!(slower.len() - rare <= 12 && rare > 100, "{slower:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_told_of_when_it_is_another_one_than_before() {
    let answer = |millis| Ok(Health::unhealthy(if millis < 2_000 { "refused" } else { "status 500" }));
    assert_eq!(deploy(policy(), answer).await.told, ["refused", "status 500"]);
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_ones_own_is_kept() {
    let mut policy = policy();
    policy.interval = Some(Duration::from_millis(100));
    let pauses = pauses(&deploy(policy, no).await.asked);
    assert!(pauses.len() > 290 && pauses.iter().all(|pause| (100..=101).contains(pause)), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_must_stay_healthy_begins_anew_when_it_does_not() {
    let mut policy = policy();
    policy.checks.push(Check::Log(LogPattern::text("ready")));
    policy.min_healthy = Duration::from_secs(5);
    policy.successes = 3;
    let Deployed { asked, ended, .. } =
        deploy(
            policy,
            |millis| {
                if (2_000..3_000).contains(&millis) { no(millis) } else { Ok(Health::Healthy) }
            },
        )
        .await;
    ended.unwrap();
    let end = asked.last().unwrap().1;
    // The last of them is one pause before its end.
    assert!((7_750..8_250).contains(&end), "healthy from 3 s on, and 5 s long: {end}");
    // Once before each healthy time: a line that was logged is not asked for again.
    let of_log = asked.iter().filter(|(check, _)| check.contains("ready")).count();
    assert_eq!(of_log, 2, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_is_an_answer_and_one_that_cannot_work_is_the_end() {
    let Deployed { asked, ended, .. } =
        deploy(policy(), |_| Err(ProbeError::Other { operation: "asking", source: "a bad day".into() }))
            .await;
    let failure = ended.unwrap_err();
    assert!(failure.cause.to_string().contains("asking failed: a bad day"), "{failure:?}");
    assert!(asked.len() > 100);
    let Deployed { asked, ended, .. } =
        deploy(policy(), |_| Err(ProbeError::Impossible { reason: "no shell".to_owned() })).await;
    assert_eq!(asked.len(), 1);
    let failure = ended.unwrap_err();
    assert!(matches!(failure.cause, Cause::Probe(ProbeError::Impossible { .. })), "{failure:?}");
    assert_eq!((failure.step, failure.aftermath), (Some(Step::Gate), Aftermath::RolledBack));
}

/// What is found in the candidate's place once it has been started.
async fn refused_over(found: impl Fn(Instance) -> Option<Instance> + Send + 'static) -> String {
    let world = World::new();
    world.publish("registry.test/web:1");
    let candidate =
        Instance::new(InstanceId::new("12ab"), world.spec().slots.blue.name.clone(), InstanceState::Running);
    let started = Arc::new(AtomicU32::new(0));
    let mut runtime = MockContainerRuntime::new();
    runtime.expect_list().returning(|_| Ok(vec![]));
    runtime.expect_has_image().returning(|_| Ok(true));
    runtime.expect_ensure_image().returning(|_, _, _| Ok(()));
    runtime.expect_free_space().returning(|| Ok(None));
    runtime.expect_log_tail().returning(|_, _| Ok(vec![]));
    runtime.expect_listens_on().returning(|_| Ok(vec![]));
    let (starts, made) = (started.clone(), candidate.clone());
    runtime.expect_ensure_running().returning(move |_| {
        starts.store(1, Ordering::Relaxed);
        Ok(made.clone())
    });
    runtime.expect_find().returning(move |_| {
        Ok(if started.load(Ordering::Relaxed) == 0 { None } else { found(candidate.clone()) })
    });
    let mut ports = world.ports();
    ports.runtime = Arc::new(runtime);
    ports.probe = Arc::new(Scripted::new(no));
    let mut spec = world.spec();
    spec.gate = policy();
    let began = Instant::now();
    let failure = Orchestrator::new(ports, spec).deploy(request()).await.unwrap_err();
    assert_eq!(failure.step, Some(Step::Gate), "{failure:?}");
    format!("{} s: {}", began.elapsed().as_secs(), failure.cause)
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_the_candidate_ends_the_gate_at_once() {
    let restarted = |times| {
        move |mut now: Instance| {
            now.restarts = times;
            Some(now)
        }
    };
    let replaced = |now: Instance| Some(Instance::new(InstanceId::new("34cd"), now.name, now.state));
    assert!(refused_over(|_| None).await.starts_with("0 s: the candidate web-blue is removed"));
    assert!(refused_over(replaced).await.starts_with("0 s: the candidate web-blue is replaced by another"));
    assert!(refused_over(restarted(1)).await.starts_with("0 s: the candidate web-blue is restarted once"));
    assert!(refused_over(restarted(2)).await.starts_with("0 s: the candidate web-blue is restarted 2 times"));
    assert!(refused_over(Some).await.starts_with("30 s: the candidate web-blue was not healthy within 30 s"));
}
