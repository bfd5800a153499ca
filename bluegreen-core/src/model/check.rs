use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One question to an instance whose answer decides whether it may get traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Check {
    /// A line in its log matches.
    Log(LogPattern),
    /// It answers an HTTP request as expected.
    Http(HttpCheck),
    /// It accepts a connection on its own address.
    Tcp {
        /// The port inside the instance.
        port: u16,
    },
    /// The HEALTHCHECK of its image says `healthy`.
    Image,
    /// A command inside it exits with 0.
    Command {
        /// Program and arguments, no shell.
        command: Vec<String>,
    },
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => write!(f, "log line {:?}", log.pattern),
            Self::Http(http) => write!(f, "GET :{}{}", http.port, http.path),
            Self::Tcp { port } => write!(f, "TCP :{port}"),
            Self::Image => f.write_str("image HEALTHCHECK"),
            Self::Command { command } => write!(f, "command {:?}", command.join(" ")),
        }
    }
}

/// How often and how long the runtime asks an image's own HEALTHCHECK. The default is Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Healthcheck {
    /// How long failures do not count, from the start.
    pub start_period: Duration,
    /// How often it is asked in that time, where the runtime knows of that.
    pub start_interval: Duration,
    /// How often it is asked; also how long after the start for the first time.
    pub interval: Duration,
    /// How long one answer may take.
    pub timeout: Duration,
    /// How many failures in a row make it unhealthy.
    pub retries: u32,
}

impl Default for Healthcheck {
    fn default() -> Self {
        Self {
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries: 3,
        }
    }
}

impl Healthcheck {
    /// How long after the start it can have answered at the earliest.
    pub fn first_answer(&self) -> Duration {
        if self.start_period.is_zero() { self.interval } else { self.interval.min(self.start_interval) }
    }

    /// How long after the start it has decided at the latest.
    pub fn decided_within(&self) -> Duration {
        self.start_period
            .saturating_add((self.interval.saturating_add(self.timeout)).saturating_mul(self.retries))
    }
}

/// What to look for in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogPattern {
    /// A plain text, or a regular expression when `regex` is set.
    pub pattern: String,
    /// Whether `pattern` is a regular expression.
    #[serde(default)]
    pub regex: bool,
}

impl LogPattern {
    /// A plain text that a line contains.
    pub fn text(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), regex: false }
    }

    /// A regular expression that a line matches.
    pub fn regex(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), regex: true }
    }
}

/// An HTTP request and what its answer must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HttpCheck {
    /// The port inside the instance.
    pub port: u16,
    /// Path and query, starting with `/`.
    pub path: String,
    /// The statuses that count as healthy; empty means 200 to 299.
    pub status: Vec<u16>,
    /// What the body must contain.
    pub body: Option<BodyPattern>,
    /// The `Host` header; the endpoint's own address when unset.
    pub host: Option<String>,
}

impl HttpCheck {
    /// A GET that wants a 2xx.
    pub fn get(port: u16, path: impl Into<String>) -> Self {
        Self { port, path: path.into(), status: Vec::new(), body: None, host: None }
    }

    /// Whether an answer's status is one that counts as healthy.
    pub fn accepts(&self, status: u16) -> bool {
        if self.status.is_empty() { (200..300).contains(&status) } else { self.status.contains(&status) }
    }
}

/// What a body must contain.
pub type BodyPattern = LogPattern;
