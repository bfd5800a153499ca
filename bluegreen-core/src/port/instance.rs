//! What a runtime says of an instance.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::model::{
    AppName, Color, DeploymentId, Digest, Endpoint, Fingerprint, Healthcheck, InstanceName, PinnedImage,
    RunOptions,
};

/// The runtime's own name for an instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(String);

impl InstanceId {
    /// Wraps the runtime's name.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The runtime's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..12).unwrap_or(&self.0))
    }
}

/// An instance as it was observed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Instance {
    /// The runtime's name for it.
    pub id: InstanceId,
    /// Its own name.
    pub name: InstanceName,
    /// What it is doing.
    pub state: InstanceState,
    /// The labels of ours that it carries, if it is ours.
    pub owned: Option<Ownership>,
    /// Where this host reaches it without a port proxy in between: its own address. A published port is no
    /// substitute, it accepts before the application listens.
    pub ip: Option<IpAddr>,
    /// Its addresses by network.
    pub networks: BTreeMap<String, IpAddr>,
    /// Its first process on this host, while it runs.
    pub pid: Option<u32>,
    /// How often the runtime has restarted it.
    pub restarts: u32,
    /// How it ended before its last restart, where the runtime still knows.
    pub last_exit: Option<InstanceState>,
    /// What the image's HEALTHCHECK says, if it has one.
    pub health: Option<HealthStatus>,
    /// How the image's HEALTHCHECK is asked, if it has one.
    pub healthcheck: Option<Healthcheck>,
    /// Directories and files of the host inside it: host path, path inside.
    pub mounts: Vec<(String, String)>,
    /// The reference that it was made from, as the runtime shows it.
    pub image: String,
}

impl Instance {
    /// An observed instance; set the fields that are known.
    pub fn new(id: InstanceId, name: InstanceName, state: InstanceState) -> Self {
        Self {
            id,
            name,
            state,
            owned: None,
            ip: None,
            networks: BTreeMap::new(),
            pid: None,
            restarts: 0,
            last_exit: None,
            health: None,
            healthcheck: None,
            mounts: Vec::new(),
            image: String::new(),
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.state == InstanceState::Running
    }

    /// Where this host reaches one of its ports directly.
    pub fn endpoint(&self, port: u16) -> Option<Endpoint> {
        self.ip.map(|ip| Endpoint::from_ip(ip, port))
    }
}

/// How an instance runs that bluegreen did not create.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Described {
    /// What it runs.
    pub image: PinnedImage,
    /// How.
    pub options: RunOptions,
    /// What it was made with that the options have no word for, as the runtime's own command names it.
    pub uncarried: Vec<String>,
}

impl Described {
    /// An image and how it is run.
    pub const fn new(image: PinnedImage, options: RunOptions) -> Self {
        Self { image, options, uncarried: Vec::new() }
    }
}

/// What is known of an instance before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Foreseen {
    /// How its image's HEALTHCHECK is asked, if it has one.
    pub healthcheck: Option<Healthcheck>,
    /// The driver that its log goes to, when that keeps nothing that could be read.
    pub unreadable_log: Option<String>,
}

impl Foreseen {
    /// What its image and its options say.
    pub const fn new(healthcheck: Option<Healthcheck>, unreadable_log: Option<String>) -> Self {
        Self { healthcheck, unreadable_log }
    }
}

/// What our labels on an instance say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ownership {
    /// Whose instance it is.
    pub app: AppName,
    /// Its colour.
    pub color: Color,
    /// The deployment that created it.
    pub deployment: DeploymentId,
    /// The digest that it runs.
    pub digest: Digest,
    /// The fingerprint of its description.
    pub fingerprint: Fingerprint,
    /// The place of the journal that has it on record, where it says so.
    pub recorded_in: Option<String>,
}

impl Ownership {
    /// What the labels say.
    pub fn new(
        app: AppName,
        color: Color,
        deployment: DeploymentId,
        digest: Digest,
        fingerprint: Fingerprint,
    ) -> Self {
        Self { app, color, deployment, digest, fingerprint, recorded_in: None }
    }
}

/// What an instance is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstanceState {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Exited and about to be started again by the runtime.
    Restarting {
        /// The exit code of the last run.
        exit_code: i64,
        /// Whether the kernel killed it for lack of memory.
        oom_killed: bool,
    },
    /// Not running.
    Exited {
        /// Its exit code.
        exit_code: i64,
        /// Whether the kernel killed it for lack of memory.
        oom_killed: bool,
        /// The runtime's own word, where it has one.
        error: Option<String>,
    },
    /// Anything else the runtime knows: paused, dead, being removed.
    Other(String),
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created, not started"),
            Self::Running => f.write_str("running"),
            Self::Restarting { exit_code, oom_killed: false } => {
                write!(f, "restarting after exit code {exit_code}")
            }
            Self::Restarting { exit_code, oom_killed: true } => {
                write!(f, "restarting after it was killed for lack of memory (OOM, exit code {exit_code})")
            }
            Self::Exited { oom_killed: true, exit_code, .. } => {
                write!(f, "killed for lack of memory (OOM, exit code {exit_code})")
            }
            Self::Exited { exit_code, error: Some(error), .. } => {
                write!(f, "exited with code {exit_code}: {error}")
            }
            Self::Exited { exit_code, .. } => write!(f, "exited with code {exit_code}"),
            Self::Other(state) => f.write_str(state),
        }
    }
}

/// What an image's own HEALTHCHECK says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealthStatus {
    /// It has not decided yet.
    Starting,
    /// It passes.
    Healthy,
    /// It fails, with the last output.
    Unhealthy {
        /// What the last check printed.
        output: String,
    },
}
