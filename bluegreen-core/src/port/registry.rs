use std::fmt;

use async_trait::async_trait;

use super::BoxError;
use crate::model::{ImageRef, PinnedImage, Secret};

/// Where images come from.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Decides what `image` means now: its tag's digest. Called once a deployment; from then on only the digest
    /// counts. A reference that names a digest is checked to exist where that costs one call.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage, RegistryError>;

    /// Credentials for pulling `image`, fetched now; `None` when the registry wants none.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    async fn credentials(&self, image: &PinnedImage) -> Result<Option<Credentials>, RegistryError>;
}

/// A user name and password for one registry. Its `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The registry's host name.
    pub registry: String,
    /// The user name; empty when `secret` is an identity token.
    pub username: String,
    /// The password or identity token.
    pub secret: Secret,
    /// Whether `secret` is an identity token and not a password.
    pub identity_token: bool,
}

impl Credentials {
    /// A user name and a password.
    pub fn password(registry: impl Into<String>, username: impl Into<String>, password: Secret) -> Self {
        Self { registry: registry.into(), username: username.into(), secret: password, identity_token: false }
    }

    /// An identity token, as some credential helpers give.
    pub fn token(registry: impl Into<String>, token: Secret) -> Self {
        Self { registry: registry.into(), username: String::new(), secret: token, identity_token: true }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// Why a registry did not answer the question.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry answered that it has no such image, tag or repository.
    #[error("image {image} does not exist in its registry")]
    ImageNotFound {
        /// The image that was asked for.
        image: String,
        /// What it said.
        #[source]
        source: BoxError,
    },
    /// It is not on this host, and no registry was asked.
    #[error("image {image} is not on this host, and pulling is off")]
    NotHere {
        /// The image that was asked for.
        image: String,
    },
    /// It refused who we are.
    #[error("access to {registry} was denied")]
    AccessDenied {
        /// The registry's host name.
        registry: String,
        /// What it said.
        #[source]
        source: BoxError,
    },
    /// This host has nothing to say who we are; the registry was not asked.
    #[error("there are no credentials for {registry}")]
    NoCredentials {
        /// The registry's host name.
        registry: String,
        /// Where they were looked for, and what was found instead.
        #[source]
        source: BoxError,
    },
    /// It could not be reached.
    #[error("registry {registry} cannot be reached")]
    Unreachable {
        /// The registry's host name.
        registry: String,
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// Anything else.
    #[error("{operation} failed")]
    Other {
        /// What was being done.
        operation: &'static str,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
}

impl RegistryError {
    /// Whether the same call may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
