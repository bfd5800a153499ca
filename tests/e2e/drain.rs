//! What is in flight at a switch ends well, also when the application dies at once on SIGTERM.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::Duration;

use bluegreen_testkit::docker::AppImage;

use crate::stage::{Kind, Stage};

/// How much of an upload is sent before the switch, and how much after it.
const HALF: usize = 100_000;

fn connect(stage: &Stage) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", stage.nginx.port())).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

/// The whole answer to a request that closes its connection.
fn answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    format!(
        "{}{}",
        String::from_utf8_lossy(&answer),
        end.err().map(|error| format!(" {error}")).unwrap_or_default()
    )
}

fn ask(stage: &Stage, path: &str) -> JoinHandle<String> {
    let mut stream = connect(stage);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    std::thread::spawn(move || answer(stream))
}

fn spans_the_switch(kind: Kind) {
    let stage = Stage::live_with(kind, "[app.WEB.drain]\ntimeout = \"20s\"");
    let dies = stage.image("v1", &AppImage::version("v1").env("ON_TERM", "exit"));
    stage.bluegreen(&["deploy", "--image", &dies]).expect(0);
    let slow: Vec<_> = (0..20).map(|_| ask(&stage, "/slow?ms=5000")).collect();
    let streams: Vec<_> = (0..10).map(|_| ask(&stage, "/stream?ms=5000&chunks=10")).collect();
    let uploads: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut stream = connect(&stage);
            let head = format!(
                "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                2 * HALF
            );
            stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(&[b'x'; HALF]))
                .expect("half of it");
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    let ran = stage.deploy("v2");
    eprintln!("{}{}", ran.err, ran.out);
    assert_eq!(stage.running(), [format!("{}-green", stage.app)], "the previous one is gone by now");
    for answer in slow.into_iter().map(|asked| asked.join().expect("no panic")) {
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("version=v1\n"), "{answer}");
    }
    for answer in streams.into_iter().map(|asked| asked.join().expect("no panic")) {
        assert!(answer.contains("version=v1 chunk=10\n") && answer.ends_with("0\r\n\r\n"), "{answer}");
    }
    for mut upload in uploads {
        upload.write_all(&[b'x'; HALF]).expect("the other half");
        let answer = answer(upload);
        // Nobody was connected to on its behalf before: it is the candidate that gets it, whole.
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-version: v2"), "{answer}");
        assert!(answer.ends_with(&format!("length={}\n", 2 * HALF)), "{answer}");
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn what_spans_a_switch_ends_well_with_nginx_on_the_host() {
    spans_the_switch(Kind::HostLive);
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn what_spans_a_switch_ends_well_with_nginx_in_a_container() {
    spans_the_switch(Kind::ContainerLive);
}
