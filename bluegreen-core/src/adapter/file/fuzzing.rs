//! What holds for every file that is taken for a journal. Run by `fuzz/` and by `tests/fuzz_corpus.rs`.

use super::format::{self, Read};
use crate::state::{AppState, Entry, Resume};

/// Reads the bytes as they are, then each line as a record under the right checksum, which no change of a byte would
/// hit otherwise, then what could be read of them under the right numbers.
pub(crate) fn journal(bytes: &[u8]) {
    file(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let (mut summed, mut numbered, mut seq) = (Vec::new(), Vec::new(), 0);
    for line in lines {
        let line = String::from_utf8_lossy(line);
        let json = line.find('{').and_then(|start| line.get(start..)).unwrap_or_default();
        summed.extend(format!("v2 {:08x} {json}\n", crc32fast::hash(json.as_bytes())).bytes());
        if let Ok(entry) = serde_json::from_str::<Entry>(json) {
            seq += 1;
            numbered.push(Entry { seq, ..entry });
        }
    }
    file(&summed);
    state(&numbered);
    written(&numbered);
}

fn file(bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    match format::read(bytes) {
        Ok(read) => {
            sound(&read, bytes, &lines);
            prefixes(&read, &lines);
            state(&read.entries);
        }
        // What is before the line that is named stands, and nothing of what follows is taken.
        Err(bad) => {
            assert!((1..=lines.len()).contains(&bad.line), "line {} of {}", bad.line, lines.len());
            let before = lines[..bad.line - 1].concat();
            let read = format::read(&before);
            assert!(
                read.is_ok_and(|read| read.entries.len() == bad.line - 1 && read.good_bytes == before.len())
            );
        }
    }
}

/// The records are numbered without gaps, and only the last line may be left out.
fn sound(read: &Read, bytes: &[u8], lines: &[&[u8]]) {
    assert!((1..).zip(&read.entries).all(|(seq, entry)| entry.seq == seq));
    assert!(read.good_bytes <= bytes.len());
    assert!(lines.len() - read.entries.len() <= 1, "{} of {} lines", read.entries.len(), lines.len());
    assert_eq!(lines[..read.entries.len()].concat().len(), read.good_bytes);
}

/// A write that was cut short costs the record that was being written and no other; damage in any other line is told.
fn prefixes(read: &Read, lines: &[&[u8]]) {
    // Some places of a long one: all of them would take the square of its length.
    for whole in (0..read.entries.len()).step_by(read.entries.len() / 8 + 1) {
        let mut bytes = lines[..whole].concat();
        let torn = lines[whole];
        bytes.extend_from_slice(&torn[..torn.len() / 2]);
        let cut = format::read(&bytes);
        assert!(cut.is_ok_and(|cut| cut.entries == read.entries[..whole]), "cut in line {}", whole + 1);
    }
    if read.entries.len() < 2 {
        return;
    }
    // Deterministic, and not always the same.
    let damaged = read.good_bytes % (read.entries.len() - 1);
    let first = lines[..damaged].concat().len();
    let mut bytes = lines.concat();
    let line = lines[damaged];
    for at in [0, 4, line.len() / 2, line.len() - 1] {
        bytes[first + at] ^= 0x20;
        let found = format::read(&bytes).map_or_else(|bad| Some(bad.line), |_| None);
        assert_eq!(found, Some(damaged + 1), "byte {at} of line {}", damaged + 1);
        bytes[first + at] ^= 0x20;
    }
}

/// A record that is refused changes nothing, and what is left says what to do.
fn state(entries: &[Entry]) {
    let mut state = AppState::default();
    for entry in entries {
        let before = state.clone();
        match state.push(entry) {
            Ok(()) => assert_eq!(state.records, before.records + 1),
            Err(refused) => {
                assert_eq!(state, before, "{refused}");
                assert_eq!(refused.seq, entry.seq);
            }
        }
    }
    if let Some(run) = state.open() {
        match run.resume() {
            Resume::Nothing => panic!("an open run needs something done"),
            Resume::Forward(steps) => assert!(run.is_committed() && steps.iter().all(|s| s.is_past_commit())),
            Resume::Unwind(steps) => {
                assert!(!run.is_committed() || run.unwinding);
                assert!(steps.iter().all(|step| run.started.contains(step) && step.undo().is_some()));
            }
        }
    }
    if let (Some(target), Some(current)) = (state.rollback_target(), state.current()) {
        assert!(target.spec.content() != current.spec.content());
    }
}

/// What is written is read again as it was.
fn written(entries: &[Entry]) {
    let mut bytes = Vec::new();
    for entry in entries {
        match format::line(entry) {
            Ok(line) => bytes.extend(line.into_bytes()),
            Err(error) => panic!("it was read and cannot be written: {error}"),
        }
    }
    let read = format::read(&bytes);
    assert!(read.is_ok_and(|read| read.entries == entries && read.good_bytes == bytes.len()));
}
