//! One WebSocket after another: what counts is how each ends, and whether the next one can be opened.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};

use super::client::{Bad, Connection};
use super::report::Recorder;
use super::{Config, FailureKind, Mode};
use crate::ws::{self, Frame};

/// Between two messages.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(
    mode: Mode,
    number: u64,
    config: Arc<Config>,
    end: watch::Receiver<bool>,
    recorder: Arc<Mutex<Recorder>>,
) {
    let mut first = true;
    while !*end.borrow() {
        let sent = Instant::now();
        let opened = tokio::time::timeout(config.timeout, open(&config)).await;
        let opened = opened.unwrap_or_else(|_| Err(Bad::new(FailureKind::Timeout, "no upgrade in time")));
        let ended = match opened {
            Ok(connection) => talk(mode, number, connection, &config, end.clone(), &recorder).await,
            Err(bad) => Err(bad),
        };
        if let Err(bad) = ended {
            recorder.lock().expect("nobody panics while it counts").bad(mode, sent, !first, bad);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        first = false;
    }
}

async fn open(config: &Config) -> Result<Connection, Bad> {
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    let mut connection = Connection::open(&config.target).await?;
    let super::Target { host, path, .. } = &config.target;
    let request = format!(
        "GET {path}ws HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    );
    let answer = connection.exchange(request.as_bytes(), None).await?;
    match answer.status {
        101 => Ok(connection),
        status @ 500..=599 => Err(Bad::new(FailureKind::Status5xx, format!("upgrade: {status}"))),
        status => Err(Bad::new(FailureKind::StatusOther, format!("upgrade: {status}"))),
    }
}

/// Sends and expects echoes until the server closes in good order, or the load ends.
async fn talk(
    mode: Mode,
    number: u64,
    connection: Connection,
    config: &Config,
    mut end: watch::Receiver<bool>,
    recorder: &Mutex<Recorder>,
) -> Result<(), Bad> {
    let lock = || recorder.lock().expect("nobody panics while it counts");
    let gone = |error: std::io::Error| Bad::new(FailureKind::AbruptEnd, error.to_string());
    let (read, stream) = connection.into_stream();
    let (from, mut to) = tokio::io::split(stream);
    let mut from = std::io::Cursor::new(read).chain(from);
    let (sender, mut frames) = mpsc::channel(1);
    // A read must not be dropped halfway through a frame.
    let reader = tokio::spawn(async move {
        loop {
            let frame = ws::read(&mut from).await;
            let last = frame.is_err();
            if sender.send(frame).await.is_err() || last {
                return;
            }
        }
    });
    let mut next = async || match tokio::time::timeout(config.timeout, frames.recv()).await {
        Ok(Some(frame)) => frame.map_err(gone),
        Ok(None) => Err(Bad::new(FailureKind::AbruptEnd, "no more frames")),
        Err(_) => Err(Bad::new(FailureKind::Timeout, "no frame in time")),
    };
    let mut asked = 0_u64;
    let result = loop {
        asked += 1;
        let sent = Instant::now();
        let text = format!("{number}-{asked}");
        let message = Frame::Text(text.clone());
        // A write that fails is not judged: whether the end was orderly is what the server sent before.
        let wrote = ws::write(&mut to, &message, true).await;
        match next().await {
            Ok(Frame::Text(echo)) => match echo.split_once(' ') {
                Some((version, rest)) if rest == text => lock().good(mode, Some(version), sent),
                _ => break Err(Bad::new(FailureKind::Wrong, format!("{text:?} came back as {echo:?}"))),
            },
            Ok(Frame::Close(ws::GOING_AWAY)) => {
                lock().closed_orderly(mode);
                // It may be closed already.
                let _ = ws::write(&mut to, &Frame::Close(ws::GOING_AWAY), true).await;
                break Ok(());
            }
            Ok(Frame::Close(code)) => break Err(Bad::new(FailureKind::Wrong, format!("closed with {code}"))),
            Ok(Frame::Other) => {}
            Err(bad) => break Err(bad),
        }
        if let Err(error) = wrote {
            break Err(gone(error));
        }
        if *end.borrow() {
            let _ = ws::write(&mut to, &Frame::Close(1000), true).await;
            break Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = end.wait_for(|end| *end) => {}
        }
    };
    reader.abort();
    result
}
