//! How fast clients are asked for: never so that a client of somebody else's is turned away for ours. No I/O.

use std::time::Duration;

use super::tally::Phase;
use crate::model::{Rate, RequestError, Slowdown};

/// Of what the proxy lets through, this part is taken.
const SHARE: u32 = 20;
/// How far apart requests are once one was turned away, and the farthest.
const BACK_OFF: Duration = Duration::from_secs(1);
const FARTHEST: Duration = Duration::from_secs(10);
/// So many at first come one by one, each after the answer to the one before.
const ONE_BY_ONE: u32 = 5;

/// The time from one request to the next, and why it is longer than was asked for.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    slowed: Option<Slowdown>,
    answers: u32,
    /// Whether clients are known to be turned away here: by a limit, or as one was before the switch.
    limited: bool,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        Self { interval: rate.interval(), slowed: None, answers: 0, limited: false }
    }

    /// Keeps to a share of what the proxy lets through a minute.
    pub(super) fn keep_below(&mut self, per_minute: u32) {
        self.limited = true;
        let least = Duration::from_mins(1) * SHARE / per_minute.max(1);
        if self.interval < least {
            self.interval = least;
            self.slowed = Some(Slowdown::below(least, per_minute));
        }
    }

    /// Takes into account what a client was told that asked in this phase. Turned away, it was one too many, whosever the
    /// others were.
    ///
    /// 429 says that by itself. 503, or no answer in time, may also be an outage: what the same pace did not lead to
    /// before the switch, and no limit explains, is the candidate's own, and is counted as densely as all else.
    pub(super) fn answered(&mut self, phase: Phase, outcome: Result<u16, RequestError>) {
        self.answers = self.answers.saturating_add(1);
        let one_too_many = match outcome {
            Ok(429) => true,
            Ok(503) | Err(RequestError::Timeout) => self.limited || phase == Phase::Before,
            _ => false,
        };
        if one_too_many {
            self.limited = true;
            self.interval = (self.interval * 4).clamp(BACK_OFF, FARTHEST.max(self.interval));
            self.slowed = Some(Slowdown::turned_away(self.interval));
        }
    }

    /// The time from one request to the next.
    pub(super) const fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether it is still at its first requests.
    pub(super) const fn is_one_by_one(&self) -> bool {
        self.answers < ONE_BY_ONE
    }

    /// What made it slower than was asked for.
    pub(super) const fn slowed(&self) -> Option<Slowdown> {
        self.slowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_was_asked_for_or_a_twentieth_of_what_is_let_through() {
        let pace = |limit| {
            let mut pace = Pace::new(Rate::default());
            pace.keep_below(limit);
            (pace.interval(), pace.slowed())
        };
        let two = Duration::from_secs(2);
        assert_eq!(pace(600), (two, Some(Slowdown::below(two, 600))));
        assert_eq!(pace(60_000), (Duration::from_millis(20), None));
        assert_eq!(pace(0).0, Duration::from_mins(20));
    }

    #[test]
    fn one_that_is_turned_away_slows_all_that_follow_and_a_plain_failure_none() {
        let mut pace = Pace::new(Rate::default());
        for outcome in [Ok(200), Ok(404), Ok(502), Err(RequestError::Refused)] {
            assert!(pace.is_one_by_one());
            pace.answered(Phase::Before, outcome);
        }
        assert_eq!(pace.interval(), Duration::from_millis(20));
        let seen: Vec<u64> = (0..4)
            .map(|_| {
                pace.answered(Phase::After, Ok(429));
                pace.interval().as_secs()
            })
            .collect();
        assert_eq!(seen, [1, 4, 10, 10]);
        assert!(!pace.is_one_by_one() && pace.slowed().is_some());
    }

    #[test]
    fn an_outage_since_the_switch_is_counted_as_densely_as_all_else_unless_a_limit_explains_it() {
        let mut asked = Rate::default().interval();
        let mut after =
            |limit: Option<u32>, before: Result<u16, RequestError>, since: Result<u16, RequestError>| {
                let mut pace = Pace::new(Rate::default());
                if let Some(limit) = limit {
                    pace.keep_below(limit);
                }
                pace.answered(Phase::Before, before);
                asked = pace.interval();
                pace.answered(Phase::During, since);
                pace.answered(Phase::After, since);
                pace.interval() > asked
            };
        for outage in [Ok(503), Err(RequestError::Timeout)] {
            assert!(!after(None, Ok(200), outage), "the candidate's own");
            assert!(after(None, outage, outage), "it was so before the switch");
            assert!(after(Some(60_000), Ok(200), outage), "a limit is in force");
        }
        assert!(!after(None, Ok(502), Ok(503)), "502 is no limit's answer");
    }
}
