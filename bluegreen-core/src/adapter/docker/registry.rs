use async_trait::async_trait;

use super::error::Failure;
use super::image::{credentials, reference};
use super::{Docker, DockerConfig};
use crate::model::{Digest, ImageRef, PinnedImage};
use crate::port::{Credentials, Registry, RegistryError};

/// This host's own images as the registry: nothing is pulled, an image is what this Engine has under its name.
#[derive(Debug, Clone)]
pub struct LocalImages {
    docker: Docker,
}

impl LocalImages {
    /// The images of `docker`.
    pub fn new(docker: Docker) -> Self {
        Self { docker }
    }
}

#[async_trait]
impl Registry for LocalImages {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage, RegistryError> {
        match self.docker.image_id(image).await {
            Ok(Some(id)) => Ok(image.pin_local(id)),
            Ok(None) => Err(RegistryError::NotHere { image: image.to_string() }),
            Err(error) => Err(RegistryError::Other {
                operation: "looking for the image on this host",
                source: Box::new(error),
            }),
        }
    }

    async fn credentials(&self, _image: &PinnedImage) -> Result<Option<Credentials>, RegistryError> {
        Ok(None)
    }
}

/// Any registry, asked through the Engine: with its proxies, mirrors and certificates, and with the credentials
/// that `docker login` left.
#[derive(Debug, Clone)]
pub struct DockerRegistry {
    docker: Docker,
    config: DockerConfig,
}

impl DockerRegistry {
    /// The registries that `docker` reaches, with the credentials of `config`.
    pub fn new(docker: Docker, config: DockerConfig) -> Self {
        Self { docker, config }
    }
}

impl DockerRegistry {
    /// What `image` means, and with which credentials the registry told. Credentials that cannot be had, as those of a
    /// helper that is not installed here, matter only to a registry that wants some: as in Docker's client, the others
    /// are asked without.
    async fn ask(&self, image: &ImageRef) -> Result<(Digest, Option<Credentials>), RegistryError> {
        match self.config.credentials(image.registry()).await {
            Ok(auth) => Ok((self.digest(image, auth.clone()).await?, auth)),
            Err(missing) => match self.digest(image, None).await {
                Ok(digest) => Ok((digest, None)),
                // A registry may hide from strangers that an image is there.
                Err(RegistryError::AccessDenied { .. } | RegistryError::ImageNotFound { .. }) => Err(missing),
                Err(error) => Err(error),
            },
        }
    }

    async fn digest(&self, image: &ImageRef, auth: Option<Credentials>) -> Result<Digest, RegistryError> {
        const OPERATION: &str = "asking the registry";
        let client = self
            .docker
            .engine()
            .await
            .map_err(|error| RegistryError::Other { operation: OPERATION, source: Box::new(error) })?;
        let found = client.inspect_registry_image(&reference(image), auth.map(credentials)).await;
        let found = found.map_err(|error| {
            Failure::from(error).registry(&image.to_string(), image.registry(), self.docker.address())
        })?;
        Digest::new(found.descriptor.digest.unwrap_or_default())
            .map_err(|error| RegistryError::Other { operation: OPERATION, source: Box::new(error) })
    }
}

#[async_trait]
impl Registry for DockerRegistry {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage, RegistryError> {
        self.ask(image).await.map(|(digest, _)| image.pin(digest))
    }

    async fn credentials(&self, image: &PinnedImage) -> Result<Option<Credentials>, RegistryError> {
        match self.config.credentials(image.image().registry()).await {
            Err(_) => self.ask(image.image()).await.map(|(_, auth)| auth),
            found => found,
        }
    }
}
