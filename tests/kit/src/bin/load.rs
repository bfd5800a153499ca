//! `load`: the load client that never retries, for people and scripts.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use bluegreen_testkit::load::{self, Config, Mode, Target};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Sends HTTP load and never retries; every request that is not a complete, correct 2xx is a failure.
///
/// Stops at the bound, at SIGTERM or at SIGINT, and prints what it counted. Exit code 1: requests failed.
#[derive(Parser)]
#[command(name = "load")]
struct Arguments {
    /// Where to, as in `http://host[:port][/path]` or `https://…`; with TLS any certificate is taken
    #[arg(long)]
    url: String,
    /// Connections of a mode, as in new=2 (repeatable; new, keepalive, gaps, naive, post, slow, slow-new, stream,
    /// slow5, stream5, sse, upload, http2, grpc, websocket). Without any: new=2 keepalive=2 gaps=8 post=4
    #[arg(long = "mode", value_name = "MODE=N")]
    modes: Vec<String>,
    /// The bound
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// At most so many requests a second on one connection
    #[arg(long)]
    rate: Option<f64>,
    /// A request that takes longer is a failure
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    timeout: f64,
    /// What to send as the host header
    #[arg(long)]
    host: Option<String>,
    /// The report as JSON
    #[arg(long)]
    json: bool,
    /// Also addresses that are neither loopback nor private
    #[arg(long)]
    allow_any_host: bool,
}

impl Arguments {
    fn config(&self) -> Result<Config, String> {
        let target =
            if self.allow_any_host { Target::parse_any_host(&self.url) } else { Target::parse(&self.url) };
        let mut target = target.map_err(|e| e.to_string())?;
        if let Some(host) = &self.host {
            target = target.with_host(host);
        }
        let seconds = |value: f64, name: &str| {
            Duration::try_from_secs_f64(value)
                .map_err(|_| format!("--{name} {value}: not a number of seconds"))
        };
        let mut config = Config::new(target)
            .lasting(seconds(self.seconds, "seconds")?)
            .timeout(seconds(self.timeout, "timeout")?);
        config.rate = self.rate;
        for word in &self.modes {
            let (mode, n) = word.split_once('=').ok_or_else(|| format!("--mode {word}: expected MODE=N"))?;
            let n = n.parse().map_err(|_| format!("--mode {word}: {n} is not a number"))?;
            config = config.with(mode.parse::<Mode>().map_err(|e| e.to_string())?, n);
        }
        if self.modes.is_empty() {
            for (mode, n) in [(Mode::New, 2), (Mode::Keepalive, 2), (Mode::Gaps, 8), (Mode::Post, 4)] {
                config = config.with(mode, n);
            }
        }
        Ok(config)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match arguments.config() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::from(2);
        }
    };
    let (stop, stopped) = watch::channel(false);
    let mut term = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
    let mut interrupt = signal(SignalKind::interrupt()).expect("a handler for SIGINT");
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {} _ = interrupt.recv() => {} }
        let _ = stop.send(true);
        // Kept until the end: a sender that is gone counts as a stop.
        std::future::pending::<()>().await;
    });
    let report = load::run(config, stopped).await;
    let text = if arguments.json {
        serde_json::to_string_pretty(&report).expect("a report is plain data")
    } else {
        report.to_string()
    };
    // Whoever reads may have seen enough, as `head` does.
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::from(u8::from(report.total.failed > 0))
}
