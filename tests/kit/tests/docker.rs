//! The Docker helpers against the real Docker.

use std::time::Duration;

use bluegreen_testkit::docker::{self, AppImage, Run, docker, wait_for_state};
use bluegreen_testkit::load::{Config, Handle, Mode, Target};
use bluegreen_testkit::process::wait_until;

#[test]
#[ignore = "needs Docker: ./scripts/test"]
fn an_image_runs_and_everything_goes() {
    let run = Run::new();
    let image = AppImage::version("v1").env("ODD", r#"a "b" $c \d"#).label("team", "x y").healthcheck();
    let image = run.app_image("app:v1", &image).expect("an image");
    let network = run.network("net").expect("a network");
    let ip = network.ip(9).to_string();
    let options = ["--network", &network.name, "--ip", &ip, "--publish", "127.0.0.1::3000"];
    let container = run.start(&run.name("one"), &image, &options, &[]).expect("a container");
    assert_eq!(container.ip().expect("an address").to_string(), ip);
    let env = docker(["inspect", "--format", "{{json .Config.Env}}", &container.id]).expect("inspect");
    assert!(env.contains(r#"ODD=a \"b\" $c \\d"#), "{env}");
    assert!(wait_until(Duration::from_secs(10), || {
        let health = docker(["inspect", "--format", "{{.State.Health.Status}}", &container.id]);
        health.expect("inspect") == "healthy"
    }));
    assert!(container.logs().expect("logs").contains("listening on localhost:3000"));

    // The client itself, from the command line, at the container's own address.
    let target = Target::parse(&format!("http://{ip}:3000/")).expect("a private address");
    let config = Mode::SHORT.into_iter().fold(Config::new(target), |config, mode| config.with(mode, 1));
    let load = Handle::spawn(config);
    std::thread::sleep(Duration::from_millis(2500));
    // Draining is not lossless to new requests: end the load first.
    let report = load.stop();
    report.assert_lossless();
    assert_eq!(report.modes.len(), Mode::SHORT.len(), "{report}");
    assert_eq!(report.versions.keys().collect::<Vec<_>>(), ["v1"]);

    container.stop(5).expect("a stop");
    assert!(wait_for_state(&container, "exited", Duration::from_secs(1)));
    let code = docker(["inspect", "--format", "{{.State.ExitCode}}", &container.id]).expect("inspect");
    assert_eq!(code, "0", "drained");
    assert!(container.logs().expect("logs").ends_with("drained"));

    let label = format!("label={}", run.label());
    run.clean().expect("a clean-up");
    for list in [&["ps", "-aq"][..], &["network", "ls", "-q"], &["images", "-q"]] {
        let left = docker([list, &["--filter", &label]].concat()).expect("a list");
        assert_eq!(left, "", "left by {list:?}");
    }
}

#[test]
#[ignore = "needs Docker: ./scripts/test"]
fn the_sweep_takes_dead_runs_and_leaves_live_ones() {
    let live = Run::new();
    let image = live.app_image("app:live", &AppImage::version("live")).expect("an image");
    let dead = "1-2-3"; // pid 1 did not start at tick 2
    AppImage::version("dead").build("bgt-1-2-3/app:dead", dead).expect("an image");
    docker::sweep().expect("a sweep");
    docker(["image", "inspect", &image]).expect("the live one is still there");
    docker(["image", "inspect", "bgt-1-2-3/app:dead"]).expect_err("the dead one is gone");
}

#[test]
#[ignore = "needs Docker: ./scripts/test"]
fn the_app_misbehaves_as_asked() {
    let run = Run::new();
    let image = run.app_image("app:v1", &AppImage::version("v1")).expect("an image");
    let started =
        |part: &str, options: &[&str]| run.start(&run.name(part), &image, options, &[]).expect("a container");
    let exits = started("exits", &["--env", "EXIT_AFTER_MS=100", "--env", "EXIT_CODE=7"]);
    let oom = started("oom", &["--env", "OOM=1", "--memory", "32m"]);
    let mute = started("mute", &["--env", "HEALTH=never-log"]);
    for (container, code) in [(&exits, "7"), (&oom, "137")] {
        assert!(wait_for_state(container, "exited", Duration::from_secs(20)));
        let format = "{{.State.ExitCode}}";
        assert_eq!(docker(["inspect", "--format", format, &container.id]).expect("inspect"), code);
    }
    let killed = docker(["inspect", "--format", "{{.State.OOMKilled}}", &oom.id]).expect("inspect");
    assert_eq!(killed, "true");
    assert!(!mute.logs().expect("logs").contains("listening"));
    let quick = started("quick", &["--env", "ON_TERM=exit"]);
    quick.stop(10).expect("a stop");
    let code = docker(["inspect", "--format", "{{.State.ExitCode}}", &quick.id]).expect("inspect");
    assert_eq!(code, "143", "by its own handler, not killed");
}
