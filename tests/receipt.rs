//! What clients see of a run, on the in-memory World: counted beside it, told at its end, and a gate where asked for.

use std::sync::Arc;
use std::time::Duration;

use bluegreen_core::event::Event;
use bluegreen_core::model::{AppSpec, Color, Measurement, Rate, Receipt, ReceiptGate, RequestError};
use bluegreen_core::orchestrator::{Aftermath, Cause, Failure, Orchestrator, Report, Request};
use bluegreen_core::plan::Step;
use bluegreen_core::port::ProxyError;
use bluegreen_core::state::{AppState, Record};
use bluegreen_core::testing::{Fault, Health, OnEvent, Recorder, When, World};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A World that serves version 1, and whose other versions take two seconds to start.
async fn world() -> World {
    let world = World::new();
    world.publish("r.test/web:1");
    for tag in ["2", "3"] {
        world.publish(&format!("r.test/web:{tag}")).behaves(Health::After(Duration::from_secs(2)));
    }
    deploy(&world, world.spec(), "1").await.unwrap();
    world
}

async fn deploy(world: &World, spec: AppSpec, tag: &str) -> Result<Report, Failure> {
    let image = format!("r.test/web:{tag}").parse().unwrap();
    let id = format!("d{}", world.calls().len()).parse().unwrap();
    Orchestrator::new(world.ports(), spec).deploy(Request::new(image, id)).await
}

fn gated(world: &World, max_failures: u64) -> AppSpec {
    let mut spec = world.spec();
    spec.receipt.as_mut().unwrap().gate = Some(ReceiptGate::new(max_failures));
    spec
}

#[track_caller]
fn measured(receipt: Option<&Receipt>) -> Measurement {
    match receipt {
        Some(Receipt::Measured(measured)) => (**measured).clone(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn serves(world: &World, tag: &str) {
    assert_eq!(world.serving().map(|served| served.tag).as_deref(), Some(tag), "{:#?}", world.calls());
    assert_eq!(world.violations(), Vec::<String>::new(), "{:#?}", world.calls());
}

#[tokio::test(start_paused = true)]
async fn clients_are_counted_from_the_beginning_to_the_end_and_by_colour() {
    let world = world().await;
    world.in_flight(Color::Blue, 1, Some(Duration::from_secs(3)));
    let before = world.asked();
    let seen = measured(deploy(&world, world.spec(), "2").await.unwrap().receipt.as_ref());
    assert_eq!((seen.failed, seen.unfinished, seen.hint.as_deref()), (0, 0, None));
    assert_eq!(seen.requests, world.asked() - before);
    // Two seconds until it is healthy, one until blue is drained, 50 a second.
    assert!((100..=110).contains(&seen.before.requests), "{seen:?}");
    assert!((45..=60).contains(&seen.after.requests), "{seen:?}");
    assert_eq!((seen.before.color, seen.after.color), (Some(Color::Blue), Some(Color::Green)));
    assert!((70..=85).contains(&seen.keep_alive.requests), "half of them: {seen:?}");
    assert_eq!(seen.longest_gap, Duration::from_millis(20));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_seen_with_its_length_and_stops_nothing_unless_asked_to() {
    let world = world().await;
    let outage = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.outage(Duration::from_millis(300));
    };
    let (report, ()) = tokio::join!(deploy(&world, world.spec(), "2"), outage);
    let seen = measured(report.unwrap().receipt.as_ref());
    assert_eq!((seen.failed, seen.failures.refused, seen.before.failed), (15, 15, 15), "{seen:?}");
    assert_eq!(seen.longest_gap, Duration::from_millis(320));
    serves(&world, "2");
}

#[tokio::test(start_paused = true)]
async fn what_a_reload_costs_is_seen_on_kept_connections_and_has_a_hint() {
    let world = world().await;
    world.switch_by_reload();
    world.in_flight(Color::Blue, 1, Some(Duration::from_secs(3)));
    let seen = measured(deploy(&world, world.spec(), "2").await.unwrap().receipt.as_ref());
    assert_eq!((seen.failed, seen.failures.eof, seen.keep_alive.failed), (1, 1, 1), "{seen:?}");
    assert_eq!(seen.hint.as_deref(), Some("the live switch"));
}

/// The first case of the gate: well at its health path, ill where clients ask.
#[tokio::test(start_paused = true)]
async fn a_candidate_that_fails_clients_is_undone_before_it_is_committed() {
    let world = world().await;
    world.answers("r.test/web:2", Ok(500));
    let failure = deploy(&world, gated(&world, 2), "2").await.unwrap_err();
    assert_eq!((failure.step, &failure.aftermath), (Some(Step::Verify), &Aftermath::RolledBack));
    assert!(
        matches!(&failure.cause, Cause::ClientsFailed { failures, allowed: 2 } if failures.server_error == 3),
        "{failure:?}"
    );
    let seen = measured(failure.receipt.as_ref());
    assert_eq!((seen.failures.server_error, seen.failed), (3, 3), "{seen:?}");
    assert_eq!(seen.after.failed + seen.during.failed, 3);
    serves(&world, "1");
    assert!(!AppState::replay(&world.journal()).unwrap().runs.last().unwrap().is_committed());
    // Without the gate it would have passed.
    deploy(&world, world.spec(), "2").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_gate_lets_the_allowed_number_through_after_its_bake_time_and_costs_nothing_without() {
    let world = world().await;
    let took = async |spec: AppSpec, tag: &str| {
        let began = Instant::now();
        deploy(&world, spec, tag).await.unwrap();
        began.elapsed()
    };
    let without = took(world.spec(), "2").await;
    world.switch_by_reload();
    let mut spec = gated(&world, 1);
    spec.receipt.as_mut().unwrap().gate.as_mut().unwrap().bake = Duration::from_secs(7);
    let with = took(spec, "3").await;
    assert_eq!((with - without).as_secs(), 7, "{with:?} {without:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_ill_before_can_be_mended_under_a_gate() {
    let world = world().await;
    for answer in [Ok(500), Err(RequestError::Timeout)] {
        world.answers("r.test/web:1", answer);
        deploy(&world, gated(&world, 0), "2").await.unwrap();
        serves(&world, "2");
        world.answers("r.test/web:1", Ok(200));
        deploy(&world, world.spec(), "1").await.unwrap();
        serves(&world, "1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_cannot_see_is_refused_before_anything_is_touched() {
    let world = world().await;
    world.shut_clients_out("only TLS");
    let records = world.journal().len();
    let failure = deploy(&world, gated(&world, 0), "2").await.unwrap_err();
    assert_eq!(failure.aftermath, Aftermath::Untouched);
    assert!(matches!(&failure.cause, Cause::Proxy(ProxyError::NoWayIn { .. })), "{failure:?}");
    assert_eq!(world.journal().len(), records);
    // Without a gate it is a run like any other, and its receipt is no zero.
    let report = deploy(&world, world.spec(), "2").await.unwrap();
    let Some(Receipt::NotMeasured { reason }) = report.receipt else { panic!("{report:?}") };
    assert!(reason.contains("only TLS"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_cannot_see_any_more_once_the_run_has_begun_takes_it_back_and_says_why() {
    let world = world().await;
    let inside = world.clone();
    let shut = OnEvent::new(move |event| {
        if matches!(event, Event::Begun { .. }) {
            inside.shut_clients_out("only TLS");
        }
    });
    let run = Orchestrator::new(world.ports(), gated(&world, 0)).observed_by(Arc::new(shut));
    let request = Request::new("r.test/web:2".parse().unwrap(), "d".parse().unwrap());
    let failure = run.deploy(request).await.unwrap_err();
    assert!(
        matches!(&failure.cause, Cause::NotMeasured { reason } if reason.contains("only TLS")),
        "{failure:?}"
    );
    assert_eq!((failure.step, &failure.aftermath), (Some(Step::Verify), &Aftermath::RolledBack));
    serves(&world, "1");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_never_answers_clients_is_not_let_through_by_silence() {
    let world = world().await;
    world.answers("r.test/web:2", Err(RequestError::Timeout));
    // More than come to their end within the bake time.
    let failure = deploy(&world, gated(&world, 20), "2").await.unwrap_err();
    assert!(matches!(failure.cause, Cause::ClientsFailed { .. }), "{failure:?}");
    assert_eq!(failure.aftermath, Aftermath::RolledBack);
    serves(&world, "1");
    assert!(measured(failure.receipt.as_ref()).unfinished > 0);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_dies_in_its_bake_time_and_a_stop_in_it_are_taken_back() {
    let world = world().await;
    world.publish("r.test/web:frail").behaves(Health::DiesAfter(Duration::from_secs(1), 1));
    let mut spec = gated(&world, 1000);
    spec.receipt.as_mut().unwrap().gate.as_mut().unwrap().bake = Duration::from_secs(60);
    let failure = deploy(&world, spec.clone(), "frail").await.unwrap_err();
    assert!(matches!(failure.cause, Cause::CandidateLost { .. }), "{failure:?}");
    serves(&world, "1");
    let token = CancellationToken::new();
    let run = Orchestrator::new(world.ports(), spec).cancelled_by(token.clone());
    let stop = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        token.cancel();
    };
    let request = Request::new("r.test/web:2".parse().unwrap(), "stopped".parse().unwrap());
    let (failure, ()) = tokio::join!(run.deploy(request), stop);
    assert_eq!(failure.unwrap_err().aftermath, Aftermath::Cancelled);
    serves(&world, "1");
}

#[tokio::test(start_paused = true)]
async fn a_first_deploy_has_nothing_to_lose_before_its_switch() {
    let world = World::new();
    world.publish("r.test/web:1").behaves(Health::After(Duration::from_secs(5)));
    let seen = measured(deploy(&world, gated(&world, 0), "1").await.unwrap().receipt.as_ref());
    assert_eq!((seen.before.requests, seen.failed), (0, 0), "{seen:?}");
    assert!(seen.requests >= 50, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_asks_when_it_is_off_or_when_the_run_is_over() {
    let world = world().await;
    let mut off = world.spec();
    off.receipt = None;
    let before = world.asked();
    let report = deploy(&world, off, "2").await.unwrap();
    assert_eq!((report.receipt, world.asked()), (None, before));
    for fail in [false, true] {
        if fail {
            world.publish("r.test/web:bad").behaves(Health::never("status 500"));
        }
        assert_eq!(deploy(&world, world.spec(), if fail { "bad" } else { "3" }).await.is_err(), fail);
        let after = world.asked();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.asked(), after, "somebody still asks");
    }
    // Nor when the run's future is dropped.
    let run = deploy(&world, world.spec(), "2");
    tokio::time::timeout(Duration::from_secs(1), run).await.unwrap_err();
    world.restart_process();
    let after = world.asked();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.asked(), after, "somebody still asks");
}

#[tokio::test(start_paused = true)]
async fn the_journal_keeps_it_before_the_end_and_lives_without_it() {
    let world = world().await;
    let told = Arc::new(Recorder::default());
    let request = Request::new("r.test/web:2".parse().unwrap(), "d2".parse().unwrap());
    let run = Orchestrator::new(world.ports(), world.spec()).observed_by(told.clone());
    let report = run.deploy(request).await.unwrap();
    let journal = world.journal();
    let [.., kept, end] = &journal[..] else { panic!("{journal:?}") };
    assert!(matches!(end.record, Record::Ended { .. }), "{end:?}");
    let Record::Receipt { receipt } = &kept.record else { panic!("{kept:?}") };
    assert_eq!(report.receipt.as_ref(), Some(receipt));
    let mut told = told.events();
    told.retain(|event| matches!(event, Event::Receipt { .. }));
    assert_eq!(told, [Event::Receipt { receipt: receipt.clone() }]);
    // As it is read back, it is the same.
    let again: Record = serde_json::from_str(&serde_json::to_string(&kept.record).unwrap()).unwrap();
    assert_eq!(again, kept.record);
    let status = run.status().await.unwrap();
    assert_eq!(status.last.unwrap().receipt.as_ref(), Some(receipt));
    // A journal from before there were receipts.
    let mut earlier: Vec<_> = journal.clone();
    earlier.retain(|entry| !matches!(entry.record, Record::Receipt { .. }));
    assert_eq!(AppState::replay(&earlier).unwrap().current(), AppState::replay(&journal).unwrap().current());
}

/// The receipt is history: that it cannot be written is no reason to fail.
#[tokio::test(start_paused = true)]
async fn a_receipt_that_cannot_be_kept_stops_nothing() {
    let rehearsal = world().await;
    deploy(&rehearsal, rehearsal.spec(), "2").await.unwrap();
    let write = rehearsal.calls().iter().rposition(|call| call == "journal.append receipt").unwrap();
    for when in When::ALL {
        let world = world().await;
        world.fault_at_call(write, Fault::Fail, when);
        let report = deploy(&world, world.spec(), "2").await.unwrap();
        assert!(report.receipt.is_some());
        assert_eq!(world.journal().len(), rehearsal.journal().len() - usize::from(when == When::Before));
        serves(&world, "2");
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_clients_hold_up_nothing_and_are_bounded() {
    let world = world().await;
    let clean = {
        let began = Instant::now();
        deploy(&world, world.spec(), "2").await.unwrap();
        began.elapsed()
    };
    world.answers("r.test/web:2", Err(RequestError::Timeout));
    world.answers("r.test/web:3", Err(RequestError::Timeout));
    let mut spec = world.spec();
    let policy = spec.receipt.as_mut().unwrap();
    (policy.rate, policy.timeout) = (Rate::new(500).unwrap(), Duration::from_mins(10));
    let (began, before) = (Instant::now(), world.asked());
    let report = deploy(&world, spec, "3").await.unwrap();
    assert!(began.elapsed() - clean <= Duration::from_millis(100), "{:?} {clean:?}", began.elapsed());
    let asked = world.asked() - before;
    assert!((5..=256).contains(&asked), "no more are sent than tell that nobody answers: {asked}");
    assert!(matches!(report.receipt, Some(Receipt::NotMeasured { .. })), "{report:?}");
}
