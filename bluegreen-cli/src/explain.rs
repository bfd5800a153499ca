//! Turns what the core says into what a person needs: why, what serves now, what to type next.

use std::error::Error;

use bluegreen_core::adapter::ecr::EcrHost;
use bluegreen_core::adapter::nginx::Place;
use bluegreen_core::model::ImageRef;
use bluegreen_core::orchestrator::{Aftermath, Cause, Earlier, Failure, RollbackOffer, ServingNow};
use bluegreen_core::port::{JournalError, ProxyError, RegistryError, RuntimeError};

use crate::args::PullArg;
use crate::exit::Exit;
use crate::output::{Explained, Verdict, receipt};
use crate::settings::{SettingsError, Target};

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
        causes.push(format!("and {step} could not be taken back or finished: {error}"));
    }
    let details = match &failure.cause {
        Cause::Proxy(ProxyError::Broken { output }) => printed(output),
        _ => String::new(),
    };
    let message = match failure.step {
        Some(_) => failure.to_string(),
        None => format!("{command} of {} was refused", failure.app),
    };
    let explained = Explained {
        message,
        step: failure.step.map(|step| step.to_string()),
        causes,
        details,
        log: failure.log.clone(),
        clients: failure.receipt.iter().flat_map(receipt::lines).collect(),
        receipt: serde_json::to_value(&failure.receipt).unwrap_or_default(),
        // Nothing is looked at for a refusal. A run that had begun owes an answer, also when it has none.
        serving: match &failure.serving {
            None => failure.deployment.as_ref().map(|_| "this could not be told".to_owned()),
            Some(now) => Some(serving(now)),
        },
        serving_now: serde_json::to_value(&failure.serving).unwrap_or_default(),
    };
    Verdict::failure(command, exit_of(failure), explained, Some(next(command, failure, target)))
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
        text.push_str("; ITS CONTAINER DOES NOT RUN");
    }
    text
}

/// A release that served earlier, in one line.
pub(crate) fn earlier(earlier: &Earlier) -> String {
    let Earlier { deployment, image, digest, .. } = earlier;
    let mut text = format!("{image} ({}), deployment {deployment}", short(digest));
    if earlier.adopted {
        text.push_str(", made by somebody else");
    }
    if !earlier.here {
        text.push_str("; its image is not on this host and would be pulled");
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

fn next(command: &str, failure: &Failure, target: &Target) -> String {
    let again = &target.again;
    match &failure.aftermath {
        Aftermath::Stuck { .. } => return format!("look at the cause, then: bluegreen recover {again}"),
        Aftermath::Committed => return format!("bluegreen recover {again}"),
        _ => {}
    }
    match &failure.cause {
        Cause::Registry(RegistryError::ImageNotFound { image, .. })
            if target.app.pull == Some(PullArg::Never) =>
        {
            format!("pull it (docker pull {image}), or let this pull it: --pull missing")
        }
        Cause::Registry(error) => registry(error),
        Cause::Runtime(error) => runtime(error),
        Cause::Proxy(error) => proxy(error, target),
        Cause::Journal(JournalError::Held { .. }) => {
            format!("wait for it: bluegreen {command} {again} … --wait 10m")
        }
        Cause::Journal(JournalError::Denied { directory, is_there }) => open_state(directory, *is_there),
        Cause::Journal(JournalError::Corrupt { path, .. }) => {
            format!("look at {path}; when it is beyond repair, move it away: what serves is found by looking")
        }
        Cause::Overtaken { by } => format!("nothing: {} {} is what is wanted now", by.verb, by.deployment),
        Cause::Journal(_) => "check the state directory: it must be writable and have room".to_owned(),
        Cause::Gate(_) | Cause::CandidateLost { .. } => "mend the application, then deploy again".to_owned(),
        Cause::ClientsFailed { .. } => {
            "mend the application for what `receipt` asks, or the limit, then deploy again".to_owned()
        }
        Cause::NotMeasured { .. } => NO_WAY_IN.to_owned(),
        Cause::DiskLow { .. } => DISK_LOW.to_owned(),
        Cause::Cancelled => format!("when you are ready: bluegreen {command} {again} …"),
        Cause::Superseded { .. } => {
            "give the deployment a new id, or deploy the image as a new deployment".to_owned()
        }
        _ => format!("bluegreen status {again}"),
    }
}

pub(crate) const DISK_LOW: &str =
    "make room: docker system df shows what takes it; or lower `retain.min_free`";

const NO_WAY_IN: &str =
    "set `url` in [nginx] to a plain HTTP address of this host, or take `receipt.max_failures` out";

/// What to do about it.
pub(crate) fn registry(error: &RegistryError) -> String {
    match error {
        RegistryError::ImageNotFound { .. } => {
            "check that the image was pushed under this name and tag".to_owned()
        }
        RegistryError::AccessDenied { registry, .. } => refused_by(registry),
        RegistryError::NoCredentials { registry, .. } if EcrHost::parse(registry).is_none() => {
            format!("mend that helper, or log in as the user that runs this: docker login {registry}")
        }
        RegistryError::NoCredentials { .. } => {
            "give this host AWS credentials: attach an instance profile to the instance (in a container: metadata \
             hop limit 2), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                .to_owned()
        }
        RegistryError::Unreachable { .. } => {
            "check this host's way to the registry: DNS, proxy, security group".to_owned()
        }
        // Registries are asked through the Engine, which may itself be what is missing.
        RegistryError::Other { source, .. } if source.is::<RuntimeError>() => {
            source.downcast_ref().map(runtime).unwrap_or_default()
        }
        _ => "try again; bluegreen -v shows more".to_owned(),
    }
}

/// A registry that does not take who we are.
fn refused_by(registry: &str) -> String {
    if EcrHost::parse(registry).is_some() {
        "let the role or user pull: ecr:GetAuthorizationToken on *, and on the repository ecr:BatchGetImage and \
         ecr:GetDownloadUrlForLayer"
            .to_owned()
    } else {
        format!("log in as the user that runs this: docker login {registry}")
    }
}

/// What to do about it.
pub(crate) fn runtime(error: &RuntimeError) -> String {
    match error {
        RuntimeError::Unreachable { denied: true, .. } => {
            "run as root, or as a user of the group docker".to_owned()
        }
        RuntimeError::Unreachable { .. } => "start Docker: systemctl start docker".to_owned(),
        RuntimeError::NoWay { .. } => {
            "name the Engine as unix:///PATH or tcp://HOST:PORT: `docker.host` in bluegreen.toml, or DOCKER_HOST".to_owned()
        }
        RuntimeError::ImageNotFound { .. } => {
            "check that the image was pushed under this name and tag".to_owned()
        }
        // Behind the image stands its digest in parentheses.
        RuntimeError::PullDenied { image, .. } => {
            image.split(' ').next().unwrap_or(image).parse::<ImageRef>().map_or_else(
                |_| "check the registry's credentials on this host".to_owned(),
                |image| refused_by(image.registry()),
            )
        }
        RuntimeError::RegistryUnreachable { .. } => {
            "check this host's way to the registry, then deploy again".to_owned()
        }
        RuntimeError::DiskFull { .. } => "make room: docker system df shows what takes it".to_owned(),
        RuntimeError::PortTaken { port, .. } => {
            let number = port.rsplit_once(':').map_or(port.as_str(), |(_, number)| number);
            port_taken(number)
        }
        RuntimeError::NameTaken { name } => {
            format!("remove it (docker rm -f {name}), or take it over: `adopt = true` in bluegreen.toml")
        }
        RuntimeError::Network { name, .. } => {
            format!("see docker network ls; make it: docker network create {name}")
        }
        RuntimeError::Rejected { .. } => "mend the container's settings in bluegreen.toml".to_owned(),
        _ => "try again; bluegreen -v shows more".to_owned(),
    }
}

/// A host port that somebody else has.
pub(crate) fn port_taken(number: impl std::fmt::Display) -> String {
    format!(
        "see who has it: ss -ltnp 'sport = :{number}', docker ps --filter publish={number}; if nobody has, Docker \
         did not let go of it after a crash: systemctl restart docker"
    )
}

/// How the state directory is opened to all who may use Docker here: it is the host's, not root's.
pub(crate) fn open_state(directory: &str, is_there: bool) -> String {
    let made = format!("sudo install -d -m 2770 -g docker {directory}");
    if is_there {
        format!("{made} && sudo chgrp -R docker {directory} && sudo chmod -R g+rwX {directory}")
    } else {
        made
    }
}

/// What nginx could not do.
pub(crate) fn nginx(command: &'static str, error: &ProxyError, target: &Target) -> Verdict {
    let exit = match error {
        ProxyError::NotRestored { .. } => Exit::Stuck,
        // Whatever was written is put back byte for byte.
        ProxyError::Refused { .. } | ProxyError::NotProven { .. } => Exit::RolledBack,
        _ => Exit::Refused,
    };
    let message = format!("{command} for {} failed", target.app.spec.name);
    let mut verdict = other(command, exit, message, error);
    if let (ProxyError::Broken { output }, Some(explained)) = (error, &mut verdict.error) {
        explained.details = printed(output);
    }
    verdict.next = match error {
        ProxyError::NotRunning { .. } => Some("start nginx, then try again".to_owned()),
        ProxyError::Broken { .. } => Some("mend nginx's configuration until nginx -t passes".to_owned()),
        _ => None,
    };
    verdict
}

/// What a program printed, as lines that can be shown.
fn printed(output: &str) -> String {
    output.lines().map(|line| format!("  nginx: {}\n", crate::output::plain(line))).collect()
}

/// What to do about it.
pub(crate) fn proxy(error: &ProxyError, target: &Target) -> String {
    let again = &target.again;
    match error {
        ProxyError::NotRunning { .. } => {
            let log = match &target.app.nginx.place {
                Place::Container { name } => format!("docker logs {name}"),
                _ => "journalctl -u nginx".to_owned(),
            };
            format!("start nginx, then deploy again; when it does not stay up, its log tells why ({log})")
        }
        ProxyError::Broken { .. } => {
            "mend nginx's configuration until nginx -t passes, then deploy again".to_owned()
        }
        ProxyError::NoWayIn { .. } => NO_WAY_IN.to_owned(),
        ProxyError::Refused { reason } if reason.contains("host not found in upstream") => unresolved(target),
        ProxyError::Unrecognized { .. } | ProxyError::Unreadable { .. } | ProxyError::SecondWay { .. } => {
            format!("see what nginx needs: bluegreen nginx check {again}")
        }
        _ => format!("bluegreen nginx check {again}"),
    }
}

/// nginx does not find the candidate's container by its name.
fn unresolved(target: &Target) -> String {
    let network = target.app.spec.options.networks.first().map(|network| network.name.as_str());
    match (&target.app.nginx.place, network) {
        (Place::Container { name }, Some(network)) => format!(
            "connect nginx's container to the application's network: docker network connect {network} {name}"
        ),
        _ => format!("see what nginx needs: bluegreen nginx check {}", target.again),
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
