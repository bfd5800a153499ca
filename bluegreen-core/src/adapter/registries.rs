//! Picks the registry adapter that an image needs.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{EcrHost, ImageRef, PinnedImage};
use crate::port::{Credentials, Registry, RegistryError};

/// A [`Registry`] made of two: one for the host names of ECR, one for all others.
///
/// An image is judged by its host name alone, every time: a deployment from ECR and a rollback to an image of
/// another registry can share one `Registries`.
#[derive(Debug, Clone)]
pub struct Registries {
    ecr: Arc<dyn Registry>,
    other: Arc<dyn Registry>,
}

impl Registries {
    /// Sends images of ECR registries to `ecr` and the rest to `other`.
    pub fn new(ecr: Arc<dyn Registry>, other: Arc<dyn Registry>) -> Self {
        Self { ecr, other }
    }

    fn pick(&self, image: &ImageRef) -> &dyn Registry {
        if EcrHost::parse(image.registry()).is_some() { &*self.ecr } else { &*self.other }
    }
}

#[async_trait]
impl Registry for Registries {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage, RegistryError> {
        self.pick(image).resolve(image).await
    }

    async fn credentials(&self, image: &PinnedImage) -> Result<Option<Credentials>, RegistryError> {
        self.pick(image.image()).credentials(image).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    /// Answers every question with its own name.
    #[derive(Debug)]
    struct Named(&'static str);

    #[async_trait]
    impl Registry for Named {
        async fn resolve(&self, _: &ImageRef) -> Result<PinnedImage, RegistryError> {
            Err(RegistryError::Other { operation: self.0, source: "no".into() })
        }

        async fn credentials(&self, _: &PinnedImage) -> Result<Option<Credentials>, RegistryError> {
            Ok(Some(Credentials::password(self.0, "", Secret::default())))
        }
    }

    #[tokio::test]
    async fn the_host_name_decides_both_questions() {
        let registries = Registries::new(Arc::new(Named("ecr")), Arc::new(Named("other")));
        let digest: crate::model::Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        for (image, expected) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:1", "ecr"),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/web:1", "ecr"),
            ("nginx", "other"),
            ("public.ecr.aws/nginx/nginx:1", "other"),
            ("localhost:5000/web", "other"),
        ] {
            let image: ImageRef = image.parse().unwrap();
            let resolved = registries.resolve(&image).await.unwrap_err();
            assert_eq!(resolved.to_string(), format!("{expected} failed"), "{image}");
            let credentials = registries.credentials(&image.pin(digest.clone())).await.unwrap().unwrap();
            assert_eq!(credentials.registry, expected, "{image}");
        }
    }
}
