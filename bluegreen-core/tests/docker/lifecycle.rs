use std::time::Duration;

use bluegreen_core::model::{Color, RestartPolicy, Secret};
use bluegreen_core::port::{ContainerRuntime as _, HealthStatus, InstanceId, InstanceState};
use tokio::time::Instant;

use crate::bed::{Bed, cli, sh};

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn running_twice_gives_one_container_and_another_description_replaces_it() {
    let bed = Bed::new().await;
    let spec = bed.spec(|_| ());
    let first = bed.run(&spec).await;
    assert_eq!(first.state, InstanceState::Running);
    assert!(first.pid.is_some() && first.ip.is_some() && first.health.is_none());
    assert_eq!(first.ip, first.networks.get("bridge").copied());
    assert_eq!(first.image, bed.image.image().to_string(), "known by its name");
    let owned = first.owned.clone().unwrap();
    assert_eq!((owned.app, owned.color), (bed.app(), Color::Blue));
    assert_eq!((owned.deployment.as_str(), owned.fingerprint), ("d-1", spec.fingerprint()));
    assert_eq!(&owned.digest, bed.image.digest());

    let again = bed.run(&spec).await;
    assert_eq!((&again.id, again.pid), (&first.id, first.pid));
    assert_eq!(bed.docker.list(&bed.app()).await.unwrap(), [again]);
    assert_eq!(bed.docker.find(&bed.name("blue")).await.unwrap().unwrap().id, first.id);

    bed.docker.ensure_stopped(&first.id, None).await.unwrap();
    let restarted = bed.run(&spec).await;
    assert!(restarted.id == first.id && restarted.is_running() && restarted.pid != first.pid);

    let other = bed.spec(|app| {
        app.options.env.insert("A".to_owned(), Secret::new("b"));
    });
    let other = bed.run(&other).await;
    assert_ne!(other.id, first.id);
    assert_eq!(bed.docker.list(&bed.app()).await.unwrap().len(), 1);
    bed.docker.ensure_removed(&first.id).await.unwrap();
}

/// One that does not run is renamed, so that its removal is waited for by nobody.
#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_stopped_container_is_replaced_also_after_a_replacement_that_was_cut_off() {
    let bed = Bed::new().await;
    let with = |value: &str| {
        bed.spec(|app| {
            app.options.env.insert("A".to_owned(), Secret::new(value));
        })
    };
    let mut before = bed.run(&with("0")).await;
    for (value, cut_off) in [("1", false), ("2", true), ("3", false)] {
        bed.docker.ensure_stopped(&before.id, None).await.unwrap();
        if cut_off {
            let left = format!("{}-replaced", bed.name("blue"));
            let label = format!("bluegreen.app={}", bed.app());
            cli(&["create", "--name", &left, "--label", &label, &bed.image_name]);
        }
        let now = bed.run(&with(value)).await;
        assert_ne!(now.id, before.id);
        let listed: Vec<_> = bed.docker.list(&bed.app()).await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&now), "nothing is left beside it");
        before = now;
    }
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_paused_container_goes_on() {
    let bed = Bed::new().await;
    let spec = bed.spec(|_| ());
    let first = bed.run(&spec).await;
    cli(&["pause", first.id.as_str()]);
    assert_eq!(bed.wait(|_| true).await.state, InstanceState::Other("paused".to_owned()));
    let again = bed.run(&spec).await;
    assert!(again.id == first.id && again.is_running());
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn one_that_runs_again_still_tells_how_it_ended_before() {
    let bed = Bed::new().await;
    let fails_at_first = "test -e /tmp/again || { touch /tmp/again; exit 7; }; sleep 600";
    let spec = bed.spec(|app| {
        app.options.entrypoint = Some(sh(fails_at_first));
        app.options.command = None;
        app.options.restart = RestartPolicy::UnlessStopped;
    });
    bed.run(&spec).await;
    let again = bed.wait(|found| found.is_running() && found.restarts == 1).await;
    let ended = InstanceState::Exited { exit_code: 7, oom_killed: false, error: None };
    assert_eq!(again.last_exit, Some(ended));
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn only_the_exact_name_is_found() {
    let bed = Bed::new().await;
    let first = bed.run(&bed.spec(|_| ())).await;
    for name in [&first.id.as_str()[..12], &first.id.as_str()[..2], &bed.id] {
        assert_eq!(bed.docker.find(&name.parse().unwrap()).await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn every_option_has_its_effect() {
    let bed = Bed::new().await;
    let spec = bed.spec(|app| {
        let options = &mut app.options;
        options.env.insert("GREETING".to_owned(), Secret::new("hello world"));
        options.mounts = vec!["/etc:/host-etc:ro".parse().unwrap()];
        options.extra_hosts = vec!["db:10.0.0.9".to_owned()];
        options.memory = Some(32 << 20);
        options.milli_cpus = Some(250);
        options.user = Some("1000:1000".to_owned());
        options.read_only = true;
        options.tmpfs.insert("/tmp".to_owned(), "size=1m,mode=1777".to_owned());
        options.cap_drop = vec!["ALL".to_owned()];
        options.no_new_privileges = true;
        options.init = true;
        options.log_options.insert("max-size".to_owned(), "1m".to_owned().into());
        options.labels.insert("team".to_owned(), "a".to_owned());
    });
    let instance = bed.run(&spec).await;
    assert_eq!(instance.mounts, [("/etc".to_owned(), "/host-etc".to_owned())]);
    let script =
        "echo $GREETING; id -u; cat /etc/hosts; touch /x || echo read-only; touch /tmp/x && echo writable
        cat /proc/self/status; cat /proc/1/cmdline";
    let output = bed.docker.exec(&instance.id, &sh(script), None).await.unwrap();
    for expected in [
        "hello world\n1000\n",
        "10.0.0.9\tdb",
        "read-only",
        "writable",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(output.output.contains(expected), "{expected}: {}", output.output);
    }
    assert!(output.output.contains("docker-init"), "{}", output.output);
    let format = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.Config.Labels.team}} {{.HostConfig.LogConfig.Config}}";
    let seen = cli(&["inspect", "-f", format, instance.id.as_str()]);
    assert!(seen.starts_with("33554432 250000000 a map[") && seen.contains("max-size:1m"), "{seen}");
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn restarts_are_counted() {
    let bed = Bed::new().await;
    bed.run(&bed.shell("exit 7")).await;
    let seen = bed.wait(|found| found.restarts >= 2).await;
    let restarting = bed.wait(|found| matches!(found.state, InstanceState::Restarting { .. })).await;
    assert_eq!(restarting.state, InstanceState::Restarting { exit_code: 7, oom_killed: false });
    bed.docker.ensure_stopped(&seen.id, None).await.unwrap();
    let stopped = bed.wait(|_| true).await;
    assert_eq!(stopped.state, InstanceState::Exited { exit_code: 7, oom_killed: false, error: None });
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_kill_for_lack_of_memory_is_told() {
    let bed = Bed::new().await;
    let spec = bed.spec(|app| {
        app.options.command = Some(["tail", "/dev/zero"].map(str::to_owned).to_vec());
        app.options.memory = Some(16 << 20);
        app.options.restart = RestartPolicy::No;
    });
    bed.run(&spec).await;
    let dead = bed.wait(|found| matches!(found.state, InstanceState::Exited { .. })).await;
    assert_eq!(dead.state, InstanceState::Exited { exit_code: 137, oom_killed: true, error: None });
    assert_eq!((dead.pid, dead.ip), (None, None));
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn the_images_healthcheck_is_seen_with_its_last_output() {
    let check = "cat /tmp/ok || { echo no database; exit 1; }";
    let bed = Bed::with(&format!("HEALTHCHECK --interval=100ms --timeout=5s --retries=1 CMD {check}")).await;
    let started = bed.run(&bed.spec(|_| ())).await;
    assert_eq!(started.health, Some(HealthStatus::Starting));
    let sick = bed.wait(|found| matches!(found.health, Some(HealthStatus::Unhealthy { .. }))).await;
    let Some(HealthStatus::Unhealthy { output }) = sick.health else { unreachable!() };
    assert!(output.contains("no database"), "{output}");
    bed.docker.exec(&sick.id, &sh("touch /tmp/ok"), None).await.unwrap();
    bed.wait(|found| found.health == Some(HealthStatus::Healthy)).await;
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_command_inside_tells_its_exit_code() {
    let bed = Bed::new().await;
    let id = bed.run(&bed.spec(|_| ())).await.id;
    let run = |script: &'static str| bed.docker.exec(&id, Box::leak(Box::new(sh(script))), None);
    let fine = run("echo out; echo err >&2").await.unwrap();
    assert!(fine.success() && fine.output.contains("out\n") && fine.output.contains("err\n"));
    assert_eq!(run("exit 3").await.unwrap().exit_code, 3);
    // Its output ends before it does.
    let slow = run("echo gone; exec >&- 2>&-; sleep 0.3; exit 4").await.unwrap();
    assert_eq!((slow.exit_code, slow.output.as_str()), (4, "gone\n"));
    let long = run("seq 1 300000").await.unwrap();
    assert!(long.output.len() <= 1024 * 1024 && long.output.ends_with("299999\n300000\n"));
    let missing = bed.docker.exec(&id, &["nope".to_owned()], None).await.unwrap();
    assert!(matches!(missing.exit_code, 126 | 127), "{missing:?}");
    assert!(missing.output.contains("executable file not found"), "{missing:?}");
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_stop_asks_first_and_kills_after_the_grace() {
    let bed = Bed::new().await;
    let polite = bed.shell("trap 'exit 0' TERM; while :; do sleep 0.05; done");
    let id = bed.run(&polite).await.id;
    tokio::time::sleep(Duration::from_millis(200)).await;
    bed.docker.ensure_stopped(&id, Some(Duration::from_secs(20))).await.unwrap();
    let ended = bed.wait(|_| true).await;
    assert!(matches!(ended.state, InstanceState::Exited { exit_code: 0, .. }), "{:?}", ended.state);
    bed.docker.ensure_stopped(&id, None).await.unwrap();

    let deaf = bed.shell("trap '' TERM; while :; do sleep 0.05; done");
    let id = bed.run(&deaf).await.id;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begin = Instant::now();
    bed.docker.ensure_stopped(&id, Some(Duration::from_millis(1500))).await.unwrap();
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(8), "{took:?}");
    let killed = bed.wait(|_| true).await;
    assert!(matches!(killed.state, InstanceState::Exited { exit_code: 137, .. }), "{:?}", killed.state);
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn removing_what_is_gone_is_fine() {
    let bed = Bed::with("VOLUME /data").await;
    let instance = bed.run(&bed.spec(|_| ())).await;
    let volume = cli(&["inspect", "-f", "{{(index .Mounts 0).Name}}", instance.id.as_str()]);
    let removals = (0..4).map(|_| bed.docker.ensure_removed(&instance.id));
    for removal in futures_util::future::join_all(removals).await {
        removal.unwrap();
    }
    assert_eq!(bed.docker.find(&bed.name("blue")).await.unwrap(), None);
    bed.docker.ensure_removed(&instance.id).await.unwrap();
    bed.docker.ensure_stopped(&instance.id, None).await.unwrap();
    bed.docker.ensure_removed(&InstanceId::new("nothing-of-this-name")).await.unwrap();
    let volumes = cli(&["volume", "ls", "-q"]);
    assert!(!volumes.contains(&volume), "its nameless volume is still there");
}
