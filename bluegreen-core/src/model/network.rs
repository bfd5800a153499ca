use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{Color, ParseError};

/// Where something listens: an address or a container's name, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// An endpoint at an address.
    pub fn from_ip(ip: IpAddr, port: u16) -> Self {
        Self { host: ip.to_string(), port }
    }

    /// An endpoint at a name or an address.
    ///
    /// # Errors
    ///
    /// When the host has a character that no host name and no address has, or the port is 0.
    pub fn new(host: impl Into<String>, port: u16) -> Result<Self, ParseError> {
        let host = host.into();
        let name = !host.is_empty()
            && host.len() <= 253
            && host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if port == 0 || !(name || host.parse::<IpAddr>().is_ok()) {
            return Err(ParseError::new(
                "endpoint",
                format!("{host}:{port}"),
                "HOST:PORT with a port of 1 to 65535",
            ));
        }
        Ok(Self { host, port })
    }

    /// The name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address, when the host is one and not a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::str::FromStr for Endpoint {
    type Err = ParseError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let bad = || ParseError::new("endpoint", value, "HOST:PORT with a port of 1 to 65535");
        let (host, port) = value.rsplit_once(':').ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Self::new(host, port.parse().map_err(|_| bad())?)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = ParseError;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<Endpoint> for String {
    fn from(value: Endpoint) -> String {
        value.to_string()
    }
}

/// A colour as the proxy sees it: the endpoints of all its instances.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Backend {
    /// Which colour these instances are.
    pub color: Color,
    /// Where the proxy reaches them; at least one.
    pub endpoints: Vec<Endpoint>,
}

impl Backend {
    /// A colour behind its endpoints.
    pub fn new(color: Color, endpoints: Vec<Endpoint>) -> Self {
        Self { color, endpoints }
    }
}

/// A container port made reachable from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Publish {
    /// The host address that it is published on; loopback unless the user says otherwise. `::` is every address, those
    /// of IPv4 too, as for a socket that listens there.
    pub ip: IpAddr,
    /// The host port.
    pub port: u16,
}

impl Publish {
    /// On loopback, which is what everybody gets who does not ask for more.
    pub const fn loopback(port: u16) -> Self {
        Self { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port }
    }

    /// On a given host address; `0.0.0.0` opens it to everybody, past the host's firewall (moby issue 4737).
    pub const fn on(ip: IpAddr, port: u16) -> Self {
        Self { ip, port }
    }
}
