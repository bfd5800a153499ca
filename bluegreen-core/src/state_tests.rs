use proptest::prelude::*;

use super::*;
use crate::model::{AppSpec, Color, Digest, Endpoint, ImageRef, InstanceName, Slot, Slots};

fn release(color: Color, number: u64) -> Release {
    let slot = |color| {
        let name = InstanceName::new(format!("web-{color}")).unwrap();
        Slot::new(color, name, 3000, Endpoint::new("127.0.0.1", 3000).unwrap())
    };
    let spec = AppSpec::new(
        AppName::new("web").unwrap(),
        Slots { blue: slot(Color::Blue), green: slot(Color::Green) },
    );
    let image: ImageRef = format!("r.test/web:{number}").parse().unwrap();
    let image = image.pin(Digest::new(format!("sha256:{number:064x}")).unwrap());
    Release::new(spec.instance(color, image, DeploymentId::new(format!("d{number}")).unwrap()))
}

fn color_of(number: u64) -> Color {
    if number.is_multiple_of(2) { Color::Green } else { Color::Blue }
}

fn begun(number: u64, verb: Verb) -> Record {
    let color = color_of(number);
    let candidate = Box::new(release(color, number));
    let deployment = candidate.deployment().clone();
    Record::Begun {
        deployment,
        app: AppName::new("web").unwrap(),
        verb,
        candidate,
        previous: Some(color.other()),
        adopted: None,
    }
}

fn entries(records: impl IntoIterator<Item = Record>) -> Vec<Entry> {
    let numbered = (1..).zip(records);
    numbered.map(|(seq, record)| Entry::new(seq, Timestamp::UNIX_EPOCH, record)).collect()
}

/// A whole run that fails at `fails_at`, or commits.
fn run(number: u64, fails_at: Option<usize>) -> Vec<Record> {
    let mut records = vec![begun(number, Verb::Deploy)];
    for (index, step) in PLAN.into_iter().skip(1).enumerate() {
        records.push(Record::Started { step });
        if fails_at == Some(index) {
            records.push(Record::Failed { step, error: "planned".to_owned() });
            for step in AppState::replay(&entries(records.clone())).unwrap().open().unwrap().undoable() {
                records.extend([Record::UndoStarted { step }, Record::Undone { step }]);
            }
            records.push(Record::Ended { outcome: Outcome::RolledBack });
            return records;
        }
        records.push(Record::Succeeded { step });
    }
    records.push(Record::Ended { outcome: Outcome::Committed });
    records
}

proptest! {
    /// A crash may cut a journal anywhere: what is left always says what to do.
    #[test]
    fn every_prefix_of_a_legal_journal_is_legal_and_says_what_to_do(
        fails in prop::collection::vec(prop::option::of(0_usize..5), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let all: Vec<Record> = (1..).zip(&fails).flat_map(|(number, fails_at)| run(number, *fails_at)).collect();
        let cut = cut.index(all.len() + 1);
        let state = AppState::replay(&entries(all[..cut].iter().cloned())).unwrap();
        prop_assert_eq!(state.records, cut as u64);
        if let Some(open) = state.open() {
            match open.resume() {
                Resume::Nothing => prop_assert!(false, "an open run needs something done"),
                Resume::Forward(steps) => {
                    prop_assert!(open.is_committed());
                    prop_assert!(steps.iter().all(|step| step.is_past_commit()));
                }
                Resume::Unwind(steps) => {
                    prop_assert!(!open.is_committed() || open.unwinding);
                    prop_assert!(steps.iter().rev().is_sorted(), "undone in the reverse order");
                    let undoable = open.started.iter().filter(|step| step.undo().is_some()).count();
                    prop_assert_eq!(steps.len(), undoable, "everything that was started is taken back");
                }
            }
        }
    }

    /// A rollback never goes to what serves, nor to what was never committed.
    #[test]
    fn a_rollback_goes_to_an_earlier_committed_release(fails in prop::collection::vec(prop::option::of(0_usize..5), 1..8)) {
        let all: Vec<Record> = (1..).zip(&fails).flat_map(|(number, fails_at)| run(number, *fails_at)).collect();
        let state = AppState::replay(&entries(all)).unwrap();
        let committed: Vec<u64> = (1..).zip(&fails).filter(|(_, fails_at)| fails_at.is_none()).map(|(n, _)| n).collect();
        let expected = committed.iter().rev().nth(1).map(|number| format!("d{number}"));
        let target = state.rollback_target().map(|release| release.deployment().to_string());
        prop_assert_eq!(target, expected);
    }

    /// A place has what was committed there last: neither a run that was rolled back gives it, nor one that is open.
    #[test]
    fn a_place_has_what_was_committed_there_last(fails in prop::collection::vec(prop::option::of(0_usize..5), 1..8)) {
        let (last, settled) = fails.split_last().expect("one at least");
        let mut all: Vec<Record> = (1..).zip(settled).flat_map(|(number, fails_at)| run(number, *fails_at)).collect();
        let mut open = run(fails.len() as u64, *last);
        open.pop();
        all.extend(open);
        let state = AppState::replay(&entries(all)).unwrap();
        for color in Color::ALL {
            let committed = (1_u64..).zip(settled).filter(|(_, fails_at)| fails_at.is_none());
            let here = committed.map(|(number, _)| number).filter(|number| color_of(*number) == color);
            let expected = here.last().map(|number| release(color, number).deployment().clone());
            let found = state.release_in(color).map(|release| release.deployment().clone());
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn what_cannot_follow_is_refused_by_its_number() {
    let start = || vec![begun(1, Verb::Deploy), Record::Started { step: Step::Pull }];
    let succeeded = |step| Record::Succeeded { step };
    let cases = [
        (vec![Record::Started { step: Step::Pull }], 1),
        ([start(), vec![begun(2, Verb::Deploy)]].concat(), 3),
        ([start(), vec![succeeded(Step::Gate)]].concat(), 3),
        ([start(), vec![Record::Started { step: Step::Drain }]].concat(), 3),
        ([start(), vec![Record::Ended { outcome: Outcome::Committed }]].concat(), 3),
        (
            [run(1, None), vec![Record::Started { step: Step::Retire }]].concat(),
            run(1, None).len() as u64 + 1,
        ),
    ];
    for (records, seq) in cases {
        assert_eq!(AppState::replay(&entries(records.clone())).unwrap_err().seq, seq, "{records:#?}");
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    let later = |seq, record| Entry::new(seq, Timestamp::MAX, record);
    let mut state = AppState::default();
    for entry in entries([begun(1, Verb::Deploy), Record::Started { step: Step::Pull }]) {
        state.push(&entry).unwrap();
    }
    let before = state.clone();
    for record in [
        begun(2, Verb::Deploy),
        Record::Retiring { color: Color::Blue },
        Record::Started { step: Step::Drain },
        Record::Succeeded { step: Step::Gate },
        Record::Failed { step: Step::Gate, error: "planned".to_owned() },
        Record::Ended { outcome: Outcome::Committed },
    ] {
        state.push(&later(3, record)).unwrap_err();
        assert_eq!(state, before);
    }
}
