//! A load client that never retries: every request that is not a complete, correct 2xx is a failure, counted
//! by kind. HTTP libraries retry a request on a stale connection behind the caller's back; that hides exactly
//! the losses this one is for, so it speaks HTTP/1.1 and WebSockets over bare sockets, and HTTP/2 by a connection that
//! repeats nothing.
//!
//! It uses as many connections as it is told, each sending one request after another. It does not spread its
//! load over time: `rate` caps what one connection sends.

mod client;
mod config;
mod http2;
mod report;
mod transport;
mod websocket;
mod worker;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use config::{Config, Mode, Target};
pub use report::{Failure, FailureKind, Latency, Report, Summary, VersionSeen};

use crate::{Result, fail};
use report::Recorder;

/// Sends load until `stop` says true (or its sender is gone) or the configured duration is over. Requests in
/// flight at that moment are let finish, and counted.
pub async fn run(config: Config, stop: watch::Receiver<bool>) -> Report {
    let recorder = Arc::new(Mutex::new(Recorder::new()));
    drive(config, stop, Arc::clone(&recorder)).await;
    finish(&recorder)
}

async fn drive(config: Config, stop: watch::Receiver<bool>, recorder: Arc<Mutex<Recorder>>) {
    let (end_sender, end) = watch::channel(false);
    let mut workers = tokio::task::JoinSet::new();
    let config = Arc::new(config);
    let modes = config.modes.clone();
    let mut number = 0;
    for (mode, connections) in modes {
        for _ in 0..connections {
            number += 1;
            let (config, end, recorder) = (Arc::clone(&config), end.clone(), Arc::clone(&recorder));
            match mode {
                Mode::Http2 | Mode::Grpc => workers.spawn(http2::run(mode, config, end, recorder)),
                Mode::WebSocket => workers.spawn(websocket::run(mode, number, config, end, recorder)),
                _ => workers.spawn(worker::run(mode, number, config, end, recorder)),
            };
        }
    }
    let bound = async {
        match config.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = told(stop) => {}
        () = bound => {}
    }
    recorder.lock().expect("no worker panicked").stopped = Some(Instant::now());
    // Workers hold receivers of their own; with none left there is nobody to tell.
    let _ = end_sender.send(true);
    while let Some(ended) = workers.join_next().await {
        ended.expect("a load worker does not panic");
    }
}

/// Resolves when the receiver holds true or can no longer change.
async fn told(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn finish(recorder: &Mutex<Recorder>) -> Report {
    recorder.lock().expect("no worker panicked").report()
}

/// Load that runs in a thread of its own until it is stopped, so that it is not slowed by what the test does.
#[derive(Debug)]
pub struct Handle {
    stop: watch::Sender<bool>,
    recorder: Arc<Mutex<Recorder>>,
    started: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Starts the load.
    pub fn spawn(config: Config) -> Self {
        let (stop, stopped) = watch::channel(false);
        let recorder = Arc::new(Mutex::new(Recorder::new()));
        let of_thread = Arc::clone(&recorder);
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime for the load client");
                runtime.block_on(drive(config, stopped, of_thread));
            })
            .expect("a thread for the load client");
        let started = recorder.lock().expect("nobody panicked yet").started;
        Self { stop, recorder, started, thread: Some(thread) }
    }

    /// What has been counted so far; the load goes on.
    pub fn snapshot(&self) -> Report {
        finish(&self.recorder)
    }

    /// How long it has been running: the clock of the times in the report.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until `enough` says so of a snapshot; false when `limit` passes first.
    pub fn wait_until(&self, limit: Duration, enough: impl Fn(&Report) -> bool) -> bool {
        let until = Instant::now() + limit;
        loop {
            if enough(&self.snapshot()) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops the load and gives the whole count.
    pub fn stop(mut self) -> Report {
        self.end();
        finish(&self.recorder)
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the load client does not panic");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        // Not joined and not judged: this is the way out of a test that already failed. What clients saw until then
        // tells why it did.
        if std::thread::panicking()
            && self.thread.is_some()
            && let Ok(recorder) = self.recorder.lock()
        {
            eprintln!("the load until the failure\n{}", recorder.report());
        }
    }
}

/// The one private or loopback address behind `host:port`, unless any is allowed. Load must never reach a
/// stranger's server by a slip of the keyboard.
fn resolve(host: &str, port: u16, allow_any: bool) -> Result<SocketAddr> {
    use std::net::{IpAddr, ToSocketAddrs};
    let private = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    let addresses: Vec<_> = (host, port)
        .to_socket_addrs()
        .map_err(|e| fail(format!("{host}: {e}")))?
        .filter(|address| allow_any || private(address))
        .collect();
    // Published ports listen on IPv4; "localhost" often gives ::1 first.
    let first = addresses.iter().find(|a| a.is_ipv4()).or_else(|| addresses.first());
    first.copied().ok_or_else(|| {
        fail(format!("{host} is neither loopback nor private: no load goes there without --allow-any-host"))
    })
}
