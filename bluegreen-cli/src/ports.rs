//! The real world behind the core's ports, as the settings say.

use bluegreen_core::adapter::file::FileJournal;
use bluegreen_core::port::Ports;

use crate::env::Environment;
use crate::settings::Target;

/// Why there is no world to work on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the adapters are not merged into this branch yet")]
    NotBuilt,
}

/// One of each port. Nothing is sent yet.
///
/// # Errors
///
/// When an address makes no sense.
pub(crate) fn connect(target: &Target, env: &Environment) -> Result<Ports, ConnectError> {
    let _journal = FileJournal::new(target.state_dir.clone().unwrap_or_else(|| env.default_state_dir()));
    let _docker = target.docker_host.as_deref().or(env.docker_host.as_deref());
    let _site = target.app.nginx.site(&target.app.spec.slots);
    Err(ConnectError::NotBuilt)
}
