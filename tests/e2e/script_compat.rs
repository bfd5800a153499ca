//! In the place of the shell script, without a configuration file: the same inputs leave the same state.

use std::time::Duration;

use bluegreen_testkit::docker::{AppImage, docker};
use bluegreen_testkit::fake_ecr::FakeEcr;
use bluegreen_testkit::load::{Config, Handle, Mode, Target};
use bluegreen_testkit::nginx::{Nginx as _, NginxVersion};
use bluegreen_testkit::process::wait_until;

use crate::ecr_stage::without_aws;
use crate::script_stage::{DIRECT, Machine, UPSTREAM, VARIABLE};
use crate::stage::ran;

const OPEN_PORTS: &str = "warning: the containers' ports are open to every network, bypassing the host's firewall; safer: \
                          `publish = \"127.0.0.1\"` in bluegreen.toml";

/// Both, one after the other, from the same start, with an image of an ECR.
fn the_same_state(form: &str, from: u16, to: u16) {
    let machine = Machine::with_v0(form);
    let ecr = FakeEcr::start(&machine.run).expect("a fake ECR");
    let login = ecr.docker_config().expect("a login");
    let local = machine.run.app_image("app:v1", &AppImage::version("v1").own_layer()).expect("an image");
    let v1 = ecr.push(&local, "shop/web:v1").expect("a push");
    docker(["rmi", "--force", &local]).expect("a removal");
    let definitions = machine.define_object(&v1.uri);

    machine.reset("v0", from);
    let script = ran(machine.script().env("DOCKER_CONFIG", login.path())).expect(0).says(&["completed"]);
    assert!(!script.err.contains("Error"), "{}", script.err);
    let theirs = machine.state();
    assert_eq!(theirs.serves.as_deref(), Some("v1"));
    assert_eq!(machine.ports(), format!("{to}:"));
    docker(["rm", "-f", &machine.container(to)]).expect("a removal");
    docker(["rmi", &v1.uri]).expect("a removal");

    machine.reset("v0", from);
    let conf = machine.conf().display().to_string();
    let mut deploy = machine.command(&["deploy", "--image-definitions", &definitions, "--nginx-conf", &conf]);
    without_aws(&mut deploy);
    ran(deploy.envs(ecr.env())).expect(0).says(&["committed", OPEN_PORTS, "next: bluegreen rollback"]);
    assert_eq!(machine.state(), theirs, "the state after bluegreen is that after the script");
    assert_eq!(machine.ports(), format!("{to}:{from}"), "the previous one is kept and does not run");
    let at = theirs.running.first().expect("one runs");
    assert!(at.contains(" dev ") && at.ends_with(&format!("Some(\"0.0.0.0:{to}\")")), "{at}");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn from_3000_with_the_name_in_proxy_pass_the_state_is_that_of_the_script() {
    the_same_state(DIRECT, 3000, 4000);
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn from_4000_with_the_name_in_an_upstream_the_state_is_that_of_the_script() {
    the_same_state(UPSTREAM, 4000, 3000);
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn bluegreen_follows_the_script_goes_back_and_the_script_can_follow_again() {
    let machine = Machine::with_v0(UPSTREAM);
    let script = |version: &str| {
        machine.define_object(&machine.image(version));
        ran(machine.script().env("NO_PULL", "1")).expect(0).says(&["completed"]);
        machine.serves(version);
    };
    script("v1");
    assert_eq!(machine.ports(), "4000:");
    let id = || docker(["inspect", "--format", "{{.Id}}", &machine.container(4000)]).expect("it is there");
    let made_by_script = id();
    let deployed = machine.deploy(&machine.image("v2")).expect(0);
    deployed.says(&["next: bluegreen rollback"]);
    machine.serves("v2");
    assert_eq!(machine.ports(), "3000:4000");
    // The first rollback brings the script's own container back.
    machine.verb("status").expect(0).says(&["app:v1", "not created by bluegreen"]);
    machine.verb("rollback").expect(0).says(&["rolled back on request"]);
    machine.serves("v1");
    assert_eq!((machine.ports().as_str(), id()), ("4000:3000", made_by_script));
    let unknown = machine.verb("rollback").expect(10);
    let unknown = unknown.says(&["there is no earlier release to roll back to", "next: bluegreen status"]);
    assert!(
        unknown.err.contains("--state-dir"),
        "the next command looks at the same journal: {}",
        unknown.err
    );
    machine.serves("v1");
    machine.deploy(&machine.image("v2")).expect(0);
    machine.serves("v2");

    // What the script had made is in the way under the name that is next; it was given to us.
    let v3 = machine.image("v3");
    machine.deploy(&v3).expect(0);
    machine.serves("v3");
    assert_eq!(machine.ports(), "4000:3000");
    machine.deploy(&v3).expect(0).says(&["unchanged"]);
    machine.verb("rollback").expect(0).says(&["rolled back on request"]);
    machine.serves("v2");
    assert_eq!(machine.ports(), "3000:4000");
    machine.verb("status").expect(0).says(&["blue", "app:v2"]);

    script("v4");
    assert_eq!(machine.ports(), "4000:");
    machine.verb("status").expect(50).says(&["not created by bluegreen", "the journal says blue serves"]);
    machine.deploy(&machine.image("v5")).expect(0);
    machine.serves("v5");
    assert_eq!(machine.ports(), "3000:4000");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn every_shape_of_image_definitions_is_taken() {
    let machine = Machine::with_v0(DIRECT);
    let (app, conf) = (machine.app.clone(), machine.conf().display().to_string());
    let entry = |name: &str, version: &str| {
        format!(r#"{{"name": "{name}", "imageUri": "{}"}}"#, machine.image(version))
    };
    let several = format!("[{}, {}]", entry("other", "v9"), entry(&app, "v3"));
    let detail = format!(r#"{{"ImageURI": "{}"}}"#, machine.image("v4"));
    for (json, further, version) in [
        (entry(&app, "v1"), vec![], "v1"),
        (format!("[{}]", entry(&app, "v2")), vec![], "v2"),
        (several.clone(), vec!["--name", &app], "v3"),
        (detail, vec![&*app], "v4"),
        (several, vec![&*app], "v3"),
    ] {
        let file = machine.define(&json);
        let all = ["deploy", "--pull", "never", "--image-definitions", &file, "--nginx-conf", &conf];
        machine.bluegreen(&[&all[..], &further].concat()).expect(0);
        machine.serves(version);
    }
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn the_first_deploy_goes_to_3000_and_a_neighbour_of_a_longer_name_is_nobody_to_us() {
    let mut machine = Machine::bare();
    machine.start_nginx(VARIABLE, NginxVersion::V1_22, &["--network", "dev"]);
    assert_eq!(machine.version(), None, "nothing is there yet");
    let neighbour = format!("my-{}", machine.container(3000));
    machine.run.start(&neighbour, &machine.image("v9"), &[], &[]).expect("a neighbour");
    let before = machine.conf_text();
    machine.deploy(&machine.image("v1")).expect(0).says(&["committed", "from nothing"]);
    machine.serves("v1");
    assert_eq!((machine.ports().as_str(), machine.conf_text()), ("3000:", before));
    machine.deploy(&machine.image("v2")).expect(0);
    machine.serves("v2");
    assert_eq!(machine.ports(), "4000:3000");
    assert_eq!(
        docker(["inspect", "--format", "{{.State.Running}}", &neighbour]).expect("it is there"),
        "true"
    );
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn the_first_deploy_reaches_clients_when_nginx_knows_an_address_that_is_no_more() {
    let machine = Machine::with_v0(DIRECT);
    docker(["rm", "-f", &machine.container(3000)]).expect("a removal");
    // Takes the address that nginx has looked up.
    let spacer = machine.run.name("spacer");
    machine.run.start(&spacer, &machine.image("v9"), &["--network", "dev"], &[]).expect("a spacer");
    machine.deploy(&machine.image("v1")).expect(0);
    machine.serves("v1");
    assert_eq!(machine.ports(), "3000:");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn the_same_deploy_again_reaches_clients_when_its_container_has_come_back_at_another_address() {
    let machine = Machine::with_v0(DIRECT);
    let v1 = machine.image("v1");
    machine.deploy(&v1).expect(0);
    let name = machine.container(4000);
    let address = || {
        let format = "{{(index .NetworkSettings.Networks \"dev\").IPAddress}}";
        docker(["inspect", "--format", format, &name]).expect("it runs")
    };
    let before = address();
    docker(["stop", &name]).expect("it ran");
    // As after a restart of Docker: others were there first.
    let v0 = machine.image("v0");
    let others = ["one", "two", "three"].map(|other| {
        let name = machine.run.name(other);
        machine.run.start(&name, &v0, &["--network", "dev"], &[]).expect("a container")
    });
    docker(["start", &name]).expect("it starts");
    assert_ne!(address(), before, "this test tests nothing");
    assert_ne!(machine.version().as_deref(), Some("v1"), "nginx knows its address: this test tests nothing");
    machine.deploy(&v1).expect(0).says(&["unchanged: "]);
    // nginx's earlier workers take connections for another 100 ms.
    let reached = wait_until(Duration::from_secs(5), || machine.version().as_deref() == Some("v1"));
    assert!(reached, "{:?} answers", machine.version());
    assert_eq!(machine.ports(), "4000:3000");
    drop(others);
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn edits_by_hand_stay_whether_nginx_has_read_them_or_not() {
    let machine = Machine::with_v0(DIRECT);
    let edited = format!("# {}-4000 is the other one\n{}", machine.app, machine.conf_text())
        .replace("location / {", "location / {\r\n\tproxy_set_header X-Hand made; # caf\u{e9}");
    machine.edit(&edited);
    machine.deploy(&machine.image("v1")).expect(0);
    machine.serves("v1");
    let name = |port: u16| format!("//{}:3000", machine.container(port));
    assert_eq!(
        machine.conf_text(),
        edited.replace(&name(3000), &name(4000)),
        "nothing but the name is changed"
    );

    // A person named the other colour, whose container is stopped, and did not reload: nginx serves what it did.
    machine.edit(&edited);
    machine.serves("v1");
    machine.deploy(&machine.image("v2")).expect(0);
    machine.serves("v2");
    assert_eq!((machine.ports().as_str(), machine.conf_text()), ("3000:4000", edited));
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn switches_by_rewriting_lose_no_new_connection_and_say_what_others_may_lose() {
    let machine = Machine::with_v0(UPSTREAM);
    let target = Target::parse(&machine.nginx().direct_url()).expect("a private address");
    let config = Config::new(target)
        .with(Mode::New, 4)
        .with(Mode::SlowNew, 4)
        .at_most(40.0)
        .lasting(Duration::from_secs(300));
    let load = Handle::spawn(config);
    assert!(load.wait_until(Duration::from_secs(10), |seen| seen.total.requests > 50), "no load");
    let loss = ["warning: nginx 1.22.", "closes idle client connections at a reload", "`mode = \"live\"`"];
    for version in ["v1", "v2", "v3"] {
        machine.deploy(&machine.image(version)).expect(0).says(&loss);
    }
    machine.verb("rollback").expect(0).says(&loss);
    let report = load.stop();
    report.assert_lossless();
    for version in ["v0", "v1", "v2", "v3"] {
        assert!(report.versions.contains_key(version), "{version} was not seen\n{report}");
    }
    machine.serves("v2");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn an_nginx_that_is_told_to_wait_for_its_clients_needs_no_warning() {
    let mut machine = Machine::bare();
    machine.as_the_script("v0", 3000);
    let waits = format!("keepalive_min_timeout 5s;\n{DIRECT}");
    machine.start_nginx(&waits, NginxVersion::V1_30, &["--network", "dev"]);
    let ran = machine.deploy(&machine.image("v1")).expect(0);
    assert!(!ran.err.contains("idle client connections"), "{}", ran.err);
    machine.serves("v1");
    machine.edit(&machine.conf_text().replace("keepalive_min_timeout 5s;\n", ""));
    machine.nginx().reload().expect("a reload");
    machine.deploy(&machine.image("v2")).expect(0).says(&["keepalive_min_timeout"]);
    machine.serves("v2");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn from_the_script_to_the_live_switch_and_back_its_sed_finds_its_name_again() {
    let machine = Machine::with_v0(DIRECT);
    machine.reset("v0", 4000);
    // Addresses that stay are to be had on a network with a subnet, which the script's has not.
    let network = machine.run.network("net").expect("a network");
    docker(["network", "connect", &network.name, "nginx"]).expect("both are there");
    let [blue, green] = [10, 11].map(|last| network.ip(last));
    let app = &machine.app;
    let config = format!(
        "[nginx]\ncontainer = \"nginx\"\ndir = \"{}\"\nurl = \"{}\"\n[app.{app}]\nimage = \"unused\"\npull = \"never\"\n\
         adopt = true\nnetwork = \"{}\"\nreach = \"ip\"\nips = {{ blue = \"{blue}\", green = \"{green}\" }}\n\
         ports = {{ blue = 3000, green = 4000 }}\nnames = {{ blue = \"{app}-3000\", green = \"{app}-4000\" }}\n",
        machine.nginx().conf_dir().display(),
        machine.nginx().direct_url(),
        network.name,
    );
    std::fs::write(machine.dir().join("bluegreen.toml"), config).expect("a configuration");
    let before = machine.conf_text();
    machine.bluegreen(&["nginx", "install"]).expect(0);
    machine.serves("v0");
    for version in ["v1", "v2", "v3"] {
        machine.bluegreen(&["deploy", "--image", &machine.image(version)]).expect(0);
        machine.serves(version);
    }
    machine.bluegreen(&["nginx", "remove"]).expect(0);
    machine.serves("v3");
    // Its own line, with the name of what serves.
    assert_eq!(machine.ports(), "3000:4000");
    assert_eq!(machine.conf_text(), before.replace("-4000", "-3000"));
    machine.define_object(&machine.image("v4"));
    ran(machine.script().env("NO_PULL", "1")).expect(0);
    assert_eq!(machine.conf_text(), before);
    let serves = wait_until(Duration::from_secs(20), || machine.version().as_deref() == Some("v4"));
    assert!(serves, "{:?}", machine.version());
    assert_eq!(machine.ports(), "4000:");
}
