use super::*;
use crate::model::{AppName, Color, DeploymentId, Digest, Endpoint, InstanceName, Publish, Secret, Slot};

/// A plain description of application `shop`, blue, port 8080.
pub(crate) fn spec() -> InstanceSpec {
    let endpoint: Endpoint = "127.0.0.1:18080".parse().unwrap();
    let slot = Slot::new(Color::Blue, InstanceName::new("shop-blue").unwrap(), 8080, endpoint);
    let image = "r.example/shop:42".parse::<crate::model::ImageRef>().unwrap();
    InstanceSpec {
        app: AppName::new("shop").unwrap(),
        deployment: DeploymentId::new("d-1").unwrap(),
        slot,
        image: image.pin(Digest::new(format!("sha256:{}", "ab".repeat(32))).unwrap()),
        options: RunOptions::default(),
        adopt: false,
        made_elsewhere: None,
        uncarried: Vec::new(),
    }
}

fn attached(name: &str, id: &str) -> Attached {
    Attached { wanted: NetworkAttachment::new(name), id: id.to_owned() }
}

#[test]
fn everything_is_told_to_the_engine() {
    let mut spec = spec();
    spec.slot.publish = Some(Publish::loopback(18080));
    let options = &mut spec.options;
    options.env = [("B", "2"), ("A", "x=y")]
        .map(|(name, value)| (name.to_owned(), Secret::new(value)))
        .into_iter()
        .collect();
    options.mounts = ["/etc/shop:/config:ro", "data:/data"].map(|mount| mount.parse().unwrap()).to_vec();
    options.extra_hosts = vec!["db:10.0.0.9".to_owned()];
    options.labels = [("team".to_owned(), "a".to_owned())].into_iter().collect();
    options.restart = RestartPolicy::OnFailure;
    options.memory = Some(64 << 20);
    options.milli_cpus = Some(1500);
    options.user = Some("1000:1000".to_owned());
    options.read_only = true;
    options.tmpfs = [("/tmp".to_owned(), "size=1m".to_owned())].into_iter().collect();
    options.cap_drop = vec!["ALL".to_owned()];
    options.cap_add = vec!["NET_BIND_SERVICE".to_owned()];
    options.no_new_privileges = true;
    options.init = true;
    options.log_driver = Some("json-file".to_owned());
    options.log_options = [("max-size".to_owned(), "10m".to_owned().into())].into_iter().collect();
    options.stop_signal = Some("SIGQUIT".to_owned());
    options.stop_timeout = Some(Duration::from_millis(2500));
    options.command = Some(vec!["serve".to_owned()]);
    options.entrypoint = Some(vec!["/bin/shop".to_owned()]);
    let mut first = attached("front", "id-front");
    first.wanted = first.wanted.with_ip([172, 30, 5, 10].into()).with_aliases(vec!["web".to_owned()]);

    let body = serde_json::to_value(body(
        &spec,
        spec.image.named_reference(),
        &[first, attached("back", "id-back")],
    ))
    .unwrap();
    let digest = format!("sha256:{}", "ab".repeat(32));
    assert_eq!(
        body,
        serde_json::json!({
            "Image": format!("r.example/shop:42@{digest}"),
            "Env": ["A=x=y", "B=2"],
            "Cmd": ["serve"],
            "Entrypoint": ["/bin/shop"],
            "User": "1000:1000",
            "StopSignal": "SIGQUIT",
            "StopTimeout": 3,
            "ExposedPorts": {"8080/tcp": {}},
            "Labels": {
                "bluegreen.app": "shop",
                "bluegreen.color": "blue",
                "bluegreen.deployment": "d-1",
                "bluegreen.digest": digest,
                "bluegreen.fingerprint": spec.fingerprint().as_str(),
                "bluegreen.version": env!("CARGO_PKG_VERSION"),
                "team": "a",
            },
            "HostConfig": {
                "NetworkMode": "front",
                "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]},
                "Mounts": [
                    {"Type": "bind", "Source": "/etc/shop", "Target": "/config", "ReadOnly": true},
                    {"Type": "volume", "Source": "data", "Target": "/data"},
                ],
                "RestartPolicy": {"Name": "on-failure"},
                "Memory": 64 << 20,
                "NanoCpus": 1_500_000_000,
                "ReadonlyRootfs": true,
                "Tmpfs": {"/tmp": "size=1m"},
                "CapDrop": ["ALL"],
                "CapAdd": ["NET_BIND_SERVICE"],
                "SecurityOpt": ["no-new-privileges:true"],
                "Init": true,
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}},
                "ExtraHosts": ["db:10.0.0.9"],
            },
            "NetworkingConfig": {"EndpointsConfig": {
                "front": {"IPAMConfig": {"IPv4Address": "172.30.5.10"}, "Aliases": ["web"]},
            }},
        })
    );
}

#[test]
fn nothing_is_told_that_was_not_asked_for() {
    let body = serde_json::to_value(body(&spec(), spec().image.named_reference(), &[])).unwrap();
    let keys: std::collections::BTreeSet<_> = body.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["HostConfig", "Image", "Labels"].map(str::to_owned).into());
    assert_eq!(body["HostConfig"], serde_json::json!({"RestartPolicy": {"Name": "unless-stopped"}}));
}

#[test]
fn every_address_is_the_engines_every_address() {
    for (ip, told) in [("::", ""), ("0.0.0.0", "0.0.0.0"), ("::1", "::1")] {
        let mut spec = spec();
        spec.slot.publish = Some(Publish::on(ip.parse().unwrap(), 18080));
        let body = serde_json::to_value(body(&spec, spec.image.named_reference(), &[])).unwrap();
        assert_eq!(body["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostIp"], told);
    }
}

#[test]
fn the_hosts_network_publishes_nothing() {
    let mut spec = spec();
    spec.slot.publish = Some(Publish::loopback(18080));
    spec.options.host_network = true;
    let body = serde_json::to_value(body(&spec, spec.image.named_reference(), &[])).unwrap();
    assert_eq!(body["HostConfig"]["NetworkMode"], "host");
    assert!(body["HostConfig"].get("PortBindings").is_none() && body.get("ExposedPorts").is_none());
}

#[test]
fn on_the_hosts_network_each_colour_is_told_its_port() {
    let mut spec = spec();
    spec.options.host_network = true;
    let port = format!("PORT={}", spec.slot.port);
    assert_eq!(body(&spec, spec.image.named_reference(), &[]).env, Some(vec![port]));
    spec.options.env.insert("PORT".to_owned(), "9".to_owned().into());
    assert_eq!(
        body(&spec, spec.image.named_reference(), &[]).env,
        Some(vec!["PORT=9".to_owned()]),
        "the user's own wins"
    );
}

#[test]
fn the_default_bridge_goes_by_its_name() {
    let body =
        serde_json::to_value(body(&spec(), spec().image.named_reference(), &[attached("bridge", "bridge")]))
            .unwrap();
    assert_eq!(body["HostConfig"]["NetworkMode"], "bridge");
    assert!(body.get("NetworkingConfig").is_none());
}

#[test]
fn our_labels_are_ours() {
    let mut spec = spec();
    spec.options.labels = [("bluegreen.app".to_owned(), "x".to_owned())].into_iter().collect();
    assert!(matches!(check(&spec), Err(RuntimeError::Rejected { .. })));
}

#[test]
fn a_bad_environment_is_refused_without_its_value() {
    for (name, value) in [("", "hunter2"), ("A=B", "hunter2"), ("A", "hunter2\0")] {
        let mut spec = spec();
        spec.options.env = [(name.to_owned(), Secret::new(value))].into_iter().collect();
        let error = check(&spec).unwrap_err();
        assert!(matches!(error, RuntimeError::Rejected { .. }));
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
