//! What can be said of the state directory without touching it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statfs};

use super::FileJournal;

/// Where a journal lies or would lie, as it was found.
#[derive(Debug)]
#[non_exhaustive]
pub struct StateDirectory {
    /// The directory that was looked at: the state directory, or the nearest one above it that is there.
    pub looked_at: PathBuf,
    /// Whether the state directory is there; it is made by the first run.
    pub is_there: bool,
    /// Whether this user may write there.
    pub writable: io::Result<()>,
    /// Why what is written there is lost with the next start of this host or container, where it is.
    pub volatile: Option<&'static str>,
    /// Bytes that are left for this user.
    pub free: u64,
    /// Whether users may look into it who are neither its owner nor of its group.
    pub open_to_others: bool,
}

impl FileJournal {
    /// Looks at the state directory. Touches nothing.
    ///
    /// # Errors
    ///
    /// When not even its file system can be asked.
    pub fn state_directory(&self) -> io::Result<StateDirectory> {
        let looked_at = self.directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let is_there = looked_at == self.directory;
        let volume = statfs(looked_at)?;
        let meta = looked_at.metadata()?;
        let writable = if meta.is_dir() {
            access(looked_at, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from)
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        };
        Ok(StateDirectory {
            looked_at: looked_at.to_owned(),
            is_there,
            writable,
            // The magic numbers of statfs(2).
            volatile: match volume.f_type {
                0x0102_1994 => Some("a tmpfs, which is memory"),
                0x8584_58f6 => Some("a ramfs, which is memory"),
                0x794c_7630 => Some("a container's own layer, which goes with the container"),
                _ => None,
            },
            free: volume.f_bavail.saturating_mul(u64::try_from(volume.f_bsize).unwrap_or(0)),
            open_to_others: is_there && meta.mode() & 0o007 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_is_looked_at_and_none_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let journal = FileJournal::new(dir.path().join("state/deeper"));
        let room = journal.state_directory().unwrap();
        assert!(!room.is_there && room.writable.is_ok() && !room.open_to_others);
        assert_eq!(room.looked_at, dir.path());
        assert!(!dir.path().join("state").exists());
        for mode in [0o700, 0o755] {
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
            let room = FileJournal::new(dir.path()).state_directory().unwrap();
            assert!(room.is_there && room.free > 0);
            assert_eq!(room.open_to_others, mode == 0o755);
        }
    }

    #[test]
    fn what_cannot_hold_a_journal_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let room = FileJournal::new(file.path()).state_directory().unwrap();
        assert_eq!(room.writable.unwrap_err().kind(), io::ErrorKind::NotADirectory);
        let room = FileJournal::new("/dev/shm/bluegreen-none").state_directory().unwrap();
        assert_eq!(room.volatile, Some("a tmpfs, which is memory"));
        // /proc takes nothing from anybody.
        let room = FileJournal::new("/proc/bluegreen-none").state_directory().unwrap();
        assert!(room.free == 0 && room.looked_at == Path::new("/proc"));
    }
}
