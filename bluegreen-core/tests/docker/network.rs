use std::net::{IpAddr, Ipv4Addr};

use bluegreen_core::model::NetworkAttachment;
use bluegreen_core::port::{ContainerRuntime as _, InstanceState, RuntimeError};

use crate::bed::{Bed, cli, sh, words};

/// A /24 that only this test has, we hope.
fn subnet() -> [u8; 3] {
    let random = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_micros();
    [10, 200 + u8::try_from(random % 50).unwrap(), u8::try_from((random / 50) % 256).unwrap()]
}

fn address([a, b, c]: [u8; 3], d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn missing_networks_are_made_and_the_fixed_address_is_had() {
    let bed = Bed::new().await;
    let (front, back) = (format!("{}-front", bed.id), format!("{}-back", bed.id));
    let net = subnet();
    let spec = bed.spec(|app| {
        app.slots.blue.network = Some(NetworkAttachment::new(&front).with_ip(address(net, 10)));
        app.options.networks = vec![NetworkAttachment::new(&back).with_aliases(vec!["web".to_owned()])];
    });
    let instance = bed.run(&spec).await;
    assert_eq!(instance.ip, Some(IpAddr::V4(address(net, 10))));
    assert_eq!(instance.networks.keys().cloned().collect::<Vec<_>>(), [back.clone(), front.clone()]);

    // A container without a fixed address gets one from the other half.
    let other = cli(&["run", "-d", "--net", &front, bed.image.digest().as_str()]);
    let format = format!("{{{{(index .NetworkSettings.Networks \"{front}\").IPAddress}}}}");
    let dynamic: Ipv4Addr = cli(&["inspect", "-f", &format, &other]).parse().unwrap();
    assert!(dynamic.octets()[3] >= 128, "{dynamic}");

    // The alias resolves for a neighbour on that network.
    let hosts = ["run", "--rm", "--net", &back, bed.image.digest().as_str(), "busybox", "nslookup", "web"];
    assert!(cli(&hosts).contains(&instance.networks[&back].to_string()));

    // A crash between making and attaching is made good.
    cli(&["network", "disconnect", &back, instance.id.as_str()]);
    let again = bed.run(&spec).await;
    assert_eq!((again.id, again.networks.len()), (instance.id.clone(), 2));

    // The same address again: said, not waited for.
    let mut second = spec.clone();
    second.slot.name = bed.name("second");
    let error = bed.refused(&second).await;
    assert!(matches!(error, RuntimeError::Network { .. }), "{error:?}");
    assert!(words(&error).contains("in use there by another container"), "{}", words(&error));
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_container_whose_network_is_gone_is_made_again() {
    let bed = Bed::new().await;
    let name = format!("{}-net", bed.id);
    let spec = bed.spec(|app| app.options.networks = vec![NetworkAttachment::new(&name)]);
    let first = bed.run(&spec).await;
    bed.docker.ensure_stopped(&first.id, None).await.unwrap();
    cli(&["network", "rm", &name]);
    let again = bed.run(&spec).await;
    assert!(again.id != first.id && again.state == InstanceState::Running);
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn two_networks_of_one_name_are_not_chosen_between() {
    let bed = Bed::new().await;
    let name = format!("{}-net", bed.id);
    let raw = bollard::Docker::connect_with_local_defaults().unwrap();
    for _ in 0..2 {
        let labels = [("bluegreen.app".to_owned(), bed.id.clone())].into_iter().collect();
        let request = bollard::models::NetworkCreateRequest {
            name: name.clone(),
            labels: Some(labels),
            ..Default::default()
        };
        raw.create_network(request).await.unwrap();
    }
    let error =
        bed.refused(&bed.spec(|app| app.options.networks = vec![NetworkAttachment::new(&name)])).await;
    assert!(matches!(error, RuntimeError::Network { .. }), "{error:?}");
    assert!(words(&error).contains("there are 2 networks of that name"), "{}", words(&error));
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn two_at_once_make_one_network() {
    let bed = Bed::new().await;
    let name = format!("{}-net", bed.id);
    let specs: Vec<_> = (0..4)
        .map(|n| {
            let mut spec = bed.spec(|app| app.options.networks = vec![NetworkAttachment::new(&name)]);
            spec.slot.name = bed.name(&format!("n{n}"));
            spec
        })
        .collect();
    let runs = futures_util::future::join_all(specs.iter().map(|spec| bed.docker.ensure_running(spec))).await;
    assert_eq!(runs.iter().filter(|run| run.is_err()).count(), 0, "{runs:?}");
    assert_eq!(cli(&["network", "ls", "-q", "--filter", &format!("name={name}")]).lines().count(), 1);
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_fixed_address_needs_a_subnet() {
    let bed = Bed::new().await;
    let name = format!("{}-net", bed.id);
    cli(&["network", "create", "--label", &format!("bluegreen.app={}", bed.id), &name]);
    let spec = |network: &str, ip: Ipv4Addr| {
        let network = NetworkAttachment::new(network).with_ip(ip);
        bed.spec(|app| app.slots.blue.network = Some(network))
    };
    let error = bed.refused(&spec(&name, address(subnet(), 10))).await;
    assert!(matches!(error, RuntimeError::Network { .. }), "{error:?}");
    assert!(words(&error).contains("without a subnet of its own"), "{}", words(&error));

    let error = bed.refused(&spec("bridge", address(subnet(), 10))).await;
    assert!(words(&error).contains("default bridge"), "{}", words(&error));

    let error = bed.refused(&spec(&format!("{name}-2"), address(subnet(), 255))).await;
    assert!(words(&error).contains("not an address that a container can have"), "{}", words(&error));
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn an_address_outside_and_a_subnet_that_overlaps() {
    let bed = Bed::new().await;
    let (first, second) = (format!("{}-one", bed.id), format!("{}-two", bed.id));
    let net = subnet();
    let spec = |network: &str, ip: Ipv4Addr| {
        let network = NetworkAttachment::new(network).with_ip(ip);
        bed.spec(|app| app.slots.blue.network = Some(network))
    };
    bed.run(&spec(&first, address(net, 10))).await;
    let error = bed.refused(&spec(&first, Ipv4Addr::new(10, 1, 2, 3))).await;
    assert!(words(&error).contains("outside of the network's subnets"), "{}", words(&error));
    let error = bed.refused(&spec(&second, address(net, 11))).await;
    assert!(words(&error).contains("overlaps"), "{}", words(&error));
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn the_hosts_network_is_reached_on_loopback() {
    let bed = Bed::new().await;
    let instance = bed.run(&bed.spec(|app| app.options.host_network = true)).await;
    assert_eq!(instance.ip, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    assert!(bed.docker.exec(&instance.id, &sh("true"), None).await.unwrap().success());
}
