//! docs/from-the-script.md: what the host has then that the script does not leave is what that page says, and its walk
//! goes as it says.

use std::collections::{BTreeMap, BTreeSet};

use bluegreen_testkit::docker::{AppImage, docker};
use bluegreen_testkit::fake_ecr::FakeEcr;
use bluegreen_testkit::workspace_root;
use serde_json::Value;

use crate::ecr_stage::without_aws;
use crate::script_stage::{DIRECT, Machine};
use crate::stage::ran;

/// What `docker inspect` shows of how a container is, by path, without what is different for any two: times, ids,
/// addresses, and what the image has under another name.
fn described(container: &str) -> BTreeMap<String, Value> {
    let shown: Value =
        serde_json::from_str(&docker(["inspect", container]).expect("a container")).expect("JSON");
    let mut all = BTreeMap::new();
    for part in
        ["Config", "HostConfig", "Mounts", "Image", "Driver", "Platform", "AppArmorProfile", "Path", "Args"]
    {
        flatten(part, &shown[0][part], &mut all);
    }
    flatten("Ports", &shown[0]["NetworkSettings"]["Ports"], &mut all);
    for (name, network) in shown[0]["NetworkSettings"]["Networks"].as_object().expect("networks") {
        flatten(&format!("Networks.{name}.Links"), &network["Links"], &mut all);
        flatten(&format!("Networks.{name}.DriverOpts"), &network["DriverOpts"], &mut all);
        flatten(&format!("Networks.{name}.NetworkID"), &network["NetworkID"], &mut all);
    }
    all.remove("Config.Hostname");
    all
}

/// Nothing, whether it is missing, null, zero or empty, is not there.
fn flatten(path: &str, value: &Value, all: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| flatten(&format!("{path}.{name}"), value, all));
        }
        Value::Null | Value::Bool(false) => {}
        Value::Array(items) if items.is_empty() => {}
        Value::String(text) if text.is_empty() => {}
        Value::Number(number) if number.as_f64() == Some(0.0) => {}
        _ => drop(all.insert(path.to_owned(), value.clone())),
    }
}

/// The first column of the page's table of fields.
fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string(workspace_root().join("docs/from-the-script.md")).expect("the page");
    let table = page.split("| field |").nth(1).expect("its table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| row.split('`').nth(1)).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_container_is_the_scripts_but_for_what_the_page_lists() {
    let machine = Machine::with_v0(DIRECT);
    let ecr = FakeEcr::start(&machine.run).expect("a fake ECR");
    let login = ecr.docker_config().expect("a login");
    let local = machine.run.app_image("app:v1", &AppImage::version("v1").own_layer()).expect("an image");
    let v1 = ecr.push(&local, "shop/web:v1").expect("a push");
    docker(["rmi", "--force", &local]).expect("a removal");
    let definitions = machine.define_object(&v1.uri);
    let name = machine.container(4000);
    let shown = || {
        let filter = format!("name=^/?{name}$");
        docker(["ps", "--filter", &filter, "--format", "{{.Image}} {{.Ports}} {{.Networks}}"])
            .expect("it runs")
    };

    ran(machine.script().env("DOCKER_CONFIG", login.path())).expect(0).says(&["completed"]);
    let (theirs, seen) = (described(&name), shown());
    docker(["rm", "-f", &name]).expect("a removal");
    docker(["rmi", &v1.uri]).expect("a removal");

    machine.reset("v0", 3000);
    let conf = machine.conf().display().to_string();
    let mut deploy = machine.command(&["deploy", "--image-definitions", &definitions, "--nginx-conf", &conf]);
    without_aws(&mut deploy);
    ran(deploy.envs(ecr.env())).expect(0).says(&["committed"]);
    let ours = described(&name);
    assert_eq!(shown(), seen, "what `docker ps` shows");

    let paths: BTreeSet<_> = theirs.keys().chain(ours.keys()).cloned().collect();
    let differ = paths.into_iter().filter(|path| theirs.get(path) != ours.get(path));
    let differ: BTreeSet<_> = differ
        .map(|path| {
            let is_ours = path.starts_with("Config.Labels.bluegreen.") && !path.ends_with(".test");
            if is_ours { "Config.Labels.bluegreen.*".to_owned() } else { path }
        })
        .collect();
    assert_eq!(differ, documented(), "theirs {theirs:#?}\nours {ours:#?}");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn the_walk_goes_as_the_page_says() {
    let machine = Machine::with_v0(DIRECT);
    let v1 = machine.image("v1");
    machine.deploy(&v1).expect(0).says(&["committed: ", " serves "]);
    let filter = format!("name=^/?{}$", machine.container(4000));
    let shown = docker(["ps", "--filter", &filter, "--format", "{{.Image}}"]).expect("it runs");
    assert_eq!((shown, machine.ports().as_str()), (v1.clone(), "4000:3000"));
    machine.verb("status").expect(0).says(&["serving", "green"]);
    machine.deploy(&v1).expect(0).says(&["unchanged"]);
    machine.deploy(&machine.image("v2")).expect(0);
    machine.serves("v2");
    machine.verb("rollback").expect(0).says(&["rolled back on request"]);
    machine.serves("v1");
    machine.define_object(&machine.image("v3"));
    ran(machine.script().env("NO_PULL", "1")).expect(0).says(&["completed"]);
    machine.serves("v3");
    machine.deploy(&machine.image("v4")).expect(0).says(&["committed"]);
    machine.serves("v4");
}
