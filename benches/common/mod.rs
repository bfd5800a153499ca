//! What the benchmarks share: a client that waits for a version, medians, tables.
//!
//! A benchmark prints a figure beside its control from the same run, and their ratio. None of them fails because
//! of a figure: this machine may be busy with other things, which is why its load is printed too.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything may take before a benchmark gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a client asks.
const PACE: Duration = Duration::from_millis(1);

/// One GET over a new connection; the answer's body when it is a 200.
pub fn get(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.trim().to_owned())
}

/// When this client first got an answer of this version: it asks from now on, each time over a new connection.
pub fn first_answer(address: SocketAddr, version: &str) -> JoinHandle<Instant> {
    let wanted = format!("version={version}");
    let until = Instant::now() + PATIENCE;
    std::thread::spawn(move || {
        while get(address).as_ref() != Some(&wanted) {
            assert!(Instant::now() < until, "{address} never answered {wanted}");
            std::thread::sleep(PACE);
        }
        Instant::now()
    })
}

/// Asks at the same pace for as long as it is held, for what is compared with something measured under
/// [`first_answer`]: on few cores the asking itself takes a part of what Docker could have.
pub struct Asking(Arc<AtomicBool>);

impl Asking {
    pub fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = get(address);
                std::thread::sleep(PACE);
            }
        });
        Self(stop)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// In milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Half of them are below.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The least and the most, for a reader who wants to know how steady a median is.
pub fn range(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{least:.1}–{most:.1}")
}

/// A number that the caller may set, as in `BENCH_ROUNDS=3`.
pub fn rounds(default: usize) -> usize {
    std::env::var("BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(default).max(1)
}

/// A table in Markdown, which README has as it is.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[&str]) -> Self {
        let line = columns.iter().map(|_| "---".to_owned()).collect();
        Self { rows: vec![columns.iter().map(|&column| column.to_owned()).collect(), line] }
    }

    /// One more row.
    pub fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.to_vec());
    }

    /// Prints it below a title, with the machine's load.
    pub fn print(&self, title: &str) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("?");
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        println!("\n### {title}\n");
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
        println!("\n{cores} cores, load average {load} at the end.");
    }
}
