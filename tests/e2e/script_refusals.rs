//! In the place of the shell script: what is wrong is told, and nothing is touched or all of it is put back.

use std::process::Command;

use bluegreen_testkit::docker::docker;
use bluegreen_testkit::nginx::{Nginx as _, NginxVersion};

use crate::ecr_stage::write;
use crate::script_stage::{DIRECT, Machine, UPSTREAM, VARIABLE};
use crate::stage::ran;

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn every_bad_input_is_exit_2_with_its_reason_and_nothing_is_touched() {
    let machine = Machine::with_v0(DIRECT);
    let app = machine.app.clone();
    let good = format!(r#"{{"name": "{app}", "imageUri": "{}"}}"#, machine.image("v1"));
    let conf = machine.conf().display().to_string();
    let before = machine.untouched();
    let two = r#"[{"name": "a", "imageUri": "r.io/a:1"}, {"name": "b", "imageUri": "r.io/b:1"}]"#;
    let named = |image: &str| format!(r#"{{"name": "{app}", "imageUri": {image}}}"#);
    let bad: Vec<(String, Vec<&str>, &str)> = vec![
        (String::new(), vec![], "the file is empty"),
        (" \n".to_owned(), vec![], "the file is empty"),
        ("{".to_owned(), vec![], "invalid JSON at line 1"),
        ("\u{1f980}".to_owned(), vec![], "invalid JSON at line 1"),
        ("null".to_owned(), vec![], "null at the top, expected"),
        ("[]".to_owned(), vec![], "the list is empty"),
        ("[1]".to_owned(), vec![], "entry 1: a number, expected an object"),
        ("{}".to_owned(), vec![], "\"name\" is missing"),
        (named("null"), vec![], "\"imageUri\" is null"),
        (named("\"null\""), vec![], "\"imageUri\" is the word null"),
        (named("\"\""), vec![], "\"imageUri\" is empty"),
        (named("\"no good:::\""), vec![], "\"imageUri\": "),
        (good.replace("imageUri", "imageURI"), vec![], "(found \"imageURI\")"),
        (good.replace(&app, "a b"), vec![], "\"a b\" in the image definitions names no application"),
        (good.replace(&app, "../x"), vec![], "names no application"),
        (two.to_owned(), vec![], "several entries (a, b): choose one with --name"),
        (two.to_owned(), vec!["--name", "c"], "no entry is named \"c\""),
        (good.clone(), vec!["shop"], "the only entry is for"),
        (r#"{"ImageURI": "r.io/a:1"}"#.to_owned(), vec![], "the image definitions name no application"),
        (r#"{"ImageURI": "r.io/a:1"}"#.to_owned(), vec!["--name", "a"], "leave out --name"),
        ("x".repeat(100 * 1024 + 1), vec![], "larger than 100 KB"),
    ];
    let common = ["deploy", "--pull", "never", "--nginx-conf", &conf];
    let refused = |further: &[&str], reason: &str| {
        machine.bluegreen(&[&common[..], further].concat()).expect(2).says(&[
            "error:",
            reason,
            "exit code 2",
        ]);
        assert_eq!(machine.untouched(), before, "{reason}");
        assert!(!machine.dir().join("state").exists(), "{reason}: a journal was begun");
    };
    for (json, further, reason) in bad {
        let file = machine.define(&json);
        refused(&[&["--image-definitions", &file][..], &further].concat(), reason);
    }
    let directory = machine.dir().display().to_string();
    refused(&["--image-definitions", &directory], "this is a directory");
    refused(&["--image-definitions", "none.json"], "none.json: the file does not exist");
    write(&machine.dir().join("latin1.json"), b"{\"name\": \"caf\xe9\"}");
    refused(&["--image-definitions", "latin1.json"], "not UTF-8 from byte 13 on");
    let file = machine.define(&good);
    let no_conf = ["deploy", "--image-definitions", &file, "--nginx-conf", "none.conf"];
    machine.bluegreen(&no_conf).expect(2).says(&["none.conf cannot be used", "No such file or directory"]);
    machine.bluegreen(&["deploy", "--image-definitions", &file]).expect(2).says(&[
        "no configuration file found",
        "to do: name a file with --config, or create one with bluegreen init",
    ]);
    assert_eq!(machine.untouched(), before);
    machine.serves("v0");
    // The same command with nothing wrong: it was the input that was refused.
    machine.bluegreen(&[&common[..], &["--image-definitions", &file]].concat()).expect(0);
    machine.serves("v1");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_file_that_names_neither_or_both_colours_is_refused_and_stays_as_it_is() {
    let machine = Machine::with_v0(UPSTREAM);
    let good = machine.conf_text();
    let app = &machine.app;
    let (blue, green) = (machine.container(3000), machine.container(4000));
    for (text, reason) in [
        (
            good.replace(&blue, "127.0.0.1"),
            format!("it names neither {blue} nor {green}; expected exactly one of them"),
        ),
        (
            format!("# {blue}\n{}", good.replace(&blue, &format!("my-{app}-3000.example"))),
            format!("it names neither {blue} nor {green} where it counts (lines 1, 3"),
        ),
        (
            good.replace(
                &format!("server {blue}:3000;"),
                &format!("server {blue}:3000;\n server {green}:3000;"),
            ),
            format!("it names both {blue} (line 2) and {green} (line 3)"),
        ),
        (good.replace("location / {", "location / "), "could not be read: ".to_owned()),
    ] {
        machine.edit(&text);
        let before = machine.untouched();
        let ran = machine.deploy(&machine.image("v1")).expect(10);
        ran.says(&["default.conf:", &reason, "exit code 10"]).says_what_to_do();
        assert_eq!(machine.untouched(), before, "{reason}");
        machine.serves("v0");
    }
    machine.edit(&good);
    machine.deploy(&machine.image("v1")).expect(0);
    machine.serves("v1");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn an_nginx_that_is_not_there_or_not_running_is_refused_with_what_to_do() {
    let mut machine = Machine::bare();
    let conf = machine.dir().join("default.conf");
    write(&conf, DIRECT.replace("APP", &machine.app));
    let image = machine.image("v1");
    let file = machine.define_object(&image);
    let conf = conf.display().to_string();
    let all = ["deploy", "--pull", "never", "--image-definitions", &file, "--nginx-conf", &conf];
    machine.bluegreen(&all).expect(10).says(&[
        "the proxy is not running: there is no container named nginx",
        "exit code 10",
        "to do: start nginx",
    ]);
    assert_eq!(machine.ports(), ":", "nothing was started");

    machine.as_the_script("v0", 3000);
    machine.start_nginx(DIRECT, NginxVersion::V1_22, &["--network", "dev"]);
    machine.nginx().container.stop(5).expect("a stop");
    let before = machine.untouched();
    machine.deploy(&image).expect(10).says(&[
        "the proxy is not running: container nginx is exited",
        "to do: start nginx; if it does not stay up, docker logs nginx shows why",
    ]);
    assert_eq!(machine.untouched(), before);
    // As it is after a reboot: nginx cannot start because the container that its file names is not there.
    docker(["rm", "-f", &machine.container(3000)]).expect("a removal");
    docker(["start", "nginx"]).expect("it starts, and ends");
    let ended = || machine.nginx().container.state().is_ok_and(|state| state == "exited");
    assert!(bluegreen_testkit::process::wait_until(std::time::Duration::from_secs(10), ended));
    let log = machine.nginx().error_log().expect("a log");
    assert!(log.contains("host not found in upstream"), "{log}");
    machine.deploy(&image).expect(10).says(&[
        "the proxy is not running: container nginx is exited",
        &format!("its file names {}, which is not there", machine.container(3000)),
        "start any version of the application under that name and on nginx's network, then nginx",
    ]);
    assert_eq!(machine.ports(), ":");
    // And what it says to do is what helps.
    machine.as_the_script("v0", 3000);
    docker(["start", "nginx"]).expect("a start");
    assert!(bluegreen_testkit::process::wait_until(std::time::Duration::from_secs(10), || {
        docker(["exec", "nginx", "nginx", "-t"]).is_ok()
    }));
    machine.deploy(&image).expect(0);
    assert_eq!(machine.ports(), "4000:3000");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_file_that_is_mounted_alone_or_not_at_all_is_refused_with_the_reason() {
    let mut machine = Machine::bare();
    machine.as_the_script("v0", 3000);
    let alone = machine.dir().join("alone.conf");
    write(&alone, VARIABLE.replace("APP", &machine.app).replace("@PORT@", "81"));
    let mount = format!("{}:/etc/nginx/conf.d-alone/alone.conf", alone.display());
    machine.start_nginx(DIRECT, NginxVersion::V1_22, &["--network", "dev", "--volume", &mount]);
    let elsewhere = machine.dir().join("elsewhere.conf");
    write(&elsewhere, machine.conf_text());
    let file = machine.define_object(&machine.image("v1"));
    for (conf, reason) in [
        (
            &alone,
            "has this single file mounted at /etc/nginx/conf.d-alone/alone.conf, so nginx would keep reading",
        ),
        (
            &elsewhere,
            "container nginx has no mount that contains it; expected its directory to be mounted there",
        ),
    ] {
        let before = (machine.untouched(), std::fs::read(conf).expect("the file"));
        let path = conf.display().to_string();
        let all = ["deploy", "--pull", "never", "--image-definitions", &file, "--nginx-conf", &path];
        machine.bluegreen(&all).expect(10).says(&[reason, "exit code 10", "next: "]);
        assert_eq!((machine.untouched(), std::fs::read(conf).expect("the file")), before);
        machine.serves("v0");
    }
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_configuration_that_was_broken_before_is_refused_with_what_nginx_says() {
    let machine = Machine::with_v0(UPSTREAM);
    write(&machine.nginx().conf_dir().join("other.conf"), "server { listen 82; no_such_directive on; }\n");
    let before = machine.untouched();
    machine.deploy(&machine.image("v1")).expect(10).says(&[
        "the proxy's configuration does not pass its own test",
        "unknown directive \"no_such_directive\"",
        "other.conf:1",
        "to do: fix nginx's own configuration",
    ]);
    assert_eq!(machine.untouched(), before);
    machine.serves("v0");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_name_that_nginx_cannot_resolve_after_the_rewrite_is_put_back_byte_for_byte() {
    let mut machine = Machine::bare();
    let other = machine.run.network("other").expect("a network");
    machine.as_the_script("v0", 3000);
    // nginx knows the first container by a network that the next one will not be on.
    docker(["network", "connect", &other.name, &machine.container(3000)]).expect("a connection");
    machine.start_nginx(DIRECT, NginxVersion::V1_22, &["--network", &other.name]);
    machine.serves("v0");
    let before = machine.untouched();
    machine.deploy(&machine.image("v1")).expect(20).says(&[
        "switch failed",
        "the switch was refused and put back",
        &format!("host not found in upstream \"{}\"", machine.container(4000)),
        "exit code 20",
        "serving now: blue",
        "next: docker network connect dev nginx",
    ]);
    assert_eq!(machine.untouched(), before, "bytes, time, and no candidate or copy left");
    machine.serves("v0");
    docker(["exec", "nginx", "nginx", "-t"]).expect("nginx could be started again as it is");
    // And what it says to do is what helps.
    docker(["network", "connect", "dev", "nginx"]).expect("a connection");
    machine.deploy(&machine.image("v1")).expect(0);
    machine.serves("v1");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_file_that_may_not_be_written_is_refused_before_anything_is_started() {
    let machine = Machine::with_v0(DIRECT);
    let before = machine.untouched();
    let file = machine.define_object(&machine.image("v1"));
    let (conf, dir) =
        (machine.conf().display().to_string(), machine.nginx().conf_dir().display().to_string());
    let deploy =
        machine.command(&["deploy", "--pull", "never", "--image-definitions", &file, "--nginx-conf", &conf]);
    // Read-only for the command alone: the mount is in a namespace of its own and ends with it.
    let mut alone = Command::new("unshare");
    alone.args([
        "--mount",
        "sh",
        "-ec",
        "mount --bind \"$0\" \"$0\"; mount -o remount,ro,bind \"$0\"; exec \"$@\"",
    ]);
    alone.arg(&dir).arg(deploy.get_program()).args(deploy.get_args()).current_dir(machine.dir());
    ran(&mut alone).expect(10).says(&[
        "this user may not write to its directory (Read-only file system",
        "exit code 10",
        "next: ",
    ]);
    assert_eq!(machine.untouched(), before);
    machine.serves("v0");
}
