//! Containers are like those that the docker command makes: known by names, published alike, read back alike.

use std::time::Duration;

use bluegreen_core::model::{NetworkAttachment, Publish};
use bluegreen_core::port::{ContainerRuntime as _, RuntimeError};

use crate::bed::{Bed, cli};

fn inspect(name: &str, format: &str) -> String {
    cli(&["inspect", "--format", format, name]).trim().to_owned()
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_local_image_is_shown_by_its_name_and_run_by_its_id() {
    let bed = Bed::new().await;
    let spec = bed.spec(|_| ());
    let name = spec.slot.name.to_string();
    bed.run(&spec).await;
    let shown = cli(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Image}}"]);
    assert_eq!(shown.trim(), bed.image_name);
    bed.docker.ensure_removed(&bed.docker.find(&spec.slot.name).await.unwrap().unwrap().id).await.unwrap();

    // The name goes to another image, as a build would have it; the release is the image that was resolved.
    let other = Bed::with("ENV OTHER=1").await;
    cli(&["tag", &other.image_name, &bed.image_name]);
    bed.run(&spec).await;
    assert_eq!(inspect(&name, "{{.Image}}"), bed.image.digest().as_str());
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_network_goes_by_its_name() {
    let bed = Bed::new().await;
    let network = bed.name("net").to_string();
    let label = format!("bluegreen.app={}", bed.id);
    cli(&["network", "create", "--label", &label, &network]);
    let spec = bed.spec(|app| app.options.networks = vec![NetworkAttachment::new(&network)]);
    let made = bed.run(&spec).await;
    assert_eq!(inspect(made.id.as_str(), "{{.HostConfig.NetworkMode}}"), network);
    assert!(made.ip.is_some() && made.ip == made.networks.get(&network).copied());
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn every_address_is_that_of_both_families() {
    let bed = Bed::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let spec = bed.spec(|app| app.slots.blue.publish = Some(Publish::on("::".parse().unwrap(), free)));
    let made = bed.run(&spec).await;
    let mut ports: Vec<_> = cli(&["port", made.id.as_str(), "8080"]).lines().map(str::to_owned).collect();
    ports.sort();
    assert!(ports.contains(&format!("0.0.0.0:{free}")), "{ports:?}");
    let theirs = bed.name("theirs").to_string();
    bed.docker.ensure_removed(&made.id).await.unwrap();
    cli(&["run", "-d", "--name", &theirs, "-p", &format!("{free}:8080"), &bed.image_name]);
    let mut alike: Vec<_> = cli(&["port", &theirs, "8080"]).lines().map(str::to_owned).collect();
    alike.sort();
    cli(&["rm", "-f", &theirs]);
    assert_eq!(ports, alike, "as `docker run -p` publishes");
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_log_that_goes_nowhere_is_known_by_its_kind() {
    let bed = Bed::new().await;
    let made = bed.run(&bed.spec(|app| app.options.log_driver = Some("none".to_owned()))).await;
    let mut lines = bed.docker.follow_log(&made.id).await.unwrap();
    let first = futures_util::StreamExt::next(&mut lines).await;
    assert!(matches!(first, Some(Err(RuntimeError::LogUnreadable { .. }))), "{first:?}");
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn how_a_healthcheck_is_asked_is_seen() {
    let bed = Bed::with("HEALTHCHECK --interval=7s --start-period=2s CMD true").await;
    let seen = bed.run(&bed.spec(|_| ())).await.healthcheck.unwrap();
    let seconds = Duration::from_secs;
    assert_eq!((seen.interval, seen.start_period, seen.timeout), (seconds(7), seconds(2), seconds(30)));
    assert_eq!((seen.retries, seen.decided_within()), (3, seconds(2 + 3 * 37)));
}
