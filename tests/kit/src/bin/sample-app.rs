//! The application that tests and the demo deploy: a small HTTP server, linked statically so that it runs in
//! an image made `FROM scratch`. It behaves, or misbehaves, as its environment says:
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `VERSION` | `dev` | what it says it is: the body of `GET /` and the header `x-version` |
//! | `PORT`, `HOST` | `3000`, `0.0.0.0` | where it listens |
//! | `START_DELAY_MS` | `0` | refuses connections that long after its start |
//! | `LOG_LINE` | `listening on localhost:PORT` | the line it prints once it is ready |
//! | `ON_TERM` | `drain` | `drain`: finish what is in flight, then exit 0; `exit`: die at once; `ignore` |
//! | `HEALTH` | `ok` | `ok`, `500`, `301`, `hang`, or `never-log`: healthy, but never prints `LOG_LINE` |
//! | `EXIT_AFTER_MS`, `EXIT_CODE` | unset, `1` | exits by itself that long after its start |
//! | `OOM` | unset | `1`: once ready, takes memory until it is killed |
//!
//! It speaks HTTP/1.1 and HTTP/2 without TLS on the same port, answers any unary gRPC call with its version, and
//! echoes WebSockets at `/ws`, which it closes with 1001 at SIGTERM when `ON_TERM` is `drain`.
//!
//! `sample-app healthcheck` asks its own `/health` once and exits 0 or 1: a scratch image has no curl.

#![allow(
    clippy::disallowed_methods,
    reason = "a program configured by its environment, whose exit without clean-up is sometimes the point"
)]

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bluegreen_testkit::ws;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::{conn::auto, graceful::GracefulShutdown};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

type Reply = Response<BoxBody<Bytes, Infallible>>;

/// What the environment asks for.
struct Settings {
    version: String,
    /// The container id, as Docker sets it: tells two instances of one version apart.
    instance: String,
    health: String,
    /// Says true once it goes away. WebSockets hold a receiver each, so that it is known when the last is closed.
    going: watch::Receiver<bool>,
}

fn env(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|v| !v.is_empty()).unwrap_or_else(|| default.to_owned())
}

fn env_ms(name: &str) -> Option<Duration> {
    std::env::var(name).ok()?.parse().ok().map(Duration::from_millis)
}

/// A container's log is a pipe: without the flush a line would wait for a full buffer.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listening is no reason to stop serving.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn main() -> ExitCode {
    let port = env("PORT", "3000");
    match std::env::args().nth(1).as_deref() {
        None | Some("serve") => serve(&port),
        Some("healthcheck") => healthcheck(&port),
        Some(other) => {
            eprintln!("sample-app: unknown command {other:?}; known: serve (the default), healthcheck");
            ExitCode::from(2)
        }
    }
}

fn healthcheck(port: &str) -> ExitCode {
    let attempt = || -> std::io::Result<bool> {
        let address: SocketAddr = format!("127.0.0.1:{port}").parse().map_err(std::io::Error::other)?;
        let limit = Duration::from_secs(2);
        let mut stream = std::net::TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(&head == b"HTTP/1.1 200")
    };
    match attempt() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            say("unhealthy: not 200");
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("unhealthy: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(port: &str) -> ExitCode {
    let (go, going) = watch::channel(false);
    let settings = Arc::new(Settings {
        version: env("VERSION", "dev"),
        instance: env("HOSTNAME", "-"),
        health: env("HEALTH", "ok"),
        going,
    });
    let on_term = env("ON_TERM", "drain");
    // As the first process of a container it has no default action for a signal: handlers come first of all.
    let mut term = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
    let mut interrupt = signal(SignalKind::interrupt()).expect("a handler for SIGINT");
    say(&format!("starting version={}", settings.version));

    if let Some(after) = env_ms("EXIT_AFTER_MS") {
        let code = env("EXIT_CODE", "1").parse().unwrap_or(1);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            say(&format!("exiting with {code}, as EXIT_AFTER_MS asks"));
            std::process::exit(code);
        });
    }
    if let Some(delay) = env_ms("START_DELAY_MS") {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = term.recv(), if on_term != "ignore" => return ExitCode::from(143),
            _ = interrupt.recv() => return ExitCode::from(130),
        }
    }
    let address = format!("{}:{port}", env("HOST", "0.0.0.0"));
    let listener = match TcpListener::bind(&address).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("sample-app: cannot listen on {address}: {error}");
            return ExitCode::FAILURE;
        }
    };
    if settings.health != "never-log" {
        say(&env("LOG_LINE", &format!("listening on localhost:{port}")));
    }
    if env("OOM", "") == "1" {
        std::thread::spawn(take_memory);
    }

    let builder = auto::Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Small answers must not wait for the acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                let settings = Arc::clone(&settings);
                let service = service_fn(move |request| answer(request, Arc::clone(&settings)));
                let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
                let connection = graceful.watch(connection);
                tokio::spawn(connection);
            }
            _ = term.recv() => match on_term.as_str() {
                "exit" => std::process::exit(143),
                "ignore" => say("SIGTERM ignored, as ON_TERM asks"),
                _ => break,
            },
            _ = interrupt.recv() => break,
        }
    }
    say("draining");
    drop(listener);
    let _ = go.send(true);
    graceful.shutdown().await;
    drop(settings);
    // A client that never answers the close must not hold up the end.
    let _ = tokio::time::timeout(Duration::from_secs(2), go.closed()).await;
    say("drained");
    ExitCode::SUCCESS
}

/// Takes and touches memory until the kernel ends it.
fn take_memory() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(vec![1; 4 << 20]);
        std::hint::black_box(&taken);
    }
}

async fn answer(mut request: Request<Incoming>, settings: Arc<Settings>) -> Result<Reply, Infallible> {
    let version = settings.version.as_str();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let number = |name: &str, default: u64| query_number(&query, name).unwrap_or(default);
    let identity = format!("version={version}\n");
    if request
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    {
        return Ok(grpc(request.into_body(), version).await);
    }
    let mut reply = match (request.method(), path.as_str()) {
        (&Method::GET, "/ws") => upgrade(&mut request, &settings),
        (&Method::GET | &Method::HEAD, "/") => text(StatusCode::OK, identity),
        (&Method::GET | &Method::HEAD, "/health") => health(&settings.health).await,
        (&Method::POST | &Method::PUT, "/echo") => match body_length(request.into_body()).await {
            Some(length) => text(StatusCode::OK, format!("length={length}\n")),
            None => text(StatusCode::BAD_REQUEST, "the body ended early\n".to_owned()),
        },
        (&Method::GET, "/slow") => {
            tokio::time::sleep(Duration::from_millis(number("ms", 500))).await;
            text(StatusCode::OK, identity)
        }
        (&Method::GET, "/stream") => {
            let chunks = number("chunks", 10).max(1);
            let pause = Duration::from_millis(number("ms", 1000) / chunks);
            let version = version.to_owned();
            pieces(chunks, pause, move |n| format!("version={version} chunk={n}\n"), "text/plain")
        }
        (&Method::GET, "/sse") => {
            let pause = Duration::from_millis(100);
            let events = (number("ms", 1000) / 100).max(1);
            let version = version.to_owned();
            pieces(
                events,
                pause,
                move |n| format!("id: {n}\ndata: version={version}\n\n"),
                "text/event-stream",
            )
        }
        _ => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    for (name, value) in [("x-version", version), ("x-instance", &settings.instance)] {
        if let Ok(value) = value.parse() {
            reply.headers_mut().insert(name, value);
        }
    }
    Ok(reply)
}

/// A unary gRPC call: whatever was asked, the version comes back, in one message and with trailers.
async fn grpc(body: Incoming, version: &str) -> Reply {
    let status = if body_length(body).await.is_some_and(|length| length >= 5) { "0" } else { "13" };
    let mut message = BytesMut::from(&[0][..]);
    message.extend((version.len() as u32).to_be_bytes());
    message.extend(version.as_bytes());
    let mut trailers = hyper::HeaderMap::new();
    trailers.insert("grpc-status", status.parse().expect("a valid header"));
    let body = Full::from(message.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut reply = Response::new(BoxBody::new(body));
    reply.headers_mut().insert("content-type", "application/grpc".parse().expect("a valid header"));
    if let Ok(version) = version.parse() {
        reply.headers_mut().insert("x-version", version);
    }
    reply
}

/// Makes the connection a WebSocket that echoes, each text with the version before it.
fn upgrade(request: &mut Request<Incoming>, settings: &Settings) -> Reply {
    let key = request.headers().get("sec-websocket-key").and_then(|key| key.to_str().ok());
    let Some(accept) = key.map(ws::accept) else {
        return text(StatusCode::BAD_REQUEST, "no WebSocket key\n".to_owned());
    };
    let (upgrade, version) = (hyper::upgrade::on(request), settings.version.clone());
    let going = settings.going.clone();
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            echo(TokioIo::new(upgraded), &version, going).await;
        }
    });
    let mut reply = text(StatusCode::SWITCHING_PROTOCOLS, String::new());
    for (name, value) in
        [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", accept.as_str())]
    {
        reply.headers_mut().insert(name, value.parse().expect("a valid header"));
    }
    reply
}

async fn echo(stream: TokioIo<hyper::upgrade::Upgraded>, version: &str, mut going: watch::Receiver<bool>) {
    let (mut from, mut to) = tokio::io::split(stream);
    let (sender, mut frames) = mpsc::channel(1);
    // A read must not be dropped halfway through a frame.
    tokio::spawn(async move {
        while let Ok(frame) = ws::read(&mut from).await {
            if sender.send(frame).await.is_err() {
                return;
            }
        }
    });
    let mut closing = false;
    loop {
        let frame = tokio::select! {
            frame = frames.recv() => frame,
            () = async { drop(going.wait_for(|going| *going).await) }, if !closing => {
                closing = true;
                if ws::write(&mut to, &ws::Frame::Close(ws::GOING_AWAY), false).await.is_err() {
                    return;
                }
                continue;
            }
        };
        match frame {
            Some(ws::Frame::Text(text)) if !closing => {
                let reply = ws::Frame::Text(format!("{version} {text}"));
                if ws::write(&mut to, &reply, false).await.is_err() {
                    return;
                }
            }
            Some(ws::Frame::Close(code)) => {
                if !closing {
                    let _ = ws::write(&mut to, &ws::Frame::Close(code), false).await;
                }
                return;
            }
            Some(_) => {}
            None => return,
        }
    }
}

async fn health(kind: &str) -> Reply {
    match kind {
        "500" => text(StatusCode::INTERNAL_SERVER_ERROR, "unhealthy, as HEALTH asks\n".to_owned()),
        "301" => {
            let mut reply = text(StatusCode::MOVED_PERMANENTLY, String::new());
            reply.headers_mut().insert("location", "/".parse().expect("a valid header"));
            reply
        }
        "hang" => std::future::pending().await,
        _ => text(StatusCode::OK, "ok\n".to_owned()),
    }
}

async fn body_length(mut body: Incoming) -> Option<usize> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.ok()?.data_ref().map_or(0, Bytes::len);
    }
    Some(length)
}

fn query_number(query: &str, name: &str) -> Option<u64> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

fn text(status: StatusCode, body: String) -> Reply {
    let mut reply = Response::new(BoxBody::new(Full::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert("content-type", "text/plain".parse().expect("a valid header"));
    reply
}

/// A chunked answer: one piece now, the others each after a pause.
fn pieces(
    count: u64,
    pause: Duration,
    piece: impl Fn(u64) -> String + Send + 'static,
    content_type: &'static str,
) -> Reply {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for n in 1..=count {
            if sender.send(Bytes::from(piece(n))).await.is_err() {
                return; // the reader went away
            }
            tokio::time::sleep(pause).await;
        }
    });
    let mut reply = Response::new(BoxBody::new(Pieces(receiver)));
    reply.headers_mut().insert("content-type", content_type.parse().expect("a valid header"));
    reply
}

struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}
