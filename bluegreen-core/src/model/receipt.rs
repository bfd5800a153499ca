use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Color, ParseError};

/// The availability probe: synthetic requests while a run goes on, to see what clients lose by it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiptPolicy {
    /// What is asked for. Unset: what the proxy proves a switch with.
    pub path: Option<String>,
    /// The `Host` header. Unset: the one that the proxy proves a switch with.
    pub host: Option<String>,
    /// How many requests a second, both kinds of connection together. Default 50.
    pub rate: Rate,
    /// How long one request may take before it counts as failed. Default 2 s.
    pub timeout: Duration,
    /// Whether failures stop a run. Unset: they are only reported.
    pub gate: Option<ReceiptGate>,
}

impl Default for ReceiptPolicy {
    fn default() -> Self {
        Self { path: None, host: None, rate: Rate::default(), timeout: Duration::from_secs(2), gate: None }
    }
}

/// When failures of clients' requests undo a switch.
///
/// Only those since the switch began count: what clients lost before it is no fault of the candidate, and the
/// candidate may be what fixes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiptGate {
    /// More than so many undo it.
    pub max_failures: u64,
    /// How long the candidate must serve before it is committed (its bake time): without time there would be nothing
    /// to count. Default 1 s.
    pub bake: Duration,
}

impl ReceiptGate {
    /// Allows so many failures in the default bake time.
    pub const fn new(max_failures: u64) -> Self {
        Self { max_failures, bake: Duration::from_secs(1) }
    }
}

/// Requests a second, from 1 to 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Rate(u16);

impl Rate {
    /// The most that may be asked for: beyond it this is a load test.
    pub const MAX: u16 = 500;

    /// So many a second.
    ///
    /// # Errors
    ///
    /// When it is none, or more than [`Rate::MAX`].
    pub fn new(per_second: u16) -> Result<Self, ParseError> {
        if (1..=Self::MAX).contains(&per_second) {
            Ok(Self(per_second))
        } else {
            Err(ParseError::new("rate", per_second.to_string(), "1 to 500 requests a second"))
        }
    }

    /// How many a second.
    pub const fn per_second(self) -> u16 {
        self.0
    }

    /// The time from one to the next.
    pub fn interval(self) -> Duration {
        Duration::from_secs(1) / u32::from(self.0)
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self(50)
    }
}

impl TryFrom<u16> for Rate {
    type Error = ParseError;

    fn try_from(per_second: u16) -> Result<Self, ParseError> {
        Self::new(per_second)
    }
}

impl From<Rate> for u16 {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

/// What the availability probe measured during a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Receipt {
    /// Nothing was measured. This does not mean that nothing was lost.
    NotMeasured {
        /// Why not.
        reason: String,
    },
    /// What was seen.
    Measured(Box<Measurement>),
}

/// Why fewer requests were sent than asked for: they must not be what turns a client of somebody else's away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slowdown {
    /// The time from one to the next.
    #[serde(rename = "interval_us", with = "micros")]
    pub interval: Duration,
    /// How many a minute the proxy lets through there; unset when one was turned away (429, 503, no answer in time).
    pub let_through: Option<u32>,
}

impl Slowdown {
    pub(crate) const fn below(interval: Duration, per_minute: u32) -> Self {
        Self { interval, let_through: Some(per_minute) }
    }

    pub(crate) const fn turned_away(interval: Duration) -> Self {
        Self { interval, let_through: None }
    }
}

/// The requests of the availability probe. Times are in microseconds where it is serialized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Measurement {
    /// Where they were sent.
    pub target: String,
    /// How many a second, when the proxy kept up.
    pub rate: Rate,
    /// Why there were fewer, when there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowed: Option<Slowdown>,
    /// How many came to an end.
    pub requests: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many were without an answer when the run ended, their time not over: neither well nor failed.
    pub unfinished: u64,
    /// In which way they failed.
    pub failures: RequestErrors,
    /// The longest time without a successful answer. With `rate` a second it is never much less than `1 / rate`.
    #[serde(rename = "longest_gap_us", with = "micros")]
    pub longest_gap: Duration,
    /// Requests that were over before the switch began: the previous colour's.
    pub before: Segment,
    /// Requests that were under way between the switch's beginning and its proof, or while it was undone: either
    /// colour's.
    pub during: Segment,
    /// Requests that began after the switch was proven: the candidate's.
    pub after: Segment,
    /// Of all, those over the one connection that was kept. They fail where a proxy closes idle connections, as a
    /// reload of nginx does.
    pub keep_alive: KeepAlive,
    /// What would help against these failures.
    pub hint: Option<String>,
}

/// The requests of one part of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Segment {
    /// Who answered, by the time; unset where that does not tell.
    pub color: Option<Color>,
    /// How many came to an end.
    pub requests: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How fast the others were answered; unset when there were none.
    pub latency: Option<Latency>,
}

impl Segment {
    /// What was seen in a part of a run.
    pub const fn new(color: Option<Color>, requests: u64, failed: u64, latency: Option<Latency>) -> Self {
        Self { color, requests, failed, latency }
    }
}

/// How fast requests were answered, to about 3 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Latency {
    /// Half of them were faster.
    #[serde(rename = "p50_us", with = "micros")]
    pub p50: Duration,
    /// 99 of 100 were faster.
    #[serde(rename = "p99_us", with = "micros")]
    pub p99: Duration,
}

impl Latency {
    /// A median and a 99th percentile.
    pub const fn new(p50: Duration, p99: Duration) -> Self {
        Self { p50, p99 }
    }
}

/// Requests over a connection that was kept, by a naive client: one that does not look whether it is still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeepAlive {
    /// How many came to an end.
    pub requests: u64,
    /// How many of them failed.
    pub failed: u64,
}

impl KeepAlive {
    /// So many, and so many of them failed.
    pub const fn new(requests: u64, failed: u64) -> Self {
        Self { requests, failed }
    }
}

/// The way in which a client's request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_enums, reason = "whoever counts them should see a new one")]
pub enum RequestError {
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before a complete answer.
    Eof,
    /// It took too long.
    Timeout,
    /// It was answered with a 5xx.
    ServerError,
    /// It was answered with a 4xx that the previous release had not answered it with.
    OtherStatus,
    /// Anything else: no route, no valid HTTP.
    Other,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Reset => "the connection was reset",
            Self::Eof => "the connection ended before a complete answer",
            Self::Timeout => "it took too long",
            Self::ServerError => "a 5xx",
            Self::OtherStatus => "a 4xx that was not there before",
            Self::Other => "invalid answer",
        })
    }
}

/// Failed requests by the way in which they failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RequestErrors {
    /// See [`RequestError::Refused`].
    pub refused: u64,
    /// See [`RequestError::Reset`].
    pub reset: u64,
    /// See [`RequestError::Eof`].
    pub eof: u64,
    /// See [`RequestError::Timeout`].
    pub timeout: u64,
    /// See [`RequestError::ServerError`].
    #[serde(rename = "5xx")]
    pub server_error: u64,
    /// See [`RequestError::OtherStatus`].
    pub other_status: u64,
    /// See [`RequestError::Other`].
    pub other: u64,
}

impl RequestErrors {
    /// Counts one more.
    pub const fn add(&mut self, miss: RequestError) {
        let count = match miss {
            RequestError::Refused => &mut self.refused,
            RequestError::Reset => &mut self.reset,
            RequestError::Eof => &mut self.eof,
            RequestError::Timeout => &mut self.timeout,
            RequestError::ServerError => &mut self.server_error,
            RequestError::OtherStatus => &mut self.other_status,
            RequestError::Other => &mut self.other,
        };
        *count += 1;
    }

    /// All of them.
    pub const fn total(&self) -> u64 {
        let Self { refused, reset, eof, timeout, server_error, other_status, other } = *self;
        refused + reset + eof + timeout + server_error + other_status + other
    }
}

impl fmt::Display for RequestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refused, reset, eof, timeout, server_error, other_status, other } = *self;
        let kinds = [
            (refused, "refused"),
            (reset, "reset"),
            (eof, "closed without an answer"),
            (timeout, "timed out"),
            (server_error, "answered 5xx"),
            (other_status, "answered another status than before"),
            (other, "otherwise"),
        ];
        let mut separator = "";
        for (count, kind) in kinds.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count} {kind}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// A duration as whole microseconds, so that what is read back is equal to what was written.
mod micros {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_bounds() {
        assert_eq!([0, 1, 500, 501].map(|rate| Rate::new(rate).is_ok()), [false, true, true, false]);
        assert_eq!(Rate::default().interval(), Duration::from_millis(20));
        assert!(serde_json::from_str::<Rate>("501").is_err());
    }

    #[test]
    fn failures_are_named() {
        let mut misses = RequestErrors::default();
        for miss in [RequestError::Reset, RequestError::ServerError, RequestError::ServerError] {
            misses.add(miss);
        }
        assert_eq!((misses.to_string().as_str(), misses.total()), ("1 reset, 2 answered 5xx", 3));
    }
}
