use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{Endpoint, InstanceName, ParseError, Slots};

/// One application's place in nginx: which nginx, how it is switched, and between what.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Site {
    /// Which nginx.
    pub place: NginxInstance,
    /// How it is switched.
    pub mode: Mode,
    /// The two places that traffic can go to.
    pub slots: Slots,
    /// What `verify` asks from outside. Unset: found in nginx's configuration, where there is a plain HTTP
    /// listener; without one the proof says that it is weaker.
    pub public: Option<PublicUrl>,
    /// Live mode: what the application speaks.
    pub protocol: Protocol,
    /// Live mode: how many idle connections each worker keeps to each colour (`keepalive` in the upstream).
    /// Unset: as nginx has it, which is none before 1.29.7. Older ones use them only where the user's location
    /// also says `proxy_http_version 1.1` and `proxy_set_header Connection ""`. They close after 2 s of idleness,
    /// so that they delay a drain by no more than that.
    pub keepalive: Option<NonZeroU16>,
    /// Live mode: lines that an install takes over although they lead to no colour, because somebody said so.
    pub lines: Vec<ChosenLine>,
    /// How long one run of the nginx command may take. Default 10 s.
    pub command_timeout: Duration,
    /// How long a reload may take to show its first new worker. Default 5 s; large configurations need more.
    pub reload_timeout: Duration,
    /// How long one HTTP request of ours to nginx may take. Default 2 s.
    pub request_timeout: Duration,
}

impl Site {
    /// A site with the default limits.
    pub fn new(place: NginxInstance, mode: Mode, slots: Slots) -> Self {
        Self {
            place,
            mode,
            slots,
            public: None,
            protocol: Protocol::default(),
            keepalive: None,
            lines: Vec::new(),
            command_timeout: Duration::from_secs(10),
            reload_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(2),
        }
    }
}

/// A line of nginx's configuration: `FILE:LINE`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChosenLine {
    /// The file, on this host or as nginx names it.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
}

impl ChosenLine {
    pub(super) fn is(&self, inside: &str, outside: &str) -> bool {
        let real = |path: &std::path::Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.path == std::path::Path::new(inside) || real(&self.path) == real(outside.as_ref())
    }
}

impl std::str::FromStr for ChosenLine {
    type Err = ParseError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let parsed = value.rsplit_once(':').and_then(|(path, line)| {
            Some(Self { path: PathBuf::from(path), line: line.parse().ok().filter(|line| *line > 0)? })
        });
        parsed
            .filter(|chosen| !chosen.path.as_os_str().is_empty())
            .ok_or_else(|| ParseError::new("line", value, "FILE:LINE"))
    }
}

/// Which nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NginxInstance {
    /// One that runs on this host.
    Host(HostNginx),
    /// One that runs in a container, ours or not.
    Container {
        /// The container's name.
        name: InstanceName,
    },
}

impl NginxInstance {
    /// The nginx of this host, as its package installs it.
    pub fn host() -> Self {
        Self::Host(HostNginx::default())
    }
}

impl fmt::Display for NginxInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "{} on this host", host.binary.display()),
            Self::Container { name } => write!(f, "nginx in container {name}"),
        }
    }
}

/// How the nginx of this host is called and found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostNginx {
    /// The program. Default `nginx`, found by the search path.
    pub binary: PathBuf,
    /// Its configuration file (`-c`), when it is not the built-in one.
    pub config: Option<PathBuf>,
    /// Its prefix (`-p`), when it is not the built-in one.
    pub prefix: Option<PathBuf>,
    /// The file with its master's process id. Unset: the only master of this host that runs `binary`, or what
    /// the configuration names when there are several.
    pub pid_file: Option<PathBuf>,
}

impl Default for HostNginx {
    fn default() -> Self {
        Self { binary: PathBuf::from("nginx"), config: None, prefix: None, pid_file: None }
    }
}

/// What nginx speaks to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP, also of `WebSockets`: `proxy_pass`.
    #[default]
    Http,
    /// gRPC: `grpc_pass`, without TLS to the application.
    Grpc,
}

impl Protocol {
    /// The directive that passes requests on.
    pub(super) const fn directive(self) -> &'static str {
        match self {
            Self::Http => "proxy_pass",
            Self::Grpc => "grpc_pass",
        }
    }

    /// What stands before the address there.
    pub(super) const fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http://",
            Self::Grpc => "grpc://",
        }
    }

    /// What the names of its other directives start with.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Http => "proxy",
            Self::Grpc => "grpc",
        }
    }
}

/// How traffic is moved from one colour to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Generated files and a flag that nginx looks at for each request: no reload, nothing lost.
    Live {
        /// The directory, on this host, whose `*.conf` nginx includes inside `http { }`: usually its `conf.d`.
        dir: PathBuf,
        /// The port on which nginx answers us, and nobody else. Default [`Mode::CONTROL_PORT`].
        control_port: u16,
    },
    /// The colour's name in the user's own file is replaced, and nginx reloaded.
    Rewrite {
        /// The file, on this host.
        file: PathBuf,
    },
}

impl Mode {
    /// The default control port of [`Mode::Live`].
    pub const CONTROL_PORT: u16 = 8989;

    /// Live mode with the default control port.
    pub fn live(dir: impl Into<PathBuf>) -> Self {
        Self::Live { dir: dir.into(), control_port: Self::CONTROL_PORT }
    }

    /// Rewrite mode.
    pub fn rewrite(file: impl Into<PathBuf>) -> Self {
        Self::Rewrite { file: file.into() }
    }
}

/// What to ask nginx from outside, as a client would: `http://HOST[:PORT][/PATH]`.
///
/// ```
/// use bluegreen_core::adapter::nginx::PublicUrl;
/// let url: PublicUrl = "http://127.0.0.1:8080/healthz".parse().unwrap();
/// let url = url.with_host("shop.example").unwrap();
/// assert_eq!((url.endpoint.port(), url.host_header()), (8080, "shop.example".to_owned()));
/// assert!("https://shop.example/".parse::<PublicUrl>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublicUrl {
    /// Where to connect.
    pub endpoint: Endpoint,
    /// Path and query, starting with `/`.
    pub path: String,
    /// The `Host` header, when it is not the endpoint's.
    pub host: Option<String>,
}

impl PublicUrl {
    /// Asks for `/` at `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, path: "/".to_owned(), host: None }
    }

    /// The same with another `Host` header.
    ///
    /// # Errors
    ///
    /// When it is no host name with an optional port.
    pub fn with_host(mut self, host: impl Into<String>) -> Result<Self, ParseError> {
        let host = host.into();
        let (name, port) = host.rsplit_once(':').unwrap_or((&host, "80"));
        if Endpoint::new(name, port.parse().unwrap_or(0)).is_err() {
            return Err(ParseError::new("Host header", host, "a host name with an optional port"));
        }
        self.host = Some(host);
        Ok(self)
    }

    /// The same for another path and query.
    ///
    /// # Errors
    ///
    /// When it does not start with `/` or cannot stand in a request as it is.
    pub fn with_path(mut self, path: impl Into<String>) -> Result<Self, ParseError> {
        let path = path.into();
        if !path.starts_with('/') || !is_sendable(&path) {
            return Err(ParseError::new("path", path, "a path that starts with `/`, without spaces or `#`"));
        }
        self.path = path;
        Ok(self)
    }

    /// The `Host` header that is sent.
    pub fn host_header(&self) -> String {
        match (&self.host, self.endpoint.port()) {
            (Some(host), _) => host.clone(),
            (None, 80) => self.endpoint.host().to_owned(),
            (None, _) => self.endpoint.to_string(),
        }
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.endpoint, self.path)?;
        self.host.iter().try_for_each(|host| write!(f, " (Host: {host})"))
    }
}

impl std::str::FromStr for PublicUrl {
    type Err = ParseError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let bad = || {
            ParseError::new("public URL", value, "http://HOST[:PORT][/PATH]; TLS is not spoken by this check")
        };
        let rest = value.strip_prefix("http://").ok_or_else(bad)?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let endpoint = if authority.contains(':') && !authority.ends_with(']') {
            authority.parse().map_err(|_| bad())?
        } else {
            Endpoint::new(authority.trim_matches(['[', ']']), 80).map_err(|_| bad())?
        };
        if !is_sendable(path) {
            return Err(bad());
        }
        Ok(Self { endpoint, path: path.to_owned(), host: None })
    }
}

fn is_sendable(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_read_and_shown() {
        for (given, shown, header) in [
            ("http://shop.example", "http://shop.example:80/", "shop.example"),
            ("http://127.0.0.1:81/a?b=1", "http://127.0.0.1:81/a?b=1", "127.0.0.1:81"),
            ("http://[::1]:81/", "http://[::1]:81/", "[::1]:81"),
            ("http://[::1]", "http://[::1]:80/", "::1"),
        ] {
            let url: PublicUrl = given.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.host_header().as_str()), (shown, header));
        }
        for bad in [
            "shop.example",
            "https://a/",
            "http://",
            "http://a b/",
            "http://a/x y",
            "http://a:0/",
            "http://a/\r\n",
        ] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad:?} was taken");
        }
        assert!(PublicUrl::new(Endpoint::new("a", 1).unwrap()).with_host("x\r\nY: z").is_err());
    }
}
