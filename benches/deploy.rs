//! From the command's start to the first answer of the new version at a client.
//!
//! ```text
//! cargo bench --bench deploy            10 rounds; BENCH_ROUNDS=3 for fewer
//! ```
//!
//! In each round, one after the other:
//!
//! - the floor: Docker's own create and start of the same image with the same ports or address, by the Engine's
//!   API, to the application's own first answer. It contains the application's start-up. The client asks nginx
//!   meanwhile, as it does in the others;
//! - `bluegreen deploy` of a new version, to its first answer through nginx;
//! - for nginx in a container: what people did before, a shell script with the docker command line that waits for
//!   a log line once a second, edits nginx's file with sed, reloads, stops and removes. The script is given the
//!   image; its login, pull and prune are left out.
//!
//! The budget of the project is 60 ms beyond the floor.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks and the environment")]

#[path = "../tests/e2e/stage.rs"]
mod stage;

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Instant;

use bluegreen_testkit::docker::{AppImage, Network, docker, free_port};
use bluegreen_testkit::nginx::{Nginx, NginxContainer, NginxVersion};
use common::{Asking, Table, first_answer, median, ms, range, rounds};
use serde_json::{Value, json};
use stage::{Kind, Stage};

const SCRIPT: &str = r#"
set -eu
name=$1 from=$2 to=$3 network=$4 image=$5 conf=$6 nginx=$7 publish=$8
docker rm -f "$name-$to" >/dev/null 2>&1 || true
docker run -d --name "$name-$to" --network "$network" -p "127.0.0.1:$publish:3000" "$image" >/dev/null
for _ in $(seq 30); do
  if docker logs "$name-$to" 2>&1 | tail -n 1 | grep -q 'localhost:3000'; then ready=1; break; fi
  sleep 1
done
[ "${ready:-}" ]
sed -i "s/$name-$from/$name-$to/g" "$conf"
docker exec "$nginx" nginx -s reload 2>/dev/null
if [ "$from" != none ]; then docker stop "$name-$from" >/dev/null; docker rm "$name-$from" >/dev/null; fi
"#;

fn main() {
    let rounds = rounds(10);
    let mut table = Table::new(&[
        "nginx",
        "app's own start",
        "way",
        "first answer, ms",
        "range",
        "beyond Docker and the app, ms",
        "ratio",
    ]);
    for kind in [Kind::HostLive, Kind::ContainerLive] {
        for delay in [0, 300] {
            measure(kind, delay, rounds, &mut table);
        }
    }
    table.print(&format!("From the command's start to the new version's first answer (medians of {rounds})"));
}

fn measure(kind: Kind, delay: u32, rounds: usize, table: &mut Table) {
    let stage = Stage::live_with(kind, "[app.WEB.health]\nhttp = \"/health\"");
    let image = |version: &str| {
        let image = AppImage::version(version).env("START_DELAY_MS", &delay.to_string());
        stage.image(version, &image)
    };
    let old = (kind == Kind::ContainerLive).then(|| Script::new(&stage));
    // The first deploy is another job: it makes directories, and nothing was there before.
    stage.bluegreen(&["deploy", "--image", &image("warm")]).expect(0);
    stage.bluegreen(&["deploy", "--image", &image("warm-2")]).expect(0);
    if let Some(script) = &old {
        script.deploy(&stage, &image("script-warm"), "script-warm");
    }
    let (mut floor, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let name = format!("floor-{round}");
        floor.push(create_and_start(&stage, &image(&name), &name));
        let name = format!("ours-{round}");
        let image_name = image(&name);
        let client = first_answer(([127, 0, 0, 1], stage.nginx.port()).into(), &name);
        let began = Instant::now();
        stage.bluegreen(&["deploy", "--image", &image_name]).expect(0);
        ours.push(ms(client.join().expect("a client").duration_since(began)));
        if let Some(script) = &old {
            let name = format!("script-{round}");
            theirs.push(script.deploy(&stage, &image(&name), &name));
        }
    }
    let own = format!("{delay} ms");
    let place = if kind == Kind::HostLive { "host, ports on loopback" } else { "container, fixed addresses" };
    let base = median(&floor);
    let mut row = |way: &str, times: &[f64]| {
        let (median, range) = (median(times), range(times));
        let beyond =
            if way.starts_with("Docker") { "–".to_owned() } else { format!("{:.0}", median - base) };
        table.row(&[
            place.to_owned(),
            own.clone(),
            way.to_owned(),
            format!("{median:.0}"),
            range,
            beyond,
            format!("{:.2}", median / base),
        ]);
    };
    row("Docker's create and start alone", &floor);
    row("bluegreen deploy", &ours);
    if old.is_some() {
        row("the shell script", &theirs);
    }
}

/// Docker's own part: the same container as a deploy makes, by two calls of the API.
fn create_and_start(stage: &Stage, image: &str, version: &str) -> f64 {
    let name = stage.run.name("floor");
    let mut body = json!({
        "Image": image,
        "HostConfig": { "RestartPolicy": { "Name": "unless-stopped" } },
        "ExposedPorts": { "3000/tcp": {} },
    });
    let address: SocketAddr = if let Some(network) = &stage.network {
        body["HostConfig"]["NetworkMode"] = json!(network.name);
        let ip = network.ip(20);
        body["NetworkingConfig"] =
            json!({ "EndpointsConfig": { &network.name: { "IPAMConfig": { "IPv4Address": ip } } } });
        (ip, 3000).into()
    } else {
        let port = free_port();
        body["HostConfig"]["PortBindings"] =
            json!({ "3000/tcp": [{ "HostIp": "127.0.0.1", "HostPort": port.to_string() }] });
        (Ipv4Addr::LOCALHOST, port).into()
    };
    let asking = Asking::start(([127, 0, 0, 1], stage.nginx.port()).into());
    let began = Instant::now();
    let made = engine(&format!("/containers/create?name={name}"), &body);
    let id = made["Id"].as_str().expect("an id").to_owned();
    engine(&format!("/containers/{id}/start"), &Value::Null);
    // One client at a time, as elsewhere.
    drop(asking);
    // Not earlier: a connection that is tried before there is a container is tried again by the kernel a second later.
    let answered = first_answer(address, version).join().expect("a client");
    let took = ms(answered.duration_since(began));
    docker(["rm", "--force", &id]).expect("docker rm");
    took
}

/// A POST to the Engine at its usual socket.
fn engine(path: &str, body: &Value) -> Value {
    let mut stream = UnixStream::connect("/var/run/docker.sock").expect("the Engine");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    write!(
        stream,
        "POST {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains(" 201 ") || head.contains(" 204 "), "{path}: {answer}");
    serde_json::from_str(body).unwrap_or_default()
}

/// What people did before: its own nginx in a container, which reaches the application by its container's name.
struct Script {
    nginx: NginxContainer,
    name: String,
    network: Network,
    current: std::cell::Cell<&'static str>,
    ports: [u16; 2],
}

impl Script {
    fn new(stage: &Stage) -> Self {
        let network = stage.network.clone().expect("a network");
        let nginx = NginxContainer::start(
            &stage.run,
            &stage.run.name("old"),
            NginxVersion::V1_22,
            Some(&network),
            &[],
            &[],
        )
        .expect("an nginx");
        let (name, current) = (stage.run.name("script"), std::cell::Cell::new("none"));
        Self { nginx, name, network, current, ports: [free_port(), free_port()] }
    }

    fn deploy(&self, stage: &Stage, image: &str, version: &str) -> f64 {
        let from = self.current.get();
        let (to, port) = if from == "3000" { ("4000", self.ports[1]) } else { ("3000", self.ports[0]) };
        let conf = self.nginx.conf_dir().join("default.conf");
        if from == "none" {
            // nginx does not load a file with a name that does not resolve: the first time it is written here.
            let text = format!(
                "server {{ listen 80; location / {{ proxy_pass http://{}-{to}:3000; }} }}\n",
                self.name
            );
            std::fs::write(&conf, text).expect("the script's file");
        }
        let script = stage.dir().join("old-release.sh");
        std::fs::write(&script, SCRIPT).expect("the script");
        let client = first_answer(([127, 0, 0, 1], self.nginx.port()).into(), version);
        let began = Instant::now();
        let status = Command::new("bash")
            .arg(&script)
            .args([&self.name, from, to, &self.network.name, image])
            .arg(&conf)
            .args([&self.nginx.container.name, &port.to_string()])
            .status()
            .expect("bash");
        assert!(status.success(), "the script failed");
        self.current.set(to);
        ms(client.join().expect("a client").duration_since(began))
    }
}
