//! At 3 a.m.: whatever is broken in the configuration, or missing, the verbs that help then know what they are about.

use bluegreen_testkit::docker::{docker, free_port};
use serde_json::Value;

use crate::luck::write;
use crate::stage::{Kind, Stage};

impl Stage {
    /// Its configuration's text.
    pub fn config(&self) -> String {
        std::fs::read_to_string(self.dir().join("bluegreen.toml")).expect("a configuration")
    }

    /// Puts another text in its place.
    pub fn write_config(&self, text: &str) {
        write(&self.dir().join("bluegreen.toml"), text);
    }

    /// Deploys another application beside the stage's own, from a file of its own, which is gone afterwards.
    fn deploy_another(&self, name: &str, version: &str) {
        let path = self.dir().join("another.toml");
        let [blue, green, port] = [(); 3].map(|()| free_port());
        let nginx = self.config().split("[app.").next().expect("its nginx").to_owned();
        // Its own site; what answers bluegreen in nginx is one for all.
        let of_nginx = nginx.lines().filter(|line| !line.starts_with("url"));
        let of_nginx: String = of_nginx.map(|line| format!("{line}\n")).collect();
        let text = format!(
            "{of_nginx}url = \"http://127.0.0.1:{port}/\"\n[app.{name}]\nports = {{ blue = {blue}, green = {green} }}\n\
             pull = \"never\"\n"
        );
        write(&path, &text);
        let config = path.display().to_string();
        let image = self.image_with(version, &[]);
        self.bluegreen(&["nginx", "install", name, "--config", &config]).expect(0);
        let include = self.nginx.conf_dir().join(format!("bluegreen/{name}.location"));
        let server = format!(
            "server {{ listen 127.0.0.1:{port}; location / {{ include {}; }} }}\n",
            include.display()
        );
        self.nginx.write_conf("other.conf", &server).expect("its site");
        self.nginx.reload().expect("a reload");
        self.bluegreen(&["deploy", name, "--config", &config, "--image", &image]).expect(0);
        std::fs::remove_file(path).expect("it is there");
    }
}

/// Ways in which a file is broken that concern no verb of an emergency.
fn broken(good: &str, app: &str) -> [(&'static str, Vec<u8>); 7] {
    let table = format!("[app.{app}]\n");
    let with = |line: &str| good.replace(&table, &format!("{table}{line}\n")).into_bytes();
    [
        (
            "another application's table",
            format!("{good}\n[app.other]\nports = \"none\"\nimgae = 5\n").into_bytes(),
        ),
        ("its env_file is gone", with("env_file = \"gone.env\"")),
        ("a key that is for a deploy", with("imgae = \"r.io/a:1\"\nmemory = \"much\"")),
        ("a place that another application has too", {
            let ports = good.lines().find(|line| line.starts_with("ports")).expect("its ports");
            format!("{good}\n[app.other]\n{ports}\n").into_bytes()
        }),
        ("no TOML from some line on", format!("{good}\n[[[\nx = = 1\n").into_bytes()),
        ("no text at all", [good.as_bytes(), b"\n# \xff\xfe\n"].concat()),
        ("nothing is left of it", b"".to_vec()),
    ]
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn the_verbs_of_an_emergency_work_whatever_else_is_broken_in_the_configuration() {
    let stage = Stage::with_v1(Kind::HostLive);
    let good = stage.config();
    for (index, (what, text)) in broken(&good, &stage.app).into_iter().enumerate() {
        let version = format!("v{}", index + 2);
        stage.write_config(&good);
        stage.deploy(&version);
        std::fs::write(stage.dir().join("bluegreen.toml"), text).expect("a file");
        eprintln!("{what}");
        let app = stage.app.as_str();
        stage.bluegreen(&["status", app]).expect(0).says(&["serving", &version]);
        // The table of all may have a broken one in it, which is then said; what serves is there in any case.
        stage.bluegreen(&["status"]).says(&[app, &version]);
        stage.bluegreen(&["history", app]).expect(0).says(&[&version]);
        stage.bluegreen(&["cancel", app]).expect(0).says(&["nothing to cancel"]);
        stage.bluegreen(&["recover", app]).expect(0).says(&["nothing to recover"]);
        stage.bluegreen(&["rollback", app, "--list"]).expect(0).says(&["app:v1"]);
        stage.watched(&["v1", &version], || stage.bluegreen(&["rollback", app]).expect(0));
        stage.serves("v1");
    }
    // A deploy is not for them: it says what is wrong.
    stage.write_config(&format!("{good}\nx = = 1\n"));
    stage.bluegreen(&["deploy", "--image", "app:v9"]).expect(2).says(&["bluegreen.toml"]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_table_of_all_has_also_those_that_no_configuration_names_and_says_how_they_are() {
    let stage = Stage::with_v1(Kind::HostLive);
    let other = stage.run.name("other");
    stage.deploy_another(&other, "v7");
    let json = |code: i32| -> Value {
        let ran = stage.bluegreen(&["status", "--output", "json"]).expect(code);
        serde_json::from_str(ran.out.lines().last().expect("a line")).expect("JSON")
    };
    let state = |report: &Value, app: &str| -> Value {
        let apps = report["result"]["apps"].as_array().expect("all of them").clone();
        apps.into_iter()
            .find(|entry| entry["app"] == app)
            .unwrap_or_else(|| panic!("{app} is not in {report:#}"))
    };
    let table = stage.bluegreen(&["status"]);
    table.says(&["APPLICATION", &stage.app, "app:v1", &other, "app:v7"]);
    let report = json(0);
    assert_eq!(report["verdict"], "done");
    for (app, version) in [(stage.app.as_str(), ":v1"), (other.as_str(), ":v7")] {
        let entry = state(&report, app);
        let image = entry["serving"]["image"].as_str().unwrap_or_default().to_owned();
        assert!(entry["exit_code"] == 0 && image.ends_with(version), "{entry:#}");
    }
    // The one without a configuration is down: the table ends as that one's own status does, and leads there.
    docker(["stop", "-t", "1", &format!("{other}-blue")]).expect("docker");
    let own = stage.bluegreen(&["status", &other]);
    assert!([50, 51].contains(&own.code), "{}", own.out);
    let report = json(own.code);
    assert_eq!(state(&report, &other)["exit_code"], own.code);
    assert_eq!(state(&report, &stage.app)["exit_code"], 0);
    let next = report["next"].to_string();
    assert!(next.contains("status") && next.contains(&other), "{next}");
    docker(["rm", "-f", &format!("{other}-blue"), &format!("{other}-green")]).ok();
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_first_deploy_that_fails_leaves_nobody_blind() {
    let stage = Stage::live(Kind::HostLive);
    let ill = stage.image_with("v1", &[("EXIT_AFTER_MS", "0")]);
    stage.configure("[app.WEB.health]\ndeadline = \"2s\"");
    // Refused before a run began: nothing is on record of it.
    stage.bluegreen(&["deploy", "--image", "no-such-app:1"]).expect(10);
    assert!(
        !stage.dir().join("state").join(&stage.app).join("deployed").exists(),
        "a refusal leaves a trace"
    );
    stage.bluegreen(&["deploy", "--image", &ill]).expect(20);
    std::fs::remove_file(stage.dir().join("bluegreen.toml")).expect("it is there");
    let seen = stage.bluegreen(&["status"]);
    seen.says(&[&stage.app, "rolled back"]);
    stage.bluegreen(&["recover", &stage.app]).expect(0).says(&["nothing to recover"]);
    stage.bluegreen(&["history", &stage.app]).expect(0).says(&["app:v1"]);
}
