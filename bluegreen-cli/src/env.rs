//! The only place that reads the environment.

use std::ffi::OsString;
use std::path::PathBuf;

/// What the environment says, read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// CodeDeploy's id of the deployment that this hook belongs to.
    pub(crate) deployment_id: Option<String>,
    /// The lifecycle event that this hook is for.
    pub(crate) lifecycle_event: Option<String>,
    /// The Engine's address, as Docker's own client takes it.
    pub(crate) docker_host: Option<String>,
    /// The context that Docker's own client is told to use.
    pub(crate) docker_context: Option<String>,
    /// Whether Docker's own client is told to speak TLS.
    pub(crate) docker_tls: bool,
    /// Where Docker's own configuration is.
    pub(crate) docker_config: Option<PathBuf>,
    /// Where the state of a user's programs is.
    pub(crate) state_home: Option<PathBuf>,
}

impl Environment {
    /// Reads it.
    #[expect(clippy::disallowed_methods, reason = "this is the one legitimate place")]
    pub(crate) fn read() -> Self {
        let value = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| value(name).and_then(|value| value.into_string().ok());
        let home = value("HOME").map(PathBuf::from);
        let under_home = |path: &str| home.as_ref().map(|home| home.join(path));
        Self {
            deployment_id: text("DEPLOYMENT_ID"),
            lifecycle_event: text("LIFECYCLE_EVENT"),
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            docker_tls: value("DOCKER_TLS_VERIFY").is_some() || value("DOCKER_TLS").is_some(),
            docker_config: value("DOCKER_CONFIG").map(PathBuf::from).or_else(|| under_home(".docker")),
            state_home: value("XDG_STATE_HOME").map(PathBuf::from).or_else(|| under_home(".local/state")),
        }
    }

    /// Where earlier versions kept the journal of whoever is not root.
    pub(crate) fn earlier_state_dir(&self) -> Option<PathBuf> {
        self.state_home.as_ref().map(|home| home.join("bluegreen"))
    }
}

/// A variable of the caller's environment, for an environment file that names it without a value.
#[expect(clippy::disallowed_methods, reason = "this is the one legitimate place")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where the journal and the lock are when nobody says. They are the host's: whoever deploys here, and whatever is in his
/// environment, there is one of each.
pub(crate) const STATE_DIR: &str = "/var/lib/bluegreen";

/// This host's name, for whoever finds a lock held.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The command line.
pub(crate) fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os()
}
