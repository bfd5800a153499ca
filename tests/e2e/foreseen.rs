//! What can be known beforehand is said beforehand, with both figures; what can be seen is said as a fact.

use bluegreen_testkit::docker::{AppImage, docker};

use crate::luck::write;
use crate::stage::{Kind, Stage};

impl Stage {
    /// Fails the test unless each of these refuses this image before anything is touched, for this reason.
    #[track_caller]
    fn refuses_beforehand(&self, image: &str, reason: &str) {
        let before = self.world();
        self.configure_image(image);
        for verb in [&["config", "check"][..], &["plan"], &["deploy"], &["doctor"]] {
            let ran = self.bluegreen(verb).expect(10);
            ran.says(&[reason]).says_what_to_do();
        }
        assert_eq!(self.world(), before, "something was touched");
        let history = self.bluegreen(&["history"]).expect(0);
        assert!(!history.out.contains(image), "a run began\n{}", history.out);
    }

    /// Names the image in the configuration, where `config check` finds it.
    fn configure_image(&self, image: &str) {
        let path = self.dir().join("bluegreen.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let lines: Vec<String> = text
            .lines()
            .map(|line| {
                if line.starts_with("image = \"") { format!("image = \"{image}\"") } else { line.to_owned() }
            })
            .collect();
        write(&path, &(lines.join("\n") + "\n"));
    }
}

/// An image with Docker's own HEALTHCHECK figures: asked for the first time after 30 s.
fn with_usual_healthcheck(stage: &Stage, image: &str) -> String {
    let (name, made) = (stage.run.name("app:usual"), stage.run.name("made"));
    docker(["create", "--name", &made, image]).expect("a container");
    let change = "HEALTHCHECK CMD [\"/sample-app\", \"healthcheck\"]";
    docker(["commit", "--change", change, &made, &name]).expect("an image");
    docker(["rm", &made]).expect("it is gone");
    name
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_gate_that_an_image_on_this_host_could_never_pass_is_refused_beforehand() {
    let stage = Stage::with_v1(Kind::HostLive);
    let plain = stage.image("v2", &AppImage::version("v2"));
    let usual = with_usual_healthcheck(&stage, &plain);
    stage.configure("[app.WEB.health]\nimage = true\ndeadline = \"30s\"");
    stage.refuses_beforehand(
        &usual,
        "the image's HEALTHCHECK first answers 30 s after the start, and the gate's deadline is 30 s",
    );
    stage.configure("[app.WEB.health]\nimage = true");
    stage.refuses_beforehand(&plain, "asks the image's HEALTHCHECK, and the image has none");
    // With the time that it takes nothing is in the way.
    stage.configure_image(&usual);
    stage.bluegreen(&["config", "check"]).expect(0);
    stage.bluegreen(&["plan"]).expect(0);
    docker(["rmi", &usual]).expect("it is gone");
    stage.serves("v1");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_deadline_that_is_over_before_a_commit_is_refused_beforehand() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure(
        "[app.WEB.health]\nmin_healthy = \"4s\"\n[app.WEB.receipt]\nmax_failures = 0\nbake = \"6s\"",
    );
    let v2 = stage.image("v2", &AppImage::version("v2"));
    let mut command = stage.command(&["deploy", "--image", &v2, "--deadline", "10s"]);
    let ran = stage.refuses(&mut command, &["the deadline is 10s", "make a run wait 10s before it"]);
    assert!(ran.err.contains("to do: give --deadline at least 20s"), "{}", ran.err);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_application_that_listens_on_loopback_is_told_so_as_a_fact() {
    let stage = Stage::with_v1(Kind::HostLive);
    stage.configure("[app.WEB.health]\nhttp = \"/health\"\ndeadline = \"3s\"");
    let image = stage.image_with("v2", &[("HOST", "127.0.0.1")]);
    let fact = "it listens on 127.0.0.1:3000 inside its container, where nobody outside reaches it";
    let ran = stage.rolls_back(&image, &[fact]);
    let remedy = "to do: have the application listen on 0.0.0.0:3000 inside its container, where nginx reaches it, and \
                  not on 127.0.0.1:3000";
    assert!(ran.err.contains(remedy), "{}", ran.err);
    // One that is only ill listens where it should, and nothing is said of it.
    let ill = stage.image_with("v4", &[("HEALTH", "500")]);
    let ran = stage.rolls_back(&ill, &["status 500"]);
    assert!(!ran.err.contains("where nobody outside reaches it"), "{}", ran.err);
}
