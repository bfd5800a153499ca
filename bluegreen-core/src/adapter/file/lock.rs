//! One run at a time: flock on a file that is never unlinked.
//!
//! Unlinking would let two processes hold locks on two files of one name. The lock belongs to the open file, so it
//! is gone with the process, however it ended; the text inside only says who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{failed, make_private_directory};
use crate::model::AppName;
use crate::port::{Holder, JournalError, Lease};

pub(super) fn take(directory: &Path, app: &AppName, holder: &Holder) -> Result<Lease, JournalError> {
    let directory = directory.join(app.as_str());
    make_private_directory(&directory).map_err(failed("making the state directory"))?;
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(directory.join("lock"))
        .map_err(failed("opening the lock"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(JournalError::Held { holder: read_holder(&mut file).map(Box::new) });
        }
        Err(TryLockError::Error(error)) => return Err(failed("taking the lock")(error)),
    }
    write_holder(&mut file, holder).map_err(failed("writing the lock"))?;
    Ok(Lease::new(file))
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
