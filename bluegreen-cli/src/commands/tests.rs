//! The verbs on the core's in-memory host: what people and machines get to read.

use std::time::Duration;

use bluegreen_core::model::{AppName, Color};
use bluegreen_core::orchestrator::{Failure, Orchestrator, Report, Request};
use bluegreen_core::port::Holder;
use bluegreen_core::state::Activity;
use bluegreen_core::testing::{Fault, Health, When, World};

use super::cancel::Cancelled;
use super::doctor::{CheckResult, Level};
use super::{cancel, doctor, history, retire, run, show};
use crate::config::{App, NginxSettings};
use crate::exit::Exit;
use crate::explain;
use crate::output::{Line, Verdict, schema};
use crate::settings::{Again, OPEN_PORTS, Origin, Target};

fn target(world: &World) -> Target {
    let app = App { spec: world.spec(), image: None, pull: None, nginx: NginxSettings::default() };
    Target {
        app,
        docker_host: None,
        state_dir: None,
        warnings: Vec::new(),
        notes: Vec::new(),
        origin: Origin::Script { nginx_conf: "/srv/default.conf".into() },
        again: Again(vec!["web".to_owned()]),
        image: None,
        input: Vec::new(),
    }
}

async fn deploy(world: &World, tag: &str, id: &str) -> Result<Report, Failure> {
    let image = format!("r.io/web:{tag}").parse().unwrap();
    Orchestrator::new(world.ports(), world.spec()).deploy(Request::new(image, id.parse().unwrap())).await
}

async fn verdict(world: &World, tag: &str, id: &str) -> Verdict {
    match deploy(world, tag, id).await {
        Ok(report) => run::done("deploy", &report, &target(world)),
        Err(failure) => explain::failure("deploy", &failure, &target(world)),
    }
}

fn text(verdict: &Verdict) -> String {
    let lines = verdict.lines(false).into_iter().map(|line| match line {
        Line::Say(text) => text.lines().map(|line| format!("2> {line}\n")).collect::<String>(),
        Line::Result(text) => text.lines().map(|line| format!("1> {line}\n")).collect(),
    });
    lines.collect()
}

fn world() -> World {
    let world = World::new();
    for tag in ["1", "2"] {
        world.publish(&format!("r.io/web:{tag}"));
    }
    world.publish("r.io/web:sick").behaves(Health::never("status 500"));
    world.publish("r.io/web:dead").behaves(Health::OomAfter(Duration::from_secs(2)));
    world
}

#[tokio::test(start_paused = true)]
async fn every_ending_has_its_code_and_its_words() {
    let world = world();
    let mut report = String::new();
    let mut exits = Vec::new();
    for (tag, id) in
        [("1", "d1"), ("2", "d2"), ("2", "d3"), ("sick", "d4"), ("dead", "d5"), ("gone", "d6"), ("1", "d1")]
    {
        let verdict = verdict(&world, tag, id).await;
        report.push_str(&format!("--- {tag} as {id}\n{}", text(&verdict)));
        schema::assert_report(&verdict.json());
        exits.push(verdict.exit);
    }
    assert_eq!(
        exits,
        [
            Exit::Success,
            Exit::Success,
            Exit::Success,
            Exit::RolledBack,
            Exit::RolledBack,
            Exit::Refused,
            Exit::Refused
        ]
    );
    insta::assert_snapshot!(report);
}

#[tokio::test(start_paused = true)]
async fn stuck_says_so_and_how_to_get_out() {
    let world = world();
    deploy(&world, "1", "d1").await.unwrap();
    world.fault_always("runtime.ensure_removed", Fault::Fail, When::Before);
    world.fault_always("runtime.ensure_stopped", Fault::Fail, When::Before);
    let verdict = verdict(&world, "sick", "d2").await;
    assert_eq!(verdict.exit, Exit::Stuck);
    insta::assert_snapshot!(text(&verdict));
}

/// "Rolled back" promises that the previous release serves. A proxy also names a colour where there never was one.
#[tokio::test(start_paused = true)]
async fn a_release_that_is_down_is_not_said_to_serve_and_one_that_never_was_is_not_down() {
    let world = world();
    deploy(&world, "1", "d1").await.unwrap();
    let runtime = world.ports().runtime;
    let blue = runtime.find(&world.spec().slots.blue.name).await.unwrap().unwrap();
    runtime.ensure_stopped(&blue.id, None).await.unwrap();
    world.fault_at("runtime.ensure_image", Fault::Fail, When::Before);
    assert_eq!(verdict(&world, "2", "d2").await.exit, Exit::Stuck);

    let fresh = self::world();
    fresh.tamper_proxy(Some(Color::Blue));
    let verdict = verdict(&fresh, "sick", "d1").await;
    assert_eq!(verdict.exit, Exit::RolledBack, "{}", text(&verdict));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_retired_is_not_hidden() {
    let world = world();
    deploy(&world, "1", "d1").await.unwrap();
    world.fault_always("runtime.ensure_stopped", Fault::Fail, When::Before);
    let verdict = verdict(&world, "2", "d2").await;
    assert_eq!(verdict.exit, Exit::Unretired);
    assert!(text(&verdict).trim_end().ends_with("next: bluegreen recover web"), "{}", text(&verdict));
}

#[tokio::test(start_paused = true)]
async fn the_last_lines_fit_into_what_codedeploy_keeps() {
    let world = world();
    deploy(&world, "1", "d1").await.unwrap();
    let text = text(&verdict(&world, "sick", "d2").await);
    assert!(text.len() < 2048 && text.lines().all(|line| line.len() < 500), "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_report_is_versioned_and_complete() {
    let world = world();
    deploy(&world, "1", "d1").await.unwrap();
    let json = verdict(&world, "sick", "d2").await.json();
    insta::assert_snapshot!(format!("{json:#}"));
    let json = verdict(&world, "2", "d3").await.json();
    assert_eq!(
        (&json["version"], &json["exit_code"], &json["result"]["candidate"]),
        (&2.into(), &0.into(), &"green".into())
    );
}

#[tokio::test(start_paused = true)]
async fn status_and_plan_say_what_to_type_next() {
    let world = world();
    let orchestrator = Orchestrator::new(world.ports(), world.spec());
    let status = async || show::shown(&orchestrator.status().await.unwrap(), &target(&world));
    let plan = async |tag: &str| {
        let image = format!("r.io/web:{tag}").parse().unwrap();
        show::planned(&orchestrator.plan(Request::new(image, "p".parse().unwrap())).await.unwrap())
    };
    let timeless = |text: String| {
        text.lines()
            .map(|line| if line.contains("since") { "1>  since …\n".to_owned() } else { format!("{line}\n") })
            .collect::<String>()
    };
    let mut report = format!("--- empty\n{}{}", text(&status().await), text(&plan("1").await));
    deploy(&world, "1", "d1").await.unwrap();
    deploy(&world, "2", "d2").await.unwrap();
    report.push_str(&format!(
        "--- two releases\n{}{}",
        timeless(text(&status().await)),
        text(&plan("2").await)
    ));
    world.tamper_proxy(None);
    report.push_str(&format!("--- tampered\n{}", timeless(text(&status().await))));
    insta::assert_snapshot!(report);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_warm_and_what_was_not_drained_is_said() {
    let world = world();
    let mut spec = world.spec();
    spec.retain.warm = Some(Duration::from_mins(10));
    let orchestrator = Orchestrator::new(world.ports(), spec);
    let deploy = async |tag: &str| {
        let image = format!("r.io/web:{tag}").parse().unwrap();
        orchestrator.deploy(Request::new(image, tag.parse().unwrap())).await.unwrap()
    };
    deploy("1").await;
    world.in_flight(Color::Blue, 3, None);
    let said = text(&run::done("deploy", &deploy("2").await, &target(&world)));
    assert!(said.contains("not drained after 30.0s: 3 connections, unchanged for 30.0s"), "{said}");
    let status = async || text(&show::shown(&orchestrator.status().await.unwrap(), &target(&world)));
    let retire = async |now| {
        let retired = orchestrator.retire("r".parse().unwrap(), now).await.unwrap();
        text(&retire::to_verdict(&retired, &target(&world)))
    };
    let said = status().await;
    assert!(said.contains("kept warm    web-blue, for another"), "{said}");
    assert!(retire(false).await.contains("web-blue stays warm for another"));
    world.backdate(Duration::from_hours(1));
    let said = status().await;
    assert!(said.contains("due to be stopped") && said.contains("next: bluegreen retire web"), "{said}");
    assert!(retire(false).await.contains("retired: web-blue is stopped"));
    assert!(retire(true).await.contains("nothing to retire"));
}

#[tokio::test(start_paused = true)]
async fn the_history_is_what_happened_without_any_secret() {
    let world = world();
    let mut spec = world.spec();
    spec.options.env.insert("TOKEN".to_owned(), bluegreen_core::model::Secret::new("hunter2"));
    let orchestrator = Orchestrator::new(world.ports(), spec);
    let shown = async |journal, limit| {
        let verdict = history::shown(&orchestrator.history().await.unwrap(), journal, limit);
        assert!(!verdict.json().to_string().contains("hunter2"));
        text(&verdict)
    };
    assert_eq!(shown(false, 20).await, "1> no runs on record: web was never deployed\n");
    for (tag, id) in [("1", "d1"), ("sick", "d2"), ("2", "d3")] {
        let image = format!("r.io/web:{tag}").parse().unwrap();
        drop(orchestrator.deploy(Request::new(image, id.parse().unwrap())).await);
    }
    let runs = shown(false, 0).await;
    for says in
        ["deploy d1, r.io/web:1: committed", "deploy d2, r.io/web:sick: rolled back: gate failed", "took "]
    {
        assert!(runs.contains(says), "{says}: {runs}");
    }
    assert_eq!(shown(false, 1).await.matches("deploy d").count(), 1);
    let records = shown(true, 0).await;
    for says in ["1  ", "begun", "d2  undone", "ended", "rolled-back"] {
        assert!(records.contains(says), "{says}: {records}");
    }
    assert_eq!(records.lines().count(), world.journal().len());
    assert_eq!(shown(true, 2).await.lines().count(), 2);
    assert!(!format!("{runs}{records}").contains("hunter2"));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_says_what_became_of_the_run() {
    let world = world();
    deploy(&world, "1", "d1").await.unwrap();
    drop(deploy(&world, "sick", "d2").await);
    let orchestrator = Orchestrator::new(world.ports(), world.spec());
    let status = orchestrator.status().await.unwrap();
    let holder = |id: &str| Holder::new(7, "here", Activity::Deploy, id.parse().unwrap());
    let told = |cancelled| {
        let verdict = cancel::to_verdict(&cancelled, &status, &target(&world));
        (verdict.exit, text(&verdict))
    };
    assert_eq!(
        told(Cancelled::Nobody),
        (Exit::Success, "1> nothing to cancel: no run of web is in progress\n".to_owned())
    );
    let (exit, said) = told(Cancelled::Ended(holder("d2")));
    assert_eq!(exit, Exit::Success);
    assert!(
        said.contains("cancelled: deploy d2: rolled back") && said.contains("serving now: blue"),
        "{said}"
    );
    let (exit, said) = told(Cancelled::StillAtWork(holder("d2")));
    assert!(
        exit == Exit::Refused && said.contains("asked to stop, but still running: deploy d2 (pid 7 on here"),
        "{said}"
    );
    let (exit, said) = told(Cancelled::Refused(Some(holder("d2")), "it runs on there".to_owned()));
    assert!(exit == Exit::Refused && said.contains("not cancelled: it runs on there: deploy d2"), "{said}");
    let tended = Cancelled::Ended(Holder::new(7, "here", Activity::Recover, "r1".parse().unwrap()));
    let (exit, said) = told(tended);
    assert_eq!(exit, Exit::Success);
    assert!(
        said.contains("ended: recover r1: nothing is left to recover\n") && said.contains("serving now"),
        "{said}"
    );
    deploy(&world, "2", "d3").await.unwrap();
    let status = orchestrator.status().await.unwrap();
    let verdict = cancel::to_verdict(&Cancelled::Ended(holder("d3")), &status, &target(&world));
    let said = text(&verdict);
    assert!(verdict.exit == Exit::Refused && said.contains("too late: deploy d3: committed"), "{said}");
    assert!(said.trim_end().ends_with("next: bluegreen rollback web"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_of_what_settles_tells_what_is_left() {
    let world = world();
    deploy(&world, "1", "d1").await.unwrap();
    world.fault_at("proxy.switch", Fault::Crash, When::After);
    tokio::select! {
        () = world.crash() => world.restart_process(),
        ended = deploy(&world, "2", "d2") => panic!("it was to be cut off: {ended:?}"),
    }
    let status = Orchestrator::new(world.ports(), world.spec()).status().await.unwrap();
    let tended = Cancelled::Ended(Holder::new(7, "here", Activity::Recover, "r1".parse().unwrap()));
    let verdict = cancel::to_verdict(&tended, &status, &target(&world));
    let said = text(&verdict);
    assert_eq!(verdict.exit, Exit::Refused);
    assert!(
        said.contains("ended: recover r1: d2 is unfinished: interrupted before the commit point"),
        "{said}"
    );
    assert!(said.trim_end().ends_with("next: bluegreen recover web"), "{said}");
}

#[test]
fn a_doctor_says_the_worst_last_and_what_to_do_about_it() {
    let world = world();
    let finding = |level, remedy: Option<&str>| CheckResult {
        check: "disk",
        level,
        found: "5 MB are free".to_owned(),
        remedy: remedy.map(Into::into),
    };
    let told = |findings: &[CheckResult]| {
        let verdict = doctor::to_verdict(findings, &target(&world));
        (verdict.exit, text(&verdict), verdict.json()["result"]["ready"].clone())
    };
    let (fine, skipped) = (finding(Level::Fine, None), finding(Level::Skipped, None));
    let (exit, said, ready) = told(&[fine.clone(), skipped]);
    assert_eq!((exit, ready), (Exit::Success, true.into()));
    assert!(
        said.contains("ok   disk     5 MB are free\n") && said.contains("can be made; nothing was touched"),
        "{said}"
    );
    let (exit, said, ready) = told(&[fine.clone(), finding(Level::Warns, Some("make room"))]);
    assert_eq!((exit, ready), (Exit::Success, true.into()));
    assert!(said.contains("can be made; 1 to look at") && said.ends_with("2> to do: make room\n"), "{said}");
    let (exit, said, ready) =
        told(&[finding(Level::Warns, Some("make room")), fine, finding(Level::Blocks, Some("buy a disk"))]);
    assert_eq!((exit, ready), (Exit::Refused, false.into()));
    assert!(said.contains("FAIL disk") && said.contains("to do: buy a disk"), "{said}");
    assert!(
        said.contains("would fail: 1 to fix first") && said.ends_with("2> to do: buy a disk\n"),
        "{said}"
    );
}

#[test]
fn a_doctor_tells_of_what_a_deploy_warns_of() {
    let world = world();
    let target = Target { warnings: vec![OPEN_PORTS], ..target(&world) };
    let [finding] = &doctor::configured(&target)[..] else { panic!("one warning, one finding") };
    assert_eq!((finding.check, finding.level), ("config", Level::Warns));
    assert!(finding.found.ends_with("bypassing the host's firewall"), "{}", finding.found);
    assert_eq!(
        finding.remedy.as_ref().and_then(|next| next.words()),
        Some("`publish = \"127.0.0.1\"` in bluegreen.toml")
    );
}

#[test]
fn a_new_id_is_an_id() {
    let id = super::new_id();
    assert!(id.parse::<bluegreen_core::model::DeploymentId>().is_ok(), "{id}");
    assert!(AppName::new("web").is_ok());
}
