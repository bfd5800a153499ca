use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BoxError;
use crate::model::{AppName, DeploymentId};
use crate::state::{Activity, Entry, Record};

/// What happened, durably; and the right to make more happen.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync + 'static {
    /// Takes the application's lock, if nobody has it. It is held until the lease is dropped or the process ends,
    /// however it ends.
    ///
    /// # Errors
    ///
    /// [`JournalError::Held`] at once if another process holds it, otherwise as the others.
    async fn lock(&self, app: &AppName, holder: &Holder) -> Result<Lease, JournalError>;

    /// Adds a record. On `Ok` it survives a power cut.
    ///
    /// # Errors
    ///
    /// See [`JournalError`]. It may be durable all the same.
    async fn append(&self, app: &AppName, record: &Record) -> Result<(), JournalError>;

    /// Everything, oldest first. A record that was torn by a crash at the very end is left out.
    ///
    /// # Errors
    ///
    /// [`JournalError::Corrupt`] when something before the end cannot be trusted.
    async fn load(&self, app: &AppName) -> Result<Vec<Entry>, JournalError>;

    /// The applications that something is on record of, in their order.
    ///
    /// # Errors
    ///
    /// See [`JournalError`].
    async fn apps(&self) -> Result<Vec<AppName>, JournalError>;

    /// Who holds the application's lock, and who asked last for its turn. Takes no lock.
    ///
    /// # Errors
    ///
    /// See [`JournalError`].
    async fn queue(&self, app: &AppName) -> Result<Queue, JournalError>;

    /// Makes `holder` the one who asked last, unless somebody asked later. Only told: it needs no lock, and need not
    /// survive a power cut.
    ///
    /// # Errors
    ///
    /// See [`JournalError`].
    async fn enqueue(&self, app: &AppName, holder: &Holder) -> Result<(), JournalError>;

    /// Whether `place`, as the mark of an instance names it, is another journal than this one, and one that has something
    /// on record of the application. A place that is gone is nobody's.
    ///
    /// # Errors
    ///
    /// See [`JournalError`].
    async fn is_elsewhere(&self, app: &AppName, place: &str) -> Result<bool, JournalError>;
}

/// Who is at work on an application, and who wants to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Queue {
    /// Whether the lock is held.
    pub held: bool,
    /// By whom, if known.
    pub holder: Option<Holder>,
    /// Who asked last for its turn; it may have had it long ago.
    pub newest: Option<Holder>,
}

impl Queue {
    /// A queue.
    pub const fn new(held: bool, holder: Option<Holder>, newest: Option<Holder>) -> Self {
        Self { held, holder, newest }
    }

    /// Who asked after `waiting` and for another deployment, if somebody did.
    pub fn newer_than(&self, waiting: &Holder) -> Option<&Holder> {
        self.newest.as_ref().filter(|newest| newest.is_newer_than(waiting))
    }
}

/// A held lock. Dropping it lets go.
pub struct Lease(#[expect(dead_code, reason = "kept for its Drop")] Box<dyn Send + Sync>);

impl Lease {
    /// A lease that lets go when `guard` is dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

/// Who holds a lock, as a run that finds it held reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// What it is doing.
    pub verb: Activity,
    /// For which deployment.
    pub deployment: DeploymentId,
    /// Since when.
    pub since: Timestamp,
}

impl Holder {
    /// This process, from now on.
    pub fn new(pid: u32, host: impl Into<String>, verb: Activity, deployment: DeploymentId) -> Self {
        Self { pid, host: host.into(), verb, deployment, since: Timestamp::now() }
    }

    /// Whether it asked later, and for another deployment. By this host's clock.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.since > other.since && self.deployment != other.deployment
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, host, verb, deployment, since } = self;
        write!(f, "{verb} {deployment} (pid {pid} on {host}, since {since:.0})")
    }
}

/// Why the journal did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another run of this application is in progress.
    #[error("{}", held(.holder.as_deref()))]
    Held {
        /// Who, if known.
        holder: Option<Box<Holder>>,
    },
    /// It is not for this user.
    #[error("this user may not use the state directory {directory}")]
    Denied {
        /// Where it is, or would be.
        directory: String,
        /// Whether it is there; otherwise it cannot be made.
        is_there: bool,
    },
    /// Another journal on this host has the application.
    #[error(
        "this application is on record in the state directory {place}, and not in the one that was given"
    )]
    Elsewhere {
        /// Where.
        place: String,
    },
    /// Something before the end cannot be trusted.
    #[error("{path} line {line}: {reason}")]
    Corrupt {
        /// The file.
        path: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else.
    #[error("{operation} failed")]
    Other {
        /// What was being done.
        operation: &'static str,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
}

fn held(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "another run of this application is in progress".to_owned(),
        |holder| format!("another run of this application is in progress: {holder}"),
    )
}
