use super::{Broken, Rules};
use crate::model::ImageRef;
use crate::port::{Registry, RegistryError};

const RULES: Rules = Rules("Registry");

/// The rules of a [`Registry`]. `image` must be there, and `missing` must not.
///
/// # Errors
///
/// The first rule that is not kept.
pub async fn registry(registry: &dyn Registry, image: &ImageRef, missing: &ImageRef) -> Result<(), Broken> {
    let resolved = RULES.answered("an image that is there is resolved", registry.resolve(image).await)?;
    RULES.hold("what is resolved is what was asked for", &resolved, |pinned| pinned.image() == image)?;
    let again = RULES.answered("an image that is there is resolved", registry.resolve(image).await)?;
    RULES.hold("the same tag means the same content", &again, |again| *again == resolved)?;
    let absent = registry.resolve(missing).await;
    RULES.hold("an image that is not there is called so", &absent, |absent| {
        matches!(absent, Err(RegistryError::ImageNotFound { .. } | RegistryError::NotHere { .. }))
    })?;
    RULES.answered("credentials are given, or none are wanted", registry.credentials(&resolved).await)?;
    Ok(())
}
