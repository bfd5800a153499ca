//! What load to send, and where.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::{Error, Result, fail};

/// A way of using connections. They fail differently when a proxy or an application goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A new connection for each request.
    New,
    /// One connection, no pause between requests.
    Keepalive,
    /// One connection with pauses of 5 to 60 ms; looks for the server's FIN before it sends, as careful
    /// clients do.
    Gaps,
    /// The same, but does not look: like many a connection pool.
    Naive,
    /// POST requests over one connection with pauses, looking first.
    Post,
    /// Answers that take 500 ms, over one connection.
    Slow,
    /// Answers that take 500 ms, each on a new connection.
    SlowNew,
    /// Chunked answers that take a second, over one connection.
    Stream,
    /// Answers that take 5 s: each spans many switches.
    Slow5,
    /// Chunked answers that take 5 s.
    Stream5,
    /// Server-Sent Events for 5 s.
    Sse,
    /// Uploads that stop halfway for 400 ms, over one connection.
    Upload,
    /// HTTP/2, four requests at once on one connection; with TLS or by prior knowledge, as the target says.
    Http2,
    /// Unary gRPC calls, four at once on one connection.
    Grpc,
    /// A WebSocket with ten messages a second.
    WebSocket,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::New,
        Self::Keepalive,
        Self::Gaps,
        Self::Naive,
        Self::Post,
        Self::Slow,
        Self::SlowNew,
        Self::Stream,
        Self::Slow5,
        Self::Stream5,
        Self::Sse,
        Self::Upload,
        Self::Http2,
        Self::Grpc,
        Self::WebSocket,
    ];

    /// Those that any server of HTTP/1.1 with the sample application behind it answers within a second or so.
    pub const SHORT: [Self; 8] = [
        Self::New,
        Self::Keepalive,
        Self::Gaps,
        Self::Naive,
        Self::Post,
        Self::Slow,
        Self::SlowNew,
        Self::Stream,
    ];

    /// Its name on the command line and in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Keepalive => "keepalive",
            Self::Gaps => "gaps",
            Self::Naive => "naive",
            Self::Post => "post",
            Self::Slow => "slow",
            Self::SlowNew => "slow-new",
            Self::Stream => "stream",
            Self::Slow5 => "slow5",
            Self::Stream5 => "stream5",
            Self::Sse => "sse",
            Self::Upload => "upload",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::WebSocket => "websocket",
        }
    }

    pub(super) const fn reuses(self) -> bool {
        !matches!(self, Self::New | Self::SlowNew)
    }

    pub(super) const fn pauses(self) -> bool {
        matches!(self, Self::Gaps | Self::Naive | Self::Post)
    }

    pub(super) const fn looks_first(self) -> bool {
        !matches!(self, Self::Naive)
    }

    /// Method, and path below the target's.
    pub(super) const fn request(self) -> (&'static str, &'static str) {
        match self {
            Self::New | Self::Keepalive | Self::Gaps | Self::Naive | Self::Http2 => ("GET", ""),
            Self::Grpc => ("POST", "bluegreen.Sample/Version"),
            Self::WebSocket => ("GET", "ws"),
            Self::Slow5 => ("GET", "slow?ms=5000"),
            Self::Stream5 => ("GET", "stream?ms=5000&chunks=50"),
            Self::Sse => ("GET", "sse?ms=5000"),
            Self::Post | Self::Upload => ("POST", "echo"),
            Self::Slow | Self::SlowNew => ("GET", "slow?ms=500"),
            Self::Stream => ("GET", "stream?ms=1000&chunks=10"),
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|mode| mode.name()).collect();
            fail(format!("unknown mode {name:?}; known: {}", known.join(", ")))
        })
    }
}

/// Where the load goes.
#[derive(Debug, Clone)]
pub struct Target {
    pub(super) address: SocketAddr,
    pub(super) tls: bool,
    pub(super) host: String,
    /// Starts and ends with a slash.
    pub(super) path: String,
}

impl Target {
    /// From `http[s]://host[:port][/path]`; with TLS any certificate is taken; loopback and private addresses only.
    pub fn parse(url: &str) -> Result<Self> {
        Self::parse_checked(url, false)
    }

    /// The same for any address.
    pub fn parse_any_host(url: &str) -> Result<Self> {
        Self::parse_checked(url, true)
    }

    fn parse_checked(url: &str, allow_any: bool) -> Result<Self> {
        let tls = url.starts_with("https://");
        let rest = url.strip_prefix(if tls { "https://" } else { "http://" });
        let rest = rest.ok_or_else(|| fail(format!("{url}: not an http:// or https:// address")))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                (name, port.parse().map_err(|_| fail(format!("{url}: no port number after the colon")))?)
            }
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let address = super::resolve(name.trim_matches(['[', ']']), port, allow_any)?;
        let path = path.trim_matches('/');
        let path = if path.is_empty() { "/".to_owned() } else { format!("/{path}/") };
        Ok(Self { address, tls, host: authority.to_owned(), path })
    }

    /// Sends this in the `host` header, for a proxy that tells sites apart by it.
    #[must_use]
    pub fn with_host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }
}

/// How much load, for how long.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to.
    pub target: Target,
    /// Connections of each mode.
    pub modes: BTreeMap<Mode, usize>,
    /// The end, when nobody stops it earlier; none means until stopped.
    pub duration: Option<Duration>,
    /// At most so many requests a second on one connection. A proxy that opens a connection for each request runs
    /// out of ports when there are more than 28,000 to one address in a minute: each waits so long for its last
    /// packets (`ip_local_port_range`, TIME_WAIT). Everything that asks this address then fails, other tests too.
    pub rate: Option<f64>,
    /// A request not answered in full after this is a failure.
    pub timeout: Duration,
}

impl Config {
    /// No load yet; ends after 30 s, a request may take 10 s.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            modes: BTreeMap::new(),
            duration: Some(Duration::from_secs(30)),
            rate: None,
            timeout: Duration::from_secs(10),
        }
    }

    /// Every kind of careful client at once: what a switch without loss must serve. The load behind the
    /// figures in the project's documents.
    pub fn careful(target: Target) -> Self {
        Self::new(target)
            .with(Mode::New, 4)
            .with(Mode::Keepalive, 4)
            .with(Mode::Gaps, 24)
            .with(Mode::Post, 12)
            .with(Mode::Slow, 2)
            .with(Mode::SlowNew, 2)
            .with(Mode::Stream, 2)
    }

    /// So many connections of this mode.
    #[must_use]
    pub fn with(mut self, mode: Mode, connections: usize) -> Self {
        self.modes.insert(mode, connections);
        self
    }

    /// Ends after `duration`.
    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// At most so many requests a second on one connection.
    #[must_use]
    pub fn at_most(mut self, requests_per_second: f64) -> Self {
        self.rate = Some(requests_per_second);
        self
    }

    /// A request not answered in full after `limit` is a failure.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
}
