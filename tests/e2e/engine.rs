//! A Docker Engine that is restarted, killed, or goes down with its host: while nobody is at work, and at each step of a
//! deploy. It is one of the test's own.

use std::time::Duration;

use bluegreen_testkit::docker::{AppImage, docker};
use bluegreen_testkit::engine::{Engine, EngineOptions};
use bluegreen_testkit::process;

use crate::interrupted::STEPS;
use crate::luck::{PATIENCE, Running, write};
use crate::nginx_life;
use crate::stage::{Kind, Ran, Stage, ran};

const VERSIONS: [&str; 2] = ["a", "b"];

/// nginx on the host, and the application on an Engine of its own.
struct OnEngine {
    engine: Engine,
    live_restore: bool,
    stage: Stage,
    images: [String; 2],
    serving: usize,
}

impl OnEngine {
    /// Both versions were deployed; the second serves, and the first is kept beside it.
    fn new(live_restore: bool) -> Self {
        let stage = Stage::live(Kind::HostLive);
        let engine =
            Engine::start(&stage.run, EngineOptions { live_restore, disk: None }).expect("an Engine");
        let path = stage.dir().join("bluegreen.toml");
        let config = std::fs::read_to_string(&path).expect("a configuration");
        write(&path, &format!("[docker]\nhost = \"{}\"\n{config}", engine.host()));
        if live_restore {
            // Published ports end with the Engine, whose processes carry them; addresses do not.
            let network = engine.network("own").expect("a network");
            let ips = [10, 11].map(|last| network.ip(last));
            let ips = format!("ips = {{ blue = \"{}\", green = \"{}\" }}", ips[0], ips[1]);
            stage.configure(&format!("network = \"own\"\nreach = \"ip\"\npublish = \"none\"\n{ips}"));
            stage.bluegreen(&["nginx", "install"]).expect(0);
        }
        let images = VERSIONS.map(|version| stage.image_with(version, &[("START_DELAY_MS", "500")]));
        for image in &images {
            engine.load(image).expect("an image");
            stage.bluegreen(&["deploy", "--image", image]).expect(0);
        }
        let on = Self { engine, live_restore, stage, images, serving: 1 };
        on.settled("at first");
        on
    }

    fn running(&self) -> Vec<String> {
        self.names(&["--filter", "status=running"])
    }

    fn names(&self, filters: &[&str]) -> Vec<String> {
        let label = format!("label=bluegreen.app={}", self.stage.app);
        let list = ["ps", "--all", "--format", "{{.Names}}", "--filter", &label];
        let listed = self.engine.docker(list.into_iter().chain(filters.iter().copied())).expect("docker ps");
        listed.lines().map(str::to_owned).collect()
    }

    fn candidate(&self) -> usize {
        1 - self.serving
    }

    /// The next version, which must simply work; nobody notices it where somebody serves.
    fn deploy_next(&mut self, of: &str) {
        self.try_next().expect(0);
        self.serving = self.candidate();
        self.settled(of);
    }

    /// Deploys the next version; nobody notices it where somebody serves.
    fn try_next(&self) -> Ran {
        let deploy = || self.stage.bluegreen(&["deploy", "--image", &self.images[self.candidate()]]);
        let running = self.running();
        if !self.live_restore {
            // They have just been started again.
            self.stage.await_places(&running);
        }
        if running.is_empty() { deploy() } else { self.stage.watched(&VERSIONS, deploy) }
    }

    /// As [`deploy_next`](Self::deploy_next), after the Engine ended in the middle of a start. Docker 20.10, cut off while
    /// it published a port, may hold that port for nobody until it is started once more (about every third time after
    /// a power cut, every sixth after a TERM, measured). Then nothing changes, and the deploy says what helps; and that
    /// helps.
    fn deploy_after_cut(&mut self, of: &str) {
        let ran = self.try_next();
        if !ran.err.contains("port is already allocated") {
            ran.expect(0);
            self.serving = self.candidate();
            return self.settled(of);
        }
        eprintln!("{of}: Docker holds the port for nobody");
        ran.expect(20).says(&["if nothing does", "systemctl restart docker"]);
        self.settled(of);
        self.engine.down("TERM");
        self.engine.up().expect("it starts again");
        self.deploy_next(of);
    }

    /// One version serves, its container alone runs, one other at most is kept, and `status` says just that.
    #[track_caller]
    fn settled(&self, of: &str) {
        let version = VERSIONS[self.serving];
        let serves = || self.stage.version().as_deref() == Some(version);
        assert!(process::wait_until(PATIENCE, serves), "{of}: {:?} and not {version}", self.stage.version());
        let (running, all) = (self.running(), self.names(&[]));
        assert!(running.len() == 1 && all.len() <= 2, "{of}: {running:?} run of {all:?}");
        let status = self.stage.bluegreen(&["status"]).expect(0).says(&[&format!("app:{version}")]);
        assert!(!["UNFINISHED", "ATTENTION"].iter().any(|word| status.out.contains(word)), "{}", status.out);
    }

    /// Deploys the other version and does this when a step of it begins. Gives how it ended.
    fn deploy_and(&self, step: &str, what: impl FnOnce(&mut Running)) -> (Running, Ran) {
        let mut run = Running::deploy(&self.stage, &self.images[self.candidate()], &[]);
        run.until("step-started", Some(step));
        what(&mut run);
        let ran = run.end();
        eprintln!("at {step}: {}, committed {}", ran.code, run.saw("step-succeeded", "verify"));
        (run, ran)
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_engine_that_goes_down_while_nobody_is_at_work_comes_back_with_what_served() {
    let mut on = OnEngine::new(false);
    for how in ["TERM", "KILL", "power cut"] {
        match how {
            "power cut" => on.engine.cut_power(),
            signal => on.engine.down(signal),
        }
        let image = on.images[on.candidate()].clone();
        let refused = on.stage.bluegreen(&["deploy", "--image", &image]).expect(10);
        refused.says(&["nothing touched", "next: systemctl start docker"]);
        on.engine.up().expect("it starts again");
        // Docker starts what ran, and not what we had stopped. But Docker 20.10 leaves that stopped too when it was
        // killed while its containers ran on.
        if how == "KILL" && on.running().is_empty() {
            on.stage.bluegreen(&["status"]).expect(51).says(&["IS NOT RUNNING"]);
        } else {
            on.settled(how);
        }
        on.deploy_next(how);
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_engine_that_is_restarted_at_each_step_while_containers_run_on_loses_no_request() {
    let mut on = OnEngine::new(true);
    let load = on.stage.light_load();
    for step in STEPS {
        let (run, ran) = on.deploy_and(step, |_| {
            on.engine.down("TERM");
            on.engine.up().expect("it starts again");
        });
        let committed = run.saw("step-succeeded", "verify");
        let codes: &[i32] = if committed { &[0, 40] } else { &[20, 30] };
        assert!(codes.contains(&ran.code), "{step}: {}\n{}\n{}", ran.code, ran.out, ran.err);
        load.snapshot().assert_lossless();
        let serves = if committed { on.candidate() } else { on.serving };
        on.stage.serves(VERSIONS[serves]);
        on.deploy_next(step);
    }
    load.stop().assert_lossless();
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_engine_that_is_restarted_with_all_containers_in_the_middle_is_settled_by_the_next_deploy() {
    let mut on = OnEngine::new(false);
    for (step, signal) in [("start", "TERM"), ("gate", "KILL"), ("verify", "KILL"), ("drain", "TERM")] {
        let (run, ran) = on.deploy_and(step, |_| {
            on.engine.down(signal);
            on.engine.up().expect("it starts again");
        });
        // Seldom (once in some 200) it loses sight of what it just started, which may have the address of what serves.
        let known = || on.engine.out_of_sight().is_ok_and(|ids| ids.is_empty());
        if !process::wait_until(Duration::from_secs(2), known) {
            for id in on.engine.out_of_sight().expect("containerd") {
                eprintln!("{step}: Docker does not know that {id} runs");
                on.engine.end_out_of_sight(&id).expect("it ends");
            }
        }
        let committed = run.saw("step-succeeded", "verify");
        let codes: &[i32] = if committed { &[0, 40] } else { &[20, 30] };
        assert!(codes.contains(&ran.code), "{step}: {}\n{}\n{}", ran.code, ran.out, ran.err);
        // Rolled back means that what served serves again, whatever the Engine has made of it.
        let serves = || on.stage.version().as_deref() == Some(VERSIONS[on.serving]);
        let back = ran.code != 20 || process::wait_until(PATIENCE, serves);
        assert!(back, "{step}: rolled back, and {:?} serves\n{}", on.stage.version(), ran.out);
        on.deploy_after_cut(step);
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_host_that_loses_power_at_a_step_comes_back_with_one_version_and_the_next_deploy_settles_it() {
    let mut on = OnEngine::new(false);
    for step in ["start", "gate", "verify", "retire"] {
        let (_, ran) = on.deploy_and(step, |run| {
            run.signal("KILL");
            nginx_life::kill(&on.stage, Kind::HostLive);
            on.engine.cut_power();
            nginx_life::start(&on.stage, Kind::HostLive);
            on.engine.up().expect("it starts again");
        });
        ran.expect(-1);
        assert!(process::wait_until(PATIENCE, || on.stage.version().is_some()), "{step}: nothing serves");
        on.stage.bluegreen(&["status"]).expect(50).says(&["UNFINISHED", "next: bluegreen recover"]);
        on.deploy_after_cut(step);
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_kept_container_that_docker_lost_sight_of_does_not_stop_the_next_deploy() {
    let mut on = OnEngine::new(false);
    let kept = on.stage.place("blue");
    on.engine.start_out_of_sight(&kept).expect("it runs");
    assert_eq!(on.engine.out_of_sight().expect("containerd").len(), 1);
    let refused = on.engine.docker(["start", &kept]).expect_err("Docker cannot start it").to_string();
    assert!(refused.contains("id already in use"), "{refused}");
    on.deploy_next("out of sight");
}

/// Docker's own client would ask another Engine.
#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_docker_context_counts_and_one_that_is_not_there_is_named() {
    let stage = Stage::with_v1(Kind::HostLive);
    let v2 = stage.image("v2", &AppImage::version("v2"));
    let config = stage.dir().join("docker").display().to_string();
    let with = |context: &str, arguments: &[&str]| {
        let mut command = stage.command(arguments);
        ran(command.env("DOCKER_CONFIG", &config).env("DOCKER_CONTEXT", context))
    };
    let world = stage.world();
    let none = with("elsewhere", &["deploy", "--image", &v2]).expect(10);
    none.says(&["Docker's context elsewhere", "there is no such context"]);
    let create = |name: &str, socket: &str| {
        let host = format!("host={socket}");
        docker(["--config", &config, "context", "create", name, "--docker", &host]).expect("a context");
    };
    create("away", "unix:///nowhere/docker.sock");
    with("away", &["deploy", "--image", &v2]).expect(10).says(&["/nowhere/docker.sock"]);
    assert_eq!(stage.world(), world);
    create("here", "unix:///var/run/docker.sock");
    with("here", &["deploy", "--image", &v2]).expect(0);
    stage.serves("v2");
}
