//! What is printed and written, on a real stage: reports, the verbs that only look, the same deployment twice, and
//! what must never be seen.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use bluegreen_testkit::docker::{AppImage, docker};
use serde_json::Value;

use crate::luck::{Running, write};
use crate::stage::{Kind, Ran, Stage};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The last line of a command's JSON.
fn last(ran: &Ran) -> Value {
    json(ran.out.lines().last().unwrap_or_default())
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn the_same_image_twice_is_unchanged_and_is_deployed_again_only_when_forced() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = format!("bgt-{}/app:v1", stage.run.id());
    let before = stage.world();
    let ran = stage.watched(&["v1"], || stage.bluegreen(&["deploy", "--image", &image]).expect(0));
    ran.says(&["unchanged: ", "on blue", "already"]);
    assert_eq!(stage.world(), before, "something was touched");
    let forced =
        stage.watched(&["v1"], || stage.bluegreen(&["deploy", "--image", &image, "--force"]).expect(0));
    // What served before is the very same release: there is nothing to go back to.
    assert!(!forced.err.contains("bluegreen rollback"), "{}", forced.err);
    forced.says(&["committed: ", "on green"]);
    assert_eq!(stage.running(), [stage.place("green")]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_deployment_of_the_hook_is_one_deployment_however_often_it_is_done() {
    let stage = Stage::with_v1(Kind::HostLive);
    let v2 = stage.image("v2", &AppImage::version("v2"));
    let v3 = stage.image("v3", &AppImage::version("v3"));
    let hook = |image: &str, id: &str| {
        let mut command = stage.command(&["deploy", "--output", "json", "--image", image]);
        crate::stage::ran(command.env("DEPLOYMENT_ID", id))
    };
    stage.watched(&["v1", "v2"], || {
        let first = last(&hook(&v2, "d-AAA").expect(0));
        assert_eq!(
            (&first["result"]["deployment"], &first["result"]["unchanged"]),
            (&"d-AAA".into(), &false.into())
        );
    });
    let before = stage.world();
    let again = stage.watched(&["v2"], || hook(&v2, "d-AAA").expect(0));
    assert_eq!(last(&again)["result"]["unchanged"], true, "{}", again.out);
    assert_eq!(stage.world(), before, "something was touched");
    stage.watched(&["v2", "v3"], || hook(&v3, "d-BBB").expect(0));
    // A late repetition of the first must not undo the second.
    let before = stage.world();
    let late = stage.watched(&["v3"], || hook(&v2, "d-AAA").expect(10));
    late.says(&["d-AAA was completed before, and d-BBB has replaced it since", "use a new --deployment-id"]);
    assert_eq!(stage.world(), before, "something was touched");
    stage.serves("v3");
    hook(&v3, "not an id")
        .expect(2)
        .says(&["DEPLOYMENT_ID in the environment cannot be used", "--deployment-id"]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn the_same_deployment_again_puts_an_nginx_right_that_points_elsewhere() {
    let stage = Stage::with_v1(Kind::HostLive);
    let v2 = stage.deploy("v2");
    drop(v2);
    // Somebody took the flag away by hand: nginx sends requests to the stopped one, and its backup answers.
    let flag = stage.nginx.conf_dir().join(format!("bluegreen/{}.green", stage.app));
    std::fs::remove_file(&flag).expect("green serves");
    stage.bluegreen(&["status"]).expect(50).says(&["ATTENTION", "next: bluegreen deploy"]);
    let image = format!("bgt-{}/app:v2", stage.run.id());
    stage.bluegreen(&["deploy", "--image", &image]).expect(0);
    stage.serves("v2");
    let status = stage.bluegreen(&["status"]).expect(0);
    assert!(!status.out.contains("ATTENTION"), "{}", status.out);
    assert_eq!(stage.running().len(), 1);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn status_and_plan_say_what_serves_and_what_would_happen_and_touch_nothing() {
    for kind in [Kind::HostLive, Kind::ContainerLive] {
        let stage = Stage::live(kind);
        stage.bluegreen(&["status"]).expect(51).says(&["serving", "nothing", "no earlier release"]);
        stage.deploy("v1");
        stage.deploy("v2");
        let v3 = stage.image("v3", &AppImage::version("v3"));
        let before = stage.world();

        let status = stage.bluegreen(&["status"]).expect(0);
        status.says(&[
            "green, ",
            "app:v2",
            &format!("nginx says green at port {}", stage.control_port),
            "-blue: stopped",
            "-green: running",
            "app:v1",
        ]);
        let told = last(&stage.bluegreen(&["status", "--output", "json"]).expect(0));
        assert_eq!((&told["version"], &told["command"]), (&2.into(), &"status".into()));
        let serving = told["result"]["serving"].to_string();
        assert!(serving.contains("\"green\"") && serving.contains("app:v2"), "{told}");
        let target = told["result"]["rollback"]["to"]["image"].as_str().unwrap_or_default();
        assert_eq!(target, format!("bgt-{}/app:v1", stage.run.id()), "{told}");
        assert_eq!(told["result"]["findings"], Value::Array(Vec::new()), "{told}");

        let plan = stage.bluegreen(&["plan", "--image", &v3]).expect(0);
        let steps = ["pull", "start", "gate", "switch", "verify", "drain", "retire"];
        plan.says(&steps).says(&["app:v3", "on blue, from green", "remove the flag", "nothing was touched"]);
        let told = last(&stage.bluegreen(&["plan", "--output", "json", "--image", &v3]).expect(0));
        assert_eq!(
            (&told["result"]["candidate"], &told["result"]["previous"]),
            (&"blue".into(), &"green".into())
        );
        assert_eq!(told["result"]["steps"].as_array().map(Vec::len), Some(8), "{told}");
        stage.bluegreen(&["plan", "--image", "no-such-app:9"]).expect(10).says(&["no-such-app:9"]);
        assert_eq!(stage.world(), before, "something was touched");
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_report_is_written_whatever_the_outcome_and_only_its_owner_can_read_it() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure("[app.WEB.health]\nhttp = \"/health\"\ndeadline = \"5s\"");
    let path = stage.dir().join("report.json");
    let file = path.display().to_string();
    let read = || {
        let mode = path.metadata().expect("a report").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{mode:o}");
        let report = json(&std::fs::read_to_string(&path).expect("a report"));
        assert_eq!(report["version"], 2, "{report}");
        report
    };
    let v2 = stage.image("v2", &AppImage::version("v2"));
    let bad = stage.image_with("v3", &[("HEALTH", "500")]);

    stage.bluegreen(&["deploy", "--image", &v2, "--report", &file]).expect(0);
    let report = read();
    assert_eq!((&report["exit_code"], &report["result"]["candidate"]), (&0.into(), &"green".into()));

    stage.bluegreen(&["deploy", "--image", &bad, "--report", &file]).expect(20);
    let report = read();
    assert_eq!((&report["exit_code"], &report["cause"]["step"]), (&20.into(), &"gate".into()));
    assert_eq!(report["serving"]["color"], "green", "{report}");
    assert!(report["cause"]["causes"].to_string().contains("status 500"), "{report}");
    assert!(report["cause"]["candidate_log"].to_string().contains("listening on"), "{report}");
    assert!(report["todo"].as_str().is_some_and(|todo| todo.contains("fix")), "{report}");

    stage.bluegreen(&["deploy", "--image", "no-such-app:9", "--report", &file]).expect(10);
    assert_eq!(read()["exit_code"], 10);
    stage.bluegreen(&["deploy", "no-such-app", "--image", &v2, "--report", &file]).expect(2);
    assert_eq!(read()["exit_code"], 2);

    // A report that cannot be written changes nothing about what was done.
    let nowhere = stage.dir().join("no/such/directory.json").display().to_string();
    let ran = stage.bluegreen(&["deploy", "--image", &v2, "--force", "--report", &nowhere]).expect(0);
    ran.says(&["warning:", "could not be written", "committed: "]);
    stage.serves("v2");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn the_state_is_where_it_was_asked_for_and_only_its_owner_can_read_it() {
    let stage = Stage::with_v1(Kind::HostLive);
    let state = stage.dir().join("state");
    let own = state.join(&stage.app);
    for (path, mode) in
        [(&state, 0o700), (&own, 0o700), (&own.join("journal"), 0o600), (&own.join("lock"), 0o600)]
    {
        let found = path.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(found.permissions().mode() & 0o777, mode, "{}", path.display());
    }
    assert!(
        !Path::new("/var/lib/bluegreen").join(&stage.app).exists(),
        "the host's own state was written to"
    );
}

/// A value that must not be seen, and places where it could be.
const SECRET: &str = "hunter2-S3cr3t-0f-the-test";

/// Looks at every process's arguments, again and again, until it is told to stop.
struct Watch {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU32>,
    thread: thread::JoinHandle<Vec<String>>,
}

impl Watch {
    fn start() -> Self {
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (told, count) = (Arc::clone(&stop), Arc::clone(&looks));
        let thread = thread::spawn(move || {
            let mut found = Vec::new();
            while !told.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
                    let bytes = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
                    if line.contains(SECRET) {
                        found.push(line);
                    }
                }
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(std::time::Duration::from_millis(5));
            }
            found
        });
        Self { stop, looks, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let found = self.thread.join().expect("it looks");
        assert!(found.is_empty(), "in arguments: {found:?}");
        assert!(self.looks.load(Ordering::Relaxed) > 20, "nobody looked");
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn values_of_the_environment_are_in_no_output_no_report_and_no_argument() {
    let stage = Stage::with_v1(Kind::HostLive);
    let reports = stage.dir().join("report.json");
    write(&stage.dir().join("web.env"), &format!("FROM_FILE={SECRET}-file\n"));
    let table = format!("env_file = \"web.env\"\nenv = {{ PASSWORD = \"{SECRET}\", HEALTH = \"@\" }}");
    let health = "[app.WEB.health]\nhttp = \"/health\"\ndeadline = \"1500ms\"";
    let image = stage.image("v2", &AppImage::version("v2"));
    let report = reports.display().to_string();
    let watch = Watch::start();
    let clean = |ran: &Ran, what: &str| {
        let report = std::fs::read_to_string(&reports).unwrap_or_default();
        for text in [&ran.out, &ran.err, &report] {
            assert!(!text.contains(SECRET), "{what}:\n{text}");
        }
    };
    for format in ["human", "json"] {
        for (health_says, code, options) in [
            ("500", 20, ""),
            ("ok", 0, ""),
            // What the Engine refuses it may repeat.
            ("ok", 20, "entrypoint = [\"/no/such/program\"]\n"),
            ("ok", 20, "user = \"no-such-user\"\n"),
        ] {
            stage.configure(&format!("{options}{}\n{health}", table.replace('@', health_says)));
            let arguments =
                ["-v", "--output", format, "--report", &report, "deploy", "--force", "--image", &image];
            let ran = stage.bluegreen(&arguments).expect(code);
            clean(&ran, options);
        }
        for verb in [&["status"][..], &["plan", "--image", &image], &["config", "check"], &["rollback"]] {
            let ran = stage.bluegreen(&[&["-v", "--output", format, "--report", &report], verb].concat());
            clean(&ran.expect(0), verb[0]);
        }
    }
    // What is wrong in the configuration is shown with its line, and not with what is secret in it.
    stage.configure(&format!("env = {{ PASSWORD = \"{SECRET}\", 1BAD = 5 }}"));
    clean(&stage.bluegreen(&["deploy", "--image", &image]).expect(2), "configuration");
    stage.configure("env_file = \"web.env\"");
    write(&stage.dir().join("web.env"), &format!("{SECRET} without equals\n"));
    clean(&stage.bluegreen(&["deploy", "--image", &image]).expect(2), "env_file");
    watch.stop();
    // Otherwise this test tests nothing: the containers do have it.
    let running = stage.running();
    let env = docker(["inspect", "--format", "{{.Config.Env}}", &running[0]]).expect("docker");
    let kept = stage.containers(&[]).iter().any(|name| {
        docker(["inspect", "--format", "{{.Config.Env}}", name]).is_ok_and(|env| env.contains(SECRET))
    });
    assert!(kept, "{env}");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn the_events_of_a_deploy_are_json_lines_in_the_order_of_the_plan() {
    let stage = Stage::live(Kind::HostLive);
    let image = stage.image("v1", &AppImage::version("v1"));
    let mut run = Running::deploy(&stage, &image, &["--deployment-id", "d-1"]);
    let ran = run.end().expect(0);
    let events: Vec<Value> = ran.out.lines().map(json).collect();
    assert!(events.iter().all(|event| event["version"] == 2), "{}", ran.out);
    assert_eq!((&events[0]["event"], &events[0]["deployment"]), (&"begun".into(), &"d-1".into()));
    assert_eq!(events.last().map(|event| &event["event"]), Some(&"report".into()));
    let of = |kind: &str| -> Vec<String> {
        let same = events.iter().filter(|event| event["event"] == kind);
        same.map(|event| event["step"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let plan = ["pull", "start", "gate", "switch", "verify", "drain", "retire"];
    assert_eq!(of("step-started"), plan);
    assert_eq!(of("step-succeeded"), plan);
    assert_eq!(ran.err, "", "everything is on stdout");
}
