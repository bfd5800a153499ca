//! The loop of one connection.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::client::{Answer, Bad, Connection};
use super::report::Recorder;
use super::{Config, FailureKind, Mode};

/// The pause in the middle of an upload: a switch or two take place in it.
const HALFWAY: Duration = Duration::from_millis(400);

/// More than nginx keeps in memory, so that it is read to the end before a connection is made.
const UPLOAD: usize = 40_000;

const POST_BODY: &str = "posted by the load client\n";

pub(super) async fn run(
    mode: Mode,
    number: u64,
    config: Arc<Config>,
    mut end: watch::Receiver<bool>,
    recorder: Arc<Mutex<Recorder>>,
) {
    let request = request(mode, &config);
    let interval = config.rate.filter(|rate| *rate > 0.0).map(|rate| Duration::from_secs_f64(1.0 / rate));
    let mut gaps = Gaps(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut idle: Option<Connection> = None;
    while !*end.borrow() {
        // A careful client that sees the close opens another connection, and loses nothing.
        if mode.looks_first() && idle.as_ref().is_some_and(Connection::is_stale) {
            idle = None;
        }
        let sent = Instant::now();
        let reused = idle.is_some();
        let attempt =
            tokio::time::timeout(config.timeout, attempt(mode, idle.take(), &config, &request)).await;
        let outcome = match attempt {
            Ok(outcome) => outcome,
            Err(_) => Err(Bad {
                kind: FailureKind::Timeout,
                version: None,
                detail: format!("no complete answer in {:?}", config.timeout),
            }),
        };
        let checked =
            outcome.and_then(|(connection, answer)| check(mode, &answer).map(|()| (connection, answer)));
        let mut pause = Duration::ZERO;
        match checked {
            Ok((connection, answer)) => {
                lock(&recorder).good(mode, answer.version.as_deref(), sent);
                if !mode.reuses() {
                    connection.close().await;
                } else if answer.keep {
                    idle = Some(connection);
                }
            }
            Err(bad) => {
                lock(&recorder).bad(mode, sent, reused, bad);
                // An outage is counted, not hammered.
                pause = Duration::from_millis(5);
            }
        }
        if mode.pauses() {
            pause = pause.max(gaps.next());
        }
        if let Some(interval) = interval {
            pause = pause.max(interval.saturating_sub(sent.elapsed()));
        }
        if pause > Duration::ZERO {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = end.wait_for(|end| *end) => {}
            }
        }
    }
}

fn lock(recorder: &Mutex<Recorder>) -> std::sync::MutexGuard<'_, Recorder> {
    recorder.lock().expect("no worker panics while it counts")
}

async fn attempt(
    mode: Mode,
    idle: Option<Connection>,
    config: &Config,
    request: &[u8],
) -> Result<(Connection, Answer), Bad> {
    let mut connection = match idle {
        Some(connection) => connection,
        None => Connection::open(&config.target).await?,
    };
    let answer = connection.exchange(request, (mode == Mode::Upload).then_some(HALFWAY)).await?;
    Ok((connection, answer))
}

fn request(mode: Mode, config: &Config) -> Vec<u8> {
    let (method, path) = mode.request();
    let super::Target { host, path: base, .. } = &config.target;
    let connection = if mode.reuses() { "keep-alive" } else { "close" };
    let mut request =
        format!("{method} {base}{path} HTTP/1.1\r\nhost: {host}\r\nconnection: {connection}\r\n");
    if method == "POST" {
        let body = if mode == Mode::Upload { "u".repeat(UPLOAD) } else { POST_BODY.to_owned() };
        request += &format!("content-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    } else {
        request += "\r\n";
    }
    request.into_bytes()
}

/// A complete answer must also be a right one: what the sample application says has a known shape.
pub(super) fn check(mode: Mode, answer: &Answer) -> Result<(), Bad> {
    let bad = |kind, detail| Err(Bad { kind, version: answer.version.clone(), detail });
    let status = answer.status;
    match status {
        200..=299 => {}
        500..=599 => return bad(FailureKind::Status5xx, status.to_string()),
        _ => return bad(FailureKind::StatusOther, status.to_string()),
    }
    // Another application than the sample has bodies of its own.
    let Some(version) = &answer.version else { return Ok(()) };
    let body = String::from_utf8_lossy(&answer.body);
    let right = match mode {
        Mode::Post if body.starts_with("length=") => body == format!("length={}\n", POST_BODY.len()),
        Mode::Upload if body.starts_with("length=") => body == format!("length={UPLOAD}\n"),
        Mode::Sse => body.matches("\n\n").count() == 50 && body.contains("id: 50\n"),
        Mode::Stream5 => body.lines().count() == 50 && body.ends_with(" chunk=50\n"),
        Mode::Stream if body.starts_with("version=") => {
            body.lines().count() == 10 && body.ends_with(" chunk=10\n")
        }
        _ if body.starts_with("version=") => body == format!("version={version}\n"),
        _ => true,
    };
    if right { Ok(()) } else { bad(FailureKind::Wrong, format!("version {version} answered {body:?}")) }
}

/// Pauses of 5 to 60 ms, different on each connection and the same in each run: xorshift64.
struct Gaps(u64);

impl Gaps {
    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(5_000 + self.0 % 55_000)
    }
}
