//! `cancel`: the run that is at work is asked to stop, and waited for.

use std::time::Duration;

use bluegreen_core::orchestrator::{Failure, Orchestrator, RunEnding, ServingNow, Status};
use bluegreen_core::port::Holder;
use serde_json::json;
use tokio::time::Instant;

use super::{Context, RunLimits};
use crate::args::CancelArgs;
use crate::env;
use crate::exit::Exit;
use crate::output::{Explained, Verdict};
use crate::settings::{self, Target};
use crate::{explain, ports};

const COMMAND: &str = "cancel";
const POLL: Duration = Duration::from_millis(100);
/// How it went.
#[derive(Debug)]
pub(super) enum Cancelled {
    /// Nobody is at work.
    Nobody,
    /// It has ended since; the run is in the journal.
    Ended(Holder),
    /// It is told, and at work still.
    StillAtWork(Holder),
    /// It must not be told, and why.
    Refused(Option<Holder>, String),
}

/// `cancel`.
pub(super) fn cancel(cx: &Context, args: &CancelArgs) -> Verdict {
    let target = match settings::target(&cx.global, &args.app) {
        Ok(target) => target,
        Err(error) => return explain::settings(COMMAND, &error, cx.out.is_styled()),
    };
    cx.with_orchestrator(COMMAND, &target, &RunLimits::default(), async |orchestrator| {
        let cancelled = stop(cx, orchestrator, &target, args.wait).await?;
        let status = orchestrator.status().await?;
        Ok(to_verdict(&cancelled, &status, &target))
    })
}

async fn stop(
    cx: &Context,
    orchestrator: &Orchestrator,
    target: &Target,
    wait: Duration,
) -> Result<Cancelled, Failure> {
    let journal = ports::journal(target);
    let until = Instant::now() + wait;
    let mut asked: Option<Holder> = None;
    loop {
        let queue = orchestrator.at_work().await?;
        match (queue.held, queue.holder, &asked) {
            (false, _, None) => return Ok(Cancelled::Nobody),
            (false, _, Some(asked)) => return Ok(Cancelled::Ended(asked.clone())),
            // Somebody else has it by now.
            (true, Some(holder), Some(asked)) if holder != *asked => {
                return Ok(Cancelled::Ended(asked.clone()));
            }
            (true, Some(holder), None) => {
                if let Some(reason) = refusal(&holder) {
                    return Ok(Cancelled::Refused(Some(holder), reason));
                }
                match journal.terminate(&target.app.spec.name, &holder).await {
                    Ok(true) => {
                        cx.out.mention(&format!("asked to stop: {holder}"));
                        asked = Some(holder);
                    }
                    // It ended just now: look again.
                    Ok(false) => {}
                    Err(error) => {
                        return Ok(Cancelled::Refused(Some(holder), explain::chain(&error).join(": ")));
                    }
                }
            }
            // It has taken the lock just now and not said yet who it is, or is still at work.
            (true, ..) => {}
        }
        if Instant::now() >= until {
            let unknown = "it is unknown who holds the lock".to_owned();
            return Ok(asked.map_or(Cancelled::Refused(None, unknown), Cancelled::StillAtWork));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn refusal(holder: &Holder) -> Option<String> {
    let here = env::host_name();
    if holder.host != here {
        return Some(format!("it runs on host {}, and this is {here}", holder.host));
    }
    (!holder.verb.is_cancellable()).then(|| format!("{} cannot be cancelled", holder.verb))
}

pub(super) fn to_verdict(cancelled: &Cancelled, status: &Status, target: &Target) -> Verdict {
    let app = &status.app;
    let (exit, message, next) = match cancelled {
        Cancelled::Nobody => {
            let text = format!("nothing to cancel: no run of {app} is in progress");
            return Verdict::success(
                COMMAND,
                text,
                json!({ "app": app, "cancelled": null, "serving": serving(status) }),
            );
        }
        Cancelled::Ended(holder) => {
            let run = status.last.as_ref().filter(|run| run.deployment == holder.deployment);
            // `recover` and `retire` have no run of their own, only what they leave.
            let tends = !holder.verb.is_run();
            let outcome = match (run, &status.unfinished) {
                (Some(run), _) => run.ending.to_string(),
                (None, Some(left)) if tends => {
                    format!("{} is unfinished: {}", left.deployment, left.ending)
                }
                (None, None) if tends => "nothing is left to recover".to_owned(),
                (None, _) => "it had not begun".to_owned(),
            };
            let committed = run.is_some_and(|run| run.ending == RunEnding::Committed);
            if status.unfinished.is_none() && !committed {
                let now = status.serving.as_ref().map_or_else(Clone::clone, explain::serving);
                // Whether it was done or gave up is the same to whoever wanted it out of the way.
                let how = if tends { "ended" } else { "cancelled" };
                let text =
                    format!("{how}: {} {}: {outcome}\nserving now: {now}", holder.verb, holder.deployment);
                let ending = run.map(|run| &run.ending);
                let cancelled =
                    json!({ "verb": holder.verb, "deployment": holder.deployment, "ending": ending });
                let result = json!({ "app": app, "cancelled": cancelled, "serving": serving(status) });
                return Verdict::success(COMMAND, text, result);
            }
            let next = if status.unfinished.is_some() { "recover" } else { "rollback" };
            let how = if status.unfinished.is_some() { "ended" } else { "too late" };
            (Exit::Refused, format!("{how}: {} {}: {outcome}", holder.verb, holder.deployment), next)
        }
        Cancelled::StillAtWork(holder) => {
            (Exit::Refused, format!("asked to stop, but still running: {holder}"), "status")
        }
        Cancelled::Refused(holder, reason) => {
            let holder = holder.as_ref().map(|holder| format!(": {holder}")).unwrap_or_default();
            (Exit::Refused, format!("not cancelled: {reason}{holder}"), "status")
        }
    };
    let now = status.serving.as_ref().ok();
    let explained = Explained { message, serving: now.map(explain::serving), ..Explained::default() };
    let mut verdict = Verdict::failure(COMMAND, exit, explained, Some(target.run(next)));
    verdict.subject.serving = serde_json::to_value(now).unwrap_or_default();
    verdict
}

fn serving(status: &Status) -> Option<&ServingNow> {
    status.serving.as_ref().ok()
}
