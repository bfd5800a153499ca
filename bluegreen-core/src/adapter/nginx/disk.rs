//! nginx's configuration read from disk without nginx: its own command changes the machine (as root it gives temporary
//! directories away), and by way of the Engine's exec it takes longer than all else that we do before a candidate
//! starts.
//!
//! Files that have not changed since nginx's workers started are what they run with, and that has passed nginx's own
//! test.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use super::dump::{self, Dump, absolute};
use super::pattern::{self, is_pattern};
use super::process;
use super::render::FOLDER;

/// More than that is no configuration for us to read.
const MOST_BYTES: u64 = 4 << 20;
const MOST_FILES: usize = 2048;

/// A configuration as it lies on disk.
#[derive(Debug)]
pub(super) struct OnDisk {
    pub(super) dump: Dump,
    /// Whether the workers run with just this.
    pub(super) loaded: bool,
}

/// Reads all files of the configuration with this main file, as the process `master` sees them. `None` when that may
/// not be seen. `on_host`: its paths are this host's.
pub(super) fn read(master: u32, main: &str, on_host: bool) -> Option<OnDisk> {
    let root = root(master, on_host)?;
    // The oldest: one that was lost is replaced by one with the same configuration, whatever lies on disk by then.
    let workers = process::workers(master);
    let since =
        workers.iter().filter(|worker| !worker.retiring).map(|worker| worker.started().ok()).min().flatten();
    let before = since.and_then(|since| since.checked_sub(process::START_ERROR));
    let mut reader =
        Reader { root, before, loaded: before.is_some(), files: Vec::new(), names: BTreeSet::new() };
    reader.take_all(main);
    let unread = reader.files.iter().any(|file| file.unread.is_some());
    Some(OnDisk { loaded: reader.loaded && !unread, dump: Dump::of(reader.files) })
}

/// The root of all paths, as nginx sees it, in a container too. Nobody but root may look into another's.
fn root(master: u32, on_host: bool) -> Option<OwnedFd> {
    let root = File::open(format!("/proc/{master}/root"));
    let root = if on_host { root.or_else(|_| File::open("/")) } else { root }.ok()?;
    Some(root.into())
}

/// The paths of these that lead to nothing, as the process `master` sees them. One that may not be looked at is none.
pub(super) fn absent(master: u32, paths: Vec<String>, on_host: bool) -> Vec<String> {
    let Some(root) = root(master, on_host) else { return Vec::new() };
    let is_absent = |path: &String| {
        open(&root, path.as_bytes(), OFlags::PATH).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    paths.into_iter().filter(is_absent).collect()
}

/// Links lead to where they lead for nginx, never out of its root.
fn open(root: &OwnedFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let path = path.iter().position(|byte| *byte != b'/').map_or(&b"."[..], |at| &path[at..]);
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)?)
}

struct Reader {
    root: OwnedFd,
    /// Nothing was changed at this time or later, as far as `loaded` still says so.
    before: Option<SystemTime>,
    loaded: bool,
    files: Vec<dump::File>,
    names: BTreeSet<String>,
}

impl Reader {
    /// Reads a file and what it includes, in the order in which nginx meets them.
    fn take_all(&mut self, main: &str) {
        let mut waiting = vec![main.to_owned()];
        while let Some(path) = waiting.pop() {
            if self.names.contains(&path) {
                continue;
            }
            self.names.insert(path.clone());
            let file = if self.names.len() > MOST_FILES {
                dump::File::closed(path, &io::Error::other(format!("there are more than {MOST_FILES} files")))
            } else {
                match self.bytes(&path) {
                    Ok(bytes) => dump::File::of(path, bytes),
                    Err(error) => dump::File::closed(path, &error),
                }
            };
            let mut included = Vec::new();
            for directive in &file.directives {
                directive.walk("", &mut |directive, _| {
                    if let ("include", Some(pattern)) = (directive.name.as_str(), directive.arg(0)) {
                        included.push(absolute(main, pattern));
                    }
                });
            }
            let full = self.names.len() > MOST_FILES;
            self.files.push(file);
            if full {
                return;
            }
            let found: Vec<_> = included.iter().flat_map(|pattern| self.matching(pattern)).collect();
            waiting.extend(found.into_iter().rev());
        }
    }

    fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        open(&self.root, path, flags)
    }

    /// Notes whether it is younger than the workers. By the time of its last change of any kind: the other can be set.
    fn look(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        let stat = fstat(file)?;
        let changed = Duration::new(
            stat.st_ctime.try_into().unwrap_or_default(),
            stat.st_ctime_nsec.try_into().unwrap_or_default(),
        );
        self.loaded &= self.before.is_some_and(|before| SystemTime::UNIX_EPOCH + changed < before);
        Ok(())
    }

    fn bytes(&mut self, path: &str) -> io::Result<Vec<u8>> {
        let itself = self.open(path.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW)?;
        self.look(itself.as_fd())?;
        // Not waited for, were it a pipe.
        let file = self.open(path.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK)?;
        self.look(file.as_fd())?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        File::from(file).take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|read| read > MOST_BYTES) {
            return Err(io::Error::other(format!("it has more than {MOST_BYTES} bytes")));
        }
        Ok(bytes)
    }

    /// The files that an include takes, in nginx's order.
    fn matching(&mut self, wanted: &str) -> Vec<String> {
        if !is_pattern(wanted) {
            return vec![wanted.to_owned()];
        }
        let mut found = vec![String::new()];
        for part in wanted.split('/').filter(|part| !part.is_empty()) {
            let mut deeper = Vec::new();
            for dir in &found {
                if is_pattern(part) {
                    let names = self.names(dir);
                    let names = names.iter().filter(|name| pattern::part(part, name));
                    deeper.extend(names.map(|name| format!("{dir}/{name}")));
                } else {
                    deeper.push(format!("{dir}/{part}"));
                }
            }
            found = deeper;
        }
        // A plain name behind a pattern need not be there.
        found.retain(|path| self.open(path.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW).is_ok());
        found.sort_unstable();
        found
    }

    /// What is in a directory; nothing when it may not be looked into, which nginx passes by as well.
    fn names(&mut self, dir: &str) -> Vec<String> {
        let Ok(opened) = self.open(dir.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY) else {
            return Vec::new();
        };
        // In our own folder flags come and go; any other file that comes is younger by itself.
        if Path::new(dir).file_name() != Some(OsStr::new(FOLDER)) && self.look(opened.as_fd()).is_err() {
            self.loaded = false;
        }
        let Ok(entries) = Dir::new(opened) else { return Vec::new() };
        let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        entries.flatten().map(|entry| name(entry.file_name().to_bytes())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;

    use super::*;
    use crate::adapter::atomic;

    /// Reads below a directory as if it were all there is.
    fn reader(root: &Path) -> Reader {
        let root = File::open(root).unwrap().into();
        Reader { root, before: None, loaded: false, files: Vec::new(), names: BTreeSet::new() }
    }

    #[test]
    fn files_are_taken_in_the_order_of_nginx() {
        let dir = tempfile::tempdir().unwrap();
        create_dir_all(dir.path().join("etc/sites/b")).unwrap();
        create_dir_all(dir.path().join("etc/sites/a")).unwrap();
        for (name, text) in [
            ("etc/n.conf", "include sites/*/[!_]*.conf; include sites/a/_x.conf; include gone.conf;"),
            ("etc/sites/a/Z.conf", "a;"),
            ("etc/sites/a/b.conf", "include sites/b/in;"),
            ("etc/sites/a/_x.conf", "a;"),
            ("etc/sites/a/.h.conf", "a;"),
            ("etc/sites/b/10-\u{e9}.conf", "a '\u{e9}'; }"),
            ("etc/sites/b/in", "a;"),
        ] {
            atomic::replace(&dir.path().join(name), text.as_bytes(), None).unwrap();
        }
        let mut reader = reader(dir.path());
        reader.take_all("/etc/n.conf");
        let names: Vec<_> = reader.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            names,
            [
                "/etc/n.conf",
                "/etc/sites/a/Z.conf",
                "/etc/sites/a/b.conf",
                "/etc/sites/b/in",
                "/etc/sites/b/10-\u{e9}.conf",
                "/etc/sites/a/_x.conf",
                "/etc/gone.conf",
            ]
        );
        let dump = Dump::of(reader.files);
        let unread: Vec<_> = dump.unread().map(|(path, unread)| (path, unread.line)).collect();
        assert_eq!(unread, [("/etc/sites/b/10-\u{e9}.conf", Some(1)), ("/etc/gone.conf", None)]);
    }
}
