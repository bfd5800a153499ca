//! `nginx install | remove | check`: live mode's files in somebody's nginx.

use bluegreen_core::adapter::nginx::{Installation, Nginx};
use bluegreen_core::port::{FileChange, ProxyError};
use serde_json::{Value, json};

use super::Context;
use crate::args::{AppArgs, NginxCommand};
use crate::config::Mode;
use crate::exit::Exit;
use crate::output::Verdict;
use crate::settings::{self, Target};
use crate::{explain, ports};

/// One of the three.
pub(super) fn nginx(cx: &Context, command: &NginxCommand) -> Verdict {
    match command {
        NginxCommand::Install(args) => with_nginx(cx, "nginx install", args, async |nginx, target| {
            let changes = nginx.install(&target.app.spec.name).await?;
            let installation = nginx.installation(&target.app.spec.name).await?;
            let done = if changes.is_empty() { "nothing to do: all was in place" } else { "installed" };
            Ok(described("nginx install", target, &changes, &installation, done))
        }),
        NginxCommand::Remove(args) => with_nginx(cx, "nginx remove", args, async |nginx, target| {
            let changes = nginx.remove(&target.app.spec.name).await?;
            let text = format!("{}removed", listed(&changes));
            Ok(Verdict::success("nginx remove", text, json!({ "changes": as_json(&changes) })))
        }),
        NginxCommand::Check(args) => with_nginx(cx, "nginx check", args, async |nginx, target| {
            let name = &target.app.spec.name;
            if target.app.nginx.mode == Mode::Rewrite {
                bluegreen_core::port::Proxy::check(nginx, name).await?;
                let mut verdict =
                    Verdict::success("nginx check", "ready to be switched by rewrite", Value::Null);
                verdict.next = Some("`mode = \"live\"` loses no request at a switch".to_owned());
                return Ok(verdict);
            }
            let installation = nginx.installation(name).await?;
            Ok(described(
                "nginx check",
                target,
                &installation.changes,
                &installation,
                "checked; nothing was touched",
            ))
        }),
    }
}

fn with_nginx(
    cx: &Context,
    command: &'static str,
    args: &AppArgs,
    work: impl AsyncFnOnce(&Nginx, &Target) -> Result<Verdict, ProxyError>,
) -> Verdict {
    let target = match settings::target(&cx.global, args) {
        Ok(target) => target,
        Err(error) => return explain::settings(command, &error, cx.out.is_styled()),
    };
    Context::block_on(command, async {
        match ports::nginx(&target, &cx.env) {
            Ok(nginx) => match work(&nginx, &target).await {
                Ok(verdict) => verdict,
                Err(error) => explain::nginx(command, &error, &target),
            },
            Err(error) => Context::not_connected(command, &target, &error),
        }
    })
}

/// What is in place, what is not, and what is left for a person to do.
fn described(
    command: &'static str,
    target: &Target,
    changes: &[FileChange],
    installation: &Installation,
    done: &str,
) -> Verdict {
    let Installation { loaded, included, include_line, version, .. } = installation;
    let mut text = listed(changes);
    text.push_str(&format!("nginx {version}: files {}, ", if *loaded { "loaded" } else { "not loaded" }));
    text.push_str(if *included { "included by your server\n" } else { "not yet included by your server\n" });
    text.push_str(done);
    let ready = *loaded && *included && installation.changes.is_empty();
    let result = json!({
        "ready": ready,
        "loaded": loaded,
        "included": included,
        "include_line": include_line,
        "version": version,
        "changes": as_json(changes),
    });
    let mut verdict = Verdict::success(command, text, result);
    verdict.next = if !loaded || !installation.changes.is_empty() {
        Some(format!("bluegreen nginx install {}", target.again))
    } else if !included {
        Some(format!("in your server's location, in place of proxy_pass: {include_line}"))
    } else {
        None
    };
    // For a hook that asks before it deploys.
    if command == "nginx check" && !ready {
        verdict.exit = Exit::Refused;
    }
    verdict
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
