//! Files that are there whole or not at all, also after a power cut.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Where the file that stands for `path` while it is written, or its backup, lies: beside it, under a name that
/// neither `*.conf` nor `*` in an include matches (globs leave leading dots out).
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

/// Puts `bytes` in the place of `path`. Mode and owner are those of `like`, or 0644 and ours.
pub(crate) fn replace(path: &Path, bytes: &[u8], like: Option<&Metadata>) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("the path has no directory"))?;
    let mut temp = tempfile::Builder::new().prefix(&temp_prefix(path)).tempfile_in(dir)?;
    temp.write_all(bytes)?;
    let file = temp.as_file();
    if let Some(like) = like {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            fchown(file, Some(like.uid()), Some(like.gid()))?;
        }
    }
    // After the owner: changing that clears bits of the mode.
    file.set_permissions(Permissions::from_mode(like.map_or(0o644, |like| like.mode() & 0o7777)))?;
    file.sync_all()?;
    temp.persist(path).map_err(|error| error.error)?;
    sync_dir(dir)
}

/// Makes an empty file that everybody may see. Gives whether it was not there before.
pub(crate) fn create_flag(path: &Path) -> io::Result<bool> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    match made {
        Ok(file) => {
            // A umask may have taken away what nginx's workers need.
            file.set_permissions(Permissions::from_mode(0o644))?;
            sync_dir(path.parent().unwrap_or(path))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a file. Gives whether it was there.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(path.parent().unwrap_or(path)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a file holds, `None` when there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn temp_prefix(path: &Path) -> String {
    format!(".{}.bluegreen-", path.file_name().unwrap_or_default().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_mode_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.conf");
        replace(&path, b"one", None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
        let like = fs::metadata(&path).unwrap();
        replace(&path, b"two", Some(&like)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o440);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn flags_are_made_once_and_removed_once() {
        let dir = tempfile::tempdir().unwrap();
        let flag = dir.path().join("a.green");
        assert!(create_flag(&flag).unwrap());
        assert!(!create_flag(&flag).unwrap());
        assert_eq!(fs::metadata(&flag).unwrap().mode() & 0o777, 0o644);
        assert!(remove(&flag).unwrap());
        assert!(!remove(&flag).unwrap());
        assert_eq!(read(&flag).unwrap(), None);
    }

    #[test]
    fn what_lies_beside_is_matched_by_no_include() {
        assert_eq!(
            beside(Path::new("/a/b.conf"), "bluegreen-backup"),
            Path::new("/a/.b.conf.bluegreen-backup")
        );
    }
}
