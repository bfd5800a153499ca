//! nginx's configuration read from disk without nginx, where that says as much as its own test.
//!
//! A file that has not changed since nginx's workers started is what they run with, and what they run with has passed
//! the test. `nginx -T` would say the same, and by way of the Engine's exec it takes longer than all else that we do
//! before a candidate starts. Whatever is not plain to see here is left to nginx itself.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use super::dump::{self, Dump, absolute, glob};
use super::process;
use super::syntax;

/// Where nginx's packages have it, and where it is when its command line does not say another.
const MAIN: &str = "/etc/nginx/nginx.conf";
/// More than that is no configuration for us to read.
const MOST_BYTES: u64 = 4 << 20;
const MOST_FILES: usize = 512;

/// What the workers of `master` run with, all of its files; `None` when that cannot be told from here. In the directory
/// `flags` files come and go that nginx only looks at.
pub(super) fn loaded(master: u32, main: Option<&Path>, flags: &Path) -> Option<Dump> {
    let main = main.map_or_else(|| process::configuration(master), |main| Some(main.to_owned()));
    let main = main.unwrap_or_else(|| PathBuf::from(MAIN));
    // The oldest: one that was lost is replaced by one with the same configuration, whatever lies on disk by then.
    let since = process::workers(master)
        .iter()
        .filter(|worker| !worker.retiring)
        .map(|worker| worker.started().ok())
        .min()??;
    // As nginx sees it, in a container too. Nobody but root may look into another's root.
    let root = File::open(format!("/proc/{master}/root")).ok()?;
    let before = since.checked_sub(process::START_ERROR)?;
    let mut reader = Reader { root: root.into(), flags, before, files: Vec::new() };
    reader.take(main.to_str().filter(|main| main.starts_with('/'))?)?;
    Some(Dump::of(reader.files))
}

struct Reader<'a> {
    root: OwnedFd,
    flags: &'a Path,
    /// Nothing was changed at this time or later.
    before: SystemTime,
    files: Vec<dump::File>,
}

impl Reader<'_> {
    /// Reads a file and what it includes; `None` when something is not as it should be.
    fn take(&mut self, path: &str) -> Option<()> {
        if self.files.iter().any(|file| file.path == path) {
            return Some(());
        }
        let text = self.text(path)?;
        let directives = syntax::parse(&syntax::ascii(text.as_bytes())).ok()?;
        let main = self.files.first().map_or(path, |main| &main.path).to_owned();
        let mut patterns = Vec::new();
        for directive in &directives {
            directive.walk("", &mut |directive, _| {
                if directive.name == "include" {
                    patterns.push(directive.arg(0).map(|pattern| absolute(&main, pattern)));
                }
            });
        }
        self.files.push(dump::File { path: path.to_owned(), text, directives });
        (self.files.len() <= MOST_FILES).then_some(())?;
        for pattern in patterns {
            for path in self.matching(&pattern?)? {
                self.take(&path)?;
            }
        }
        Some(())
    }

    fn open(&self, path: &str, flags: OFlags) -> Option<OwnedFd> {
        // Links lead to where they lead for nginx, never out of its root.
        let path = path.trim_start_matches('/');
        openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT).ok()
    }

    /// Whether it is older than the workers. By the time of its last change of any kind: the other can be set.
    fn is_older(&self, file: BorrowedFd<'_>) -> Option<bool> {
        let stat = fstat(file).ok()?;
        let changed = Duration::new(stat.st_ctime.try_into().ok()?, stat.st_ctime_nsec.try_into().ok()?);
        Some(SystemTime::UNIX_EPOCH + changed < self.before)
    }

    fn text(&self, path: &str) -> Option<String> {
        let itself = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        // Not waited for, were it a pipe.
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let is_file = FileType::from_raw_mode(fstat(&file).ok()?.st_mode) == FileType::RegularFile;
        (is_file && self.is_older(itself.as_fd())? && self.is_older(file.as_fd())?).then_some(())?;
        let mut bytes = Vec::new();
        File::from(file).take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
        (u64::try_from(bytes.len()).ok()? < MOST_BYTES).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The files that an include takes, in nginx's order. Only its last part may be a pattern.
    fn matching(&self, pattern: &str) -> Option<Vec<String>> {
        let special = |part: &str| part.contains(['*', '?', '[', '\\']);
        let (dir, last) = pattern.rsplit_once('/')?;
        if !special(pattern) {
            return Some(vec![pattern.to_owned()]);
        }
        (!special(dir) && !last.contains(['[', '\\'])).then_some(())?;
        let dir_fd = self.open(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        // What was added there is younger by itself.
        (Path::new(dir) == self.flags || self.is_older(dir_fd.as_fd())?).then_some(())?;
        let mut found = Vec::new();
        for entry in Dir::new(dir_fd).ok()? {
            let path = format!("{dir}/{}", entry.ok()?.file_name().to_str().ok()?);
            if glob(pattern, &path) {
                found.push(path);
            }
        }
        found.sort_unstable();
        Some(found)
    }
}
