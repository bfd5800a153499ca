//! What the journal holds, for people. A release's options stay out of it: environment variables are secrets.

use jiff::Timestamp;
use serde::Serialize;

use super::status::run_view;
use super::{Failure, Orchestrator, RollbackOffer, RunJournal, RunView};
use crate::model::{AppName, DeploymentId, Receipt};
use crate::state::{Entry, Outcome, Record};

/// Every run of an application, and every record of its journal.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct History {
    /// The application.
    pub app: AppName,
    /// The runs, oldest first.
    pub runs: Vec<RunView>,
    /// The records, oldest first.
    pub records: Vec<RecordView>,
    /// What a rollback would do; unset if unknown.
    pub rollback: Option<RollbackOffer>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecordView {
    /// Its number, from 1.
    pub seq: u64,
    /// When it was written, by the host's clock.
    pub at: Timestamp,
    /// Which kind it is, in the journal's words.
    pub record: &'static str,
    /// The run that it belongs to; unset for what belongs to none.
    pub deployment: Option<DeploymentId>,
    /// What it says, in one line.
    pub detail: String,
}

impl Orchestrator {
    /// What happened, according to the journal. Touches nothing and takes no lock.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read or makes no sense.
    pub async fn history(&self) -> Result<History, Failure> {
        let log = RunJournal::open(self).await.map_err(|cause| self.untouched(cause))?;
        let mut deployment = None;
        let records = log.entries().iter().map(|entry| view(entry, &mut deployment)).collect();
        let runs = log.state().runs.iter().map(run_view).collect();
        // The journal is all that a history needs: it is told also while the Engine is down.
        let rollback = self.offer(log.state()).await.ok();
        Ok(History { app: self.spec.name.clone(), runs, records, rollback })
    }
}

fn view(entry: &Entry, open: &mut Option<DeploymentId>) -> RecordView {
    if let Record::Begun { deployment, .. } = &entry.record {
        *open = Some(deployment.clone());
    }
    let (record, detail) = told(&entry.record);
    let deployment = match &entry.record {
        Record::Ended { .. } => open.take(),
        _ => open.clone(),
    };
    RecordView { seq: entry.seq, at: entry.at, record, deployment, detail }
}

/// A record's kind and what it says.
fn told(record: &Record) -> (&'static str, String) {
    match record {
        Record::Begun { verb, candidate, previous, adopted, .. } => {
            let from = previous.map_or_else(|| "nothing".to_owned(), |color| color.to_string());
            let made = adopted.as_ref().map(|adopted| adopted.image());
            let made =
                made.map_or(String::new(), |made| format!(", which bluegreen had not created ({made})"));
            ("begun", format!("{verb} {} on {}, from {from}{made}", candidate.image(), candidate.color()))
        }
        Record::Started { step } => ("started", step.to_string()),
        Record::Succeeded { step } => ("succeeded", step.to_string()),
        Record::Failed { step, error } => ("failed", format!("{step}: {error}")),
        Record::UndoStarted { step } => ("undo-started", step.to_string()),
        Record::Undone { step } => ("undone", step.to_string()),
        Record::UndoFailed { step, error } => ("undo-failed", format!("{step}: {error}")),
        Record::Receipt { receipt: Receipt::Measured(seen) } => {
            ("receipt", format!("{} requests, {} failed", seen.requests, seen.failed))
        }
        Record::Receipt { receipt: Receipt::NotMeasured { reason } } => {
            ("receipt", format!("not measured: {reason}"))
        }
        Record::Retiring { color } => ("retiring", color.to_string()),
        Record::Ended { outcome: Outcome::Committed } => ("ended", "committed".to_owned()),
        Record::Ended { outcome: Outcome::RolledBack } => ("ended", "rolled-back".to_owned()),
    }
}
