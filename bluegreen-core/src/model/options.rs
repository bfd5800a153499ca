use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ParseError, Secret};

/// How an instance is run, apart from its image, name and colour.
///
/// `Option` means "as the image or the Engine has it"; that is different from zero or empty.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch of the Engine, named as there")]
pub struct RunOptions {
    /// Environment. The values are never shown.
    pub env: BTreeMap<String, Secret>,
    /// Directories, files and named volumes.
    pub mounts: Vec<Mount>,
    /// The networks, the first one at creation. Empty means the Engine's default bridge.
    pub networks: Vec<NetworkAttachment>,
    /// `host`: share the host's network, then `networks` is empty and nothing is published. The two colours
    /// must then listen on different ports, so each is told its own as `PORT`, unless `env` sets that.
    pub host_network: bool,
    /// Further lines of the container's `/etc/hosts`, each `name:address`.
    pub extra_hosts: Vec<String>,
    /// The user's labels; those under `bluegreen.` are ours.
    pub labels: BTreeMap<String, String>,
    /// What the Engine does when it exits or when the host starts.
    pub restart: RestartPolicy,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// CPU limit in thousandths of a core.
    pub milli_cpus: Option<u32>,
    /// `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// Mount the container's root file system read-only.
    pub read_only: bool,
    /// In-memory file systems: target path and mount options.
    pub tmpfs: BTreeMap<String, String>,
    /// Capabilities taken away.
    pub cap_drop: Vec<String>,
    /// Capabilities given.
    pub cap_add: Vec<String>,
    /// Forbid gaining privileges (`no-new-privileges`).
    pub no_new_privileges: bool,
    /// Run the Engine's small init as process 1. With it a missing command is no error at start but an
    /// exit with 127 (seen on 20.10).
    pub init: bool,
    /// Logging driver.
    pub log_driver: Option<String>,
    /// Options of the logging driver. The values are never shown: some drivers take a token.
    pub log_options: BTreeMap<String, Secret>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// How long after that signal it is killed.
    pub stop_timeout: Option<Duration>,
    /// Instead of the image's command.
    pub command: Option<Vec<String>>,
    /// Instead of the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
}

impl RunOptions {
    /// The logging driver, when its log cannot be read back. `default` is the Engine's own driver, where it is known.
    pub fn unreadable_log<'a>(&'a self, default: Option<&'a str>) -> Option<&'a str> {
        let driver = self.log_driver.as_deref().or(default)?;
        let cached = self.log_options.get("cache-disabled").is_none_or(|value| value.expose() != "true");
        let readable = match driver {
            "none" => false,
            "json-file" | "local" | "journald" => true,
            // Docker keeps a copy of what it sends elsewhere, unless it is told not to.
            _ => cached,
        };
        (!readable).then_some(driver)
    }
}

/// A directory, file or named volume inside the instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub struct Mount {
    /// An absolute path on the host, or the name of a volume.
    pub source: String,
    /// The absolute path inside.
    pub target: String,
    /// Not writable from inside.
    pub read_only: bool,
}

impl Mount {
    /// Whether the source is a path on the host and not a named volume.
    pub fn is_bind(&self) -> bool {
        self.source.starts_with('/')
    }
}

impl std::str::FromStr for Mount {
    type Err = ParseError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let bad = || {
            ParseError::new(
                "volume",
                value,
                "SOURCE:TARGET or SOURCE:TARGET:ro, the target (and a host path) absolute",
            )
        };
        let mut parts = value.split(':');
        let (source, target) = (parts.next().ok_or_else(bad)?, parts.next().ok_or_else(bad)?);
        let read_only = match parts.next() {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(_) => return Err(bad()),
        };
        let volume_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        if parts.next().is_some()
            || !target.starts_with('/')
            || !(source.starts_with('/') || volume_name(source))
        {
            return Err(bad());
        }
        Ok(Self { source: source.to_owned(), target: target.to_owned(), read_only })
    }
}

impl TryFrom<String> for Mount {
    type Error = ParseError;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<Mount> for String {
    fn from(mount: Mount) -> String {
        format!("{}:{}{}", mount.source, mount.target, if mount.read_only { ":ro" } else { "" })
    }
}

/// A network that an instance is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkAttachment {
    /// The network's name.
    pub name: String,
    /// A fixed address there. Only networks that were made with a subnet can give one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// Further names that resolve to it there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

impl NetworkAttachment {
    /// A network, with whatever address the Engine gives.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ip: None, aliases: Vec::new() }
    }

    /// The same with a fixed address.
    #[must_use]
    pub fn with_ip(mut self, ip: Ipv4Addr) -> Self {
        self.ip = Some(ip);
        self
    }

    /// The same with further names.
    #[must_use]
    pub fn with_aliases(mut self, aliases: Vec<String>) -> Self {
        self.aliases = aliases;
        self
    }
}

/// What the Engine does when an instance exits or the host starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RestartPolicy {
    /// Nothing.
    No,
    /// Start it again until somebody stops it: the default, so that a release survives a reboot and a
    /// previous release that was stopped stays stopped.
    #[default]
    UnlessStopped,
    /// Start it again whenever it is not running, also after a restart of the Engine.
    Always,
    /// Start it again when it exits with an error.
    OnFailure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_not_shown_and_is_recorded_as_it_always_was() {
        let recorded = r#"{"env":{"PASSWORD":"hunter2"},"log_options":{"splunk-token":"hunter2"}}"#;
        let options: RunOptions = serde_json::from_str(recorded).unwrap();
        let shown = format!("{options:?} {options:#?}");
        assert!(shown.contains("splunk-token") && !shown.contains("hunter2"), "{shown}");
        assert_eq!(options.log_options["splunk-token"].expose(), "hunter2");
        let again = serde_json::to_string(&options).unwrap();
        assert!(again.contains(r#""log_options":{"splunk-token":"hunter2"}"#), "{again}");
    }
}
