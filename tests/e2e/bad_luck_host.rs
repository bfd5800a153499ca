//! A host that is not as it should be: Docker, its socket, ports, names, networks, files and disks.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use bluegreen_testkit::docker::{AppImage, docker};
use bluegreen_testkit::process;

use crate::luck::{PATIENCE, write};
use crate::stage::{Kind, Stage, program, ran};

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_image_that_is_not_on_this_host_is_refused_when_nothing_may_be_pulled() {
    let stage = Stage::with_v1(Kind::ContainerLive);
    let says =
        ["no-such-app:9", "is not on this host, and pulling is off", "next: docker pull no-such-app:9"];
    stage.refuses(&mut stage.command(&["deploy", "--image", "no-such-app:9"]), &says);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_docker_that_is_not_there_is_refused_with_its_address_and_how_to_start_it() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image("v2", &AppImage::version("v2"));
    let at = |socket: &Path| {
        let mut command = stage.command(&["deploy", "--image", &image]);
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        command
    };
    let start = "next: systemctl start docker";

    let missing = stage.dir().join("missing.sock");
    stage.refuses(&mut at(&missing), &["there is no socket at", "missing.sock", start]);

    let dead = stage.dir().join("dead.sock");
    drop(UnixListener::bind(&dead).expect("a socket"));
    stage.refuses(&mut at(&dead), &["cannot be reached at unix://", "dead.sock", "refused", start]);

    // One that takes the call and never answers.
    let hanging = stage.dir().join("hanging.sock");
    let _listener = UnixListener::bind(&hanging).expect("a socket");
    let began = tokio::time::Instant::now();
    stage.refuses(
        &mut at(&hanging),
        &["cannot be reached at unix://", "hanging.sock", "does not answer", start],
    );
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_socket_that_is_not_permitted_is_refused_with_who_may_use_it_and_is_left_as_it_is() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image("v2", &AppImage::version("v2"));
    // What nobody needs: the program, the configuration, and a directory for its state. And a socket that only
    // root may use, as Docker's own is; the program must not make it wider.
    let dir = tempfile::Builder::new().prefix("bluegreen-e2e-nobody-").tempdir().expect("a directory");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
    };
    mode(dir.path(), 0o755);
    let copy = dir.path().join("bluegreen");
    std::fs::copy(program(), &copy).expect("a copy");
    mode(&copy, 0o755);
    let config = dir.path().join("bluegreen.toml");
    std::fs::copy(stage.dir().join("bluegreen.toml"), &config).expect("a copy");
    mode(&config, 0o644);
    let state = dir.path().join("state");
    std::fs::create_dir(&state).expect("a directory");
    mode(&state, 0o777);
    let socket = dir.path().join("docker.sock");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    mode(&socket, 0o600);

    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&copy)
        .args(["--state-dir", &state.display().to_string(), "--config", &config.display().to_string()])
        .args(["deploy", "--image", &image])
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .current_dir("/")
        .stdin(Stdio::null());
    let says = [
        "cannot be reached at unix://",
        "ermission denied",
        "to do: run as root or as a user of the group docker",
    ];
    stage.refuses(&mut command, &says);
    assert_eq!(socket.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_host_port_that_a_process_or_a_container_has_is_named_and_the_deploy_is_taken_back() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image("v2", &AppImage::version("v2"));
    let [_, green] = stage.host_ports();
    let next = format!("next: ss -ltnp 'sport = :{green}'");
    let says = ["start failed", &format!("host port 127.0.0.1:{green} is in use by something else"), &next];

    let listener = TcpListener::bind(("127.0.0.1", green)).expect("the port is free");
    stage.rolls_back(&image, &says);
    drop(listener);

    let publish = format!("127.0.0.1:{green}:3000");
    let other =
        stage.run.start(&stage.run.name("other"), &image, &["--publish", &publish], &[]).expect("docker");
    stage.rolls_back(&image, &says);
    assert_eq!(other.state().expect("it is there"), "running", "somebody else's container was touched");
    other.remove().expect("docker");

    stage.watched(&["v1", "v2"], || stage.deploy("v2"));
    stage.serves("v2");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_container_that_has_the_candidates_name_is_replaced_only_when_it_is_ours_or_given_to_us() {
    let stage = Stage::with_v1(Kind::HostLive);
    let v2 = stage.image("v2", &AppImage::version("v2"));
    let name = stage.place("green");
    let id = || docker(["inspect", "--format", "{{.Id}}", &name]).expect("it is there");

    // A stranger's is left alone, running or not.
    let foreign = stage.run.start(&name, &v2, &[], &[]).expect("docker");
    let says = [
        &*format!("a container named {name} exists and does not belong to this application"),
        &format!("docker rm -f {name}"),
        "`adopt = true` in bluegreen.toml",
    ];
    let load = |says: &[&str]| {
        let ran = stage.watched(&["v1"], || stage.bluegreen(&["deploy", "--image", &v2]));
        ran.expect(20).says(says).says(&["serving now: blue", "app:v1"]);
        stage.serves("v1");
    };
    load(&says);
    assert_eq!(id(), foreign.id, "somebody else's container was replaced");
    assert_eq!(foreign.state().expect("it is there"), "running");
    // Another application's is not taken even with adopt.
    foreign.remove().expect("docker");
    let of_another = stage.run.start(&name, &v2, &["--label", "bluegreen.app=another"], &[]).expect("docker");
    stage.configure("adopt = true");
    load(&says[..1]);
    assert_eq!(id(), of_another.id, "another application's container was replaced");
    of_another.remove().expect("docker");

    // With adopt a stranger's is.
    let foreign = stage.run.start(&name, &v2, &[], &[]).expect("docker");
    stage.watched(&["v1", "v2"], || stage.bluegreen(&["deploy", "--image", &v2]).expect(0));
    stage.serves("v2");
    assert_ne!(id(), foreign.id);

    // A stale one of ours always is: left by somebody who made it and never came back.
    stage.configure("");
    let stale = stage.place("blue");
    docker(["rm", "--force", &stale]).expect("docker");
    let app = format!("bluegreen.app={}", stage.app);
    let left = stage.run.start(&stale, &v2, &["--label", &app], &[]).expect("docker");
    stage.watched(&["v2", "v3"], || stage.deploy("v3"));
    stage.serves("v3");
    assert_ne!(docker(["inspect", "--format", "{{.Id}}", &stale]).expect("it is there"), left.id);
    assert_eq!(stage.running(), [stale]);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_network_that_is_missing_is_made_and_one_whose_name_is_there_twice_is_refused() {
    let stage = Stage::with_v1(Kind::HostLive);
    let network = stage.run.name("backend");
    stage.configure(&format!("network = \"{network}\""));
    stage.watched(&["v1", "v2"], || stage.deploy("v2"));
    stage.serves("v2");
    let networks = || {
        docker(["network", "ls", "--no-trunc", "--quiet", "--filter", &format!("name=^{network}$")])
            .expect("docker")
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(networks().len(), 1);

    // The docker command asks the Engine for a check that the Engine's API does not make by itself.
    let twin = stage.run.name("twin");
    stage.configure(&format!("network = \"{twin}\""));
    for _ in 0..2 {
        let body =
            format!("{{\"Name\":\"{twin}\",\"Labels\":{{\"bluegreen.test\":\"{}\"}}}}", stage.run.id());
        let made = process::output(
            "curl",
            ["-sf", "--unix-socket", "/var/run/docker.sock", "-H", "content-type: application/json", "-d"]
                .into_iter()
                .chain([body.as_str(), "http://docker/networks/create"]),
        );
        made.expect("the Engine makes a network");
    }
    let image = stage.image("v3", &AppImage::version("v3"));
    let ran = stage.watched(&["v2"], || stage.bluegreen(&["deploy", "--image", &image]));
    let twice = format!("network {twin} cannot be used: there are 2 networks of that name");
    ran.expect(20).says(&[&twice, "remove all but one by", "next: docker network ls", "app:v2"]);
    stage.serves("v2");
    assert_eq!(stage.containers(&[]).len(), 1, "the candidate is left");
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_configuration_that_is_wrong_is_shown_with_its_line_before_anything_is_touched() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image("v2", &AppImage::version("v2"));
    let path = stage.dir().join("bluegreen.toml");
    let sound = std::fs::read_to_string(&path).expect("a configuration");
    let next_line = sound.trim_end().lines().count() + 1;
    let before = stage.world();
    for (line, says) in [
        ("memroy = \"1g\"", &["memroy", "memory"][..]),
        ("memory = \"lots\"", &["lots"]),
        ("health = { http = \"health\" }", &["\"health\" is not a path"]),
        ("health = { deadline = \"0s\" }", &["zero leaves no time to become healthy"]),
        ("[app.WEB", &[]),
    ] {
        write(&path, &format!("{}\n{}\n", sound.trim_end(), line.replace("WEB", &stage.app)));
        let ran = stage.watched(&["v1"], || stage.bluegreen(&["deploy", "--image", &image]));
        let at = format!("bluegreen.toml:{next_line}:");
        ran.expect(2).says(&[&at, "nothing touched"]).says(says);
        assert_eq!(stage.world(), before, "something was touched");
    }
    // The same for what is on the command line.
    write(&path, &sound);
    for arguments in
        [&["deploy", "--image", "UPPER/case"][..], &["deploy", "--image-definitions", "none.json"]]
    {
        stage.bluegreen(arguments).expect(2);
    }
    assert_eq!(stage.world(), before, "something was touched");
    stage.serves("v1");
}

/// The command where its state directory is a disk of its own that is full, seen by nobody else and gone with it.
fn on_full_disk(stage: &Stage, state: &Path, pages: u64, arguments: &[&str]) -> Command {
    // What is there already is there too; the rest is taken, but for so many pages.
    let script = "set -e; state=$1; shift; copy=$(mktemp -d); cp -a \"$state/.\" \"$copy\"
        mount -t tmpfs -o size=64k,mode=700 none \"$state\"; cp -a \"$copy/.\" \"$state\"; rm -r \"$copy\"
        dd if=/dev/zero of=\"$state/full\" bs=4k status=none 2>/dev/null || true
        truncate -s -$(($pages * 4096)) \"$state/full\"; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command
        .env("pages", pages.to_string())
        .arg(state)
        .arg(program())
        .args(["--state-dir", &state.display().to_string()]);
    command.args(arguments).current_dir(stage.dir()).env_remove("DEPLOYMENT_ID").stdin(Stdio::null());
    command
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_state_directory_that_is_full_or_no_directory_is_refused_before_anything_is_touched() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image("v2", &AppImage::version("v2"));
    let check = "to do: check the state directory: it must be writable and have free space";
    // Not where it is on record: that there is another would be the first thing to say.
    std::fs::rename(stage.dir().join("state"), stage.dir().join("aside")).expect("its state");
    let empty = stage.dir().join("empty");
    std::fs::create_dir(&empty).expect("a directory");
    let mut command = on_full_disk(&stage, &empty, 0, &["deploy", "--image", &image]);
    stage.refuses(&mut command, &["No space left on device", check]);

    write(&stage.dir().join("a-file"), "");
    for arguments in [["--state-dir", "a-file"], ["--state-dir", "a-file/below"]] {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .args(["deploy", "--image", &image])
            .current_dir(stage.dir())
            .stdin(Stdio::null());
        stage.refuses(&mut command, &["directory", check]);
    }
}

/// What a tmpfs gives room in.
const PAGE: u64 = 4096;
/// The records of some steps: about 100 bytes each.
const STEPS: u64 = 500;

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn a_state_directory_that_fills_up_in_the_middle_takes_the_deploy_back() {
    let stage = Stage::with_v1(Kind::HostLive);
    let image = stage.image("v2", &AppImage::version("v2"));
    // Room for the record with which a run begins, and some few of the steps' after it. A variable makes that first
    // record as long as it takes to leave just that in the journal's last page.
    let path = stage.dir().join("state").join(&stage.app).join("journal");
    let journal = std::fs::read_to_string(path).expect("a journal");
    let begun = journal.find('\n').expect("a first record") as u64;
    let (in_last, wanted) = ((PAGE - journal.len() as u64 % PAGE) % PAGE, begun + STEPS);
    let pages = u64::from(in_last < wanted);
    let pad = "x".repeat(usize::try_from(in_last + pages * PAGE - wanted).expect("less than two pages"));
    stage.configure(&format!("[app.WEB.env]\nPAD = \"{pad}\""));
    let state = stage.dir().join("state");
    let mut command = on_full_disk(&stage, &state, pages, &["deploy", "--image", &image]);
    let ran = stage.watched(&["v1", "v2"], || ran(&mut command));
    ran.expect(20).says(&[
        "No space left on device",
        "to do: check the state directory",
        "serving now: blue",
    ]);
    stage.serves("v1");
    assert_eq!(stage.containers(&[]), [stage.place("blue")], "the candidate is left");
    // With room again the same deploy simply works.
    stage.watched(&["v1", "v2"], || stage.deploy("v2"));
    stage.serves("v2");
}
