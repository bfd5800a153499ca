//! One run at a time: flock on a file that is never unlinked.
//!
//! Unlinking would let two processes hold locks on two files of one name. The lock belongs to the open file, so it
//! is gone with the process, however it ended; the text inside only says who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::share::{Share, refused};
use super::{MAKING, failed};
use crate::model::AppName;
use crate::port::{Holder, JournalError, Lease, Queue};

/// Who asked last for its turn, beside the lock.
const NEWEST: &str = "newest";
/// Whoever only looks has the lock for a moment, shared. That is no reason to refuse a run.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn take(state: &Path, app: &AppName, holder: &Holder) -> Result<Lease, JournalError> {
    let share = Share::of(state).map_err(refused(state, MAKING))?;
    let directory = state.join(app.as_str());
    share.directory(&directory).map_err(refused(state, MAKING))?;
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(directory.join("lock"))
        .map_err(refused(state, "opening the lock"))?;
    share.file(&file).map_err(failed("opening the lock"))?;
    let mut attempt = 1;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if attempt < LOOKS => {
                attempt += 1;
                std::thread::sleep(PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::Held { holder: read_holder(&mut file).map(Box::new) });
            }
            Err(TryLockError::Error(error)) => return Err(failed("taking the lock")(error)),
        }
    }
    write_holder(&mut file, holder).map_err(failed("writing the lock"))?;
    Ok(Lease::new(file))
}

/// Who has it and who asked last. Leaves nothing behind, also where there never was a lock.
pub(super) fn queue(state: &Path, app: &AppName) -> Result<Queue, JournalError> {
    let directory = state.join(app.as_str());
    let mut file = match File::open(directory.join("lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Queue::default()),
        Err(error) => return Err(refused(state, "opening the lock")(error)),
    };
    let held = match file.try_lock_shared() {
        Ok(()) => {
            file.unlock().map_err(failed("looking at the lock"))?;
            false
        }
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => return Err(failed("looking at the lock")(error)),
    };
    let holder = if held { read_holder(&mut file) } else { None };
    Ok(Queue::new(held, holder, read_newest(&directory)))
}

/// Writes down who asked last. Two that ask at the same moment may both think so; the later rename stands.
pub(super) fn enqueue(state: &Path, app: &AppName, holder: &Holder) -> Result<(), JournalError> {
    let directory = state.join(app.as_str());
    if read_newest(&directory).is_some_and(|newest| newest.is_newer_than(holder)) {
        return Ok(());
    }
    write_newest(state, &directory, holder).map_err(refused(state, "writing who asks"))
}

fn read_newest(directory: &Path) -> Option<Holder> {
    read_holder(&mut File::open(directory.join(NEWEST)).ok()?)
}

/// Whole or not at all for whoever reads it, by a rename; not synced, as nobody waits any more after a power cut.
fn write_newest(state: &Path, directory: &Path, holder: &Holder) -> std::io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".newest-").tempfile_in(directory)?;
    Share::of(state)?.file(file.as_file())?;
    file.write_all(serde_json::to_string(holder)?.as_bytes())?;
    file.persist(directory.join(NEWEST)).map_err(|error| error.error)?;
    Ok(())
}

/// Who holds it. The holder may be writing just now: then that cannot be told.
fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_holder(file: &mut File, holder: &Holder) -> std::io::Result<()> {
    let text = serde_json::to_string(holder)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

/// Sends SIGTERM to the process that holds the lock, and to no other that has its number by now.
///
/// The handle on the process comes first and the proof second: a process that has the lock open when it is looked at
/// is the one that the handle is for.
pub(super) fn terminate(directory: &Path, app: &AppName, holder: &Holder) -> Result<bool, JournalError> {
    let lock = directory.join(app.as_str()).join("lock");
    let Some(pid) = i32::try_from(holder.pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
    let gone = |error| if error == Errno::SRCH { Ok(false) } else { Err(failed("stopping the run")(error)) };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(error) => return gone(error),
    };
    if !has_open(pid, &lock).map_err(failed("looking at the run's process"))? {
        return Ok(false);
    }
    pidfd_send_signal(&process, Signal::TERM).map_or_else(gone, |()| Ok(true))
}

/// Whether a process has this file open.
fn has_open(pid: Pid, file: &Path) -> std::io::Result<bool> {
    let wanted = std::fs::metadata(file)?;
    let listed = match std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())) {
        Ok(listed) => listed,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // One that is closed while we look is none.
    let open = listed.flatten().filter_map(|entry| std::fs::metadata(entry.path()).ok());
    Ok(open.into_iter().any(|open| (open.dev(), open.ino()) == (wanted.dev(), wanted.ino())))
}
