//! `history`: what the journal holds.

use bluegreen_core::orchestrator::{History, RecordView, RunView};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use super::{Context, RunLimits};
use crate::args::HistoryArgs;
use crate::output::{Verdict, plain, receipt};
use crate::settings;
use crate::{duration, explain};

/// `history`.
pub(super) fn history(cx: &Context, args: &HistoryArgs) -> Verdict {
    const COMMAND: &str = "history";
    let target = match settings::target(&cx.global, &args.app) {
        Ok(target) => target,
        Err(error) => return explain::settings(COMMAND, &error, cx.out.is_styled()),
    };
    cx.with_orchestrator(COMMAND, &target, &RunLimits::default(), async |orchestrator| {
        let history = orchestrator.history().await?;
        let mut verdict = shown(&history, args.journal, args.limit);
        if history.rollback.as_ref().is_some_and(|offer| offer.to().is_some()) {
            verdict.next = Some(target.run("rollback").offering("go back to the previous release"));
        }
        Ok(verdict)
    })
}

pub(super) fn shown(history: &History, journal: bool, limit: usize) -> Verdict {
    let History { app, runs, records, .. } = history;
    let (text, result) = if journal {
        let records = newest(records, limit);
        (table(records.iter().map(record)), json!({ "app": app, "records": records }))
    } else {
        let runs = newest(runs, limit);
        (runs.iter().map(run).collect(), json!({ "app": app, "runs": runs }))
    };
    let text = if text.is_empty() { format!("no runs on record: {app} was never deployed") } else { text };
    Verdict::success("history", text, result)
}

/// The last ones, in their order: what happened last is at the end, where it is seen.
fn newest<T>(all: &[T], limit: usize) -> &[T] {
    let from = if limit == 0 { 0 } else { all.len().saturating_sub(limit) };
    &all[from..]
}

fn run(run: &RunView) -> String {
    let RunView { deployment, verb, image, began, last, ending, .. } = run;
    let took = last.duration_since(*began).try_into().unwrap_or_default();
    let mut text =
        format!("{began:.0}  {verb} {deployment}, {}: {}\n", plain(image), plain(&ending.to_string()));
    text.push_str(&format!("  took {}\n", duration::short(took)));
    for line in run.receipt.iter().flat_map(receipt::lines) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

fn record(record: &RecordView) -> [String; 5] {
    let RecordView { seq, at, record, deployment, detail, .. } = record;
    let run = deployment.as_ref().map(ToString::to_string).unwrap_or_default();
    [seq.to_string(), format!("{at:.3}"), run, (*record).to_owned(), plain(detail)]
}

fn table(rows: impl Iterator<Item = [String; 5]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}
