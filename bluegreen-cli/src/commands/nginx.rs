//! `nginx install | remove | check`: live mode's files in somebody's nginx.

use std::fmt::Write as _;

use bluegreen_core::adapter::nginx::{
    ChosenLine, Examination, Finding, Installation, LineChange, Nginx, Severity, UserLine,
};
use bluegreen_core::port::{FileChange, Holder, Journal as _, Lease, ProxyError};
use bluegreen_core::state::Activity;
use serde_json::{Value, json};

use super::Context;
use crate::args::{InstallArgs, NginxArgs, NginxCommand};
use crate::config::Mode;
use crate::exit::Exit;
use crate::output::{Next, Verdict};
use crate::settings::{self, Target};
use crate::{env, explain, ports};

/// One of the three.
pub(super) fn nginx(cx: &Context, command: &NginxCommand) -> Verdict {
    match command {
        NginxCommand::Install(args) => {
            let InstallArgs { nginx, lines } = args;
            let work = async |proxy: &Nginx, target: &Target| install(proxy, target, nginx).await;
            with_nginx(cx, Some(Activity::InstallProxy), nginx, lines, work)
        }
        NginxCommand::Remove(args) => {
            with_nginx(cx, Some(Activity::RemoveProxy), args, &[], async |nginx, target| {
                remove(nginx, target, args).await
            })
        }
        NginxCommand::Check(app) => {
            let args = NginxArgs { app: app.clone(), dry_run: true };
            with_nginx(cx, None, &args, &[], async |nginx, target| {
                nginx.examine(&target.app.spec.name).await.map(|found| checked(target, &found))
            })
        }
    }
}

async fn install(nginx: &Nginx, target: &Target, args: &NginxArgs) -> Result<Verdict, ProxyError> {
    let name = &target.app.spec.name;
    if args.dry_run {
        let planned = nginx.installation(name).await?;
        let done = if planned.changes.is_empty() && planned.loaded {
            "nothing to do: all is in place"
        } else {
            "dry run: nothing was touched"
        };
        return Ok(installed(target, &planned.changes, &planned, done, true));
    }
    let changes = nginx.install(name).await?;
    let installation = nginx.installation(name).await?;
    let done = if changes.is_empty() { "nothing to do: all was in place" } else { "installed" };
    Ok(installed(target, &changes, &installation, done, false))
}

async fn remove(nginx: &Nginx, target: &Target, args: &NginxArgs) -> Result<Verdict, ProxyError> {
    let name = &target.app.spec.name;
    let (changes, done) = if args.dry_run {
        (nginx.preview_removal(name).await?, "dry run: nothing was touched")
    } else {
        (nginx.remove(name).await?, "removed")
    };
    let done = if changes.is_empty() { "nothing to do: none of it is there" } else { done };
    let text = format!("{}{done}", listed(&changes));
    Ok(Verdict::success(
        "nginx remove",
        text,
        json!({ "dry_run": args.dry_run, "changes": as_json(&changes) }),
    ))
}

fn with_nginx(
    cx: &Context,
    activity: Option<Activity>,
    args: &NginxArgs,
    lines: &[ChosenLine],
    work: impl AsyncFnOnce(&Nginx, &Target) -> Result<Verdict, ProxyError>,
) -> Verdict {
    let command = activity.map_or("nginx check", Activity::as_str);
    let mut target = match settings::target(&cx.global, &args.app) {
        Ok(target) => target,
        Err(error) => return explain::settings(command, &error, cx.out.is_styled()),
    };
    target.app.nginx.lines = lines.to_vec();
    Context::block_on(command, async {
        // A deploy at the same time would move the flags under our feet.
        let _lease = match lock(cx, activity.filter(|_| !args.dry_run), &target).await {
            Ok(lease) => lease,
            Err(verdict) => return *verdict,
        };
        match ports::nginx(&target, &cx.env) {
            Ok(nginx) => match work(&nginx, &target).await {
                Ok(verdict) => verdict,
                Err(error) => explain::nginx(command, &error, &target),
            },
            Err(error) => Context::not_connected(command, &target, &error),
        }
        .about(&target)
    })
}

/// The application's lock, where something is going to be changed.
async fn lock(
    cx: &Context,
    activity: Option<Activity>,
    target: &Target,
) -> Result<Option<Lease>, Box<Verdict>> {
    let Some(activity) = activity else { return Ok(None) };
    let command = activity.as_str();
    let refused = |error: &dyn std::error::Error| {
        let message = format!("{command} for {} was refused", target.app.spec.name);
        Box::new(explain::other(command, Exit::Refused, message, error))
    };
    let id = cx.deployment_id(None, false).map_err(|error| refused(&error))?;
    let holder = Holder::new(std::process::id(), env::host_name(), activity, id);
    let lease = ports::journal(target).lock(&target.app.spec.name, &holder).await;
    lease.map(Some).map_err(|error| refused(&error))
}

/// What is in place, what is not, and what is left for a person to do.
pub(super) fn installed(
    target: &Target,
    changes: &[FileChange],
    installation: &Installation,
    done: &str,
    dry_run: bool,
) -> Verdict {
    let Installation { loaded, included, include_line, version, .. } = installation;
    let mut text = listed(changes);
    let pending = !installation.changes.is_empty();
    text.push_str(&format!("nginx {version}: files {}, ", if *loaded { "loaded" } else { "not loaded" }));
    text.push_str(if *included { "included by your server\n" } else { "not yet included by your server\n" });
    if let UserLine::ByHand { reason, candidates } = &installation.user_line {
        let _never_fails = writeln!(text, "no line of yours was taken over: {reason}");
        for LineChange { path, line, from, .. } in candidates {
            let _never_fails = writeln!(text, "  {path}:{line}: `{from}`");
        }
    }
    text.push_str(done);
    let result = json!({
        "ready": *loaded && *included && !pending,
        "dry_run": dry_run,
        "loaded": loaded,
        "included": included,
        "include_line": include_line,
        "line": line_as_json(&installation.user_line),
        "version": version,
        "changes": as_json(changes),
    });
    let mut verdict = Verdict::success("nginx install", text, result);
    verdict.next = if pending || !loaded {
        Some(target.run("nginx install"))
    } else {
        by_hand(target, &installation.user_line)
    };
    verdict
}

/// What a person has to do about the line: the command that takes it over, tested as any install is.
fn by_hand(target: &Target, line: &UserLine) -> Option<Next> {
    let UserLine::ByHand { candidates, .. } = line else { return None };
    let install = target.run("nginx install");
    Some(match &candidates[..] {
        [] => install.saying(format!(
            "have a location of your server pass requests on to {}",
            target.app.spec.slots.blue.endpoint
        )),
        [LineChange { path, line, .. }] => {
            let chosen = ["--line".to_owned(), format!("{path}:{line}")];
            Next::run(target.command("nginx install").into_iter().chain(chosen))
        }
        _ => {
            Next::todo("give `nginx install` --line FILE:LINE, with the one above that is this application's")
        }
    })
}

fn line_as_json(line: &UserLine) -> Value {
    let one = |change: &LineChange| json!({ "path": change.path, "line": change.line, "from": change.from, "to": change.to });
    match line {
        UserLine::Known(changes) => {
            let candidates: Vec<Value> = changes.iter().map(one).collect();
            json!({ "state": "known", "candidates": candidates })
        }
        UserLine::ByHand { reason, candidates } => {
            let candidates: Vec<Value> = candidates.iter().map(one).collect();
            json!({ "state": "by-hand", "reason": reason, "candidates": candidates })
        }
        _ => json!({ "state": "in-place", "candidates": [] }),
    }
}

/// Whether a switch can be made, why not, and what to change.
pub(super) fn checked(target: &Target, found: &Examination) -> Verdict {
    let ready = found.can_switch();
    let rewrite = target.app.nginx.mode == Mode::Rewrite;
    let version = found.version.as_deref().unwrap_or("of unknown version");
    let mut text = String::new();
    for Finding { severity, code, place, found, change, .. } in &found.findings {
        let place = place.as_ref().map_or(String::new(), |place| format!("{place}: "));
        let _never_fails = writeln!(text, "{severity} ({code}): {place}{found}\n  change: {change}");
    }
    let how = if rewrite { "be switched by rewrite" } else { "switch live" };
    let can = if ready { "can" } else { "cannot yet" };
    let _never_fails = write!(text, "nginx {version} {can} {how}; nothing was touched");
    let findings: Vec<Value> = found.findings.iter().map(finding_as_json).collect();
    let mode = if rewrite { "rewrite" } else { "live" };
    let result = json!({ "ready": ready, "mode": mode, "version": found.version, "findings": findings });
    let mut verdict = Verdict::success("nginx check", text, result);
    if !ready {
        // For a hook that asks before it deploys.
        verdict.exit = Exit::Refused;
        let first = found.findings.first().map_or("", |finding| finding.change.as_str());
        let by_us =
            found.findings.iter().any(|finding| finding.by_install && finding.severity == Severity::Blocks);
        verdict.next = Some(if by_us && !rewrite { target.run("nginx install") } else { Next::todo(first) });
    } else if rewrite {
        verdict.next = Some(Next::todo("nothing; `mode = \"live\"` in [nginx] loses no request at a switch"));
    }
    verdict
}

fn finding_as_json(finding: &Finding) -> Value {
    json!({
        "severity": finding.severity.as_str(),
        "code": finding.code,
        "place": finding.place,
        "found": finding.found,
        "change": finding.change,
    })
}

fn listed(changes: &[FileChange]) -> String {
    changes.iter().map(|change| format!("{}: {}\n{}", change.path, change.summary, change.diff)).collect()
}

fn as_json(changes: &[FileChange]) -> Vec<Value> {
    changes
        .iter()
        .map(|change| json!({ "path": change.path, "summary": change.summary, "diff": change.diff }))
        .collect()
}
