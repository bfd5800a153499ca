//! The journal of this run: write ahead, and answers that got lost.

use std::time::Duration;

use tokio::time::timeout;

use super::{Cause, Orchestrator};
use crate::model::AppName;
use crate::port::{JournalError, Ports};
use crate::state::{AppState, Entry, Record};

/// How often the journal is read again to learn whether a write took effect.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// The journal, as far as this run knows it.
#[derive(Debug)]
pub(super) struct RunJournal {
    ports: Ports,
    app: AppName,
    limit: Duration,
    entries: Vec<Entry>,
    state: AppState,
    /// A write failed and the journal could not be read to see whether it took effect. Nothing more is written
    /// then: a record after one that may or may not be there could make the journal a contradiction.
    unknown: bool,
}

impl RunJournal {
    /// Reads the journal. The lock must be held.
    pub(super) async fn open(orchestrator: &Orchestrator) -> Result<Self, Cause> {
        let mut log = Self {
            ports: orchestrator.ports.clone(),
            app: orchestrator.spec.name.clone(),
            limit: orchestrator.spec.limits.journal,
            entries: Vec::new(),
            state: AppState::default(),
            unknown: false,
        };
        log.reload().await?;
        Ok(log)
    }

    /// What the journal adds up to, what this run wrote included.
    pub(super) fn state(&self) -> &AppState {
        &self.state
    }

    /// The records, oldest first.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes a record; on `Ok` it is durable. When the write fails, the journal is read to see whether it took
    /// effect all the same: a lost answer is not a failure.
    ///
    /// # Errors
    ///
    /// When it is not there, or when that cannot be told. Then the effect it announces must not happen.
    pub(super) async fn append(&mut self, record: Record) -> Result<(), Cause> {
        if self.unknown {
            return Err(Cause::Journal(JournalError::Other {
                operation: "writing the journal",
                source: "an earlier write failed and the journal cannot be read".into(),
            }));
        }
        let before = self.entries.len();
        let failure = match timeout(self.limit, self.ports.journal.append(&self.app, &record)).await {
            Ok(Ok(())) => {
                // Only the fold and the count matter to this run, so the time may be this run's own.
                let entry = Entry::new(before as u64 + 1, jiff::Timestamp::now(), record);
                self.state.push(&entry)?;
                self.entries.push(entry);
                return Ok(());
            }
            Ok(Err(error)) => Cause::Journal(error),
            Err(_) => Cause::Timeout { operation: "writing the journal", after: self.limit },
        };
        for _ in 0..LOOKS {
            if self.reload().await.is_ok() {
                let found = self.entries.len() == before + 1
                    && self.entries.last().is_some_and(|e| e.record == record);
                return if found { Ok(()) } else { Err(failure) };
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.unknown = true;
        Err(failure)
    }

    async fn reload(&mut self) -> Result<(), Cause> {
        let entries = match timeout(self.limit, self.ports.journal.load(&self.app)).await {
            Ok(loaded) => loaded?,
            Err(_) => return Err(Cause::Timeout { operation: "reading the journal", after: self.limit }),
        };
        self.state = AppState::replay(&entries)?;
        self.entries = entries;
        Ok(())
    }
}
