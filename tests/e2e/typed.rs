//! Each `next:` is typed as it stands, by a shell, in the state in which it was printed, and that state gets better.

use std::process::{Command, Stdio};

use bluegreen_testkit::docker::{AppImage, docker, free_port};
use bluegreen_testkit::process;

use crate::luck::{PATIENCE, Running, write};
use crate::nginx_life;
use crate::stage::{Kind, Ran, Stage, program, ran};

/// The line that says what to type.
#[track_caller]
pub fn next(ran: &Ran) -> String {
    let line = ran.err.lines().find_map(|line| line.strip_prefix("next: "));
    line.unwrap_or_else(|| panic!("nothing to type\n{}\n{}", ran.out, ran.err)).to_owned()
}

/// In this state a command ends with this code, and what it says to type begins like this and works.
#[track_caller]
fn helps(stage: &Stage, arguments: &[&str], code: i32, verb: &str) -> Ran {
    let line = next(&stage.bluegreen(arguments).expect(code));
    assert!(line.starts_with(verb), "after {arguments:?} it says {line:?}, not {verb:?}");
    typed(stage, &line).expect(0)
}

/// Types it, where `bluegreen` is what is tested.
#[track_caller]
pub fn typed(stage: &Stage, line: &str) -> Ran {
    let bin = stage.dir().join("bin");
    std::fs::create_dir_all(&bin).expect("a directory");
    std::os::unix::fs::symlink(program(), bin.join("bluegreen")).ok();
    ran(Command::new("sh")
        .args(["-c", &format!("PATH={}:$PATH; {line}", bin.display())])
        .current_dir(stage.dir())
        .env_remove("DEPLOYMENT_ID")
        .stdin(Stdio::null()))
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn what_to_type_next_can_be_typed_and_makes_it_better() {
    let stage = Stage::live(Kind::HostLive);
    let nothing = stage.bluegreen(&["status"]).expect(51);
    assert!(next(&nothing).starts_with("bluegreen deploy "), "{}", nothing.err);

    // A look before, and what it was about.
    let v1 = stage.image("v1", &AppImage::version("v1"));
    typed(&stage, &next(&stage.bluegreen(&["doctor", "--image", &v1]).expect(0))).expect(0);
    stage.serves("v1");

    // Back from what was deployed.
    typed(&stage, &next(&stage.deploy("v2"))).expect(0);
    stage.serves("v1");

    // A deadline that is too short is doubled until it is long enough.
    let slow = stage.image("v3", &AppImage::version("v3").env("START_DELAY_MS", "3000"));
    let mut run = stage.bluegreen(&["deploy", "--image", &slow, "--deadline", "1s"]).expect(21);
    run.err.lines().find(|line| line.contains("a run that is not committed is rolled back")).expect("said");
    for _ in 0..4 {
        if run.code == 21 {
            run = typed(&stage, &next(&run));
        }
    }
    run.expect(0);
    stage.serves("v3");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn where_nginx_names_a_place_that_is_down_the_next_line_mends_it() {
    let extra = "restart = \"no\"\n[app.WEB.retain]\nwarm = \"10m\"";
    let stage = Stage::live_with(Kind::HostLive, extra);
    let mends = |version: &str| {
        let status = stage.bluegreen(&["status"]).expect(50).says(&["is not running"]);
        let line = next(&status);
        typed(&stage, &line).expect(0);
        stage.serves(version);
        stage.bluegreen(&["status"]).expect(0);
        line
    };
    stage.deploy("v1");
    stage.deploy("v2");
    // Somebody stops what serves: nginx falls back to the one that is kept warm.
    docker(["stop", &stage.place("green")]).expect("it runs");
    stage.serves("v1");
    assert!(mends("v2").contains(" deploy "));
    // Somebody takes the flag away: nginx names the place whose container is stopped by now.
    docker(["stop", &stage.place("blue")]).expect("it is kept warm");
    let flag = stage.nginx.conf_dir().join(format!("bluegreen/{}.green", stage.app));
    std::fs::remove_file(flag).expect("green serves");
    stage.serves("v2");
    let line = mends("v2");
    assert!(line.contains(" deploy ") && line.contains("app:v2") | line.contains("app@sha256"), "{line}");
    // A release that does not stay up.
    let dies = stage.image_with("v3", &[("EXIT_AFTER_MS", "5000")]);
    stage.bluegreen(&["deploy", "--image", &dies]).expect(0);
    let down = || stage.bluegreen(&["status"]).out.contains("is not running");
    assert!(process::wait_until(PATIENCE, down), "it stays up");
    assert!(mends("v2").contains(" rollback "));
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn words_of_other_tools_are_answered_with_what_works_here() {
    let stage = Stage::live(Kind::HostLive);
    stage.deploy("v1");
    stage.deploy("v2");
    let answered = |word: &str| {
        let ran = stage.bluegreen(&[word]).expect(2);
        assert!(!ran.err.contains("did you mean"), "{}", ran.err);
        next(&ran)
    };
    let logs = answered("logs").replace(" --follow", "");
    let log = typed(&stage, &logs).expect(0);
    assert!(format!("{}{}", log.out, log.err).contains("version=v2"), "{logs}: {}", log.out);
    for word in ["list", "ps"] {
        typed(&stage, &answered(word)).expect(0).says(&["app:v2"]);
    }
    typed(&stage, &answered("versions")).expect(0).says(&["app:v1", "app:v2"]);
    let before = stage.running();
    typed(&stage, &answered("restart")).expect(0).says(&["committed: "]);
    stage.serves("v2");
    assert_ne!(stage.running(), before, "it was started anew, in the other place");
    typed(&stage, &answered("undo")).expect(0);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn what_to_type_helps_whatever_has_become_of_a_release() {
    let stage = Stage::with_v1(Kind::HostLive);
    helps(&stage, &["rollback"], 10, "bluegreen status ").says(&["app:v1"]);
    helps(&stage, &["roolback"], 2, "bluegreen rollback --help").says(&["Usage: "]);
    stage.deploy("v2");

    // What serves is stopped: the same version serves again, whatever the tag means by now.
    docker(["stop", "--time", "1", &stage.place("green")]).expect("it runs");
    helps(&stage, &["status"], 51, "bluegreen deploy ");
    stage.serves("v2");
    stage.bluegreen(&["status"]).expect(0);

    helps(&stage, &["history"], 0, "bluegreen rollback ");
    stage.serves("v1");
    stage.deploy("v3");
    helps(&stage, &["rollback", "--list"], 0, "bluegreen rollback ");
    stage.serves("v1");

    // Its image is gone: what is left to go back to, and why not to this one.
    stage.deploy("v4");
    for kept in stage.containers(&["--filter", "status=exited"]) {
        docker(["rm", &kept]).expect("it is stopped");
    }
    docker(["rmi", "-f", &format!("bgt-{}/app:v1", stage.run.id())]).expect("an image");
    helps(&stage, &["rollback"], 10, "bluegreen rollback ").says(&["is gone from this host"]);

    // Kept warm, and no longer wanted.
    stage.configure("[app.WEB.retain]\nwarm = \"10m\"");
    stage.deploy("v5");
    stage.deploy("v6");
    assert_eq!(stage.running().len(), 2, "the previous one is kept warm");
    helps(&stage, &["retire"], 0, "bluegreen retire ").says(&["is stopped"]);
    assert_eq!(stage.running().len(), 1);
    stage.serves("v6");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn what_to_type_helps_whatever_has_become_of_a_run() {
    let stage = Stage::with_v1(Kind::HostLive);
    let slow = stage.image_with("v2", &[("START_DELAY_MS", "5000")]);
    let v3 = stage.image_with("v3", &[]);
    let at_the_gate = |id: &str| {
        let mut run = Running::deploy(&stage, &slow, &["--deployment-id", id]);
        run.until("step-started", Some("gate"));
        run
    };

    // In progress: it can be cancelled, or another one waits for it.
    let mut run = at_the_gate("d-cancelled");
    helps(&stage, &["status"], 0, "bluegreen cancel ").says(&["cancelled: deploy d-cancelled"]);
    run.end().expect(21);
    stage.serves("v1");
    let mut run = at_the_gate("d-first");
    helps(&stage, &["deploy", "--image", &v3], 10, "bluegreen deploy ");
    run.end().expect(0);
    stage.serves("v3");

    // Interrupted.
    let mut run = at_the_gate("d-killed");
    run.signal("KILL");
    run.end();
    helps(&stage, &["status"], 50, "bluegreen recover ");
    stage.bluegreen(&["status"]).expect(0);
    stage.serves("v3");
    let mut run = at_the_gate("d-killed-again");
    run.signal("KILL");
    run.end();
    helps(&stage, &["doctor", "--image", &slow], 0, "bluegreen recover ").says(&["rolled back"]);

    // Stopped by a signal, and then wanted after all.
    let mut run =
        Running::start(&mut stage.command(&["deploy", "-v", "--image", &slow, "--deployment-id", "d-term"]));
    stage.until_journalled("d-term", "gate");
    run.signal("TERM");
    let stopped = run.end().expect(21);
    stage.serves("v3");
    typed(&stage, &next(&stopped)).expect(0);
    stage.serves("v2");

    // It fails at its start: who is in the way is shown.
    let [blue, green] = stage.host_ports();
    let port = if stage.running() == [stage.place("blue")] { green } else { blue };
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    helps(&stage, &["deploy", "--image", &v3], 20, "ss ").says(&["LISTEN", &format!(":{port}")]);
    stage.serves("v2");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn what_to_type_helps_whatever_has_become_of_nginx() {
    let stage = Stage::with_v1(Kind::HostLive);
    let v2 = stage.image_with("v2", &[("START_DELAY_MS", "1500")]);
    let deploy = ["deploy", "--image", v2.as_str()];
    let installs = || {
        // The check says why, and what to type then.
        let check = next(&stage.bluegreen(&deploy).expect(10));
        assert!(check.starts_with("bluegreen nginx check "), "{check}");
        let install = next(&typed(&stage, &check).expect(10));
        assert!(install.starts_with("bluegreen nginx install "), "{install}");
        typed(&stage, &install).expect(0);
        stage.bluegreen(&["nginx", "check"]).expect(0);
    };

    // The line of the user's that led to us leads past us again.
    let [blue, _] = stage.host_ports();
    let server =
        format!("server {{ listen @PORT@; location / {{ proxy_pass http://127.0.0.1:{blue}; }} }}\n");
    stage.nginx.write_conf("site.conf", &server).expect("the site");
    stage.nginx.reload().expect("a reload");
    installs();
    // A file of ours is not what it was.
    let ours = stage.nginx.conf_dir().join(format!("bluegreen/{}.color", stage.app));
    let text = std::fs::read_to_string(&ours).expect("our file");
    write(&ours, &format!("{text}# a note\n"));
    installs();
    stage.serves("v1");

    // nginx dies in the middle: nobody knows, until it is there again.
    let mut run =
        Running::start(&mut stage.command(&[&deploy[..], &["-v", "--deployment-id", "d-dies"]].concat()));
    stage.until_journalled("d-dies", "gate");
    nginx_life::kill(&stage, Kind::HostLive);
    let stuck = run.end().expect(30);
    nginx_life::start(&stage, Kind::HostLive);
    typed(&stage, &next(&stuck)).expect(0);
    stage.bluegreen(&["status"]).expect(0);
    stage.serves("v1");
    stage.bluegreen(&deploy).expect(0);
    stage.serves("v2");

    // It leads to another application, as it seems: only a person knows that it is this one, and says so by its line.
    let server = format!(
        "server {{ listen @PORT@; location / {{ proxy_pass http://127.0.0.1:{}; }} }}\n",
        free_port()
    );
    stage.nginx.write_conf("site.conf", &server).expect("the site");
    stage.nginx.reload().expect("a reload");
    // The earlier workers take connections for some time.
    assert!(process::wait_until(PATIENCE, || stage.version().is_none()), "it still leads to us");
    helps(&stage, &["nginx", "check"], 10, "bluegreen nginx install ").says(&["installed"]);
    // Requests go on to where that line led until the next deploy: an install changes nothing that is seen.
    stage.bluegreen(&["nginx", "check"]).expect(0);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn what_to_type_starts_an_nginx_that_is_stopped() {
    let stage = Stage::with_v1(Kind::ContainerLive);
    let v2 = stage.image_with("v2", &[]);
    docker(["stop", "--time", "5", &stage.run.name("nginx")]).expect("docker");
    helps(&stage, &["deploy", "--image", &v2], 10, "docker start ");
    let works = || stage.nginx.worker_pids().is_ok_and(|pids| !pids.is_empty());
    assert!(process::wait_until(PATIENCE, works), "nginx does not start");
    stage.bluegreen(&["deploy", "--image", &v2]).expect(0);
    stage.serves("v2");
}
