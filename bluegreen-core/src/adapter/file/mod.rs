//! The journal and the lock as files of one directory, readable by their owner only, or by the group that the
//! directory was opened to (`share`).
//!
//! ```text
//! STATE_DIR/           0700, or 2770
//!   web/               one directory an application
//!     journal          one record a line, appended and synced
//!     deployed         what it was deployed with, for when that is not at hand
//!     lock             locked by flock while a run goes on; never unlinked
//!     newest           who asked last for its turn
//! ```

mod beside;
mod format;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod host;
mod lock;
mod share;
mod state_directory;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::model::AppName;
use crate::port::{BoxError, Holder, Journal, JournalError, Lease, Queue};
use crate::state::{Entry, Record};

use share::{Share, refused};
pub use state_directory::StateDirectory;

/// A journal in files.
///
/// # Guarantees
///
/// - A record is on the disk, file and directory synced, before [`append`](Journal::append) answers.
/// - A record that a crash tore off at the end is as if it had never been begun.
/// - Anything else that does not add up is [`JournalError::Corrupt`], never a guess.
/// - The lock is gone with the process that held it, however it ended.
#[derive(Debug, Clone)]
pub struct FileJournal {
    directory: PathBuf,
    /// The runtime that it is about, for what is one for the host.
    runtime: Option<String>,
    ends: Arc<Mutex<HashMap<AppName, End>>>,
}

/// Where the good part of a journal ends.
#[derive(Debug, Clone, Copy)]
struct End {
    bytes: u64,
    seq: u64,
}

impl FileJournal {
    /// A journal in `directory`, which is made when it is first needed.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), runtime: None, ends: Arc::default() }
    }

    /// The same for applications that run at this address: its lock is then one with that of every other journal of this
    /// host that is about the same, wherever it is.
    #[must_use]
    pub fn of_runtime(mut self, address: impl Into<String>) -> Self {
        self.runtime = Some(address.into());
        self
    }

    /// Where an application's journal lies.
    pub fn path(&self, app: &AppName) -> PathBuf {
        self.directory.join(app.as_str()).join("journal")
    }

    /// Asks the process of `holder`, which holds the application's lock, to stop: by SIGTERM, to it and to no other.
    /// False when no process of that number has the lock open any more, or not on this host.
    ///
    /// # Errors
    ///
    /// When it belongs to somebody else, or its open files cannot be looked at.
    pub async fn terminate(&self, app: &AppName, holder: &Holder) -> Result<bool, JournalError> {
        let holder = holder.clone();
        self.blocking(app, move |journal, app| lock::terminate(&journal.directory, app, &holder)).await
    }

    /// Runs `work` where it may block: a disk may hang.
    async fn blocking<T: Send + 'static>(
        &self,
        app: &AppName,
        work: impl FnOnce(&Self, &AppName) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (journal, app) = (self.clone(), app.clone());
        let outcome = tokio::task::spawn_blocking(move || work(&journal, &app)).await;
        outcome.unwrap_or_else(|panicked| Err(failed("the journal")(panicked)))
    }

    fn load_now(&self, app: &AppName) -> Result<Vec<Entry>, JournalError> {
        let path = self.path(app);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(mut file) => file.read_to_end(&mut bytes).map(drop).map_err(failed("reading the journal"))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(&self.directory, "opening the journal")(error)),
        }
        let read = format::read(&bytes).map_err(|bad| JournalError::Corrupt {
            path: path.display().to_string(),
            line: bad.line,
            reason: bad.reason,
        })?;
        let end =
            End { bytes: read.good_bytes as u64, seq: read.entries.last().map_or(0, |entry| entry.seq) };
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(app.clone(), end);
        Ok(read.entries)
    }

    fn append_now(&self, app: &AppName, record: Record) -> Result<(), JournalError> {
        let known = self.ends.lock().unwrap_or_else(PoisonError::into_inner).get(app).copied();
        let end = if let Some(end) = known {
            end
        } else {
            self.load_now(app)?;
            self.ends.lock().unwrap_or_else(PoisonError::into_inner)[app]
        };
        let entry = Entry::new(end.seq + 1, Timestamp::now(), record);
        let line = format::line(&entry).map_err(failed("writing the journal"))?;
        let path = self.path(app);
        let share = Share::of(&self.directory).map_err(refused(&self.directory, MAKING))?;
        share.directory(&self.directory.join(app.as_str())).map_err(refused(&self.directory, MAKING))?;
        let fresh = !path.exists();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(refused(&self.directory, "opening the journal"))?;
        share.file(&file).map_err(failed("opening the journal"))?;
        // What follows the good part is a torn record: after it, a whole one would be corruption.
        let written = file
            .set_len(end.bytes)
            .and_then(|()| file.seek(SeekFrom::Start(end.bytes)))
            .and_then(|_| file.write_all(line.as_bytes()))
            .and_then(|()| file.sync_data())
            .and_then(|()| if fresh { sync_directory(&path) } else { Ok(()) });
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(()) => {
                ends.insert(app.clone(), End { bytes: end.bytes + line.len() as u64, seq: entry.seq });
                Ok(())
            }
            Err(error) => {
                // How much of it is there only the file knows.
                ends.remove(app);
                Err(failed("writing the journal")(error))
            }
        }
    }
}

#[async_trait]
impl Journal for FileJournal {
    async fn lock(&self, app: &AppName, holder: &Holder) -> Result<Lease, JournalError> {
        let holder = holder.clone();
        self.blocking(app, move |journal, app| {
            let lease = lock::take(&journal.directory, app, &holder)?;
            let Some(runtime) = &journal.runtime else { return Ok(lease) };
            Ok(Lease::new((lease, host::take(runtime, app)?)))
        })
        .await
    }

    async fn append(&self, app: &AppName, record: &Record) -> Result<(), JournalError> {
        let record = record.clone();
        self.blocking(app, move |journal, app| journal.append_now(app, record)).await
    }

    async fn load(&self, app: &AppName) -> Result<Vec<Entry>, JournalError> {
        self.blocking(app, Self::load_now).await
    }

    async fn apps(&self) -> Result<Vec<AppName>, JournalError> {
        let journal = self.clone();
        let outcome = tokio::task::spawn_blocking(move || journal.on_record()).await;
        outcome.unwrap_or_else(|panicked| Err(failed("the journal")(panicked)))
    }

    async fn queue(&self, app: &AppName) -> Result<Queue, JournalError> {
        self.blocking(app, |journal, app| lock::queue(&journal.directory, app)).await
    }

    async fn enqueue(&self, app: &AppName, holder: &Holder) -> Result<(), JournalError> {
        let holder = holder.clone();
        self.blocking(app, move |journal, app| lock::enqueue(&journal.directory, app, &holder)).await
    }

    async fn is_elsewhere(&self, app: &AppName, place: &str) -> Result<bool, JournalError> {
        let other = PathBuf::from(place);
        self.blocking(app, move |journal, app| Ok(host::is_elsewhere(&journal.directory, &other, app))).await
    }
}

const MAKING: &str = "making the state directory";

fn failed<E: Into<BoxError>>(operation: &'static str) -> impl FnOnce(E) -> JournalError {
    move |source| JournalError::Other { operation, source: source.into() }
}

/// Syncs the directory that `path` is in: without that a new name may be gone after a power cut.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
