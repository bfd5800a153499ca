//! One HTTP/2 connection with several requests on it at once, with TLS or by prior knowledge. hyper's connection
//! sends what it is given once and repeats nothing; its pools, which do, are not used.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::watch;

use super::client::{Answer, Bad};
use super::report::Recorder;
use super::transport::Transport;
use super::{Config, FailureKind, Mode, Target, worker};

/// Requests at once on a connection.
const STREAMS: usize = 4;

/// A gRPC message of no fields.
const EMPTY_MESSAGE: &[u8] = &[0, 0, 0, 0, 0];

type Sender = SendRequest<Full<Bytes>>;

pub(super) async fn run(
    mode: Mode,
    config: Arc<Config>,
    mut end: watch::Receiver<bool>,
    recorder: Arc<Mutex<Recorder>>,
) {
    let mut idle: Option<Sender> = None;
    let lock = || recorder.lock().expect("no worker panics while it counts");
    while !*end.borrow() {
        // A connection that the server has closed in good order (GOAWAY) is no loss: nothing was sent on it.
        let mut open = idle.take();
        if let Some(sender) = &mut open
            && sender.ready().await.is_err()
        {
            open = None;
        }
        let (sent, reused) = (Instant::now(), open.is_some());
        let sender = match open {
            Some(sender) => sender,
            None => match connect(&config).await {
                Ok(sender) => sender,
                Err(bad) => {
                    lock().bad(mode, sent, reused, bad);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            },
        };
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..STREAMS {
            let (config, mut sender) = (Arc::clone(&config), sender.clone());
            requests.spawn(async move {
                let late = |_| {
                    Err(Bad::new(FailureKind::Timeout, format!("no complete answer in {:?}", config.timeout)))
                };
                tokio::time::timeout(config.timeout, exchange(mode, &mut sender, &config.target))
                    .await
                    .unwrap_or_else(late)
            });
        }
        let mut failed = false;
        while let Some(ended) = requests.join_next().await {
            match ended
                .expect("a request does not panic")
                .and_then(|answer| worker::check(mode, &answer).map(|()| answer))
            {
                Ok(answer) => lock().good(mode, answer.version.as_deref(), sent),
                Err(bad) => {
                    failed = true;
                    lock().bad(mode, sent, reused, bad);
                }
            }
        }
        idle = Some(sender);
        let pause = Duration::from_millis(if failed { 5 } else { 2 });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = end.wait_for(|end| *end) => {}
        }
    }
}

async fn connect(config: &Config) -> Result<Sender, Bad> {
    let open = async {
        let stream = Transport::open(&config.target, b"h2").await?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| bad(FailureKind::NoConnection, &error))?;
        tokio::spawn(connection);
        Ok(sender)
    };
    let late = |_| Err(Bad::new(FailureKind::NoConnection, "no connection in time"));
    tokio::time::timeout(config.timeout, open).await.unwrap_or_else(late)
}

async fn exchange(mode: Mode, sender: &mut Sender, target: &Target) -> Result<Answer, Bad> {
    let scheme = if target.tls { "https" } else { "http" };
    let base = format!("{scheme}://{}{}", target.host, target.path);
    let request = if mode == Mode::Grpc {
        Request::builder()
            .method(Method::POST)
            .uri(format!("{base}bluegreen.Sample/Version"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::from(EMPTY_MESSAGE))
    } else {
        Request::builder().uri(base).body(Full::default())
    };
    let request = request.map_err(|error| Bad::new(FailureKind::Wrong, error.to_string()))?;
    let reply = sender.send_request(request).await.map_err(|error| bad(FailureKind::Reset, &error))?;
    let version = reply.headers().get("x-version").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let status = reply.status().as_u16();
    // nginx answers a failed call in the headers alone.
    let early = reply.headers().get("grpc-status").cloned();
    let body = reply.into_body().collect().await.map_err(|error| {
        let mut bad = bad(FailureKind::Truncated, &error);
        bad.version.clone_from(&version);
        bad
    })?;
    let grpc = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned()).or(early);
    let body = body.to_bytes();
    if mode == Mode::Grpc && status == 200 {
        let right = version.as_ref().is_some_and(|version| body.get(5..) == Some(version.as_bytes()));
        if grpc.as_ref().is_none_or(|status| status.as_bytes() != b"0") || !right {
            let detail = format!("grpc-status {grpc:?}, message {body:?}");
            // 14 is what a gRPC library shows for a connection that is gone.
            let gone = grpc.is_some_and(|status| status.as_bytes() == b"14");
            let kind = if gone { FailureKind::Status5xx } else { FailureKind::Wrong };
            return Err(Bad::new(kind, detail));
        }
    }
    Ok(Answer { status, version, body: body.to_vec(), keep: true })
}

/// An error with its causes: hyper's own words name only the layer.
fn bad(kind: FailureKind, error: &dyn std::error::Error) -> Bad {
    let mut detail = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        detail = format!("{detail}: {error}");
        cause = error.source();
    }
    Bad::new(kind, detail)
}
