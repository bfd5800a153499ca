use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{BoxError, Client};
use crate::model::{AppName, Backend, Color};

/// Sends an application's traffic to one of its colours.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Proxy: fmt::Debug + Send + Sync + 'static {
    /// What the proxy serves *now*, by what is live and not by what lies on disk.
    ///
    /// # Errors
    ///
    /// See [`ProxyError`]. A proxy that cannot be asked is an error, never `None`.
    async fn active(&self, app: &AppName) -> Result<Serving, ProxyError>;

    /// Whether a switch could be made at all: the proxy runs, its configuration is sound, our place in it is
    /// recognized. Read-only; called before anything is touched.
    ///
    /// # Errors
    ///
    /// See [`ProxyError`].
    async fn check(&self, app: &AppName) -> Result<(), ProxyError>;

    /// What a switch to `to` would change on disk. Read-only.
    ///
    /// # Errors
    ///
    /// See [`ProxyError`].
    async fn preview(&self, app: &AppName, to: &Backend) -> Result<Vec<FileChange>, ProxyError>;

    /// Serves `to` from now on, or nothing when it is `None`.
    ///
    /// All or nothing: after `Ok` every new request reaches `to`; after `Err` the earlier state is in force and
    /// the files on disk say so too, unless undoing that failed as well, which is
    /// [`ProxyError::NotRestored`]. Switching to what is served already is `Ok`, and repairs files that say
    /// otherwise.
    ///
    /// # Errors
    ///
    /// See [`ProxyError`].
    async fn switch(&self, app: &AppName, to: Option<Backend>) -> Result<(), ProxyError>;

    /// Proves that a client's request through the proxy reaches `to` and is answered. One attempt.
    ///
    /// # Errors
    ///
    /// [`ProxyError::NotProven`] when it does not, otherwise as the others.
    async fn verify(&self, app: &AppName, to: &Backend) -> Result<Proof, ProxyError>;

    /// What the proxy still has open to `from`. One look.
    ///
    /// # Errors
    ///
    /// See [`ProxyError`].
    async fn in_flight(&self, app: &AppName, from: &Backend) -> Result<InFlight, ProxyError>;

    /// A client of the application, as the world has them: its requests go the whole way through the proxy. Nothing
    /// is sent yet.
    ///
    /// # Errors
    ///
    /// [`ProxyError::NoWayIn`] when no such request can be sent from here, otherwise as the others.
    async fn client(&self, app: &AppName, asking: &Asking) -> Result<Arc<dyn Client>, ProxyError>;
}

/// What a client is to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asking {
    /// Path and query. Unset: what a switch is proven with.
    pub path: Option<String>,
    /// The `Host` header. Unset: the one that a switch is proven with.
    pub host: Option<String>,
    /// How long one request may take.
    pub within: Duration,
}

impl Asking {
    /// For what a switch is proven with, each time within that long.
    pub const fn within(within: Duration) -> Self {
        Self { path: None, host: None, within }
    }
}

/// What a proxy serves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Serving {
    /// The colour that new requests go to; `None` when none is chosen.
    pub color: Option<Color>,
    /// How this is known, for a person.
    pub evidence: String,
    /// Whether the files on disk say the same. When not, an unrelated reload would change what is served.
    pub consistent: bool,
}

impl Serving {
    /// A colour, or none, and how this is known.
    pub fn new(color: Option<Color>, evidence: impl Into<String>) -> Self {
        Self { color, evidence: evidence.into(), consistent: true }
    }

    /// The same, but the files on disk say otherwise.
    #[must_use]
    pub fn inconsistent(mut self) -> Self {
        self.consistent = false;
        self
    }
}

/// One file that a switch would change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileChange {
    /// Its path on the host.
    pub path: String,
    /// The change as a unified diff; empty for a flag that is only made or removed.
    pub diff: String,
    /// One line for a person.
    pub summary: String,
}

impl FileChange {
    /// A change of `path`.
    pub fn new(path: impl Into<String>, summary: impl Into<String>, diff: impl Into<String>) -> Self {
        Self { path: path.into(), diff: diff.into(), summary: summary.into() }
    }
}

/// How a switch was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proof {
    /// What was seen, for a person.
    pub evidence: String,
    /// How many requests it took.
    pub requests: u32,
}

impl Proof {
    /// What was seen, in how many requests.
    pub fn new(evidence: impl Into<String>, requests: u32) -> Self {
        Self { evidence: evidence.into(), requests }
    }
}

/// What a proxy still has open to a colour.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct InFlight {
    /// Connections from the proxy to that colour.
    pub connections: u32,
    /// Processes of the proxy that still run with the configuration before the switch.
    pub stale_workers: u32,
}

impl InFlight {
    /// So many connections and so many workers of the earlier configuration.
    pub const fn new(connections: u32, stale_workers: u32) -> Self {
        Self { connections, stale_workers }
    }

    /// Whether nothing is left.
    pub const fn is_none(&self) -> bool {
        self.connections == 0 && self.stale_workers == 0
    }
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.connections, self.stale_workers) {
            (0, 0) => f.write_str("nothing in flight"),
            (connections, 0) => write!(f, "{connections} connections"),
            (0, workers) => write!(f, "{workers} earlier workers"),
            (connections, workers) => write!(f, "{connections} connections, {workers} earlier workers"),
        }
    }
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Location {
    /// The file, on this host where it can be seen there, else as the proxy names it.
    pub path: String,
    /// The line, counted from 1; `None` when the whole file is meant.
    pub line: Option<usize>,
}

impl Location {
    /// A line of a file, or all of it.
    pub fn new(path: impl Into<String>, line: Option<usize>) -> Self {
        Self { path: path.into(), line }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        self.line.iter().try_for_each(|line| write!(f, ":{line}"))
    }
}

/// A directive of the proxy's configuration that leads to a place of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Way {
    /// Where it stands.
    pub at: Location,
    /// What it says.
    pub directive: String,
    /// The colours that it leads to.
    pub colors: Vec<Color>,
}

impl Way {
    /// A directive at a place, and the colours that it leads to.
    pub fn new(at: Location, directive: impl Into<String>, colors: Vec<Color>) -> Self {
        Self { at, directive: directive.into(), colors }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.at, self.directive)
    }
}

/// A file that the proxy's configuration names and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingFile {
    /// Where it is named.
    pub at: Location,
    /// The directive that names it.
    pub directive: String,
    /// Its path, as the proxy names it.
    pub path: String,
    /// Whether the application's requests come through the server that names it.
    pub ours: bool,
}

impl MissingFile {
    /// A file, and the directive that names it.
    pub fn new(at: Location, directive: impl Into<String>, path: impl Into<String>, ours: bool) -> Self {
        Self { at, directive: directive.into(), path: path.into(), ours }
    }
}

impl fmt::Display for MissingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, directive, path, ours } = self;
        let whose = if *ours { "in a server of this application" } else { "not of this application" };
        write!(f, "{path} is not there, which {directive} names at {at}, {whose}")
    }
}

fn because(missing: &[MissingFile]) -> String {
    missing.iter().fold(String::new(), |text, missing| format!("{text}; {missing}"))
}

fn place(at: Option<&Location>) -> String {
    at.map_or_else(String::new, |at| format!(", at {at}"))
}

fn show(ways: &[Way]) -> String {
    ways.iter().map(Way::to_string).collect::<Vec<_>>().join(", ")
}

/// Why the proxy did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// It does not run.
    #[error("the proxy is not running: {detail}")]
    NotRunning {
        /// What was looked for.
        detail: String,
    },
    /// Its configuration was broken before we came.
    #[error("the proxy's configuration does not pass its own test{}", because(missing))]
    Broken {
        /// What its test printed.
        output: String,
        /// The files that it names and that are not there.
        missing: Vec<MissingFile>,
        /// Whether a switch works all the same: it needs no reload, and all else that it needs is in place.
        switches: bool,
    },
    /// Our place in its configuration is not there, or there is more than one: nothing was touched.
    #[error("{path}: {found}; expected {expected}")]
    Unrecognized {
        /// The file.
        path: String,
        /// What was found.
        found: String,
        /// What was expected instead.
        expected: String,
    },
    /// A file of its configuration could not be read, so what it says is not known.
    #[error("{at} could not be read: {reason}")]
    Unreadable {
        /// The file and, where it is a matter of one, the line.
        at: Location,
        /// Why.
        reason: String,
    },
    /// Requests reach the application past the switch: they would go on to a place that is stopped. Nothing was
    /// touched.
    #[error("requests reach the application without passing the switch: {}", show(ways))]
    SecondWay {
        /// Each directive that leads there.
        ways: Vec<Way>,
    },
    /// The change was refused by its test, or did not become live; what was there before is in force.
    #[error("the switch was refused and put back: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The proxy does not know the name of the candidate's container: they share no network. Put back as with
    /// [`Refused`](Self::Refused).
    #[error("the switch was refused and put back: {reason}")]
    UnknownHost {
        /// What its test said.
        reason: String,
    },
    /// The change failed, and putting back what was there failed as well.
    #[error("the switch failed and the earlier state could not be put back: {reason}")]
    NotRestored {
        /// What to know to fix it.
        reason: String,
    },
    /// A request through the proxy did not show the expected colour.
    #[error("the switch cannot be proven: {reason}")]
    NotProven {
        /// What was seen instead.
        reason: String,
    },
    /// The proxy answers clients itself, with an error, and does not ask the application, which answers: a maintenance
    /// page.
    #[error("{url} answers {status}: so says the proxy itself{}, and not the application", place(at.as_ref()))]
    AnswersItself {
        /// Where a client asks.
        url: String,
        /// What it gets.
        status: u16,
        /// The line that says so, where it is to be seen.
        at: Option<Location>,
    },
    /// A client's request cannot be sent from here: only TLS is spoken, or it is not known where.
    #[error("no request can be sent as a client would: {reason}")]
    NoWayIn {
        /// Why not.
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
