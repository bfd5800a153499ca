use std::sync::Arc;

use bluegreen_core::adapter::docker::{DockerConfig, DockerRegistry, LocalImages};
use bluegreen_core::model::{Digest, ImageRef};
use bluegreen_core::port::{ContainerRuntime as _, PullObserver, Registry as _, RegistryError, RuntimeError};

use crate::bed::{Bed, cli, free_port, words};

fn nobody() -> PullObserver {
    Arc::new(|_| panic!("nothing is pulled here"))
}

fn digest() -> Digest {
    Digest::new(format!("sha256:{}", "ab".repeat(32))).unwrap()
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn an_image_of_this_host() {
    let bed = Bed::new().await;
    let local = LocalImages::new(bed.docker.clone());
    let image: ImageRef = bed.image_name.parse().unwrap();
    let pinned = local.resolve(&image).await.unwrap();
    assert_eq!(pinned, bed.image);
    assert!(local.credentials(&pinned).await.unwrap().is_none());
    bed.docker.ensure_image(&pinned, None, nobody()).await.unwrap();

    assert!(bed.docker.has_image(&pinned).await.unwrap());

    let missing: ImageRef = format!("bluegreen-test/{}:2", bed.id).parse().unwrap();
    assert!(!bed.docker.has_image(&missing.pin_local(digest())).await.unwrap());
    let error = local.resolve(&missing).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotHere { .. }), "{error:?}");
    assert!(words(&error).contains("not on this host"), "{}", words(&error));
    let error = bed.docker.ensure_image(&missing.pin_local(digest()), None, nobody()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::ImageNotFound { .. }), "{error:?}");
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn an_image_is_removed_when_nobody_needs_it() {
    let bed = Bed::new().await;
    let id = bed.image.digest().as_str();
    bed.docker.ensure_image_removed(&bed.image).await.unwrap();
    assert_eq!(cli(&["images", "-q", "--no-trunc", &bed.image_name]), id, "it has a name");

    let instance = bed.run(&bed.spec(|_| ())).await;
    cli(&["tag", id, &format!("{}-moved", bed.image_name)]);
    cli(&["rmi", "-f", &bed.image_name, &format!("{}-moved", bed.image_name)]);
    bed.docker.ensure_image_removed(&bed.image).await.unwrap();
    bed.docker.ensure_removed(&instance.id).await.unwrap();
    let left = || cli(&["images", "-aq", "--filter", &format!("label=bluegreen.test={}", bed.id)]);
    assert!(!left().is_empty(), "it was in use");
    bed.docker.ensure_image_removed(&bed.image).await.unwrap();
    assert_eq!(left(), "");
    bed.docker.ensure_image_removed(&bed.image).await.unwrap();
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_registry_that_is_not_there() {
    let bed = Bed::new().await;
    let image: ImageRef = format!("127.0.0.1:{}/app:1", free_port()).parse().unwrap();
    let error = bed.docker.ensure_image(&image.pin(digest()), None, nobody()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::RegistryUnreachable { .. }), "{error:?}");
    assert!(error.is_transient() && words(&error).contains("connection refused"), "{}", words(&error));

    let registry = DockerRegistry::new(bed.docker.clone(), DockerConfig::default());
    let error = registry.resolve(&image).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error:?}");
    bed.docker.ensure_image_removed(&image.pin(digest())).await.unwrap();
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn the_disk_has_room() {
    let bed = Bed::new().await;
    let space = bed.docker.disk_space().await.unwrap().unwrap();
    assert!(space.root.is_absolute() && space.free > 0);
}
