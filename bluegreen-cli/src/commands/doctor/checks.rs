//! The looks themselves.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bluegreen_core::adapter::file::FileJournal;
use bluegreen_core::adapter::nginx::Severity;
use bluegreen_core::model::{Check, Color, ImageRef, ImageSource, Slot};
use bluegreen_core::orchestrator::{CannotPass, Orchestrator, Status};
use bluegreen_core::port::{Health, Instance, Ports, ProxyError, RegistryError};

use super::{CheckResult, Level};
use crate::commands::Context;
use crate::output::Next;
use crate::settings::Target;
use crate::{explain, ports};

/// No look at the image, nginx or the application's health takes longer. The others have the limits of `[limits]`.
const WITHIN: Duration = Duration::from_secs(30);
/// A journal grows by some 4 KiB a deploy.
const ROOM_FOR_RECORDS: u64 = 1 << 20;
const IMAGE: &str = "image";

/// All of them, in the order in which a deploy would meet what they look at.
pub(super) async fn all(cx: &Context, target: &Target, image: Option<&ImageRef>) -> Vec<CheckResult> {
    let mut findings = vec![state_directory(&ports::journal(target))];
    match engine(cx, target).await {
        Err(finding) => {
            findings.push(finding);
            let why = "not checked: Docker does not answer";
            findings.extend(
                ["image", "disk", "ports", "nginx", "health", "runs"]
                    .map(|check| CheckResult::skipped(check, why)),
            );
        }
        Ok((finding, ports)) => {
            findings.push(finding);
            findings.extend(on_docker(cx, target, image, &ports).await);
        }
    }
    findings
}

/// What needs the Engine.
async fn on_docker(
    cx: &Context,
    target: &Target,
    image: Option<&ImageRef>,
    ports: &Ports,
) -> Vec<CheckResult> {
    let orchestrator = Orchestrator::new(ports.clone(), target.app.spec.clone());
    let status = async { orchestrator.status().await.map_err(|failure| chain(&failure)) };
    let (image, nginx, status) = tokio::join!(
        limited("image", pulled(target, image, ports)),
        limited("nginx", nginx(cx, target)),
        status,
    );
    let nginx_fails = nginx.iter().any(|finding| finding.level == Level::Blocks);
    let mut findings = [image, nginx].concat();
    let active = match &status {
        Ok(status) => active(target, status, ports).await,
        Err(_) => None,
    };
    findings.extend(host_ports(target, ports).await);
    findings.extend(limited("health", health(target, active.as_ref(), ports)).await);
    findings.extend(match &status {
        Ok(status) => runs(target, status, &orchestrator, nginx_fails).await,
        Err(error) => {
            vec![CheckResult::blocks("runs", error.as_str(), target.run("status"))]
        }
    });
    findings
}

async fn limited(check: &'static str, look: impl Future<Output = Vec<CheckResult>>) -> Vec<CheckResult> {
    tokio::time::timeout(WITHIN, look).await.unwrap_or_else(|_| {
        let found = format!("no answer within {} s", WITHIN.as_secs());
        vec![CheckResult::blocks(check, found, Next::run(["docker", "info"]).saying("find out what hangs"))]
    })
}

/// An error and what it was caused by, in one line.
fn chain(error: &dyn Error) -> String {
    let mut parts = explain::chain(error);
    parts.dedup();
    parts.join(": ")
}

fn state_directory(journal: &FileJournal) -> CheckResult {
    const CHECK: &str = "state";
    const ELSEWHERE: &str = "set `state_dir` or --state-dir to a directory on a local disk";
    let room = match journal.state_directory() {
        Ok(room) => room,
        Err(error) => return CheckResult::blocks(CHECK, chain(&error), ELSEWHERE),
    };
    let path = room.looked_at.display();
    if let Err(error) = &room.writable {
        let remedy = format!("run as a user who may write to {path}, or: {ELSEWHERE}");
        return CheckResult::blocks(CHECK, format!("{path} cannot be written to: {error}"), remedy);
    }
    if room.free < ROOM_FOR_RECORDS {
        return CheckResult::blocks(
            CHECK,
            format!("{path} has {} bytes left", room.free),
            "free some space there",
        );
    }
    if let Some(what) = room.volatile {
        let found = format!(
            "{path} is on {what}: the journal would be lost at a restart, and an interrupted run could not be recovered"
        );
        return CheckResult::warns(CHECK, found, ELSEWHERE);
    }
    if room.open_to_others {
        let remedy = Next::run(["chmod".to_owned(), "700".to_owned(), path.to_string()]);
        return CheckResult::warns(CHECK, format!("{path} is readable by other users"), remedy);
    }
    let made = if room.is_there {
        "is on a disk and can be written to"
    } else {
        "does not exist yet and will be created"
    };
    CheckResult::fine(CHECK, format!("{path} {made}"))
}

async fn engine(cx: &Context, target: &Target) -> Result<(CheckResult, Ports), CheckResult> {
    const CHECK: &str = "docker";
    let connected =
        ports::docker(target, &cx.env).and_then(|docker| Ok((docker, ports::connect(target, &cx.env)?)));
    let (docker, ports) =
        connected.map_err(|error| CheckResult::blocks(CHECK, chain(&error), explain::runtime(&error)))?;
    match docker.version().await {
        Ok(version) => Ok((CheckResult::fine(CHECK, format!("{version} at {}", docker.address())), ports)),
        Err(error) => Err(CheckResult::blocks(CHECK, chain(&error), explain::runtime(&error))),
    }
}

/// Whether the image is there to be had, and there is room for it.
async fn pulled(target: &Target, image: Option<&ImageRef>, ports: &Ports) -> Vec<CheckResult> {
    let (image, is_here) = match image {
        Some(image) => resolved(image, target, ports).await,
        None => (
            CheckResult::skipped(IMAGE, "not checked: no image was given (--image, --image-definitions)"),
            false,
        ),
    };
    vec![image, disk(target, is_here, ports).await]
}

/// What was found of the image, and whether it is on this host.
async fn resolved(image: &ImageRef, target: &Target, ports: &Ports) -> (CheckResult, bool) {
    let blocks = |error: &RegistryError| CheckResult::blocks(IMAGE, chain(error), explain::registry(error));
    let pinned = match ports.registry.resolve(image).await {
        Ok(pinned) => pinned,
        Err(error) => return (blocks(&error), false),
    };
    let mut found = format!("{image} is {}", pinned.digest());
    if pinned.source() == ImageSource::Registry {
        match ports.registry.credentials(&pinned).await {
            Ok(Some(_)) => found.push_str("; the registry gives credentials to pull it"),
            Ok(None) => found.push_str("; no credentials are needed or known"),
            Err(error) => return (blocks(&error), false),
        }
    }
    let foreseen = ports.runtime.foresee(&pinned, &target.app.spec.options).await.ok().flatten();
    let is_here = foreseen.is_some();
    match foreseen.and_then(|foreseen| CannotPass::find(&target.app.spec.gate, &foreseen)) {
        Some(why) => (CheckResult::blocks(IMAGE, why.to_string(), explain::cannot_pass(&why)), is_here),
        None => (CheckResult::fine(IMAGE, found), is_here),
    }
}

async fn disk(target: &Target, is_here: bool, ports: &Ports) -> CheckResult {
    const CHECK: &str = "disk";
    let wanted = target.app.spec.retain.min_free;
    let megabytes = |bytes: u64| format!("{} MB", bytes / 1_000_000);
    match ports.runtime.free_space().await {
        _ if is_here => CheckResult::fine(CHECK, "the image is on this host already"),
        Ok(Some(free)) if free < wanted => CheckResult::blocks(
            CHECK,
            format!(
                "{} are free where Docker keeps images, `retain.min_free` wants {}",
                megabytes(free),
                megabytes(wanted)
            ),
            explain::disk_low(),
        ),
        Ok(Some(free)) => {
            CheckResult::fine(CHECK, format!("{} are free where Docker keeps images", megabytes(free)))
        }
        Ok(None) => {
            CheckResult::skipped(CHECK, "free space cannot be measured, because Docker runs on another host")
        }
        Err(error) => CheckResult::warns(CHECK, chain(&error), explain::runtime(&error)),
    }
}

/// Whether the ports that the colours are published at are free, or have our own containers on them.
async fn host_ports(target: &Target, ports: &Ports) -> Vec<CheckResult> {
    const CHECK: &str = "ports";
    let mut findings = Vec::new();
    for color in Color::ALL {
        let slot: &Slot = target.app.spec.slots.of(color);
        let Some(publish) = slot.publish else { continue };
        let address = SocketAddr::new(publish.ip, publish.port);
        let here = ports.runtime.find(&slot.name).await.ok().flatten().filter(Instance::is_running);
        findings.push(match (TcpListener::bind(address), here) {
            (Ok(_), _) => CheckResult::fine(CHECK, format!("{address} is free for {color}")),
            (Err(_), Some(instance)) => CheckResult::fine(CHECK, format!("{address} has {}", instance.name)),
            (Err(error), None) => CheckResult::blocks(
                CHECK,
                format!("{address} is needed for {color} and is not available: {error}"),
                explain::port_taken(publish.port),
            ),
        });
    }
    if findings.is_empty() {
        findings.push(CheckResult::fine(CHECK, "no port is published on this host"));
    }
    findings
}

async fn nginx(cx: &Context, target: &Target) -> Vec<CheckResult> {
    const CHECK: &str = "nginx";
    let nginx = match ports::nginx(target, &cx.env) {
        Ok(nginx) => nginx,
        Err(error) => {
            return vec![CheckResult::blocks(CHECK, chain(&error), target.run("nginx check"))];
        }
    };
    let found = match nginx.examine(&target.app.spec.name).await {
        Ok(found) => found,
        Err(error) => {
            let said = if let ProxyError::Broken { output, .. } = &error {
                format!(": {output}")
            } else {
                String::new()
            };
            let found = format!("{}{said}", chain(&error));
            return vec![CheckResult::blocks(CHECK, found, explain::proxy(&error, target))];
        }
    };
    let version = found.version.as_deref().unwrap_or("of unknown version");
    let mut findings: Vec<CheckResult> = found
        .findings
        .iter()
        .filter(|finding| finding.severity != Severity::Advice)
        .map(|finding| {
            let place = finding.place.as_ref().map_or(String::new(), |place| format!("{place}: "));
            let text = format!("{place}{}", finding.found);
            match finding.severity {
                Severity::Blocks => CheckResult::blocks(CHECK, text, &finding.change),
                _ => CheckResult::warns(CHECK, text, &finding.change),
            }
        })
        .collect();
    if found.can_switch() {
        let fails = found.findings.iter().any(|finding| finding.code == "test");
        let passes = if fails { "" } else { "passes its own test and " };
        findings.insert(0, CheckResult::fine(CHECK, format!("nginx {version} {passes}can switch")));
    }
    findings
}

/// The container that serves.
async fn active(target: &Target, status: &Status, ports: &Ports) -> Option<Instance> {
    let color = status.serving.as_ref().ok()?.color?;
    let found = ports.runtime.find(&target.app.spec.slots.of(color).name).await;
    found.ok().flatten().filter(Instance::is_running)
}

/// Whether what serves passes the checks that a candidate would have to.
async fn health(target: &Target, active: Option<&Instance>, ports: &Ports) -> Vec<CheckResult> {
    const CHECK: &str = "health";
    let Some(active) = active else {
        return vec![CheckResult::skipped(CHECK, "not checked: no container serves yet")];
    };
    let gate = &target.app.spec.gate;
    let mut findings = Vec::new();
    for check in &gate.checks {
        // A line that was logged at the start may be gone from the log by now.
        if matches!(check, Check::Log(_)) {
            findings.push(CheckResult::skipped(
                CHECK,
                format!("{check} is only checked when a candidate starts"),
            ));
            continue;
        }
        let remedy = "a candidate like this one would fail: fix the application, or the check in [health]";
        findings.push(match ports.probe.probe(check, active, gate.attempt_timeout).await {
            Ok(Health::Healthy) => CheckResult::fine(CHECK, format!("{} passes {check}", active.name)),
            Ok(Health::Unhealthy { reason }) => {
                CheckResult::warns(CHECK, format!("{} fails {check}: {reason}", active.name), remedy)
            }
            Err(error) => CheckResult::warns(CHECK, format!("{check}: {}", chain(&error)), remedy),
        });
    }
    findings
}

/// What earlier runs left, and whether journal, containers and nginx tell the same.
async fn runs(
    target: &Target,
    status: &Status,
    orchestrator: &Orchestrator,
    nginx_fails: bool,
) -> Vec<CheckResult> {
    const CHECK: &str = "runs";
    let mut findings = Vec::new();
    match orchestrator.at_work().await {
        Ok(queue) if queue.held => {
            let who = queue.holder.map_or_else(|| "another run".to_owned(), |holder| holder.to_string());
            let found = format!("{who} is in progress");
            findings.push(CheckResult::blocks(
                CHECK,
                found,
                target.run("cancel").saying("wait for it, or cancel it"),
            ));
        }
        Ok(_) => {
            findings.extend(status.unfinished.iter().map(|run| {
                let found = format!("{} {} is unfinished: {}", run.verb, run.deployment, run.ending);
                CheckResult::warns(
                    CHECK,
                    found,
                    target.run("recover").offering("recover it now; otherwise the next deploy does"),
                )
            }));
        }
        Err(failure) => {
            findings.push(CheckResult::blocks(CHECK, chain(&failure), target.run("status")));
        }
    }
    match &status.serving {
        Ok(_) => {}
        // One fault is one thing to fix.
        Err(_) if nginx_fails => {
            findings.push(CheckResult::skipped(CHECK, "it is unknown what serves: see nginx"));
        }
        Err(error) => findings.push(CheckResult::blocks(
            CHECK,
            format!("it is unknown what serves: {error}"),
            target.run("nginx check"),
        )),
    }
    findings.extend(
        status.findings.iter().map(|finding| CheckResult::warns(CHECK, finding, target.run("status"))),
    );
    if findings.is_empty() {
        findings
            .push(CheckResult::fine(CHECK, "journal, containers and nginx agree, and no run is unfinished"));
    }
    findings
}
