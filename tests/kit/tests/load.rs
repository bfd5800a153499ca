//! The load client against a server that misbehaves on purpose: each way to lose a request has to be seen, and
//! called by its name. A client that misses one would make every other test of this project worthless.

#![allow(clippy::disallowed_methods, reason = "real sockets live in real time")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bluegreen_testkit::load::{Config, FailureKind, Handle, Mode, Report, Target};

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nx-version: v1\r\ncontent-length: 11\r\n\r\nversion=v1\n";

/// Serves each request with `behave(request number on this connection, stream)`, which says whether the
/// connection goes on.
fn server(behave: impl Fn(usize, &mut TcpStream) -> bool + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let behave = Arc::new(behave);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            let behave = Arc::clone(&behave);
            std::thread::spawn(move || {
                let mut n = 0;
                while read_request(&mut stream) && behave(n, &mut stream) {
                    n += 1;
                }
            });
        }
    });
    address
}

fn read_request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut byte = [0; 1];
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => return false,
        }
    }
    let head = String::from_utf8_lossy(&seen).to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).is_ok()
}

fn load_for(address: SocketAddr, mode: Mode, ms: u64) -> Report {
    let target = Target::parse(&format!("http://{address}/")).expect("a loopback address");
    let config = Config::new(target).with(mode, 1).timeout(Duration::from_millis(200));
    let handle = Handle::spawn(config);
    std::thread::sleep(Duration::from_millis(ms));
    // On a busy machine that may have been too short to send anything.
    handle.wait_until(Duration::from_secs(20), |report| report.total.requests > 2);
    handle.stop()
}

#[track_caller]
fn only(report: &Report, kind: FailureKind) {
    assert!(report.count(kind) > 0, "no {} in\n{report}", kind.name());
    assert_eq!(report.count(kind), report.total.failed, "other failures too:\n{report}");
}

/// With `linger 0` a close sends RST instead of FIN.
fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).expect("SO_LINGER");
}

#[test]
fn a_good_server_loses_nothing() {
    let address = server(|_, stream| stream.write_all(GOOD).is_ok());
    let report = load_for(address, Mode::Keepalive, 300);
    report.assert_lossless();
    assert_eq!(report.total.versions.keys().collect::<Vec<_>>(), ["v1"]);
    assert!(report.total.requests > 100, "{report}");
    assert!(report.total.latency.p50_ms > 0.0 && report.total.latency.p50_ms <= report.total.latency.max_ms);
    assert!(report.versions["v1"].first_ms < report.versions["v1"].last_ms);
}

#[test]
fn refused() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("an address")
    };
    only(&load_for(address, Mode::New, 100), FailureKind::Refused);
}

#[test]
fn reset_before_a_byte() {
    let address = server(|_, stream| {
        reset(stream);
        false
    });
    only(&load_for(address, Mode::New, 100), FailureKind::Reset);
}

#[test]
fn closed_without_a_byte() {
    let address = server(|_, _| false);
    only(&load_for(address, Mode::New, 100), FailureKind::EofWithoutAByte);
}

#[test]
fn truncated_head_body_chunk_and_by_reset() {
    let pieces: [&[u8]; 5] = [
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nversi",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
    ];
    for piece in pieces {
        let address = server(move |_, stream| stream.write_all(piece).is_err());
        only(&load_for(address, Mode::New, 60), FailureKind::Truncated);
    }
    let address = server(move |_, stream| {
        let _ = stream.write_all(pieces[2]);
        std::thread::sleep(Duration::from_millis(10)); // or the reset overtakes the bytes
        reset(stream);
        false
    });
    only(&load_for(address, Mode::New, 100), FailureKind::Truncated);
}

#[test]
fn statuses() {
    for (status, kind) in [
        ("502 Bad Gateway", FailureKind::Status5xx),
        ("404 Not Found", FailureKind::StatusOther),
        ("301 Moved Permanently", FailureKind::StatusOther),
    ] {
        let reply = format!("HTTP/1.1 {status}\r\nx-version: v7\r\ncontent-length: 0\r\n\r\n");
        let address = server(move |_, stream| stream.write_all(reply.as_bytes()).is_ok());
        let report = load_for(address, Mode::New, 60);
        only(&report, kind);
        assert_eq!(report.failures[0].version.as_deref(), Some("v7"));
        assert_eq!(report.failures[0].mode, "new");
    }
}

#[test]
fn timeout() {
    let address = server(|_, _| {
        std::thread::sleep(Duration::from_secs(2));
        false
    });
    only(&load_for(address, Mode::Keepalive, 300), FailureKind::Timeout);
}

#[test]
fn wrong_content_and_not_http() {
    for reply in [
        &b"HTTP/1.1 200 OK\r\nx-version: v2\r\ncontent-length: 11\r\n\r\nversion=v1\n"[..],
        &b"SSH-2.0-hello\r\n\r\n"[..],
    ] {
        let address = server(move |_, stream| stream.write_all(reply).is_ok());
        only(&load_for(address, Mode::Keepalive, 60), FailureKind::Wrong);
    }
}

/// The keep-alive race, made certain: the server answers once and closes at once. Who looks before sending
/// opens another connection; who does not loses each second request.
#[test]
fn a_close_in_a_pause_hits_the_naive_and_not_the_careful() {
    let close_after_one = |_, stream: &mut TcpStream| {
        let _ = stream.write_all(GOOD);
        let _ = stream.shutdown(Shutdown::Both);
        false
    };
    load_for(server(close_after_one), Mode::Gaps, 500).assert_lossless();
    let naive = load_for(server(close_after_one), Mode::Naive, 500);
    assert!(naive.total.failed > 0, "{naive}");
    assert!(naive.failures.iter().all(|failure| failure.reused), "{naive}");
    assert_eq!(
        naive.total.failed,
        naive.count(FailureKind::EofWithoutAByte) + naive.count(FailureKind::Reset),
        "{naive}"
    );
}

/// No request is ever sent twice: the server sees as many as the report counts.
#[test]
fn nothing_is_retried() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let address = server(|_, stream| {
        let n = SEEN.fetch_add(1, Ordering::SeqCst);
        !n.is_multiple_of(3) && stream.write_all(GOOD).is_ok()
    });
    for mode in [Mode::New, Mode::Keepalive, Mode::Gaps, Mode::Post] {
        SEEN.store(0, Ordering::SeqCst);
        let report = load_for(address, mode, 300);
        assert_eq!(report.total.requests, SEEN.load(Ordering::SeqCst) as u64, "{report}");
        assert!(report.total.failed > 0, "{report}");
    }
}

#[test]
fn interim_answers_chunks_and_connection_close_are_understood() {
    let address = server(|_, stream| {
        let reply = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx-version: v1\r\nConnection: close\r\n\
            Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nversi\r\n6\r\non=v1\n\r\n0\r\ntrailer: t\r\n\r\n";
        let _ = stream.write_all(reply);
        false
    });
    load_for(address, Mode::Keepalive, 100).assert_lossless();
}

#[test]
fn an_outage_shows_as_the_gap() {
    let start = std::time::Instant::now();
    let address = server(move |_, stream| {
        let ms = start.elapsed().as_millis();
        let reply: &[u8] =
            if (150..350).contains(&ms) { b"HTTP/1.1 503 Down\r\ncontent-length: 0\r\n\r\n" } else { GOOD };
        stream.write_all(reply).is_ok()
    });
    let report = load_for(address, Mode::Keepalive, 600);
    assert!((150.0..400.0).contains(&report.total.longest_gap_ms), "{report}");
    only(&report, FailureKind::Status5xx);
}

#[test]
fn strangers_are_refused_and_bad_addresses_explained() {
    for (url, word) in [
        ("http://192.0.2.1/", "neither loopback nor private"),
        ("ftp://127.0.0.1/", "http://"),
        ("http://127.0.0.1:x/", "port"),
    ] {
        let error = Target::parse(url).expect_err(url).to_string();
        assert!(error.contains(word), "{url}: {error}");
    }
    Target::parse("http://10.1.2.3:80/app").expect("a private address");
    Target::parse("http://[::1]:8080").expect("loopback");
    Target::parse_any_host("http://192.0.2.1/").expect("allowed");
}
