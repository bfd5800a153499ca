use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Check, Healthcheck};

/// When a candidate is good enough for traffic. Every check must pass.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatePolicy {
    /// The questions. Empty means: it is enough that it runs for `min_healthy`.
    pub checks: Vec<Check>,
    /// How long the candidate has, from its start, to pass. Unset: 30 s, the shell script's; where its image's
    /// HEALTHCHECK is asked, as long as that may take to decide, when that is longer.
    pub deadline: Option<Duration>,
    /// How many times in a row each check must pass. Default 1. Log lines count once: a line cannot unhappen.
    pub successes: u32,
    /// How long it must stay healthy after that, without one failure. Default zero.
    pub min_healthy: Duration,
    /// How long one attempt may take. Default 5 s. A log check waits for its line as long as the gate does.
    pub attempt_timeout: Duration,
    /// The pause between attempts. Unset: 5 ms for the first second, then growing to 250 ms.
    pub interval: Option<Duration>,
}

impl Default for GatePolicy {
    fn default() -> Self {
        Self {
            checks: Vec::new(),
            deadline: None,
            successes: 1,
            min_healthy: Duration::ZERO,
            attempt_timeout: Duration::from_secs(5),
            interval: None,
        }
    }
}

/// How long a candidate has by default.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

impl GatePolicy {
    /// How long a candidate has whose image has this HEALTHCHECK.
    ///
    /// # Errors
    ///
    /// When the deadline that was asked for is over before the HEALTHCHECK can have answered for the first time.
    pub fn time_for(&self, healthcheck: Option<&Healthcheck>) -> Result<Duration, DeadlineTooShort> {
        let asked = self.checks.contains(&Check::Image);
        match (self.deadline, healthcheck.filter(|_| asked)) {
            (Some(deadline), Some(healthcheck)) if deadline <= healthcheck.first_answer() => {
                Err(DeadlineTooShort { deadline, first_answer: healthcheck.first_answer() })
            }
            (Some(deadline), _) => Ok(deadline),
            (None, Some(healthcheck)) => Ok(healthcheck.decided_within().max(DEFAULT_DEADLINE)),
            (None, None) => Ok(DEFAULT_DEADLINE),
        }
    }
}

impl GatePolicy {
    /// How long a candidate takes at least that is healthy at once.
    pub fn least(&self) -> Duration {
        // A log line counts once, whatever is asked for.
        let repeats = self.checks.iter().any(|check| !matches!(check, Check::Log(_)));
        let pauses = if repeats { self.successes.saturating_sub(1) } else { 0 };
        self.interval.unwrap_or_default().saturating_mul(pauses).saturating_add(self.min_healthy)
    }
}

/// A deadline that no candidate can keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the image's HEALTHCHECK first answers {} s after the start, and the gate's deadline is {} s",
    first_answer.as_secs_f64(),
    deadline.as_secs_f64()
)]
#[non_exhaustive]
pub struct DeadlineTooShort {
    /// What was asked for.
    pub deadline: Duration,
    /// When the HEALTHCHECK can first have answered.
    pub first_answer: Duration,
}

/// What happens to connections that would outlive the previous colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LongLived {
    /// Wait for them up to the drain's cap.
    #[default]
    Wait,
    /// Wait for nothing that outlives `settle`: the stop signal goes out at once, and what is still connected ends as
    /// the application ends it. A proxy cannot tell a WebSocket from a request that is slow, so slow requests are cut
    /// as well. To wait a little, set a short cap and [`LongLived::Wait`].
    Cut,
}

/// How the previous colour is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DrainPolicy {
    /// The cap: after it the previous colour gets its stop signal whatever is still connected. Default 30 s.
    pub timeout: Duration,
    /// How long "nothing in flight" must hold before it is believed. Default 30 ms.
    pub settle: Duration,
    /// What to do with connections that do not end.
    pub long_lived: LongLived,
}

impl Default for DrainPolicy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            settle: Duration::from_millis(30),
            long_lived: LongLived::Wait,
        }
    }
}

/// What is kept of earlier releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Retain {
    /// How many earlier releases keep their image on this host. Default 3.
    pub releases: u32,
    /// Keep the previous container, stopped, so that a rollback needs no pull and no create. Default yes.
    pub keep_stopped: bool,
    /// Keep the previous container running for that long after its drain, so that a rollback starts nothing. Connections
    /// that outlived the drain stay for as long. Then it is stopped by whoever comes by: see
    /// [`retire`](crate::orchestrator::Orchestrator::retire). Default: stopped at once.
    pub warm: Option<Duration>,
    /// How many bytes must be free where images are kept before one is pulled, where that can be known; zero for none.
    /// Default 500 MB.
    pub min_free: u64,
}

impl Default for Retain {
    fn default() -> Self {
        Self { releases: 3, keep_stopped: true, warm: None, min_free: 500_000_000 }
    }
}

/// How long each call on the outside world may take before it counts as failed.
///
/// A call that is over its limit may still take effect; every undo allows for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Registry API calls. Default 30 s.
    pub registry: Duration,
    /// A whole pull. Default 15 min.
    pub pull: Duration,
    /// Container runtime calls; for a stop the grace is added. Default 60 s.
    pub runtime: Duration,
    /// Proxy calls. Default 30 s.
    pub proxy: Duration,
    /// Journal writes. Default 10 s.
    pub journal: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            registry: seconds(30),
            pull: seconds(900),
            runtime: seconds(60),
            proxy: seconds(30),
            journal: seconds(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn gate(deadline: Option<u64>) -> GatePolicy {
        GatePolicy { checks: vec![Check::Image], deadline: deadline.map(seconds), ..GatePolicy::default() }
    }

    #[test]
    fn a_healthcheck_of_dockers_defaults_has_the_time_that_it_takes() {
        let usual = Healthcheck::default();
        assert_eq!(gate(None).time_for(Some(&usual)), Ok(seconds(180)));
        let error = gate(Some(30)).time_for(Some(&usual)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("30 s after the start") && text.contains("deadline is 30 s"), "{text}");
        assert_eq!(gate(Some(31)).time_for(Some(&usual)), Ok(seconds(31)));
        let quick = Healthcheck { interval: seconds(1), timeout: seconds(1), ..Healthcheck::default() };
        assert_eq!(gate(None).time_for(Some(&quick)), Ok(seconds(30)));
        let slow = Healthcheck { start_period: seconds(60), ..Healthcheck::default() };
        assert_eq!(gate(None).time_for(Some(&slow)), Ok(seconds(240)));
        assert_eq!(
            gate(Some(6)).time_for(Some(&slow)),
            Ok(seconds(6)),
            "newer Engines ask sooner while it starts"
        );
    }

    #[test]
    fn a_healthcheck_that_nobody_asks_takes_no_time() {
        let mut gate = gate(Some(5));
        gate.checks = vec![Check::Tcp { port: 1 }];
        assert_eq!(gate.time_for(Some(&Healthcheck::default())), Ok(seconds(5)));
        gate.deadline = None;
        assert_eq!(gate.time_for(Some(&Healthcheck::default())), Ok(seconds(30)));
    }
}
