//! What to do about a failure: chosen by its cause. What can be typed is a command, what cannot is said in words.

use std::error::Error;
use std::io;
use std::time::Duration;

use bluegreen_core::adapter::nginx::NginxInstance;
use bluegreen_core::model::{EcrHost, Limits};
use bluegreen_core::orchestrator::{Aftermath, CannotPass, Cause, Failure, GateFailure, NoRollback, Remedy};
use bluegreen_core::port::{JournalError, Location, MissingFile, ProxyError, RegistryError, RuntimeError};

use crate::duration;
use crate::output::Next;
use crate::settings::Target;

/// What to do about a run that failed.
pub(super) fn of(command: &str, failure: &Failure, target: &Target) -> Next {
    match &failure.aftermath {
        Aftermath::Stuck { .. } => {
            return target.run("recover").saying("fix the cause shown above, then recover the run");
        }
        Aftermath::Committed => return target.run("recover"),
        _ => {}
    }
    match &failure.cause {
        Cause::Registry(error) => registry(error),
        Cause::Runtime(error) => runtime(error),
        Cause::Proxy(error) => proxy(error, target),
        Cause::Journal(error) => journal(command, error, target),
        Cause::Overtaken { by } => {
            Next::todo(format!("nothing: the later {} {} takes its place", by.verb, by.deployment))
        }
        Cause::Gate(failure) => gate(failure),
        Cause::CannotPass(why) => cannot_pass(why),
        Cause::CandidateLost { .. } => Next::todo(
            "it was healthy and then stopped; its last log lines may show why; deploy a fixed image",
        ),
        Cause::ClientsFailed { .. } => Next::todo(
            "find out why the application fails the probe's requests, or raise `max_failures` in [receipt]",
        ),
        Cause::NotMeasured { .. } => Next::todo(NO_WAY_IN),
        Cause::DiskLow { .. } => disk_low(),
        Cause::Timeout { after, .. } => too_slow(*after, &target.app.spec.limits),
        Cause::Cancelled => again(command, target, &[]).saying("when you are ready"),
        Cause::Superseded { .. } => Next::todo("use a new --deployment-id: this one is already completed"),
        Cause::NoRollback(NoRollback::NothingEarlier) => target.run("status"),
        // Each of the releases that it could go to, and for each other one why not.
        Cause::NoRollback(_) => {
            Next::run(target.command("rollback").into_iter().chain(["--list".to_owned()]))
        }
        _ => target.run("status"),
    }
}

/// What was typed, once more, with `more`; a look at the state where it is not known which image was meant.
pub(super) fn again(command: &str, target: &Target, more: &[&str]) -> Next {
    let arguments = match command {
        "deploy" => target.deploy(),
        _ => Some(target.command(command)),
    };
    let Some(mut arguments) = arguments else { return target.run("status") };
    // An option is said once: what it said before is what did not do.
    if let Some(at) = more.first().and_then(|option| arguments.iter().position(|given| given == option)) {
        arguments.drain(at..arguments.len().min(at + more.len()));
    }
    Next::run(arguments.into_iter().chain(more.iter().map(|&more| more.to_owned())))
}

/// A candidate that is not healthy in time: is it ill, or only slow?
fn gate(failure: &GateFailure) -> Next {
    if failure.died {
        return Next::todo("it did not stay up; its last log lines may show why; deploy a fixed image");
    }
    if let Some(at) = failure.unreachable.first() {
        let port = at.port();
        return Next::todo(format!(
            "have the application listen on 0.0.0.0:{port} inside its container, where nginx reaches it, and not on {at}"
        ));
    }
    let longer = duration::format(failure.deadline.saturating_mul(2));
    Next::todo(format!(
        "if it is only slow, raise `deadline` in [health] to {longer}; if it listens on 127.0.0.1 inside its container, \
         make it listen on 0.0.0.0, where nginx reaches it; otherwise fix what the checks report"
    ))
}

/// A gate that nothing of this image could pass.
pub(crate) fn cannot_pass(why: &CannotPass) -> Next {
    match why {
        CannotPass::TooLate(figures) => Next::todo(format!(
            "leave `deadline` in [health] out, or set it to more than {}; or give the HEALTHCHECK a shorter interval",
            duration::format(figures.first_answer)
        )),
        CannotPass::NoHealthcheck => Next::todo(
            "give the image a HEALTHCHECK, or [health] another check in place of `image`, as `http`",
        ),
        CannotPass::UnreadableLog { .. } => Next::todo(
            "give [health] another check in place of `log`, as `http`, or [log] a driver as \"json-file\" or \"journald\"",
        ),
        _ => Next::todo("give [health] another check"),
    }
}

/// A call that took longer than its limit: the limits that are that long.
fn too_slow(after: Duration, limits: &Limits) -> Next {
    let Limits { registry, pull, runtime, proxy, journal, .. } = limits;
    let all = [
        ("registry", registry),
        ("pull", pull),
        ("runtime", runtime),
        ("proxy", proxy),
        ("journal", journal),
    ];
    let over: Vec<String> =
        all.into_iter().filter(|(_, limit)| **limit == after).map(|(name, _)| format!("`{name}`")).collect();
    // A stop has the grace added and is of no limit's own length.
    let names = if over.is_empty() { "`runtime`".to_owned() } else { over.join(" or ") };
    let longer = duration::format(after.saturating_mul(2));
    Next::todo(format!(
        "find out what hangs; if it only needs more time, raise {names} in [limits] to {longer}"
    ))
}

/// The journal or its lock.
fn journal(command: &str, error: &JournalError, target: &Target) -> Next {
    match error {
        JournalError::Held { .. } => {
            again(command, target, &["--wait", "10m"]).saying("wait for the run that is in progress")
        }
        JournalError::Elsewhere { place } => elsewhere(command, target, place),
        JournalError::Denied { directory, is_there } => open_state(directory, *is_there),
        JournalError::Corrupt { path, .. } => Next::todo(format!(
            "inspect {path}; if it cannot be repaired, move it away: what serves is then found by asking Docker and nginx"
        )),
        error if is_denied(error) => Next::todo(match &target.state_dir {
            Some(path) => format!("run as a user who may write to {} and the files in it", path.display()),
            None => "run as a user who may write to the state directory and the files in it".to_owned(),
        }),
        _ => Next::todo("check the state directory: it must be writable and have free space"),
    }
}

/// The same with the state directory that has the application.
fn elsewhere(command: &str, target: &Target, place: &str) -> Next {
    let mut target = target.clone();
    let given = &mut target.again.0;
    if let Some(at) = given.iter().position(|word| word == "--state-dir") {
        given.drain(at..given.len().min(at + 2));
    }
    given.extend(["--state-dir".to_owned(), place.to_owned()]);
    again(command, &target, &[])
        .saying("use the one state directory for it, here or as `state_dir` in the configuration")
}

/// Whether it is a right that is missing.
fn is_denied(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

const NO_WAY_IN: &str =
    "set `url` in [nginx] to a plain HTTP address of this host, or remove `receipt.max_failures`";

/// There is too little room.
pub(crate) fn disk_low() -> Next {
    Next::run(["docker", "system", "df"])
        .saying("free some space (this shows what uses it), or lower `retain.min_free`")
}

/// What to do about it.
pub(crate) fn registry(error: &RegistryError) -> Next {
    match error {
        RegistryError::ImageNotFound { .. } => Next::todo("check that it was pushed under this name and tag"),
        RegistryError::NotHere { image } => {
            Next::run(["docker", "pull", image]).saying("pull it, or allow pulling with --pull missing")
        }
        RegistryError::AccessDenied { registry, .. } => refused_by(registry),
        RegistryError::NoCredentials { registry, .. } if EcrHost::parse(registry).is_none() => {
            login(registry).saying("fix that helper, or log in as the user that runs bluegreen")
        }
        RegistryError::NoCredentials { .. } => Next::todo(
            "give this host AWS credentials: attach an instance profile to the instance (in a container: metadata \
             hop limit 2), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        RegistryError::Unreachable { .. } => {
            Next::todo("check the network between this host and the registry: DNS, proxy, security group")
        }
        // Registries are asked through the Engine, which may itself be what is missing.
        RegistryError::Other { source, .. } => match source.downcast_ref::<RuntimeError>() {
            Some(error) => runtime(error),
            None => unknown(),
        },
        _ => unknown(),
    }
}

fn unknown() -> Next {
    Next::todo("try again; -v shows more")
}

/// A registry that does not take who we are.
fn refused_by(registry: &str) -> Next {
    if EcrHost::parse(registry).is_some() {
        Next::todo(
            "allow the role or user to pull: ecr:GetAuthorizationToken on *, and on the repository ecr:BatchGetImage and \
             ecr:GetDownloadUrlForLayer",
        )
    } else {
        login(registry)
            .saying("check the image's name; if it is private, log in as the user that runs bluegreen")
    }
}

fn login(registry: &str) -> Next {
    Next::run(["docker", "login", registry])
}

/// What to do about it.
pub(crate) fn runtime(error: &RuntimeError) -> Next {
    match error {
        RuntimeError::Unreachable { denied: true, address, .. } => Next::todo(format!(
            "run as root or as a user of the group docker: reading and writing {address} is not permitted"
        )),
        RuntimeError::Unreachable { .. } => {
            Next::run(["systemctl", "start", "docker"]).saying("start Docker")
        }
        RuntimeError::ImageNotFound { .. } => Next::todo("check that it was pushed under this name and tag"),
        RuntimeError::PullDenied { registry, .. } => refused_by(registry),
        RuntimeError::RegistryUnreachable { .. } => {
            Next::todo("check the network between this host and the registry: DNS, proxy, security group")
        }
        RuntimeError::DiskFull { .. } => disk_low(),
        RuntimeError::PortTaken { port, .. } => {
            port_taken(port.rsplit_once(':').map_or(port.as_str(), |(_, number)| number))
        }
        RuntimeError::NameTaken { name } => Next::todo(format!(
            "take it over with `adopt = true` in bluegreen.toml; or, if it is not needed: docker rm -f {name}"
        )),
        RuntimeError::Network { name, .. } => Next::run([
            "docker",
            "network",
            "ls",
            "--filter",
            &format!("name={name}"),
        ])
        .saying(format!(
            "list them; if there are several, remove all but one by id; if there is none: docker network create {name}"
        )),
        RuntimeError::Rejected { .. } => Next::todo("fix the container's settings in bluegreen.toml"),
        _ => unknown(),
    }
}

/// A host port that somebody else has.
pub(crate) fn port_taken(number: impl std::fmt::Display) -> Next {
    Next::run(["ss".to_owned(), "-ltnp".to_owned(), format!("sport = :{number}")]).saying(
        "see what uses the port; if nothing does, Docker still holds it after a crash: systemctl restart docker",
    )
}

/// How the state directory is opened to all who may use Docker here: it is the host's, not root's.
pub(crate) fn open_state(directory: &str, is_there: bool) -> Next {
    let made = format!("sudo install -d -m 2770 -g docker {directory}");
    Next::todo(if is_there {
        format!("{made} && sudo chgrp -R docker {directory} && sudo chmod -R g+rwX {directory}")
    } else {
        made
    })
}

/// What to do about it.
pub(crate) fn proxy(error: &ProxyError, target: &Target) -> Next {
    match error {
        ProxyError::NotRunning { .. } => match &target.app.nginx.place {
            NginxInstance::Container { name } => Next::run(["docker", "start", name.as_str()])
                .saying(format!("start nginx; if it does not stay up, docker logs {name} shows why")),
            _ => Next::run(["systemctl", "start", "nginx"])
                .saying("start nginx; if it does not stay up, journalctl -u nginx shows why"),
        },
        ProxyError::Broken { missing, switches, .. } => mend_nginx(missing, *switches, target),
        ProxyError::Unreadable { at, .. } => match at.line {
            Some(_) => Next::todo(format!("write {at} so that it can be read")),
            None => Next::todo(format!("run as a user who may read {at}, as root may")),
        },
        ProxyError::AnswersItself { at, .. } => let_through(at.as_ref()),
        ProxyError::NoWayIn { .. } => Next::todo(NO_WAY_IN),
        ProxyError::UnknownHost { .. } => unresolved(target),
        _ => target.run("nginx check"),
    }
}

/// What a state calls for.
pub(crate) fn remedied(remedy: &Remedy, target: &Target) -> Next {
    match remedy {
        Remedy::MendProxy { missing, switches } => mend_nginx(missing, *switches, target),
        Remedy::LetThrough { at } => let_through(at.as_ref()),
        Remedy::Redeploy { image, digest } => redeploy(image, digest, target),
        Remedy::RollBack => target.run("rollback").saying("what served does not stay up; to go back"),
        _ => target.run("nginx check"),
    }
}

/// A version deployed again, by its content.
pub(crate) fn redeploy(image: &str, digest: &str, target: &Target) -> Next {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let mut command = target.command("deploy");
    let image = format!("{name}@{digest}");
    command.extend(["--image", &image, "--pull", "missing", "--force"].map(str::to_owned));
    Next::run(command).saying("deploy the version that served again")
}

/// nginx's configuration does not pass its test.
fn mend_nginx(missing: &[MissingFile], switches: bool, target: &Target) -> Next {
    let named =
        |file: &MissingFile| format!("put {} back, or remove what names it at {}", file.path, file.at);
    let words = match missing {
        [] => "fix nginx's own configuration until its test passes; this run did not change it".to_owned(),
        missing => {
            format!("{}, until nginx's test passes", missing.iter().map(named).collect::<Vec<_>>().join("; "))
        }
    };
    let back = if switches { "; a rollback works meanwhile: it does not reload nginx" } else { "" };
    test_of_nginx(target).saying(format!("{words}{back}"))
}

/// nginx answers clients itself.
fn let_through(at: Option<&Location>) -> Next {
    let at = at.map_or_else(String::new, |at| format!(" at {at}"));
    Next::todo(format!("remove the maintenance page or limit{at}; the application itself answers"))
}

/// nginx does not find the candidate's container by its name.
fn unresolved(target: &Target) -> Next {
    match (&target.app.nginx.place, target.app.spec.options.networks.first()) {
        (NginxInstance::Container { name }, Some(network)) => {
            Next::run(["docker", "network", "connect", network.name.as_str(), name.as_str()])
                .saying("connect nginx's container to the application's network")
        }
        _ => target.run("nginx check"),
    }
}

/// nginx's own test, where its own words tell what is wrong.
pub(crate) fn test_of_nginx(target: &Target) -> Next {
    match &target.app.nginx.place {
        NginxInstance::Container { name } => Next::run(["docker", "exec", name.as_str(), "nginx", "-t"]),
        NginxInstance::Host(host) => {
            let set = [("-c", &host.config), ("-p", &host.prefix)].into_iter();
            let set = set
                .filter_map(|(option, path)| Some([option.to_owned(), path.as_ref()?.display().to_string()]));
            let test = [host.binary.display().to_string(), "-t".to_owned()];
            Next::run(test.into_iter().chain(set.flatten()))
        }
        _ => Next::run(["nginx", "-t"]),
    }
}
