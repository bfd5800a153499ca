//! Who may use what is in a state directory: its owner; and the members of its group, where it was opened to them.
//!
//! It is the host's: root and the members of group `docker` deploy the same applications and need one lock. Who is a
//! member may read every container's environment anyhow; to all others it stays closed.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use super::{failed, sync_directory};
use crate::port::JournalError;

/// What its owner, and the group, may do with what is in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// The group, where the directory was opened to it.
    group: Option<u32>,
}

impl Share {
    /// As the state directory is. One that is not there is made, for its owner only.
    pub(super) fn of(state: &Path) -> Result<Self> {
        make(state)?;
        let meta = state.metadata()?;
        // The set-group-ID bit says that it was meant so: what is made in it is the group's.
        Ok(Self { group: (meta.mode() & 0o2070 == 0o2070).then(|| meta.gid()) })
    }

    /// Makes a directory in it, and makes that durable.
    pub(super) fn directory(self, path: &Path) -> Result<()> {
        if make(path)? {
            self.open_up(&File::open(path)?, 0o2770)?;
        }
        Ok(())
    }

    /// Lets the group at what one of its members, or root, has made.
    pub(super) fn file(self, file: &File) -> Result<()> {
        self.open_up(file, 0o660)
    }

    fn open_up(self, file: &File, mode: u32) -> Result<()> {
        let Some(group) = self.group else { return Ok(()) };
        let meta = file.metadata()?;
        // What is another member's is right already, and not ours to change.
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        if meta.gid() != group {
            fchown(file, None, Some(group))?;
        }
        if meta.mode() & 0o7777 != mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

/// Makes a directory that only its owner may enter, and makes that durable. One that is there is left as it is.
fn make(path: &Path) -> Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    sync_directory(path)?;
    Ok(true)
}

/// What became of looking into a state directory: that it is not for this user is an answer of its own.
pub(super) fn refused(state: &Path, operation: &'static str) -> impl FnOnce(std::io::Error) -> JournalError {
    let directory = state.to_owned();
    move |error| match error.kind() {
        ErrorKind::PermissionDenied => {
            let is_there = !matches!(directory.try_exists(), Ok(false));
            JournalError::Denied { directory: directory.display().to_string(), is_there }
        }
        _ => failed(operation)(error),
    }
}
