//! Images on this host: looked for, pulled by digest, removed.

use std::collections::HashMap;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::ImageInspect;
use bollard::query_parameters::{CreateImageOptions, ListContainersOptions, RemoveImageOptions};
use futures_util::StreamExt as _;

use super::Docker;
use super::error::Failure;
use super::pull::Progress;
use crate::model::{Digest, ImageRef, ImageSource, PinnedImage};
use crate::port::{Credentials, PullObserver, RuntimeError};

/// How long the Engine may take to resolve a manifest before it begins to report on a pull.
const PULL_BEGINS_WITHIN: Duration = Duration::from_mins(5);

/// The form in which the Engine is asked for `image`: never a bare repository, and one of tag and digest, the
/// digest where there is one.
pub(super) fn reference(image: &ImageRef) -> String {
    match (image.digest(), image.tag()) {
        (Some(digest), _) => format!("{}@{digest}", image.name()),
        (None, tag) => format!("{}:{}", image.name(), tag.unwrap_or("latest")),
    }
}

/// Credentials in the client's form.
pub(super) fn credentials(auth: Credentials) -> DockerCredentials {
    let secret = Some(auth.secret.expose().to_owned());
    let (password, identitytoken) = if auth.identity_token { (None, secret) } else { (secret, None) };
    DockerCredentials {
        username: (!auth.username.is_empty()).then_some(auth.username),
        password,
        identitytoken,
        serveraddress: Some(auth.registry),
        ..DockerCredentials::default()
    }
}

impl Docker {
    pub(super) async fn pull_unless_here(
        &self,
        image: &PinnedImage,
        auth: Option<Credentials>,
        progress: PullObserver,
    ) -> Result<(), RuntimeError> {
        if self.is_here(image).await? {
            return Ok(());
        }
        if image.source() == ImageSource::Local {
            let source = "it is not on this host, and an image that was built here cannot be pulled".into();
            return Err(RuntimeError::ImageNotFound { image: image.to_string(), source });
        }
        self.pull(image, auth, progress).await?;
        // The stream ended well; whether the image is there is seen, not concluded.
        if self.is_here(image).await? {
            return Ok(());
        }
        Err(RuntimeError::Other {
            operation: "pulling the image",
            source: "the pull ended without an error and the image is not here".into(),
        })
    }

    /// Whether exactly this image is on this host: `repository@digest` is found by the image's `RepoDigests`, a local
    /// image by its id.
    pub(super) async fn is_here(&self, image: &PinnedImage) -> Result<bool, RuntimeError> {
        Ok(self.inspect_image(&image.run_reference()).await?.is_some())
    }

    async fn pull(
        &self,
        image: &PinnedImage,
        auth: Option<Credentials>,
        observer: PullObserver,
    ) -> Result<(), RuntimeError> {
        let client = self.engine().await?.clone().with_timeout(PULL_BEGINS_WITHIN);
        // Without a tag the Engine would pull every tag of the repository.
        let options = CreateImageOptions {
            from_image: Some(image.image().name()),
            tag: Some(image.digest().to_string()),
            ..CreateImageOptions::default()
        };
        let mut lines = client.create_image(Some(options), None, auth.map(credentials));
        let mut progress = Progress::default();
        while let Some(line) = lines.next().await {
            let line = line.map_err(|error| Failure::from(error).pull(image, self.address()))?;
            if let Some(snapshot) = progress.line(&line) {
                observer(snapshot);
            }
        }
        if let Some(snapshot) = progress.end() {
            observer(snapshot);
        }
        Ok(())
    }

    /// The Engine's image id of what `image` means on this host.
    pub(super) async fn image_id(&self, image: &ImageRef) -> Result<Option<Digest>, RuntimeError> {
        let mut found = self.inspect_image(&reference(image)).await?;
        // What was built on this host has no registry's digest: it is known by its id.
        if let (None, Some(id)) = (&found, image.digest()) {
            found = self.inspect_image(&id.to_string()).await?;
        }
        let Some(found) = found else { return Ok(None) };
        let id = Digest::new(found.id.unwrap_or_default()).map_err(|error| RuntimeError::Other {
            operation: "looking for the image",
            source: Box::new(error),
        })?;
        Ok(Some(id))
    }

    /// The name of an image that is on this host only, while it still is that image's.
    pub(super) async fn name_of(&self, image: &PinnedImage) -> Result<Option<String>, RuntimeError> {
        if image.source() != ImageSource::Local || image.image().digest().is_some() {
            return Ok(None);
        }
        let is_its = self.image_id(image.image()).await?.as_ref() == Some(image.digest());
        Ok(is_its.then(|| image.image().to_string()))
    }

    /// Removes an image unless something uses it. One that was built here and still has a name is in use by
    /// whoever named it: it could not be had again.
    pub(super) async fn remove_image(&self, image: &PinnedImage) -> Result<(), RuntimeError> {
        let reference = image.run_reference();
        if image.source() == ImageSource::Local {
            let named = |found: &ImageInspect| found.repo_tags.as_ref().is_some_and(|tags| !tags.is_empty());
            if self.inspect_image(&reference).await?.is_none_or(|found| named(&found)) {
                return Ok(());
            }
        }
        // The Engine lets go of a name although a container was made of it, when the image has another one.
        if self.is_used(&reference).await? {
            return Ok(());
        }
        let removal = self.engine().await?.remove_image(&reference, None::<RemoveImageOptions>, None).await;
        match removal.map_err(Failure::from) {
            Ok(_) => Ok(()),
            Err(failure)
                if failure.said().is_some_and(|said| said.is_not_found() || said.is_image_in_use()) =>
            {
                Ok(())
            }
            Err(failure) => Err(failure.other("removing the image", self.address())),
        }
    }

    /// Whether any container was made of it, running or not, ours or not.
    async fn is_used(&self, reference: &str) -> Result<bool, RuntimeError> {
        let filter = HashMap::from([("ancestor".to_owned(), vec![reference.to_owned()])]);
        let options = ListContainersOptions { all: true, filters: Some(filter), ..Default::default() };
        match self.engine().await?.list_containers(Some(options)).await.map_err(Failure::from) {
            Ok(made) => Ok(!made.is_empty()),
            Err(failure) if failure.is_not_found() => Ok(false),
            Err(failure) => Err(failure.other("looking for containers of the image", self.address())),
        }
    }

    pub(super) async fn inspect_image(&self, reference: &str) -> Result<Option<ImageInspect>, RuntimeError> {
        match self.engine().await?.inspect_image(reference).await.map_err(Failure::from) {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure.other("looking for the image", self.address())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    #[test]
    fn a_reference_is_never_bare() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (given, asked) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("r.io/a:1", "r.io/a:1".to_owned()),
            (&format!("r.io/a:1@{digest}"), format!("r.io/a@{digest}")),
        ] {
            assert_eq!(reference(&given.parse().unwrap()), asked);
        }
    }

    #[test]
    fn a_token_is_not_sent_as_a_password() {
        let token = credentials(Credentials::token("r.io", Secret::new("t")));
        assert_eq!((token.username, token.password, token.identitytoken), (None, None, Some("t".to_owned())));
        let password = credentials(Credentials::password("r.io", "AWS", Secret::new("p")));
        assert_eq!(
            (password.username.as_deref(), password.password.as_deref(), password.identitytoken),
            (Some("AWS"), Some("p"), None)
        );
    }
}
