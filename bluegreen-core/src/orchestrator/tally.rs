//! The counting behind a receipt. No I/O; the time is given by whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;
use crate::model::{
    Color, KeepAlive, Latency, Measurement, Rate, Receipt, RequestError, RequestErrors, Segment,
};
use crate::port::Connection;

/// Which part of a run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The switch has not begun.
    Before,
    /// It is under way, or is being undone.
    During,
    /// It is proven.
    After,
}

/// A request that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    number: u64,
    phase: Phase,
    at: Instant,
    over: Connection,
}

/// Everything that was seen so far.
#[derive(Debug)]
pub(super) struct Tally {
    phase: Phase,
    /// Why nothing can be seen at all.
    blind: Option<String>,
    target: String,
    remedy: Option<String>,
    rate: Rate,
    pace: Pace,
    began: Instant,
    /// The last successful answer.
    last: Option<Instant>,
    longest_gap: Duration,
    sent: u64,
    /// Those that are under way, by number.
    pending: BTreeSet<u64>,
    /// The number of the first request since the switch began.
    switched_at: u64,
    segments: [Counts; 3],
    misses: RequestErrors,
    since_switch: RequestErrors,
    ended_since_switch: u64,
    keep_alive: KeepAlive,
    /// The 4xx that the previous release answers with: what it tells everybody is no loss. `None`: there is no
    /// previous one to compare with, and each 4xx counts as an answer.
    usual: Option<BTreeSet<u16>>,
}

/// What is counted for each part of a run.
#[derive(Debug, Default)]
struct Counts {
    color: Option<Color>,
    requests: u64,
    failed: u64,
    latencies: Histogram,
}

impl Tally {
    pub(super) fn new(rate: Rate, previous: Option<Color>, candidate: Color) -> Self {
        let counts = |color| Counts { color, ..Counts::default() };
        Self {
            phase: Phase::Before,
            blind: None,
            target: String::new(),
            remedy: None,
            rate,
            pace: Pace::new(rate),
            began: Instant::now(),
            last: None,
            longest_gap: Duration::ZERO,
            sent: 0,
            pending: BTreeSet::new(),
            switched_at: 0,
            segments: [counts(previous), counts(None), counts(Some(candidate))],
            misses: RequestErrors::default(),
            since_switch: RequestErrors::default(),
            ended_since_switch: 0,
            keep_alive: KeepAlive::default(),
            usual: previous.map(|_| BTreeSet::new()),
        }
    }

    /// A client was found, where so many requests a minute are let through.
    pub(super) fn found(&mut self, target: String, remedy: Option<String>, per_minute: Option<u32>) {
        (self.target, self.remedy) = (target, remedy);
        if let Some(per_minute) = per_minute {
            self.pace.keep_below(per_minute);
        }
        // The wait for it was no outage.
        self.began = Instant::now();
    }

    /// There is no client, and there will be none.
    pub(super) fn cannot_see(&mut self, reason: String) {
        self.blind = Some(reason);
    }

    pub(super) fn mark(&mut self, phase: Phase) {
        if self.phase == Phase::Before {
            self.switched_at = self.sent;
            if self.last.is_none() && self.usual.is_none() {
                // That nobody answered until now is no doing of the switch.
                self.began = Instant::now();
            }
        }
        self.phase = phase;
    }

    pub(super) fn sent(&mut self, over: Connection) -> Sent {
        let number = self.sent;
        self.sent += 1;
        self.pending.insert(number);
        Sent { number, phase: self.phase, at: Instant::now(), over }
    }

    pub(super) fn ended(&mut self, sent: Sent, outcome: Result<u16, RequestError>) {
        let now = Instant::now();
        self.pending.remove(&sent.number);
        // One that spans a boundary belongs to neither side of it.
        let phase = if sent.phase == self.phase { sent.phase } else { Phase::During };
        let miss = outcome.and_then(|status| self.meaning(phase, status)).err();
        if miss.is_some() && sent.phase == Phase::Before && self.usual.is_none() {
            // Before a first deployment there need be nobody to answer; whoever does, is seen.
            return;
        }
        self.pace.answered(sent.phase, outcome);
        let counts = &mut self.segments[phase as usize];
        counts.requests += 1;
        counts.failed += u64::from(miss.is_some());
        if sent.over == Connection::Kept {
            self.keep_alive.requests += 1;
            self.keep_alive.failed += u64::from(miss.is_some());
        }
        self.ended_since_switch += u64::from(sent.phase != Phase::Before);
        let Some(miss) = miss else {
            counts.latencies.add(now.duration_since(sent.at));
            self.longest_gap = self.longest_gap.max(now.duration_since(self.last.unwrap_or(self.began)));
            self.last = Some(now);
            return;
        };
        self.misses.add(miss);
        // A request that had been waiting for the previous colour since before the switch, in vain, says nothing of
        // the switch.
        if phase != Phase::Before && !(sent.phase == Phase::Before && miss == RequestError::Timeout) {
            self.since_switch.add(miss);
        }
    }

    fn meaning(&mut self, phase: Phase, status: u16) -> Result<(), RequestError> {
        match (status, &mut self.usual) {
            (500.., _) => Err(RequestError::ServerError),
            (400..500, Some(usual)) if phase == Phase::Before => {
                usual.insert(status);
                Ok(())
            }
            (400..500, Some(usual)) if !usual.contains(&status) => Err(RequestError::OtherStatus),
            _ => Ok(()),
        }
    }

    /// How long after a request the next one goes. The first ones wait for the answer to the one before, though not for
    /// ever: that nobody is answered is to be seen.
    pub(super) fn next_after(&self) -> Duration {
        const PATIENCE: Duration = Duration::from_millis(200);
        let waits = self.pace.is_one_by_one() && !self.pending.is_empty();
        self.pace.interval().max(if waits { PATIENCE } else { Duration::ZERO })
    }

    /// The time from one request to the next.
    pub(super) const fn interval(&self) -> Duration {
        self.pace.interval()
    }

    /// Why nothing can be seen, when that is known.
    pub(super) fn blind(&self) -> Option<&str> {
        self.blind.as_deref()
    }

    /// The failures that a switch answers for.
    pub(super) const fn since_switch(&self) -> RequestErrors {
        self.since_switch
    }

    fn has_seen(&self) -> bool {
        self.segments.iter().any(|counts| counts.requests > 0)
    }

    /// Whether nothing served, and nothing was switched to yet.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Before && self.usual.is_none() && !self.has_seen()
    }

    /// Whether there is something to tell, or will be nothing.
    pub(super) fn has_enough(&self) -> bool {
        self.has_seen() || self.is_idle()
    }

    /// How many requests there were so far.
    pub(super) const fn sent_so_far(&self) -> u64 {
        self.sent
    }

    /// Whether there were requests since the switch began, and all of them before the one of that number are over.
    pub(super) fn is_complete(&self, before: u64) -> bool {
        let since = self.switched_at..before.max(self.switched_at);
        self.ended_since_switch > 0 && self.pending.range(since).next().is_none()
    }

    pub(super) fn receipt(&self) -> Receipt {
        if let Some(reason) = &self.blind {
            return Receipt::NotMeasured { reason: reason.clone() };
        }
        let requests = self.segments.iter().map(|counts| counts.requests).sum();
        if !self.has_seen() {
            let reason = "no request was answered before the run was over".to_owned();
            return Receipt::NotMeasured { reason };
        }
        // The time since the last answer counts as well: the run may have ended in an outage.
        let open = Instant::now().duration_since(self.last.unwrap_or(self.began));
        let failed = self.misses.total();
        let [before, during, after] = [0, 1, 2].map(|index| self.segments[index].segment());
        Receipt::Measured(Box::new(Measurement {
            target: self.target.clone(),
            rate: self.rate,
            slowed: self.pace.slowed(),
            requests,
            failed,
            unfinished: self.pending.len() as u64,
            failures: self.misses,
            longest_gap: whole_micros(self.longest_gap.max(open)),
            before,
            during,
            after,
            keep_alive: self.keep_alive,
            hint: self.remedy.clone().filter(|_| self.since_switch.total() > 0),
        }))
    }
}

impl Counts {
    fn segment(&self) -> Segment {
        let latency = self.latencies.latency();
        Segment::new(self.color.filter(|_| self.requests > 0), self.requests, self.failed, latency)
    }
}

/// A record is compared with what the journal gives back, which knows microseconds.
fn whole_micros(duration: Duration) -> Duration {
    Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// Durations in buckets of about 3 %: a run may take an hour, and memory must not.
#[derive(Debug, Default)]
struct Histogram {
    buckets: BTreeMap<u32, u64>,
    count: u64,
}

/// Steps within each power of two.
const STEPS_BITS: u32 = 5;

impl Histogram {
    fn add(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        *self.buckets.entry(bucket(micros)).or_default() += 1;
        self.count += 1;
    }

    fn latency(&self) -> Option<Latency> {
        (self.count > 0).then(|| Latency::new(self.quantile(50), self.quantile(99)))
    }

    fn quantile(&self, percent: u64) -> Duration {
        let wanted = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().find(|(_, count)| {
            seen += **count;
            seen >= wanted
        });
        Duration::from_micros(found.map_or(0, |(bucket, _)| lowest(*bucket)))
    }
}

fn bucket(micros: u64) -> u32 {
    let bits = u64::BITS - micros.leading_zeros();
    let shift = bits.saturating_sub(STEPS_BITS + 1);
    // Below 2^(STEPS_BITS + 1) each value has its own.
    let step = u32::try_from(micros >> shift).unwrap_or(u32::MAX);
    (shift << (STEPS_BITS + 1)) | step
}

fn lowest(bucket: u32) -> u64 {
    let step = u64::from(bucket & ((1 << (STEPS_BITS + 1)) - 1));
    step << (bucket >> (STEPS_BITS + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn tally(previous: Option<Color>) -> Tally {
        Tally::new(Rate::default(), previous, Color::Green)
    }

    fn measured(tally: &Tally) -> Measurement {
        match tally.receipt() {
            Receipt::Measured(measured) => *measured,
            Receipt::NotMeasured { reason } => panic!("{reason}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_belongs_to_the_phase_that_it_did_not_leave() {
        let mut tally = tally(Some(Color::Blue));
        let (whole, spanning) = (tally.sent(Connection::Fresh), tally.sent(Connection::Kept));
        advance(Duration::from_millis(2)).await;
        tally.ended(whole, Ok(200));
        tally.mark(Phase::During);
        tally.ended(spanning, Err(RequestError::Reset));
        tally.mark(Phase::After);
        let after = tally.sent(Connection::Fresh);
        tally.ended(after, Ok(503));
        let hanging = tally.sent(Connection::Fresh);
        let seen = measured(&tally);
        assert_eq!((seen.requests, seen.failed, seen.unfinished), (3, 2, 1));
        let segments = [&seen.before, &seen.during, &seen.after].map(|s| (s.color, s.requests, s.failed));
        assert_eq!(segments, [(Some(Color::Blue), 1, 0), (None, 1, 1), (Some(Color::Green), 1, 1)]);
        let median = seen.before.latency.unwrap().p50.as_micros();
        assert!((1_940..=2_000).contains(&median), "{median}");
        assert_eq!(seen.keep_alive, KeepAlive::new(1, 1));
        assert_eq!(tally.since_switch().total(), 2);
        tally.ended(hanging, Ok(200));
        assert_eq!(measured(&tally).unfinished, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_remedy_is_for_what_a_switch_lost() {
        let mut tally = tally(Some(Color::Blue));
        tally.found("http://127.0.0.1/".to_owned(), Some("the live switch".to_owned()), None);
        for (phase, status, hint) in [
            (Phase::Before, 502, None),
            (Phase::After, 200, None),
            (Phase::After, 502, Some("the live switch")),
        ] {
            tally.mark(phase);
            let sent = tally.sent(Connection::Fresh);
            tally.ended(sent, Ok(status));
            assert_eq!(measured(&tally).hint.as_deref(), hint, "{status} {phase:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_counts_from_the_beginning_and_to_the_end() {
        let mut tally = tally(Some(Color::Blue));
        for (wait, status) in [(300, 200), (20, 200), (500, 502), (10, 200), (700, 502)] {
            let sent = tally.sent(Connection::Fresh);
            advance(Duration::from_millis(wait)).await;
            tally.ended(sent, Ok(status));
        }
        assert_eq!(measured(&tally).longest_gap, Duration::from_millis(700));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_previous_release_says_to_everybody_is_no_loss() {
        let mut ours = tally(Some(Color::Blue));
        let mut answer = |status, phase| {
            ours.mark(phase);
            let sent = ours.sent(Connection::Fresh);
            ours.ended(sent, Ok(status));
            ours.since_switch().total()
        };
        assert_eq!(answer(401, Phase::Before), 0);
        assert_eq!(answer(500, Phase::Before), 0, "before the switch it is not the switch's fault");
        assert_eq!(answer(401, Phase::After), 0);
        assert_eq!(answer(404, Phase::After), 1, "the previous release did not say so");
        assert_eq!(answer(302, Phase::After), 1);
        let mut first = tally(None);
        let sent = first.sent(Connection::Fresh);
        first.ended(sent, Ok(404));
        assert_eq!(measured(&first).failed, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn before_a_first_deployment_who_answers_is_seen_and_nobody_need() {
        for (before, requests) in [(Ok(503), 1), (Err(RequestError::Refused), 1), (Ok(200), 2)] {
            let mut tally = tally(None);
            let sent = tally.sent(Connection::Fresh);
            tally.ended(sent, before);
            advance(Duration::from_secs(3)).await;
            tally.mark(Phase::During);
            tally.mark(Phase::After);
            let sent = tally.sent(Connection::Fresh);
            tally.ended(sent, Ok(200));
            let seen = measured(&tally);
            assert_eq!((seen.requests, seen.failed), (requests, 0), "{before:?}");
            let gap = if before.is_ok_and(|status| status == 200) {
                Duration::from_secs(3)
            } else {
                Duration::ZERO
            };
            assert_eq!((seen.longest_gap, tally.interval()), (gap, Rate::default().interval()), "{before:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waited_in_vain_for_the_previous_colour_is_not_held_against_the_switch() {
        let mut tally = tally(Some(Color::Blue));
        let (late, cut) = (tally.sent(Connection::Fresh), tally.sent(Connection::Fresh));
        tally.mark(Phase::After);
        tally.ended(late, Err(RequestError::Timeout));
        assert_eq!((tally.since_switch().total(), measured(&tally).failed), (0, 1));
        tally.ended(cut, Err(RequestError::Eof));
        assert_eq!(tally.since_switch().total(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn settled_is_when_each_request_since_the_switch_began_is_over() {
        let mut tally = tally(Some(Color::Blue));
        let _hangs_on_the_previous = tally.sent(Connection::Fresh);
        tally.mark(Phase::During);
        assert!(!tally.is_complete(tally.sent_so_far()), "silence is not success");
        let during = tally.sent(Connection::Fresh);
        tally.mark(Phase::After);
        let after = tally.sent(Connection::Fresh);
        tally.ended(after, Ok(200));
        assert!(!tally.is_complete(3), "one from the middle of the switch is under way");
        tally.ended(during, Ok(200));
        let _later = tally.sent(Connection::Fresh);
        assert!(tally.is_complete(3));
        assert!(!tally.is_complete(4));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_seen_is_never_a_zero() {
        let mut tally = tally(Some(Color::Blue));
        assert!(matches!(tally.receipt(), Receipt::NotMeasured { .. }));
        tally.cannot_see("only TLS".to_owned());
        let sent = tally.sent(Connection::Fresh);
        tally.ended(sent, Ok(200));
        assert_eq!(tally.receipt(), Receipt::NotMeasured { reason: "only TLS".to_owned() });
    }

    #[test]
    fn percentiles_are_right_to_3_percent() {
        let mut histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.add(Duration::from_micros(micros));
        }
        let Latency { p50, p99, .. } = histogram.latency().unwrap();
        for (found, right) in [(p50, 5_000), (p99, 9_900)] {
            let error = right - u64::try_from(found.as_micros()).unwrap();
            assert!(error * 100 <= right * 3 + 100, "{found:?} for {right}");
        }
        for micros in [0, 1, 63, 64, 65, 1_000_000, 1_100_000, u64::MAX] {
            assert!(lowest(bucket(micros)) <= micros, "{micros}");
            assert!(micros - lowest(bucket(micros)) <= micros / 32, "{micros}");
        }
    }
}
