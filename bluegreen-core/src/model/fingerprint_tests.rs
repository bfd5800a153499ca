use std::time::Duration;

use crate::model::{
    AppName, Color, DeploymentId, Digest, Endpoint, ImageRef, InstanceName, InstanceSpec, NetworkAttachment,
    Publish, RestartPolicy, RunOptions, Secret, Slot,
};

fn plain() -> InstanceSpec {
    let endpoint: Endpoint = "127.0.0.1:18080".parse().unwrap();
    let slot = Slot::new(Color::Blue, InstanceName::new("shop-blue").unwrap(), 8080, endpoint);
    InstanceSpec {
        app: AppName::new("shop").unwrap(),
        deployment: DeploymentId::new("d-1").unwrap(),
        slot,
        image: "r.example/shop:42"
            .parse::<ImageRef>()
            .unwrap()
            .pin(Digest::new(format!("sha256:{}", "ab".repeat(32))).unwrap()),
        options: RunOptions::default(),
        adopt: false,
        made_elsewhere: None,
        uncarried: Vec::new(),
    }
}

/// Every option set, and everything that a place can have.
fn full() -> InstanceSpec {
    let text = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let secret = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect()
    };
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let mut spec = plain();
    spec.slot.color = Color::Green;
    spec.slot.publish = Some(Publish::loopback(18080));
    spec.slot.network = Some(NetworkAttachment::new("own").with_ip([172, 30, 5, 11].into()));
    spec.image = spec.image.image().pin_local(spec.image.digest().clone());
    spec.options = RunOptions {
        env: secret(&[("B", "2"), ("A", "x=\"y\"\n\u{e9}")]),
        mounts: ["/etc/shop:/config:ro", "data:/data"].map(|mount| mount.parse().unwrap()).to_vec(),
        networks: vec![
            NetworkAttachment::new("front").with_aliases(list(&["web"])),
            NetworkAttachment::new("back"),
        ],
        host_network: true,
        extra_hosts: list(&["db:10.0.0.9"]),
        labels: text(&[("team", "a")]),
        restart: RestartPolicy::OnFailure,
        memory: Some(64 << 20),
        milli_cpus: Some(1500),
        user: Some("1000:1000".to_owned()),
        read_only: true,
        tmpfs: text(&[("/tmp", "size=1m")]),
        cap_drop: list(&["ALL"]),
        cap_add: list(&["NET_BIND_SERVICE"]),
        no_new_privileges: true,
        init: true,
        log_driver: Some("json-file".to_owned()),
        log_options: secret(&[("max-size", "10m")]),
        stop_signal: Some("SIGQUIT".to_owned()),
        stop_timeout: Some(Duration::from_millis(2500)),
        command: Some(list(&["serve"])),
        entrypoint: Some(Vec::new()),
    };
    spec
}

#[test]
fn what_is_on_containers_out_there_is_what_is_made_today() {
    assert_eq!(plain().fingerprint().as_str(), "c70bdf3ce7468f2a");
    assert_eq!(full().fingerprint().as_str(), "03d07cac65944f7e");
}

#[test]
fn all_that_is_in_it_counts_but_not_the_deployment() {
    let of = |change: &dyn Fn(&mut InstanceSpec)| {
        let mut spec = full();
        change(&mut spec);
        spec.fingerprint()
    };
    let same = full().fingerprint();
    assert_eq!(of(&|spec| spec.deployment = DeploymentId::new("d-2").unwrap()), same);
    assert_eq!(of(&|spec| spec.adopt = true), same);
    assert_eq!(
        of(&|spec| spec.image =
            "r.example/shop:43".parse::<ImageRef>().unwrap().pin_local(spec.image.digest().clone())),
        same,
        "a tag is a name"
    );
    for other in [
        of(&|spec| spec.slot.color = Color::Blue),
        of(&|spec| spec.slot.publish = None),
        of(&|spec| spec.image = spec.image.image().pin(spec.image.digest().clone())),
        of(&|spec| spec.options.entrypoint = None),
        of(&|spec| spec.options.env.clear()),
    ] {
        assert_ne!(other, same);
    }
}
