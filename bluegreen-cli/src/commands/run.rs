//! The verbs that change what serves: deploy, rollback, recover.

use bluegreen_core::model::LongLived;
use bluegreen_core::orchestrator::{Report, Request};
use bluegreen_core::state::{Outcome, Verb};
use serde_json::json;

use super::{Context, Limits};
use crate::args::{DeployArgs, RunArgs};
use crate::output::{Verdict, receipt};
use crate::settings::{self, Target};
use crate::{duration, explain};

/// `deploy`.
pub(super) fn deploy(cx: &Context, args: &DeployArgs) -> Verdict {
    const COMMAND: &str = "deploy";
    let (target, image) = match settings::deployment(&cx.global, &args.input) {
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
    cx.with_orchestrator(COMMAND, &target, &Limits::from(&args.time), async |orchestrator| {
        orchestrator.deploy(request).await.map(|report| done(COMMAND, &report, &target))
    })
}

/// `rollback`.
pub(super) fn rollback(cx: &Context, args: &RunArgs) -> Verdict {
    const COMMAND: &str = "rollback";
    let target = match settings::target(&cx.global, &args.app) {
        Ok(target) => target,
        Err(error) => return explain::settings(COMMAND, &error, cx.out.is_styled()),
    };
    let id = match cx.deployment_id(args.deployment_id.as_ref(), false) {
        Ok(id) => id,
        Err(error) => return Context::bad_id(COMMAND, &error),
    };
    cx.with_orchestrator(COMMAND, &target, &Limits::from(&args.time), async |orchestrator| {
        orchestrator.rollback(id).await.map(|report| done(COMMAND, &report, &target))
    })
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
    cx.with_orchestrator(COMMAND, &target, &Limits::from(&args.time), async |orchestrator| {
        let settled = orchestrator.recover(id).await?;
        let app = &target.app.spec.name;
        let text = match &settled {
            None => format!("nothing to recover: no run of {app} is unfinished"),
            Some((deployment, Outcome::Committed)) => format!("finished: {deployment} serves"),
            Some((deployment, _)) => format!("rolled back: {deployment}; what served before it serves"),
        };
        let result =
            settled.map(|(deployment, outcome)| json!({ "deployment": deployment, "outcome": outcome }));
        Ok(Verdict::success(COMMAND, text, json!({ "app": app, "settled": result })))
    })
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
    if report.previous.is_some() && !report.unchanged {
        verdict.next = Some(format!("to go back: bluegreen rollback {}", target.again));
    }
    verdict
}
