//! The real world behind the core's ports, as the settings say.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bluegreen_core::adapter::docker::{Docker, DockerConfig, DockerRegistry, LocalImages};
use bluegreen_core::adapter::ecr::Ecr;
use bluegreen_core::adapter::file::FileJournal;
use bluegreen_core::adapter::nginx::Nginx;
use bluegreen_core::adapter::probe::Probes;
use bluegreen_core::adapter::registries::Registries;
use bluegreen_core::model::{ImageRef, PinnedImage};
use bluegreen_core::port::{Credentials, Ports, Registry, RegistryError, RuntimeError};

use crate::args::PullArg;
use crate::env::Environment;
use crate::settings::Target;

/// Why there is no world to work on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Docker(#[from] RuntimeError),
    #[error("the credentials of docker login cannot be used")]
    Credentials(#[from] RegistryError),
}

/// One of each port. Nothing is sent yet.
///
/// # Errors
///
/// When Docker's address makes no sense or leads nowhere, or Docker's configuration file is broken.
pub(crate) fn connect(target: &Target, env: &Environment) -> Result<Ports, ConnectError> {
    let docker = docker(target, env)?;
    let runtime = Arc::new(docker.clone());
    Ok(Ports {
        registry: registry(target.app.pull, &docker, env)?,
        proxy: Arc::new(proxy(target, &docker)),
        probe: Arc::new(Probes::new(runtime.clone())),
        runtime,
        journal: Arc::new(journal(target, env)),
    })
}

/// The application's nginx, for the verbs that are about nothing else.
///
/// # Errors
///
/// When Docker's address makes no sense or leads nowhere.
pub(crate) fn nginx(target: &Target, env: &Environment) -> Result<Nginx, ConnectError> {
    Ok(proxy(target, &docker(target, env)?))
}

/// Where runs are recorded, and the lock is.
pub(crate) fn journal(target: &Target, env: &Environment) -> FileJournal {
    FileJournal::new(target.state_dir.clone().unwrap_or_else(|| env.default_state_dir()))
}

/// The Engine.
///
/// # Errors
///
/// When its address makes no sense or leads nowhere.
pub(crate) fn docker(target: &Target, env: &Environment) -> Result<Docker, ConnectError> {
    Ok(Docker::connect(target.docker_host.as_deref().or(env.docker_host.as_deref()))?)
}

fn proxy(target: &Target, docker: &Docker) -> Nginx {
    let spec = &target.app.spec;
    let sites = BTreeMap::from([(spec.name.clone(), target.app.nginx.site(&spec.slots))]);
    Nginx::new(Arc::new(docker.clone()), sites)
}

/// Where the meaning of a tag is looked up.
fn registry(
    pull: Option<PullArg>,
    docker: &Docker,
    env: &Environment,
) -> Result<Arc<dyn Registry>, ConnectError> {
    let local = LocalImages::new(docker.clone());
    if pull == Some(PullArg::Never) {
        return Ok(Arc::new(local));
    }
    let config = match &env.docker_config {
        Some(directory) => DockerConfig::load(&directory.join("config.json"))?,
        None => DockerConfig::default(),
    };
    let remote = Registries::new(Arc::new(Ecr::new()), Arc::new(DockerRegistry::new(docker.clone(), config)));
    match pull {
        Some(PullArg::Missing) => Ok(Arc::new(LocalFirst { local, remote })),
        _ => Ok(Arc::new(remote)),
    }
}

/// What is on this host, and the registry only for what is not.
#[derive(Debug)]
struct LocalFirst {
    local: LocalImages,
    remote: Registries,
}

#[async_trait]
impl Registry for LocalFirst {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage, RegistryError> {
        match self.local.resolve(image).await {
            Err(RegistryError::ImageNotFound { .. }) => self.remote.resolve(image).await,
            found => found,
        }
    }

    async fn credentials(&self, image: &PinnedImage) -> Result<Option<Credentials>, RegistryError> {
        self.remote.credentials(image).await
    }
}
