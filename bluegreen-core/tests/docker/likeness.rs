//! Containers are like those that the docker command makes: known by names, published alike, read back alike.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bluegreen_core::model::{NetworkAttachment, Publish};
use bluegreen_core::port::{ContainerRuntime as _, RuntimeError};
use serde_json::Value;

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

/// Everything that `docker inspect` shows of how a container is, by path, without what is nothing.
fn shown(name: &str) -> BTreeMap<String, Value> {
    fn flatten(path: &str, value: &Value, all: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(members) if !members.is_empty() => {
                members.iter().for_each(|(name, value)| flatten(&format!("{path}.{name}"), value, all));
            }
            Value::Object(_) | Value::Null | Value::Bool(false) => {}
            Value::Array(items) if items.is_empty() => {}
            Value::String(text) if text.is_empty() => {}
            Value::Number(number) if number.as_f64() == Some(0.0) => {}
            _ => drop(all.insert(path.to_owned(), value.clone())),
        }
    }
    let found: Value = serde_json::from_str(&cli(&["inspect", name])).unwrap();
    let mut all = BTreeMap::new();
    for part in ["Config", "HostConfig", "Mounts"] {
        flatten(part, &found[0][part], &mut all);
    }
    all
}

/// What differs afterwards is what was named, and nothing else.
#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_container_of_somebody_else_is_made_again_as_it_was_but_for_what_is_named() {
    let bed = Bed::with("EXPOSE 8080").await;
    let name = bed.name("blue").to_string();
    let port = crate::bed::free_port();
    let (own, outside) = (format!("127.0.0.1:{port}:8080"), crate::bed::free_port());
    let other = format!("127.0.0.1:{outside}:9090");
    let recorded = [
        "--user=1000:1000",
        "--entrypoint=/bin/busybox",
        "--add-host=db:10.1.2.3",
        "--env=TOKEN=hunter2",
        "--log-opt=max-size=1m",
        "--memory=64m",
        "--cap-drop=NET_RAW",
        "--tmpfs=/scratch:size=1m",
        "--init",
        "--read-only",
        "--stop-signal=SIGINT",
        "--restart=on-failure",
        "--label=team=shop",
    ];
    let lost = [
        "--device=/dev/null:/dev/nothing",
        "--workdir=/tmp",
        "--ulimit=nofile=100:200",
        "--hostname=shop",
        "--dns=10.9.8.7",
        "--shm-size=32m",
        "--sysctl=net.ipv4.ip_default_ttl=63",
        "--group-add=7",
    ];
    let ports = ["--publish", own.as_str(), "--publish", other.as_str()];
    let made = ["run", "--detach", "--name", &name].into_iter().chain(recorded).chain(lost).chain(ports);
    cli(&made.chain([bed.image_name.as_str(), "sleep", "60"]).collect::<Vec<_>>());
    let theirs = shown(&name);

    let plain = bed.spec(|_| ());
    let found = bed.docker.find(&plain.slot.name).await.unwrap().unwrap();
    let described = bed.docker.describe(&found.id, &plain.slot).await.unwrap().unwrap();
    let mut expected: Vec<String> =
        lost.iter().map(|option| option.split('=').next().unwrap().to_owned()).collect();
    expected.push(format!("--publish {outside}:9090"));
    expected.sort();
    assert_eq!(described.uncarried, expected);

    bed.docker.ensure_removed(&found.id).await.unwrap();
    let spec = bed.spec(|app| {
        app.slots.blue.publish = Some(Publish::on("127.0.0.1".parse().unwrap(), port));
        app.options = described.options.clone();
    });
    bed.run(&spec).await;
    let ours = shown(&name);
    let paths: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    let differ: BTreeSet<&str> = paths
        .into_iter()
        .filter(|path| theirs.get(*path) != ours.get(*path))
        .map(|path| if path.starts_with("Config.Labels.bluegreen.") { "ours" } else { path.as_str() })
        .collect();
    let named = [
        "Config.Hostname",
        "Config.WorkingDir",
        "HostConfig.Devices",
        "HostConfig.Dns",
        "HostConfig.GroupAdd",
        "HostConfig.PortBindings.9090/tcp",
        "HostConfig.ShmSize",
        "HostConfig.Sysctls.net.ipv4.ip_default_ttl",
        "HostConfig.Ulimits",
        "ours",
    ];
    assert_eq!(differ, BTreeSet::from(named), "theirs {theirs:#?}\nours {ours:#?}");
}
