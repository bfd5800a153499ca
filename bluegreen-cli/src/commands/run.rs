//! The verbs that change what serves: deploy, rollback, recover.

use bluegreen_core::model::LongLived;
use bluegreen_core::orchestrator::{Earlier, Goal, NoRollback, Report, Request};
use bluegreen_core::state::{Outcome, Verb};
use serde_json::json;

use super::{Context, RunLimits};
use crate::args::{DeployArgs, RollbackArgs, RunArgs};
use crate::config::Mode;
use crate::output::{Next, Verdict, receipt};
use crate::settings::{self, Target};
use crate::{duration, explain, ports};

/// `deploy`.
pub(super) fn deploy(cx: &Context, args: &DeployArgs) -> Verdict {
    const COMMAND: &str = "deploy";
    let (target, image) = match settings::deployment(&cx.global, &args.input.what) {
        Ok(found) => found,
        Err(error) => return explain::settings(COMMAND, &error, cx.out.is_styled()),
    };
    let id = match cx.deployment_id(args.input.deployment_id.as_ref(), true) {
        Ok(id) => id,
        Err(error) => return Context::bad_id(COMMAND, &error),
    };
    let mut request = Request::new(image, id);
    if args.input.force {
        request = request.forced();
    }
    cx.with_run(COMMAND, &target, &cx.limits(&args.time, &target), async |orchestrator| {
        let report = orchestrator.deploy(request).await?;
        // For when it is not at hand. It serves all the same.
        if let Err(error) = target.origin.remember(&target.state_dir(), &target.app.spec.name) {
            cx.out.warn(&explain::chain(&error).join(": "));
        }
        warn_of_loss(cx, &report, &target).await;
        Ok(done(COMMAND, &report, &target))
    })
}

/// `rollback`.
pub(super) fn rollback(cx: &Context, args: &RollbackArgs) -> Verdict {
    const COMMAND: &str = "rollback";
    let RollbackArgs { run: RunArgs { app, deployment_id, time }, to, list } = args;
    let target = match settings::target(&cx.global, app) {
        Ok(target) => target,
        Err(error) => return explain::settings(COMMAND, &error, cx.out.is_styled()),
    };
    if *list {
        return cx.with_orchestrator(COMMAND, &target, &RunLimits::default(), async |orchestrator| {
            orchestrator.rollbacks().await.map(|releases| listed(&releases, &target))
        });
    }
    let id = match cx.deployment_id(deployment_id.as_ref(), false) {
        Ok(id) => id,
        Err(error) => return Context::bad_id(COMMAND, &error),
    };
    let goal = to.clone().unwrap_or(Goal::Previous);
    cx.with_run(COMMAND, &target, &cx.limits(time, &target), async |orchestrator| {
        let report = orchestrator.rollback_to(id, &goal).await?;
        warn_of_loss(cx, &report, &target).await;
        Ok(done(COMMAND, &report, &target))
    })
}

/// What could be gone back to.
pub(super) fn listed(releases: &[(Earlier, Option<NoRollback>)], target: &Target) -> Verdict {
    let app = &target.app.spec.name;
    let line = |(earlier, no): &(Earlier, Option<NoRollback>)| {
        let but = no.as_ref().map_or(String::new(), |no| format!("; no rollback to it: {no}"));
        format!("{}{but}", explain::earlier(earlier))
    };
    let lines: Vec<String> = releases.iter().map(line).collect();
    let text = if lines.is_empty() { NoRollback::NothingEarlier.to_string() } else { lines.join("\n") };
    let entry = |(earlier, no): &(Earlier, Option<NoRollback>)| json!({ "release": earlier, "refused": no });
    let all: Vec<_> = releases.iter().map(entry).collect();
    let mut verdict = Verdict::success("rollback", text, json!({ "app": app, "releases": all }));
    if let Some((earlier, _)) = releases.iter().find(|(_, no)| no.is_none()) {
        let mut command = target.command("rollback");
        command.extend(["--to".to_owned(), earlier.deployment.to_string()]);
        verdict.next = Some(Next::run(command).offering("go back to the newest of them"));
    }
    verdict
}

/// `recover`.
pub(super) fn recover(cx: &Context, args: &RunArgs) -> Verdict {
    const COMMAND: &str = "recover";
    let target = match settings::target(&cx.global, &args.app) {
        Ok(target) => target,
        Err(error) => return explain::settings(COMMAND, &error, cx.out.is_styled()),
    };
    let id = match cx.deployment_id(args.deployment_id.as_ref(), false) {
        Ok(id) => id,
        Err(error) => return Context::bad_id(COMMAND, &error),
    };
    cx.with_orchestrator(COMMAND, &target, &cx.limits(&args.time, &target), async |orchestrator| {
        let settled = orchestrator.recover(id).await?;
        let app = &target.app.spec.name;
        let text = match &settled {
            None => format!("nothing to recover: no run of {app} is unfinished"),
            Some((deployment, Outcome::Committed)) => format!("finished: {deployment} serves"),
            Some((deployment, _)) => {
                format!("rolled back: {deployment}; the release before it serves, if there was one")
            }
        };
        let result =
            settled.map(|(deployment, outcome)| json!({ "deployment": deployment, "outcome": outcome }));
        Ok(Verdict::success(COMMAND, text, json!({ "app": app, "settled": result })))
    })
}

/// Says what a switch by reload cost, and what costs nothing. Asked when all is done: it must delay no switch.
async fn warn_of_loss(cx: &Context, report: &Report, target: &Target) {
    if report.unchanged || target.app.nginx.mode != Mode::Rewrite {
        return;
    }
    if let Ok(nginx) = ports::nginx(target, &cx.env)
        && let Ok(Some(loss)) = nginx.expected_loss(&target.app.spec.name).await
    {
        let place = loss.place.map_or(String::new(), |place| format!(" ({place})"));
        cx.out.warn(&format!("{}; {}{place}", loss.found, loss.change));
    }
}

/// A run that did what was asked.
pub(super) fn done(command: &'static str, report: &Report, target: &Target) -> Verdict {
    let Report { app, image, digest, candidate, .. } = report;
    let what = format!("{app} serves {image} ({}) on {candidate}", explain::short(digest));
    let mut text = match (report.unchanged, report.verb) {
        (true, _) => format!("unchanged: {what} already"),
        (false, Verb::Rollback) => format!("rolled back on request: {what}"),
        (false, _) => format!("committed: {what}"),
    };
    if !report.unchanged {
        let total = report.steps.iter().map(|step| step.elapsed).sum();
        text.push_str(&format!(", {} in all", duration::short(total)));
    }
    if let Some(drain) = &report.drain
        && let Some(left) = &drain.left
    {
        let why = match left.policy {
            LongLived::Cut => "cut, as `long_lived` asks".to_owned(),
            _ => format!("not drained after {}", duration::short(drain.elapsed)),
        };
        let since = duration::short(left.unchanged);
        text.push_str(&format!("\n{why}: {left}, unchanged for {since}"));
    }
    for line in report.receipt.iter().flat_map(receipt::lines) {
        text.push_str(&format!("\n{line}"));
    }
    let result = serde_json::to_value(report).unwrap_or_default();
    let mut verdict = Verdict::success(command, text, result);
    verdict.subject.deployment = Some(report.deployment.to_string());
    verdict.subject.image = Some(report.image.clone());
    verdict.subject.receipt = serde_json::to_value(&report.receipt).unwrap_or_default();
    verdict.subject.serving = json!({
        "color": candidate, "image": image, "digest": digest, "deployment": report.deployment,
        "running": true, "evidence": report.proof,
    });
    if !report.unchanged && report.rollback.as_ref().is_some_and(|offer| offer.to().is_some()) {
        verdict.next = Some(target.run("rollback").offering("go back to the previous release"));
    }
    verdict
}
