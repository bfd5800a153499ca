use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::model::DeploymentId;
use crate::plan::Step;
use crate::state::Activity;

fn app() -> AppName {
    AppName::new("web").unwrap()
}

fn step(step: Step) -> Record {
    Record::Started { step }
}

fn records(entries: &[Entry]) -> Vec<Record> {
    entries.iter().map(|entry| entry.record.clone()).collect()
}

async fn three_records(directory: &Path) -> (FileJournal, Vec<Record>) {
    let journal = FileJournal::new(directory);
    let written = vec![step(Step::Pull), step(Step::Start), step(Step::Gate)];
    for record in &written {
        journal.append(&app(), record).await.unwrap();
    }
    (journal, written)
}

#[tokio::test]
async fn what_was_appended_is_loaded_by_another_process() {
    let directory = tempfile::tempdir().unwrap();
    let (_, written) = three_records(directory.path()).await;
    let entries = FileJournal::new(directory.path()).load(&app()).await.unwrap();
    assert_eq!(records(&entries), written);
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn only_the_owner_can_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let (journal, _) = three_records(&state).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state), mode(&state.join("web")), mode(&journal.path(&app()))), (0o700, 0o700, 0o600));
}

/// A crash may leave any part of the last record. None of them may cost an earlier record or the next one.
#[tokio::test]
async fn a_tail_torn_at_any_byte_is_left_out_and_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, written) = three_records(directory.path()).await;
    let path = journal.path(&app());
    let whole = std::fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for cut in last..whole.len() {
        File::create(&path).unwrap().write_all(&whole[..cut]).unwrap();
        let journal = FileJournal::new(directory.path());
        assert_eq!(records(&journal.load(&app()).await.unwrap()), written[..2], "cut at {cut}");
        journal.append(&app(), &step(Step::Switch)).await.unwrap();
        let entries = FileJournal::new(directory.path()).load(&app()).await.unwrap();
        assert_eq!(records(&entries), [&written[..2], &[step(Step::Switch)]].concat(), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_tail_of_zeros_is_torn_too() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, written) = three_records(directory.path()).await;
    let path = journal.path(&app());
    OpenOptions::new().append(true).open(&path).unwrap().write_all(&[0; 100]).unwrap();
    assert_eq!(records(&FileJournal::new(directory.path()).load(&app()).await.unwrap()), written);
}

#[tokio::test]
async fn every_flipped_byte_before_the_last_line_is_a_refusal_that_names_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = three_records(directory.path()).await;
    let path = journal.path(&app());
    let whole = std::fs::read(&path).unwrap();
    let first_line = whole.iter().position(|byte| *byte == b'\n').unwrap();
    for at in 0..first_line {
        let mut bad = whole.clone();
        bad[at] ^= 0x01;
        File::create(&path).unwrap().write_all(&bad).unwrap();
        match FileJournal::new(directory.path()).load(&app()).await {
            Err(JournalError::Corrupt { line: 1, .. }) => {}
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

/// It makes one line of two records, and that line is the last: without care both would be taken for torn.
#[tokio::test]
async fn a_damaged_end_of_the_line_before_the_last_is_a_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = three_records(directory.path()).await;
    let path = journal.path(&app());
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    bytes[end] ^= 0x01;
    File::create(&path).unwrap().write_all(&bytes).unwrap();
    let error = FileJournal::new(directory.path()).load(&app()).await.unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { line: 2, .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_record_is_a_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = three_records(directory.path()).await;
    let path = journal.path(&app());
    let text = std::fs::read_to_string(&path).unwrap();
    let without: Vec<&str> =
        text.split_inclusive('\n').enumerate().filter(|(i, _)| *i != 1).map(|(_, l)| l).collect();
    File::create(&path).unwrap().write_all(without.concat().as_bytes()).unwrap();
    let error = FileJournal::new(directory.path()).load(&app()).await.unwrap_err();
    assert!(error.to_string().contains("record 3 where 2 was expected"), "{error}");
}

#[tokio::test]
async fn a_later_format_is_a_refusal_even_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = three_records(directory.path()).await;
    let path = journal.path(&app());
    let json = "{}";
    let line = format!("v9 {:08x} {json}\n", crc32fast::hash(json.as_bytes()));
    OpenOptions::new().append(true).open(&path).unwrap().write_all(line.as_bytes()).unwrap();
    let error = FileJournal::new(directory.path()).load(&app()).await.unwrap_err();
    assert!(error.to_string().contains("a newer one wrote it"), "{error}");
}

#[tokio::test]
async fn the_second_holder_is_told_who_the_first_is() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (FileJournal::new(directory.path()), FileJournal::new(directory.path()));
    let holder = Holder::new(4711, "host", Activity::Deploy, DeploymentId::new("d-1").unwrap());
    let lease = first.lock(&app(), &holder).await.unwrap();
    match second.lock(&app(), &holder).await {
        Err(JournalError::Held { holder: Some(seen) }) => assert_eq!(*seen, holder),
        other => panic!("{other:?}"),
    }
    drop(lease);
    second.lock(&app(), &holder).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_costs_nothing_that_was_written() {
    // /dev/full refuses every write as a full disk does.
    let directory = tempfile::tempdir().unwrap();
    let journal = FileJournal::new(directory.path());
    std::fs::create_dir(directory.path().join("web")).unwrap();
    std::os::unix::fs::symlink("/dev/full", journal.path(&app())).unwrap();
    journal.ends.lock().unwrap().insert(app(), End { bytes: 0, seq: 0 });
    let error = journal.append(&app(), &step(Step::Pull)).await.unwrap_err();
    assert!(matches!(error, JournalError::Other { .. }), "{error:?}");
}

fn holder(id: &str) -> Holder {
    Holder::new(std::process::id(), "here", Activity::Deploy, DeploymentId::new(id).unwrap())
}

#[tokio::test]
async fn a_look_at_the_queue_takes_nothing_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let journal = FileJournal::new(directory.path().join("state"));
    assert_eq!(journal.queue(&app()).await.unwrap(), Queue::default());
    assert!(!directory.path().join("state").exists());
    let lease = journal.lock(&app(), &holder("one")).await.unwrap();
    let queue = journal.queue(&app()).await.unwrap();
    assert_eq!((queue.held, queue.holder.unwrap().deployment.as_str()), (true, "one"));
    drop(lease);
    let queue = journal.queue(&app()).await.unwrap();
    assert_eq!((queue.held, queue.holder), (false, None));
    let _lease = journal.lock(&app(), &holder("two")).await.unwrap();
}

#[tokio::test]
async fn who_asked_last_stands_whatever_the_order_of_the_writes() {
    let directory = tempfile::tempdir().unwrap();
    let journal = FileJournal::new(directory.path());
    let older = holder("older");
    let lease = journal.lock(&app(), &older).await.unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    let newer = holder("newer");
    journal.enqueue(&app(), &newer).await.unwrap();
    journal.enqueue(&app(), &older).await.unwrap();
    let queue = journal.queue(&app()).await.unwrap();
    assert_eq!(queue.newer_than(&older), Some(&newer));
    assert_eq!(queue.newer_than(&newer), None);
    assert_eq!(queue.newer_than(&holder("newer")), None, "the same deployment");
    drop(lease);
    let names: Vec<_> =
        std::fs::read_dir(directory.path().join("web")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the lock and who asked last: {names:?}");
}

/// A process that only has the holder's number is not the holder.
#[tokio::test]
async fn nobody_is_told_to_stop_who_has_not_the_lock_open() {
    let directory = tempfile::tempdir().unwrap();
    let journal = FileJournal::new(directory.path());
    drop(journal.lock(&app(), &holder("gone")).await.unwrap());
    let mut innocent = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let mut named = holder("gone");
    named.pid = innocent.id();
    assert!(!journal.terminate(&app(), &named).await.unwrap());
    assert_eq!(innocent.try_wait().unwrap(), None, "it was stopped");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
    assert!(!journal.terminate(&app(), &named).await.unwrap(), "it is gone");
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn it_keeps_the_contract_of_the_port() {
    let directory = tempfile::tempdir().unwrap();
    crate::testing::contract::journal(&FileJournal::new(directory.path()), &app()).await.unwrap();
}
