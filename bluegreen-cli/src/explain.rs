//! Turns what the core says into what a person needs: why, what serves now, what to type next.

use std::error::Error;

use bluegreen_core::orchestrator::{Aftermath, Cause, Earlier, Failure, RollbackOffer, ServingNow};
use bluegreen_core::port::{JournalError, ProxyError, RegistryError};

use crate::commands::{Deadline, SetBy};
use crate::duration;
use crate::exit::Exit;
use crate::output::{Explained, Next, Verdict, receipt};
use crate::settings::{SettingsError, Target};

mod remedy;

pub(crate) use remedy::{cannot_pass, disk_low, port_taken, proxy, redeploy, registry, remedied, runtime};

/// The one map from what a failed run left behind to the exit code.
pub(crate) fn exit_of(failure: &Failure) -> Exit {
    match (&failure.aftermath, &failure.cause) {
        // Rolled back promises that the previous release serves, and it is seen not to run.
        (Aftermath::RolledBack | Aftermath::Cancelled, _) if is_down(failure) => Exit::Stuck,
        // Asked to stop before anything was touched: for a hook this is the same as rolled back.
        (Aftermath::Untouched, Cause::Cancelled) | (Aftermath::Cancelled, _) => Exit::Cancelled,
        (Aftermath::Untouched, _) => Exit::Refused,
        (Aftermath::RolledBack, _) => Exit::RolledBack,
        (Aftermath::Stuck { .. }, _) => Exit::Stuck,
        (Aftermath::Committed, _) => Exit::Unretired,
        // The core may learn new endings; until this map knows them they are not to be taken for a known one.
        _ => Exit::Unexpected,
    }
}

/// Whether the release that requests are sent to does not run. A proxy may name a colour where no release ever was.
fn is_down(failure: &Failure) -> bool {
    failure.serving.as_ref().is_some_and(|now| now.color.is_some() && now.image.is_some() && !now.running)
}

/// A run that failed.
pub(crate) fn failure(command: &'static str, failure: &Failure, target: &Target) -> Verdict {
    let mut causes = causes_of(failure);
    causes.dedup();
    if let Aftermath::Stuck { step, error } = &failure.aftermath {
        causes.push(format!("and {step} could be neither undone nor finished: {error}"));
    }
    let details = match &failure.cause {
        Cause::Proxy(ProxyError::Broken { output, .. }) => printed(output),
        _ => String::new(),
    };
    let message = match failure.step {
        Some(_) => failure.to_string(),
        None => format!("{command} of {} was refused", failure.app),
    };
    let explained = Explained {
        message,
        code: code(&failure.cause),
        step: failure.step.map(|step| step.to_string()),
        causes,
        details,
        log: failure.log.clone(),
        clients: failure.receipt.iter().flat_map(receipt::lines).collect(),
        // Nothing is looked at for a refusal. A run that had begun owes an answer, also when it has none.
        serving: match &failure.serving {
            None => failure.deployment.as_ref().map(|_| "unknown".to_owned()),
            Some(now) => Some(serving(now)),
        },
    };
    let mut verdict =
        Verdict::failure(command, exit_of(failure), explained, Some(remedy::of(command, failure, target)));
    verdict.subject.deployment = failure.deployment.as_ref().map(ToString::to_string);
    verdict.subject.receipt = serde_json::to_value(&failure.receipt).unwrap_or_default();
    verdict.subject.serving = serde_json::to_value(&failure.serving).unwrap_or_default();
    verdict
}

/// The kind of a cause, for machines: it stays what it is when the words change.
fn code(cause: &Cause) -> &'static str {
    match cause {
        Cause::Registry(_) => "registry",
        Cause::Runtime(_) => "runtime",
        Cause::Proxy(_) => "proxy",
        Cause::Probe(_) => "probe",
        Cause::Journal(JournalError::Held { .. }) => "held",
        Cause::Journal(JournalError::Elsewhere { .. }) => "elsewhere",
        Cause::Journal(_) => "journal",
        Cause::IllegalJournal(_) => "illegal-journal",
        Cause::Gate(_) => "unhealthy",
        Cause::CannotPass(_) => "cannot-pass",
        Cause::CandidateLost { .. } => "candidate-lost",
        Cause::ClientsFailed { .. } => "clients-failed",
        Cause::NotMeasured { .. } => "not-measured",
        Cause::DiskLow { .. } => "disk-low",
        Cause::Timeout { .. } => "timeout",
        Cause::Cancelled => "cancelled",
        Cause::Overtaken { .. } => "overtaken",
        Cause::NoRollback(_) => "no-rollback",
        Cause::Superseded { .. } => "superseded",
        _ => "other",
    }
}

/// What serves, in one line.
pub(crate) fn serving(now: &ServingNow) -> String {
    let Some(color) = now.color else { return format!("nothing ({})", now.evidence) };
    let mut text = color.to_string();
    if let Some(image) = &now.image {
        text.push_str(&format!(", {image}"));
    }
    if let Some(digest) = &now.digest {
        text.push_str(&format!(" ({})", short(digest)));
    }
    if let Some(deployment) = &now.deployment {
        text.push_str(&format!(", deployment {deployment}"));
    }
    if !now.running {
        text.push_str("; ITS CONTAINER IS NOT RUNNING");
    }
    text
}

/// A release that served earlier, in one line.
pub(crate) fn earlier(earlier: &Earlier) -> String {
    let Earlier { deployment, image, digest, .. } = earlier;
    let mut text = format!("{image} ({}), deployment {deployment}", short(digest));
    if earlier.adopted {
        text.push_str(", not created by bluegreen");
    }
    if !earlier.here {
        text.push_str("; its image is not on this host and has to be pulled");
    }
    text
}

/// What a rollback would do, in one line.
pub(crate) fn offer(offer: &RollbackOffer) -> String {
    match offer {
        RollbackOffer::To(to) => earlier(to),
        RollbackOffer::No(no) => format!("nothing: {no}"),
    }
}

/// The first twelve digits of a digest.
pub(crate) fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}

/// What nginx could not do.
pub(crate) fn nginx(command: &'static str, error: &ProxyError, target: &Target) -> Verdict {
    let exit = match error {
        ProxyError::NotRestored { .. } => Exit::Stuck,
        // Whatever was written is put back byte for byte.
        ProxyError::Refused { .. }
        | ProxyError::UnknownHost { .. }
        | ProxyError::NotProven { .. }
        | ProxyError::AnswersItself { .. } => Exit::RolledBack,
        _ => Exit::Refused,
    };
    let message = format!("{command} for {} failed", target.app.spec.name);
    let mut verdict = other(command, exit, message, error);
    if let (ProxyError::Broken { output, .. }, Some(explained)) = (error, &mut verdict.error) {
        explained.details = printed(output);
    }
    verdict.next = match error {
        ProxyError::NotRunning { .. }
        | ProxyError::Broken { .. }
        | ProxyError::Unreadable { .. }
        | ProxyError::AnswersItself { .. } => Some(proxy(error, target)),
        _ => None,
    };
    verdict
}

/// What a program printed, as lines that can be shown.
fn printed(output: &str) -> String {
    output.lines().map(|line| format!("  nginx: {}\n", crate::output::plain(line))).collect()
}

/// What to do about an image that no registry gave, when it is here: it was built on this host.
pub(crate) fn is_here(command: &str, failure: &Failure, target: &Target) -> Option<Next> {
    let asked = matches!(
        failure.cause,
        Cause::Registry(RegistryError::ImageNotFound { .. } | RegistryError::AccessDenied { .. })
    );
    let next = || remedy::again(command, target, &["--pull", "missing"]);
    asked.then(next).map(|next| next.saying("the image is on this host: deploy that one"))
}

/// What to do about a run that its own deadline stopped: ask for twice the time.
pub(crate) fn too_short(command: &str, deadline: &Deadline, target: &Target) -> Next {
    match deadline.set_by {
        SetBy::Option => {
            let longer = duration::format(deadline.within.saturating_mul(2));
            remedy::again(command, target, &["--deadline", &longer]).saying("if it only needs more time")
        }
        SetBy::Hook(limit) => Next::todo(format!(
            "if it only needs more time, raise this hook's `timeout` in appspec.yml from {} to {}",
            limit.as_secs(),
            limit.as_secs().saturating_mul(2)
        )),
    }
}

/// What an error was caused by, nearest first.
fn causes_of(error: &dyn Error) -> Vec<String> {
    std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string).collect()
}

/// An error and what it was caused by, nearest first.
pub(crate) fn chain(error: &dyn Error) -> Vec<String> {
    std::iter::once(error.to_string()).chain(causes_of(error)).collect()
}

/// A command line, a configuration or an input that is wrong.
pub(crate) fn settings(command: &'static str, error: &SettingsError, styled: bool) -> Verdict {
    let details = match error {
        SettingsError::Config(error) => error.details(styled),
        _ => String::new(),
    };
    let explained =
        Explained { message: error.to_string(), causes: causes_of(error), details, ..Explained::default() };
    Verdict::failure(command, Exit::Usage, explained, error.hint())
}

/// Anything else that went wrong before there was a run.
pub(crate) fn other(
    command: &'static str,
    exit: Exit,
    message: impl Into<String>,
    error: &dyn Error,
) -> Verdict {
    let explained = Explained { message: message.into(), causes: chain(error), ..Explained::default() };
    Verdict::failure(command, exit, explained, None)
}
