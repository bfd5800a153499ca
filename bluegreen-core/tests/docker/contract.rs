//! The rules that the orchestrator relies on, kept by the real Engine.

use bluegreen_core::adapter::docker::LocalImages;
use bluegreen_core::model::Secret;
use bluegreen_core::testing::contract;

use crate::bed::Bed;

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn the_engine_keeps_the_contracts_of_its_ports() {
    let bed = Bed::new().await;
    let other = bed.spec(|app| {
        app.options.env.insert("A".to_owned(), Secret::new("b"));
    });
    contract::runtime(&bed.docker, &bed.spec(|_| ()), &other).await.unwrap();
    let missing = format!("bluegreen-test/{}:none", bed.id).parse().unwrap();
    let images = LocalImages::new(bed.docker.clone());
    contract::registry(&images, &bed.image_name.parse().unwrap(), &missing).await.unwrap();
}
