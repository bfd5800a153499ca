//! Counting, and the report.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Mode;

/// What became of a request that is not a complete, correct 2xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FailureKind {
    /// Nothing listens there.
    Refused,
    /// No connection, for another reason than refusal.
    NoConnection,
    /// The connection was reset before a byte of the answer.
    Reset,
    /// The connection was closed before a byte of the answer: the keep-alive race.
    EofWithoutAByte,
    /// The answer began and did not end.
    Truncated,
    /// A complete answer with a 5xx status.
    #[serde(rename = "status-5xx")]
    Status5xx,
    /// A complete answer with a status that is neither 2xx nor 5xx.
    StatusOther,
    /// A WebSocket ended without a close in good order.
    AbruptEnd,
    /// Not answered in time.
    Timeout,
    /// Complete and 2xx, but not the right content, or not HTTP at all.
    Wrong,
}

impl FailureKind {
    /// Its name in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NoConnection => "no-connection",
            Self::Reset => "reset",
            Self::EofWithoutAByte => "eof-without-a-byte",
            Self::Truncated => "truncated",
            Self::Status5xx => "status-5xx",
            Self::StatusOther => "status-other",
            Self::AbruptEnd => "abrupt-end",
            Self::Timeout => "timeout",
            Self::Wrong => "wrong",
        }
    }
}

/// One failed request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// The mode of its connection.
    pub mode: String,
    /// What became of it.
    pub kind: FailureKind,
    /// When it failed, in ms since the load began.
    pub at_ms: f64,
    /// When it was sent, on the same clock.
    pub sent_ms: f64,
    /// Whether its connection had carried a request before.
    pub reused: bool,
    /// The version that answered, where an answer said so.
    pub version: Option<String>,
    /// The system's words, or the status.
    pub detail: String,
}

/// When, and how often, a version answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VersionSeen {
    /// Its good answers.
    pub requests: u64,
    /// Its first good answer, in ms since the load began.
    pub first_ms: f64,
    /// Its latest good answer.
    pub last_ms: f64,
}

/// Of good answers, in ms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half were faster.
    pub p50_ms: f64,
    /// One in a hundred was slower.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// The count of one mode, or of all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Requests that ended, well or not.
    pub requests: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Failures by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Good answers by the version that gave them; answers that name none are under `?`.
    pub versions: BTreeMap<String, u64>,
    /// WebSockets that the server closed in good order (1001).
    #[serde(default)]
    pub orderly_closes: u64,
    /// The longest time without a good answer, from the first one to the end.
    pub longest_gap_ms: f64,
    /// Of good answers.
    pub latency: Latency,
}

/// What a load run saw.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// How long it ran.
    pub seconds: f64,
    /// When it began, in ms since 1970: zero on the clock of the other times.
    pub started_unix_ms: u64,
    /// All modes together.
    pub total: Summary,
    /// Each mode by its name.
    pub modes: BTreeMap<String, Summary>,
    /// Each version by its name.
    pub versions: BTreeMap<String, VersionSeen>,
    /// The first failures, in order.
    pub failures: Vec<Failure>,
    /// Failures left off that list.
    pub failures_left_off: u64,
}

impl Report {
    /// Failures of this kind, in all modes.
    pub fn count(&self, kind: FailureKind) -> u64 {
        self.total.failures.get(&kind).copied().unwrap_or(0)
    }

    /// The summary of one mode; empty when it did not run.
    pub fn mode(&self, mode: Mode) -> Summary {
        self.modes.get(mode.name()).cloned().unwrap_or_default()
    }

    /// Panics, with the whole report, unless there were requests and none failed.
    pub fn assert_lossless(&self) {
        assert!(self.total.requests > 0, "the load client sent nothing");
        assert!(self.total.failed == 0, "requests were lost:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>9} {:>7} {:>9} {:>9} {:>9} {:>10}  failures",
            "mode", "requests", "failed", "p50 ms", "p99 ms", "max ms", "gap ms"
        )?;
        let all = self.modes.iter().map(|(name, summary)| (name.as_str(), summary));
        for (name, s) in all.chain([("total", &self.total)]) {
            let closes =
                (s.orderly_closes > 0).then(|| format!("(closed in good order: {})", s.orderly_closes));
            let kinds = s.failures.iter().map(|(kind, n)| format!("{} {n}", kind.name()));
            let kinds: Vec<_> = kinds.chain(closes).collect();
            let l = &s.latency;
            writeln!(
                f,
                "{name:<10} {:>9} {:>7} {:>9.2} {:>9.2} {:>9.2} {:>10.1}  {}",
                s.requests,
                s.failed,
                l.p50_ms,
                l.p99_ms,
                l.max_ms,
                s.longest_gap_ms,
                kinds.join(", ")
            )?;
        }
        for (version, seen) in &self.versions {
            writeln!(
                f,
                "version {version}: {} answers, from {:.1} ms to {:.1} ms",
                seen.requests, seen.first_ms, seen.last_ms
            )?;
        }
        for failure in self.failures.iter().take(5) {
            let Failure { mode, kind, at_ms, reused, version, detail, .. } = failure;
            let version = version.as_deref().unwrap_or("?");
            writeln!(
                f,
                "at {at_ms:.1} ms: {mode}: {}, version {version}, reused {reused}: {detail}",
                kind.name()
            )?;
        }
        write!(
            f,
            "{:.1} s, {:.0} requests/s",
            self.seconds,
            self.total.requests as f64 / self.seconds.max(1e-9)
        )
    }
}

/// How many failures are kept one by one.
const KEPT: usize = 1000;

#[derive(Debug, Default)]
struct Tally {
    ok: u64,
    failures: BTreeMap<FailureKind, u64>,
    versions: BTreeMap<String, u64>,
    orderly_closes: u64,
    last_ok: Option<Instant>,
    gap: Duration,
    latencies_us: Vec<u32>,
}

impl Tally {
    fn good(&mut self, version: &str, sent: Instant, now: Instant, stopped: Option<Instant>) {
        self.ok += 1;
        if let Some(last) = self.last_ok {
            let end = stopped.map_or(now, |stopped| stopped.min(now));
            self.gap = self.gap.max(end.saturating_duration_since(last));
        }
        self.last_ok = Some(now);
        match self.versions.get_mut(version) {
            Some(count) => *count += 1,
            None => drop(self.versions.insert(version.to_owned(), 1)),
        }
        let us = now.saturating_duration_since(sent).as_micros();
        self.latencies_us.push(u32::try_from(us).unwrap_or(u32::MAX));
    }

    fn summary(&self, end: Instant) -> Summary {
        let failed = self.failures.values().sum();
        // An outage that lasts to the end is a gap too.
        let tail = self.last_ok.map_or(Duration::ZERO, |last| end.saturating_duration_since(last));
        Summary {
            requests: self.ok + failed,
            failed,
            failures: self.failures.clone(),
            versions: self.versions.clone(),
            orderly_closes: self.orderly_closes,
            longest_gap_ms: ms(self.gap.max(tail)),
            latency: latency(self.latencies_us.clone()),
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn latency(mut us: Vec<u32>) -> Latency {
    if us.is_empty() {
        return Latency::default();
    }
    us.sort_unstable();
    let at = |per_cent: usize| f64::from(us[(us.len() - 1) * per_cent / 100]) / 1000.0;
    Latency { p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
}

/// What all workers count into.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(super) started: Instant,
    /// When it was told to stop: what still ends after that is no measure of a gap.
    pub(super) stopped: Option<Instant>,
    started_unix_ms: u64,
    total: Tally,
    modes: BTreeMap<Mode, Tally>,
    versions: BTreeMap<String, VersionSeen>,
    failures: Vec<Failure>,
    left_off: u64,
}

impl Recorder {
    pub(super) fn new() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: Instant::now(),
            stopped: None,
            started_unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
            total: Tally::default(),
            modes: BTreeMap::new(),
            versions: BTreeMap::new(),
            failures: Vec::new(),
            left_off: 0,
        }
    }

    pub(super) fn good(&mut self, mode: Mode, version: Option<&str>, sent: Instant) {
        let now = Instant::now();
        let version = version.unwrap_or("?");
        self.total.good(version, sent, now, self.stopped);
        self.modes.entry(mode).or_default().good(version, sent, now, self.stopped);
        let at = ms(now.saturating_duration_since(self.started));
        match self.versions.get_mut(version) {
            Some(seen) => {
                seen.requests += 1;
                seen.last_ms = at;
            }
            None => drop(
                self.versions
                    .insert(version.to_owned(), VersionSeen { requests: 1, first_ms: at, last_ms: at }),
            ),
        }
    }

    pub(super) fn closed_orderly(&mut self, mode: Mode) {
        self.total.orderly_closes += 1;
        self.modes.entry(mode).or_default().orderly_closes += 1;
    }

    pub(super) fn bad(&mut self, mode: Mode, sent: Instant, reused: bool, bad: super::client::Bad) {
        for tally in [&mut self.total, self.modes.entry(mode).or_default()] {
            *tally.failures.entry(bad.kind).or_default() += 1;
        }
        if self.failures.len() == KEPT {
            self.left_off += 1;
            return;
        }
        self.failures.push(Failure {
            mode: mode.name().to_owned(),
            kind: bad.kind,
            at_ms: ms(self.started.elapsed()),
            sent_ms: ms(sent.saturating_duration_since(self.started)),
            reused,
            version: bad.version,
            detail: bad.detail,
        });
    }

    pub(super) fn report(&self) -> Report {
        let now = Instant::now();
        let end = self.stopped.unwrap_or(now);
        Report {
            seconds: now.saturating_duration_since(self.started).as_secs_f64(),
            started_unix_ms: self.started_unix_ms,
            total: self.total.summary(end),
            modes: self
                .modes
                .iter()
                .map(|(mode, tally)| (mode.name().to_owned(), tally.summary(end)))
                .collect(),
            versions: self.versions.clone(),
            failures: self.failures.clone(),
            failures_left_off: self.left_off,
        }
    }
}
