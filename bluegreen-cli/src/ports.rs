//! The real world behind the core's ports, as the settings say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bluegreen_core::adapter::docker::{Docker, DockerConfig, DockerRegistry, LocalImages, context_address};
use bluegreen_core::adapter::file::FileJournal;
use bluegreen_core::adapter::nginx::Nginx;
use bluegreen_core::adapter::probe::Probes;
use bluegreen_core::adapter::registries::Registries;
use bluegreen_core::model::{ImageRef, PinnedImage};
use bluegreen_core::port::{Credentials, Ports, Registry, RegistryError, RuntimeError};

use crate::args::PullArg;
use crate::env::Environment;
use crate::settings::Target;

/// One of each port. Nothing is sent yet.
///
/// # Errors
///
/// When Docker's address makes no sense or leads nowhere.
pub(crate) fn connect(target: &Target, env: &Environment) -> Result<Ports, RuntimeError> {
    let docker = docker(target, env)?;
    let state = target.state_dir();
    // Which directory it is however it was spelt.
    let state = state.canonicalize().unwrap_or(state);
    let runtime = Arc::new(docker.clone().recorded_in(&state.display().to_string()));
    Ok(Ports {
        registry: registry(target.app.pull, &docker, env),
        proxy: Arc::new(proxy(target, &docker)),
        probe: Arc::new(Probes::new(runtime.clone())),
        runtime,
        journal: Arc::new(journal(target).of_runtime(docker.address())),
    })
}

/// The application's nginx, for the verbs that are about nothing else.
///
/// # Errors
///
/// When Docker's address makes no sense or leads nowhere.
pub(crate) fn nginx(target: &Target, env: &Environment) -> Result<Nginx, RuntimeError> {
    Ok(proxy(target, &docker(target, env)?))
}

/// Where runs are recorded, and the lock is.
pub(crate) fn journal(target: &Target) -> FileJournal {
    FileJournal::new(target.state_dir())
}

/// What is on record in a place of this user's own, where earlier versions kept it, and not in the host's.
pub(crate) fn left_behind(target: &Target, env: &Environment) -> Option<PathBuf> {
    let app = &target.app.spec.name;
    let earlier = env.earlier_state_dir().filter(|_| target.state_dir.is_none())?;
    let left = FileJournal::new(&earlier).path(app).exists() && !journal(target).path(app).exists();
    (left && !rustix::process::geteuid().is_root()).then(|| earlier.join(app.as_str()))
}

/// The Engine.
///
/// # Errors
///
/// When its address makes no sense or leads nowhere.
pub(crate) fn docker(target: &Target, env: &Environment) -> Result<Docker, RuntimeError> {
    let address = match target.docker_host.clone() {
        Some(address) => Some(address),
        None => docker_address(env)?,
    };
    Docker::connect(address.as_deref())
}

/// Where the Engine is when the configuration does not say: as Docker's own client has it.
fn docker_address(env: &Environment) -> Result<Option<String>, RuntimeError> {
    let Some(address) = &env.docker_host else {
        let directory = env.docker_config.as_deref();
        let current = || docker_config(env).current_context();
        let context = env.docker_context.clone().or_else(current);
        return context.map_or(Ok(None), |name| context_address(directory.unwrap_or(Path::new("")), &name));
    };
    if env.docker_tls && !address.starts_with("unix://") {
        let source =
            "DOCKER_TLS_VERIFY asks for TLS, which is not supported: forward the Engine's socket instead";
        return Err(RuntimeError::NoWay { address: address.clone(), source: source.into() });
    }
    Ok(Some(address.clone()))
}

/// What Docker's own client has on this host.
fn docker_config(env: &Environment) -> DockerConfig {
    env.docker_config
        .as_ref()
        .map_or_else(DockerConfig::default, |dir| DockerConfig::at(dir.join("config.json")))
}

fn proxy(target: &Target, docker: &Docker) -> Nginx {
    let spec = &target.app.spec;
    let sites = BTreeMap::from([(spec.name.clone(), target.app.nginx.site(&spec.slots))]);
    Nginx::new(Arc::new(docker.clone()), sites)
}

/// What is on this host, whatever its registry says.
///
/// # Errors
///
/// When Docker's address makes no sense or leads nowhere.
pub(crate) fn local(target: &Target, env: &Environment) -> Result<LocalImages, RuntimeError> {
    Ok(LocalImages::new(docker(target, env)?))
}

/// Where the meaning of a tag is looked up.
fn registry(pull: Option<PullArg>, docker: &Docker, env: &Environment) -> Arc<dyn Registry> {
    let local = LocalImages::new(docker.clone());
    if pull == Some(PullArg::Never) {
        return Arc::new(local);
    }
    let config = docker_config(env);
    let remote = Registries::new(ecr(), Arc::new(DockerRegistry::new(docker.clone(), config)));
    match pull {
        Some(PullArg::Missing) => Arc::new(LocalFirst { local, remote }),
        _ => Arc::new(remote),
    }
}

#[cfg(feature = "ecr")]
fn ecr() -> Arc<dyn Registry> {
    Arc::new(bluegreen_core::adapter::ecr::Ecr::new())
}

/// Its images are refused by what it is built without.
#[cfg(not(feature = "ecr"))]
fn ecr() -> Arc<dyn Registry> {
    Arc::new(WithoutEcr)
}

/// A program that was built without the feature `ecr`.
#[cfg(not(feature = "ecr"))]
#[derive(Debug)]
struct WithoutEcr;

#[cfg(not(feature = "ecr"))]
impl WithoutEcr {
    fn refusal() -> RegistryError {
        RegistryError::Other {
            operation: "asking Amazon ECR",
            source: "this program was built without the feature `ecr`".into(),
        }
    }
}

#[cfg(not(feature = "ecr"))]
#[async_trait]
impl Registry for WithoutEcr {
    async fn resolve(&self, _: &ImageRef) -> Result<PinnedImage, RegistryError> {
        Err(Self::refusal())
    }

    async fn credentials(&self, _: &PinnedImage) -> Result<Option<Credentials>, RegistryError> {
        Err(Self::refusal())
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
            Err(RegistryError::NotHere { .. }) => self.remote.resolve(image).await,
            found => found,
        }
    }

    async fn credentials(&self, image: &PinnedImage) -> Result<Option<Credentials>, RegistryError> {
        self.remote.credentials(image).await
    }
}
