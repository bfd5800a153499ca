//! Bare `status` on a host with several applications: a table of all, also of those that no configuration file names.

use bluegreen_core::model::AppName;
use bluegreen_core::orchestrator::Status;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{Context, RunLimits, show};
use crate::args::AppArgs;
use crate::exit::Exit;
use crate::output::{Next, Verdict, plain};
use crate::{explain, ports, settings};

const COMMAND: &str = "status";

/// One application, and what its own `status` says.
struct Row {
    app: AppName,
    verdict: Verdict,
    status: Option<Status>,
}

/// `status` of all of them.
pub(super) fn overview(cx: &Context, apps: &[AppName]) -> Verdict {
    Context::block_on(COMMAND, async {
        let mut rows = Vec::new();
        for app in apps {
            rows.push(row(cx, app).await);
        }
        to_verdict(&rows)
    })
}

async fn row(cx: &Context, app: &AppName) -> Row {
    let args = AppArgs { app: Some(app.clone()), nginx_conf: None };
    let mut status = None;
    let verdict = match settings::target(&cx.global, &args) {
        Err(error) => explain::settings(COMMAND, &error, false),
        Ok(target) => match ports::connect(&target, &cx.env) {
            Err(error) => Context::not_connected(COMMAND, &target, &error),
            Ok(ports) => {
                cx.orchestrate(COMMAND, ports, &target, &RunLimits::default(), async |orchestrator| {
                    let seen = orchestrator.status().await?;
                    let verdict = show::shown(&seen, &target);
                    status = Some(seen);
                    Ok(verdict)
                })
                .await
            }
        },
    };
    Row { app: app.clone(), verdict, status }
}

fn to_verdict(rows: &[Row]) -> Verdict {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.add_row(["APPLICATION", "SERVING", "SINCE", "ROLLBACK TO", "STATE"]);
    for row in rows {
        table.add_row(row.cells());
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
    let apps: Vec<Value> = rows.iter().map(Row::json).collect();
    let mut verdict = Verdict::success(COMMAND, lines.join("\n"), json!({ "apps": apps }));
    // The first one that is not well says how this ends, and is where to look.
    let ill = rows.iter().find(|row| row.verdict.exit != Exit::Success);
    if let Some(row) = ill {
        verdict.exit = row.verdict.exit;
    }
    verdict.next = ill.or(rows.first()).map(|row| Next::run(["bluegreen", "status", row.app.as_str()]));
    verdict
}

impl Row {
    fn cells(&self) -> [String; 5] {
        let dash = || "-".to_owned();
        let Some(status) = &self.status else {
            let error = self.verdict.error.as_ref();
            let causes =
                error.into_iter().flat_map(|error| std::iter::once(&error.message).chain(&error.causes));
            let said: Vec<&str> = causes.map(String::as_str).collect();
            return [self.app.to_string(), "unknown".to_owned(), dash(), dash(), plain(&said.join(": "))];
        };
        let serving = match &status.serving {
            Ok(now) => explain::serving(now),
            Err(error) => format!("unknown: {error}"),
        };
        let since = status.since.map_or_else(dash, |since| format!("{since:.0}"));
        let back = explain::offer(&status.rollback);
        [self.app.to_string(), plain(&serving), since, plain(&back), plain(&state(status))]
    }

    fn json(&self) -> Value {
        let mut json = self.verdict.json();
        if let Some(object) = json.as_object_mut() {
            object.insert("app".to_owned(), json!(self.app));
            object.retain(|key, _| !["version", "event", "command"].contains(&key.as_str()));
        }
        json
    }
}

/// What a person should know of it, in a few words.
fn state(status: &Status) -> String {
    if let Some(at_work) = &status.at_work {
        return format!("IN PROGRESS {}", show::working(at_work));
    }
    match (&status.unfinished, status.findings.first(), &status.last) {
        (Some(run), ..) => format!("UNFINISHED {} {}", run.verb, run.deployment),
        (None, Some(finding), _) => format!("ATTENTION {finding}"),
        (None, None, Some(run)) => run.ending.to_string(),
        (None, None, None) => "never deployed".to_owned(),
    }
}
