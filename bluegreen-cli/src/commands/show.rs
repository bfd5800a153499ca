//! The verbs that only look: plan and status.

use bluegreen_core::orchestrator::{
    AtWork, InstanceView, PlanReport, PublicLook, Request, ServingNow, Standing, Status, Warm,
};
use comfy_table::{ContentArrangement, Table, presets};

use super::{Context, RunLimits, overview};
use crate::args::{AppArgs, InputArgs};
use crate::exit::Exit;
use crate::output::{Next, Verdict, plain, receipt};
use crate::settings::{self, Target};
use crate::{duration, explain};

/// `plan`.
pub(super) fn plan(cx: &Context, args: &InputArgs) -> Verdict {
    const COMMAND: &str = "plan";
    let (target, image) = match settings::deployment(&cx.global, &args.what) {
        Ok(found) => found,
        Err(error) => return explain::settings(COMMAND, &error, cx.out.is_styled()),
    };
    let id = match cx.deployment_id(args.deployment_id.as_ref(), true) {
        Ok(id) => id,
        Err(error) => return Context::bad_id(COMMAND, &error),
    };
    let mut request = Request::new(image, id);
    if args.force {
        request = request.forced();
    }
    cx.with_orchestrator(COMMAND, &target, &RunLimits::default(), async |orchestrator| {
        orchestrator.plan(request).await.map(|report| planned(&report))
    })
}

pub(super) fn planned(report: &PlanReport) -> Verdict {
    let mut text = String::new();
    let from = report.previous.map_or_else(|| "nothing".to_owned(), |color| color.to_string());
    if let Some(deployment) = &report.unfinished {
        text.push_str(&format!("first: recover {deployment}, which was interrupted\n"));
    }
    if report.unchanged {
        text.push_str(&format!("nothing to do: {} serves {} on {from} already\n", report.app, report.image));
    } else {
        text.push_str(&format!("{}: {} on {}, from {from}\n", report.app, report.image, report.candidate));
    }
    for (number, step) in report.steps.iter().enumerate() {
        text.push_str(&format!("{:>3}. {:<8} {}\n", number + 1, step.step, plain(&step.detail)));
    }
    for change in &report.changes {
        text.push_str(&format!("\n{}: {}\n{}", change.path, change.summary, change.diff));
    }
    text.push_str("nothing was touched");
    Verdict::success("plan", text, serde_json::to_value(report).unwrap_or_default())
}

/// `status`.
pub(super) fn status(cx: &Context, args: &AppArgs) -> Verdict {
    const COMMAND: &str = "status";
    if args.app.is_none() && args.nginx_conf.is_none() {
        match settings::all(&cx.global) {
            Ok(apps) if apps.len() > 1 => return overview::overview(cx, &apps),
            // What is wrong with it is said by whoever reads on.
            Ok(_) | Err(_) => {}
        }
    }
    let target = match settings::target(&cx.global, args) {
        Ok(target) => target,
        Err(error) => return explain::settings(COMMAND, &error, cx.out.is_styled()),
    };
    cx.with_orchestrator(COMMAND, &target, &RunLimits::default(), async |orchestrator| {
        orchestrator.status().await.map(|status| shown(&status, &target))
    })
}

pub(super) fn shown(status: &Status, target: &Target) -> Verdict {
    let serving = match &status.serving {
        Ok(now) => explain::serving(now),
        Err(error) => format!("unknown: {error}"),
    };
    let since = status.since.map(|since| format!("{since:.0}"));
    let mut rows = vec![("application", status.app.to_string()), ("serving", serving)];
    if let Ok(now) = &status.serving {
        rows.push(("known by", now.evidence.clone()));
    }
    rows.push(("clients", clients(&status.public)));
    rows.extend(since.map(|since| ("since", since)));
    for instance in &status.instances {
        let ours = if instance.owned { "" } else { ", not created by bluegreen" };
        let restarts = match instance.restarts {
            0 => String::new(),
            1 => ", restarted once".to_owned(),
            times => format!(", restarted {times} times"),
        };
        let InstanceView { name, state, image, .. } = instance;
        rows.push((instance.color.as_str(), format!("{name}: {state}{restarts}, {image}{ours}")));
    }
    rows.extend(status.warm.iter().map(|warm| ("kept warm", warm_until(warm))));
    rows.push(("rollback to", explain::offer(&status.rollback)));
    let idle = status.unfinished.is_none() && status.at_work.is_none();
    if let Some(run) = status.last.as_ref().filter(|_| idle) {
        rows.push(("last run", format!("{} {} of {}: {}", run.verb, run.deployment, run.image, run.ending)));
    }
    for line in status.last.iter().flat_map(|run| &run.receipt).flat_map(receipt::lines) {
        rows.push(("", line));
    }
    rows.extend(status.at_work.iter().map(|at_work| ("IN PROGRESS", working(at_work))));
    if let Some(run) = &status.unfinished {
        rows.push((
            "UNFINISHED",
            format!("{} {} of {}: {}", run.verb, run.deployment, run.image, run.ending),
        ));
    }
    rows.extend(status.findings.iter().map(|finding| ("ATTENTION", finding.clone())));

    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for (name, value) in rows {
        table.add_row([name.to_owned(), plain(&value)]);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    let text = lines.join("\n");
    let mut verdict = Verdict::success("status", text, serde_json::to_value(status).unwrap_or_default());
    verdict.exit = match status.standing {
        Standing::Serving => Exit::Success,
        Standing::Degraded => Exit::Degraded,
        Standing::NotServing => Exit::NotServing,
    };
    verdict.next = Some(next(status, target));
    verdict.subject.serving = serde_json::to_value(status.serving.as_ref().ok()).unwrap_or_default();
    verdict
}

/// What a client got, in one line.
fn clients(look: &PublicLook) -> String {
    match look {
        PublicLook::Answered { target, status } => format!("{target} answers {status}"),
        PublicLook::Failed { target, miss } => format!("{target} FAILS: {miss}"),
        PublicLook::NotAsked { reason } => format!("not asked: {reason}"),
        _ => "unknown".to_owned(),
    }
}

/// Who is at work, on what, and since when.
pub(super) fn working(at_work: &AtWork) -> String {
    let mut text = match &at_work.holder {
        Some(holder) => holder.to_string(),
        None => "another process, which holds the lock".to_owned(),
    };
    if let (Some(step), Some(since)) = (at_work.step, at_work.step_since) {
        text.push_str(&format!("; at {step} since {since:.0}"));
    }
    text
}

fn warm_until(warm: &Warm) -> String {
    if warm.left.is_zero() {
        format!("{}, due to be stopped", warm.name)
    } else {
        format!("{}, for another {}", warm.name, duration::short(warm.left))
    }
}

/// What this state calls for.
fn next(status: &Status, target: &Target) -> Next {
    if status.at_work.is_some() {
        return target.run("cancel").offering("cancel the run in progress; otherwise wait for it to end");
    }
    match (&status.unfinished, &status.serving) {
        (Some(_), _) => target.run("recover"),
        (None, Err(_)) => target.run("nginx check"),
        (None, Ok(now)) if !status.findings.is_empty() => match &status.remedy {
            Some(remedy) => explain::remedied(remedy, target),
            None => right(now, target),
        },
        (None, Ok(_)) if status.warm.as_ref().is_some_and(|warm| warm.left.is_zero()) => target.run("retire"),
        (None, Ok(_)) if status.rollback.to().is_some() => {
            target.run("rollback").offering("go back to the previous release")
        }
        (None, Ok(_)) => first(target),
    }
}

/// What serves, deployed again: never another version than that.
pub(super) fn right(now: &ServingNow, target: &Target) -> Next {
    match (&now.image, &now.digest) {
        (Some(image), Some(digest)) => explain::redeploy(image, digest, target),
        _ => target.run("doctor"),
    }
}

/// The next deploy, whatever its image is.
pub(super) fn first(target: &Target) -> Next {
    target.deploy().map_or_else(|| Next::todo("deploy with --image and the image to serve"), Next::run)
}
