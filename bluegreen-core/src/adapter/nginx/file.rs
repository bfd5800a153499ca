//! Rewrite mode, the disk: the user's file, and its copy beside it while a switch is under way.

use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::Access;

use crate::adapter::atomic;
use crate::port::{Location, ProxyError};

use super::control::{other, unrecognized};
use super::rewrite::Unnamed;

const NAMES_US: &str = "nginx's file that names the application";

/// The user's file as it was read.
#[derive(Debug)]
pub(super) struct UserFile {
    /// Where it lies, links resolved: a link is not replaced by a file.
    pub(super) path: PathBuf,
    /// What it holds.
    pub(super) bytes: Vec<u8>,
    /// When it was changed last.
    pub(super) changed: SystemTime,
    meta: Metadata,
}

impl UserFile {
    pub(super) fn read(path: &Path) -> Result<Self, ProxyError> {
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => unrecognized(path, "there is no such file", NAMES_US),
            _ => other("read nginx's file")(error),
        };
        let path = fs::canonicalize(path).map_err(missing)?;
        // The time first: a change in between then counts as later than what was read.
        let meta = fs::metadata(&path).map_err(missing)?;
        if !meta.is_file() {
            return Err(unrecognized(&path, "it is not a regular file", NAMES_US));
        }
        let bytes = fs::read(&path).map_err(missing)?;
        let changed = meta.modified().map_err(other("read nginx's file"))?;
        Ok(Self { path, bytes, changed, meta })
    }

    pub(super) fn unrecognized(&self, found: impl Into<String>, expected: impl Into<String>) -> ProxyError {
        unrecognized(&self.path, found, expected)
    }

    pub(super) fn unnamed(&self, unnamed: Unnamed) -> ProxyError {
        match unnamed {
            Unnamed::Unread { line, reason } => ProxyError::Unreadable {
                at: Location::new(self.path.display().to_string(), Some(line)),
                reason: reason.to_owned(),
            },
            Unnamed::Other { found, expected } => self.unrecognized(found, expected),
        }
    }

    /// Whether this user may put another file in its place.
    pub(super) fn check_writable(&self) -> Result<(), ProxyError> {
        let dir = self.path.parent().unwrap_or(&self.path);
        rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
            let found = format!(
                "this user may not write to its directory ({}), where a new file replaces it",
                io::Error::from(error)
            );
            self.unrecognized(
                found,
                format!("write permission on {} for the user that deploys", dir.display()),
            )
        })
    }

    fn backup_path(&self) -> PathBuf {
        atomic::beside(&self.path, "bluegreen-backup")
    }

    /// What a switch that was broken off has kept.
    pub(super) fn backup(&self) -> io::Result<Option<Vec<u8>>> {
        atomic::read(&self.backup_path())
    }

    /// Keeps a copy beside it.
    pub(super) fn keep(&self) -> io::Result<()> {
        self.keep_as(&self.bytes)
    }

    pub(super) fn keep_as(&self, bytes: &[u8]) -> io::Result<()> {
        atomic::replace(&self.backup_path(), bytes, Some(&self.meta))
    }

    pub(super) fn drop_backup(&self) -> io::Result<()> {
        atomic::remove(&self.backup_path()).map(drop)
    }

    pub(super) fn put(&self, bytes: &[u8]) -> io::Result<()> {
        atomic::replace(&self.path, bytes, Some(&self.meta))
    }

    /// Puts back what was read, with its time or with the present one. One that was not changed stays.
    pub(super) fn put_back(&self, with_time: bool) -> io::Result<()> {
        if fs::read(&self.path)? != self.bytes {
            self.put(&self.bytes)?;
        }
        if with_time {
            File::open(&self.path)?.set_times(FileTimes::new().set_modified(self.changed))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn file(dir: &Path, bytes: &[u8]) -> PathBuf {
        let path = dir.join("default.conf");
        atomic::replace(&path, bytes, None).unwrap();
        path
    }

    #[test]
    fn it_is_put_back_byte_for_byte_with_its_time_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), b"a\r\nb");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        let user = UserFile::read(&path).unwrap();
        user.keep().unwrap();
        user.put(b"other").unwrap();
        assert_eq!(user.backup().unwrap().unwrap(), b"a\r\nb");
        user.put_back(true).unwrap();
        user.drop_backup().unwrap();
        let again = UserFile::read(&path).unwrap();
        assert_eq!((again.bytes, again.changed), (user.bytes, user.changed));
        assert_eq!(again.meta.mode(), user.meta.mode());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link() {
        let (dir, links) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = file(dir.path(), b"a");
        let link = links.path().join("enabled");
        symlink(&path, &link).unwrap();
        UserFile::read(&link).unwrap().put(b"b").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"b");
    }

    #[test]
    fn what_is_no_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().join("missing"), dir.path().to_owned()] {
            assert!(matches!(UserFile::read(&path), Err(ProxyError::Unrecognized { .. })));
        }
    }
}
