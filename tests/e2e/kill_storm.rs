//! The real command killed by SIGKILL at random moments, under load, its recovery too; then simply the next command.
//!
//! `scripts/test` makes a few kills, `scripts/kill-storm` as many as it is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use bluegreen_testkit::load::Report;
use serde_json::Value;
use tokio::time::Instant;

use crate::killed::KINDS;
use crate::rounds::{Cut, Rounds};
use crate::stage::{Kind, Ran};

/// Kills in the short pass.
const FEW: u64 = 10;

/// Random numbers that are the same for the same seed: splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What came of it.
#[derive(Default)]
struct Tally {
    hits: BTreeMap<String, u64>,
    stuck: u64,
    next_failed: u64,
    unsettled: u64,
    problems: Vec<String>,
    requests: u64,
    failed: u64,
}

impl Tally {
    /// A run that nobody killed, which had an earlier one to settle.
    fn ended(&mut self, ran: &Ran) {
        if ran.code != 0 {
            self.next_failed += 1;
            self.stuck += u64::from(ran.code == 30);
            self.problems.push(format!("the next run ended with {}\n{}", ran.code, ran.err));
        }
    }

    fn cut(&mut self, cut: &Cut) {
        match &cut.ended {
            None => *self.hits.entry(place(&cut.records)).or_default() += 1,
            Some(ran) => self.ended(ran),
        }
    }

    fn clients(&mut self, report: &Report) {
        self.requests = report.total.requests;
        self.failed = report.total.failed;
        self.problems.extend(report.failures.iter().take(20).map(|failure| format!("{failure:?}")));
    }

    fn add(&mut self, other: Self) {
        for (place, hits) in other.hits {
            *self.hits.entry(place).or_default() += hits;
        }
        self.stuck += other.stuck;
        self.next_failed += other.next_failed;
        self.unsettled += other.unsettled;
        self.problems.extend(other.problems);
        self.requests += other.requests;
        self.failed += other.failed;
    }

    fn table(&self) -> String {
        let mut text = String::from("killed in\n");
        let kills = self.hits.values().sum();
        let ends = [
            ("kills", kills),
            ("requests", self.requests),
            ("requests failed", self.failed),
            ("runs stuck", self.stuck),
            ("next runs that failed", self.next_failed),
            ("not settled after it", self.unsettled),
        ];
        let rows = self.hits.iter().map(|(place, hits)| (format!("  {place}"), *hits));
        for (name, count) in rows.chain(ends.map(|(name, count)| (name.to_owned(), count))) {
            writeln!(text, "{name:<26} {count:>8}").expect("text");
        }
        text
    }
}

/// Where a run was when it was killed, by the records that it wrote.
fn place(records: &[Value]) -> String {
    let Some(last) = records.last() else { return "before its first record".to_owned() };
    let recovering = records.iter().all(|record| record["type"] != "begun");
    let step = records.iter().rev().find_map(|record| record["step"].as_str());
    let at = match (last["type"].as_str().expect("a type"), step) {
        ("ended", _) => "after its last record".to_owned(),
        ("undo-started" | "undone", Some(step)) => format!("undo of {step}"),
        (_, Some(step)) => step.to_owned(),
        (_, None) => "its first record".to_owned(),
    };
    if recovering { format!("recovery: {at}") } else { at }
}

/// So many kills on one stage.
fn storm(kind: Kind, kills: u64, seed: u64) -> Tally {
    let (mut rounds, mut dice, mut tally) = (Rounds::new(kind), Dice(seed), Tally::default());
    let (load, word) = (rounds.load(), |verb: &str| vec![verb.to_owned()]);
    let began = Instant::now();
    rounds.deploy_next().expect(0);
    let (mut length, mut can_go_back) = (began.elapsed(), true);
    while (rounds.kills.get() as u64) < kills {
        let verb = if can_go_back && dice.one_in(3) { word("rollback") } else { rounds.next() };
        tally.cut(&at_some_time(&rounds, &mut dice, &verb, length));
        // What settles it is killed too, now and then.
        while dice.one_in(3) && (rounds.kills.get() as u64) < kills {
            let verb = if dice.one_in(2) { word("recover") } else { rounds.next() };
            tally.cut(&at_some_time(&rounds, &mut dice, &verb, length));
        }
        can_go_back = !dice.one_in(3);
        if can_go_back {
            let began = Instant::now();
            tally.ended(&rounds.deploy_next());
            length = began.elapsed();
        } else {
            tally.ended(&rounds.stage.bluegreen(&["recover"]));
        }
        if let Some(what) = rounds.unsettled() {
            tally.unsettled += 1;
            tally.problems.push(format!("{kind:?}, kill {}: {what}", rounds.kills.get()));
        }
    }
    tally.clients(&load.stop());
    tally
}

/// Kills a run at a moment between its start and a little behind its end.
fn at_some_time(rounds: &Rounds, dice: &mut Dice, verb: &[String], length: Duration) -> Cut {
    let micros = u64::try_from(length.as_micros()).expect("not an age") * 11 / 10;
    let at = Instant::now() + Duration::from_micros(dice.below(micros));
    rounds.cut(verb, |_| Instant::now() >= at)
}

/// A number that a script may set.
#[expect(clippy::disallowed_methods, reason = "a script says how long the tests run")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn sigkill_at_random_moments_is_settled_by_the_next_command_and_loses_no_request() {
    let kills = number("KILL_STORM_KILLS").unwrap_or(FEW);
    let seed = number("KILL_STORM_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("{kills} kills, seed {seed}: scripts/kill-storm --kills {kills} --seed {seed}");
    let kinds = KINDS.len() as u64;
    let tally = thread::scope(|scope| {
        let running: Vec<_> = (0..kinds)
            .zip(KINDS)
            .map(|(n, kind)| {
                let share = kills / kinds + u64::from(n < kills % kinds);
                scope.spawn(move || storm(kind, share, seed + n))
            })
            .collect();
        let mut all = Tally::default();
        for thread in running {
            all.add(thread.join().expect("a storm that goes to its end"));
        }
        all
    });
    eprintln!("{}", tally.table());
    assert!(tally.problems.is_empty(), "{}", tally.problems.join("\n"));
    assert_eq!((tally.failed, tally.stuck, tally.next_failed, tally.unsettled), (0, 0, 0, 0));
    assert_eq!(tally.hits.values().sum::<u64>(), kills);
}
