//! A registry whose line is cut, or stands still, in the middle of a layer.

use std::net::SocketAddr;

use bluegreen_testkit::cut::CuttingRelay;
use bluegreen_testkit::engine::{Engine, EngineOptions};
use bluegreen_testkit::process;

use crate::ecr_stage::EcrStage;
use crate::luck::{PATIENCE, Running};

/// More than all manifests, less than the layer.
const IN_A_LAYER: u64 = 300_000;

/// An application whose registry is reached by way of a line that can be cut.
struct Line {
    relay: CuttingRelay,
    ecr: EcrStage,
}

impl Line {
    fn new() -> Self {
        let ecr = EcrStage::new();
        let hosts = std::fs::read_to_string("/etc/hosts").expect("/etc/hosts");
        let line = hosts.lines().find(|line| line.contains(ecr.ecr.host())).expect("the fake's line");
        let address = line.split_whitespace().next().expect("an address").parse().expect("an address");
        let relay = CuttingRelay::start(SocketAddr::new(address, 443)).expect("a relay");
        // The same login, for the other end of the line.
        let login = ecr.ecr.docker_config().expect("a login");
        let login = std::fs::read_to_string(login.path().join("config.json")).expect("a login");
        let login = login.replace(ecr.ecr.host(), &relay.address().to_string());
        crate::ecr_stage::write(&ecr.stage.dir().join("docker/config.json"), login);
        Self { relay, ecr }
    }

    /// An image in the registry, by its name at this end of the line.
    fn push(&self, version: &str) -> String {
        let pushed = self.ecr.push(version, &format!("shop/web:{version}"));
        pushed.uri.replace(self.ecr.ecr.host(), &self.relay.address().to_string())
    }
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_registry_that_is_cut_off_once_in_the_middle_of_a_layer_is_asked_again_and_serves_the_deploy() {
    let line = Line::new();
    let stage = &line.ecr.stage;
    line.ecr.v1();
    let v2 = line.push("v2");
    line.relay.cut_after(IN_A_LAYER);
    stage.watched(&["v1", "v2"], || line.ecr.deploy(&v2).expect(0));
    assert_eq!(line.relay.cuts(), 1, "then this test tests nothing");
    stage.serves("v2");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_registry_that_is_cut_off_for_good_in_the_middle_of_a_layer_fails_the_pull_and_nothing_is_left() {
    let line = Line::new();
    let stage = &line.ecr.stage;
    // An Engine that gives a layer up at once: an ordinary one takes a minute, and says the same in the end.
    let engine = Engine::start(&stage.run, EngineOptions::default()).expect("an Engine");
    let path = stage.dir().join("bluegreen.toml");
    let config = std::fs::read_to_string(&path).expect("a configuration");
    crate::ecr_stage::write(&path, format!("[docker]\nhost = \"{}\"\n{config}", engine.host()));
    let containers = || engine.docker(["ps", "--all", "--format", "{{.Names}} {{.State}}"]).expect("docker");
    let v1 = line.push("v1");
    line.ecr.deploy(&v1).expect(0);
    let before = containers();

    let v2 = line.push("v2");
    line.relay.cut_for_good_after(IN_A_LAYER);
    let ran = stage.watched(&["v1"], || line.ecr.deploy(&v2));
    ran.expect(20).says(&[
        "pull failed",
        "serving now: blue",
        "to do: check the network between this host and the registry",
    ]);
    assert_eq!(line.relay.cuts(), 1, "then this test tests nothing");
    assert_eq!(containers(), before, "something is left");
    stage.serves("v1");

    line.relay.mend();
    stage.watched(&["v1", "v2"], || line.ecr.deploy(&v2).expect(0));
    assert!(process::wait_until(PATIENCE, || stage.version().as_deref() == Some("v2")));
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_pull_that_stands_still_ends_at_sigterm_and_the_next_deploy_begins_it_afresh() {
    let line = Line::new();
    let stage = &line.ecr.stage;
    line.ecr.v1();
    let v2 = line.push("v2");
    line.relay.stand_still_after(IN_A_LAYER);
    let ran = stage.watched(&["v1"], || {
        let mut run = Running::start(&mut line.ecr.command(&["deploy", "--output", "json", "--image", &v2]));
        run.until("step-started", Some("pull"));
        assert!(process::wait_until(PATIENCE, || line.relay.cuts() == 1), "then this test tests nothing");
        run.signal("TERM");
        run.end()
    });
    ran.expect(21).says(&["stopped on request", "when you are ready", r#""next":["bluegreen","deploy""#]);
    line.ecr.only_v1_serves();

    line.relay.mend();
    stage.watched(&["v1", "v2"], || line.ecr.deploy(&v2).expect(0));
    stage.serves("v2");
}
