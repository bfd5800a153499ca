use std::fmt;

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
