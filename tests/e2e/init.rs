//! `init` on real parts: what it writes holds on the host that it was written for.

use std::process::Command;

use bluegreen_testkit::docker::{AppImage, Run, docker, free_port};
use bluegreen_testkit::nginx::{HostNginx, Nginx as _, NginxBinary};
use bluegreen_testkit::process::wait_until;

use crate::script_stage::{DIRECT, Machine};
use crate::stage::{Ran, program, ran};

/// What Docker and these directories have, to be compared.
fn world(dirs: &[&std::path::Path]) -> String {
    let format = "{{.ID}} {{.Names}} {{.State}}";
    let mut text = docker(["ps", "-a", "--no-trunc", "--format", format]).expect("docker ps");
    for dir in dirs {
        let listed =
            Command::new("find").arg(dir).args(["-printf", "%p %m %u %T@ %C@ %s\n"]).output().expect("find");
        text.push_str(&String::from_utf8_lossy(&listed.stdout));
    }
    text
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn script_a_host_as_the_script_has_it_gets_a_configuration_that_holds() {
    let machine = Machine::with_v0(DIRECT);
    let before = world(&[machine.nginx().dir()]);
    let config = machine.dir().join("bluegreen.toml");
    machine.bluegreen(&["init", "--stdout"]).expect(0).says(&["mode = \"rewrite\"", "adopt = true"]);
    assert!(!config.exists(), "it was only to be shown");
    machine
        .bluegreen(&["init"])
        .expect(0)
        .says(&["bluegreen.toml is written", "next: bluegreen config check"]);
    machine.bluegreen(&["init"]).expect(10).says(&["exists"]);
    assert_eq!(world(&[machine.nginx().dir()]), before, "something was touched");
    machine.bluegreen(&["config", "check"]).expect(0).says(&[&machine.app]);
    machine.bluegreen(&["doctor", "--pull", "never"]).expect(0).says(&["can be made"]);
    let image = machine.image("v1");
    machine
        .bluegreen(&["plan", "--image", &image, "--pull", "never"])
        .expect(0)
        .says(&[&machine.container(4000)]);
    // And it is what the script would have done.
    machine.bluegreen(&["deploy", "--image", &image, "--pull", "never"]).expect(0);
    machine.serves("v1");
    assert!(machine.ports().starts_with("4000:"), "{}", machine.ports());
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_container_behind_nginx_on_the_host_is_taken_over_without_a_gap() {
    let run = Run::new();
    let (name, port) = (run.name("shop"), free_port());
    let image = |version: &str| {
        run.app_image(&format!("app:{version}"), &AppImage::version(version)).expect("an image")
    };
    let publish = format!("127.0.0.1:{port}:3000");
    run.start(&name, &image("v0"), &["--publish", &publish], &[]).expect("a container");
    let site = format!("server {{ listen @PORT@; location / {{ proxy_pass http://127.0.0.1:{port}; }} }}\n");
    let nginx = HostNginx::start(&run, NginxBinary::System, &[("site.conf", &site)]).expect("an nginx");
    let dir = tempfile::tempdir().expect("a directory");
    let bluegreen = |arguments: &[&str]| -> Ran {
        ran(Command::new(program())
            .args(["--state-dir", &dir.path().join("state").display().to_string()])
            .args(arguments)
            .current_dir(dir.path()))
    };
    let serves = |version: &str| {
        let asked = || ran(Command::new("curl").args(["-sf", "-m", "5", &nginx.url()])).out;
        let is_it = || asked().trim() == format!("version={version}");
        assert!(wait_until(std::time::Duration::from_secs(10), is_it), "{}", asked());
    };
    serves("v0");
    let before = world(&[nginx.prefix()]);
    bluegreen(&["init"]).expect(0).says(&[&name, "bluegreen nginx install"]);
    assert_eq!(world(&[nginx.prefix()]), before, "something was touched");
    // The image was built here: nobody has to be told so again.
    let written = std::fs::read_to_string(dir.path().join("bluegreen.toml")).expect("it was written");
    assert!(written.contains("pull = \"missing\""), "{written}");
    bluegreen(&["config", "check"]).expect(0).says(&[&name]);
    bluegreen(&["nginx", "install", &name]).expect(0).says(&["included by your server"]);
    serves("v0");
    bluegreen(&["doctor", &name]).expect(0).says(&["can be made"]);
    let next = image("v1");
    bluegreen(&["plan", &name, "--image", &next]).expect(0);
    bluegreen(&["deploy", &name, "--image", &next]).expect(0);
    serves("v1");
    let third = image("v2");
    bluegreen(&["deploy", &name, "--image", &third]).expect(0);
    serves("v2");
    bluegreen(&["init", "codedeploy", &name]).expect(2).says(&["not in ECR"]);
    let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop:1";
    bluegreen(&["init", "codedeploy", &name, "--image", ecr]).expect(0).says(&["appspec.yml is written"]);
    bluegreen(&["init", "codedeploy", &name, "--image", ecr]).expect(10).says(&["appspec.yml", "exists"]);
    for container in [format!("{name}-green"), name.clone(), format!("{name}-blue")] {
        drop(docker(["rm", "-f", &container]));
    }
}
