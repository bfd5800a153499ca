//! A change, tried before it is made: nginx tests a private copy of its whole configuration, in one file, and touches
//! nothing of the real one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::adapter::atomic;
use crate::port::ProxyError;

use super::control::{Control, other};
use super::dump::{Dump, File, absolute};
use super::edit::Edit;
use super::pattern::{Pattern, is_pattern};
use super::syntax::Directive;

/// A configuration in one file.
#[derive(Debug, Default)]
struct Flat {
    bytes: Vec<u8>,
    /// Where each line comes from: the file's number, and the line in it.
    lines: Vec<(usize, usize)>,
}

/// How deep includes may lie in each other.
const DEPTH: usize = 16;

impl Flat {
    fn push(&mut self, bytes: &[u8], file: usize, line: &mut usize) {
        for byte in bytes {
            if *byte == b'\n' {
                self.lines.push((file, *line));
                *line += 1;
            }
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn add(&mut self, files: &[File], at: usize, depth: usize) {
        let Some(file) = files.get(at) else { return };
        let main = files.first().map_or("", |main| main.path.as_str());
        let mut includes: Vec<&Directive> = Vec::new();
        for directive in &file.directives {
            directive.walk("", &mut |directive, _| {
                includes.extend((directive.name == "include").then_some(directive));
            });
        }
        let (mut from, mut line) = (0, 1);
        for include in includes {
            let wanted = absolute(main, include.arg(0).unwrap_or_default());
            let pattern = Pattern::new(&wanted);
            let mut found: Vec<usize> =
                (0..files.len()).filter(|of| pattern.takes(&files[*of].path)).collect();
            found.sort_by(|a, b| files[*a].path.cmp(&files[*b].path));
            // One that is not there is for nginx to complain of.
            if found.is_empty() && !is_pattern(&wanted) || depth == DEPTH {
                continue;
            }
            self.push(file.bytes.get(from..include.span.start).unwrap_or_default(), at, &mut line);
            for of in found {
                self.add(files, of, depth + 1);
                self.push(b"\n", of, &mut 0);
            }
            from = include.span.end;
        }
        self.push(file.bytes.get(from..).unwrap_or_default(), at, &mut line);
    }
}

/// The files as they would be: some changed or added, some gone.
pub(super) fn changed(dump: &Dump, new: BTreeMap<String, Vec<u8>>, gone: &[String]) -> Vec<File> {
    let same = |path: &str| Path::new(path).components().collect::<PathBuf>();
    let new: BTreeMap<PathBuf, (String, Vec<u8>)> =
        new.into_iter().map(|(path, bytes)| (same(&path), (path, bytes))).collect();
    let mut left = new.clone();
    let mut files = Vec::new();
    for file in dump.files().iter().filter(|file| gone.iter().all(|gone| same(gone) != same(&file.path))) {
        left.remove(&same(&file.path));
        let bytes = new.get(&same(&file.path)).map_or(&file.bytes, |(_, bytes)| bytes);
        files.push(File::of(file.path.clone(), bytes.clone()));
    }
    files.extend(left.into_values().map(|(path, bytes)| File::of(path, bytes)));
    files
}

/// A directory that goes with this value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

impl Control<'_> {
    /// Has nginx test its configuration with these files changed: ours as nginx names them, the user's as edited. What
    /// it says against it, with the real files' names.
    ///
    /// # Errors
    ///
    /// When there is no room for a copy that nginx can read.
    pub(super) async fn try_out(
        &self,
        dump: &Dump,
        mut new: BTreeMap<String, Vec<u8>>,
        edits: &[Edit],
        gone: &[String],
    ) -> Result<Result<(), String>, ProxyError> {
        new.extend(edits.iter().map(|edit| (edit.inside.clone(), edit.new.clone())));
        let files = changed(dump, new, gone);
        let mut flat = Flat::default();
        flat.add(&files, 0, 0);
        let master = self.master().await?;
        let made = self.scratch(master, dump.main(), &flat.bytes);
        let (scratch, inside) = made.map_err(other("make a copy of nginx's configuration to test it"))?;
        let copy = inside.join(COPY).display().to_string();
        let tested = self.test_of(&copy).await?;
        drop(scratch);
        Ok(tested.map_err(|said| named(&said, &copy, &flat, &files)))
    }

    /// A directory that only nginx's master may look into, with the copy in it and all that lies beside the real one;
    /// and its path for nginx.
    fn scratch(&self, master: u32, main: &str, bytes: &[u8]) -> io::Result<(Scratch, PathBuf)> {
        let root =
            if self.is_contained() { PathBuf::from(format!("/proc/{master}/root")) } else { PathBuf::new() };
        let outside = |path: &Path| {
            if self.is_contained() {
                root.join(path.strip_prefix("/").unwrap_or(path))
            } else {
                path.to_owned()
            }
        };
        let temp = if self.is_contained() { PathBuf::from("/tmp") } else { env_free_temp() };
        let inside = temp.join(format!("bluegreen-test-{}-{:016x}", std::process::id(), random()));
        let dir = outside(&inside);
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let scratch = Scratch(dir.clone());
        let beside = Path::new(main).parent().unwrap_or(Path::new("/"));
        // What is named relative to the main file is found there.
        for entry in fs::read_dir(outside(beside))? {
            let name = entry?.file_name();
            symlink(beside.join(&name), dir.join(&name)).ok();
        }
        let copy = dir.join(COPY);
        atomic::replace(&copy, bytes, None)?;
        if let Some(owner) = super::process::identity(master) {
            // Without the right to do so both are one user, or nginx says that it cannot read.
            for path in [&copy, &dir] {
                std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)).ok();
            }
        }
        Ok((scratch, inside))
    }
}

/// No name that lies beside a main file.
const COPY: &str = "bluegreen-copy-of-the-configuration";

fn env_free_temp() -> PathBuf {
    // Not TMPDIR: this crate reads no environment.
    PathBuf::from("/tmp")
}

fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}

/// What nginx said of the copy, said of the files that it is made of.
fn named(said: &str, copy: &str, flat: &Flat, files: &[File]) -> String {
    let mut out = String::new();
    let mut rest = said;
    while let Some((before, after)) = rest.split_once(&format!("{copy}:")) {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, behind) = after.split_at(digits);
        let at = number.parse::<usize>().ok().and_then(|line| flat.lines.get(line.checked_sub(1)?));
        let real = at.and_then(|(file, line)| Some(format!("{}:{line}", files.get(*file)?.path)));
        out.push_str(before);
        out.push_str(&real.unwrap_or_else(|| number.to_owned()));
        rest = behind;
    }
    out.push_str(rest);
    // Its last line is the verdict on the copy as such.
    out.lines().filter(|line| !line.contains(copy)).map(plain).collect::<Vec<_>>().join("\n")
}

/// A line of a log without its time and its process: `2026/11/28 11:52:31 [emerg] 3#3: what`.
fn plain(line: &str) -> String {
    let parts = line.split_once(" [").and_then(|(_, rest)| {
        let (level, rest) = rest.split_once("] ")?;
        let (process, what) = rest.split_once(": ")?;
        process.contains('#').then(|| format!("{level}: {what}"))
    });
    parts.unwrap_or_else(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_become_one_and_each_line_keeps_its_place() {
        let main = "http {\n  include conf.d/*.conf;\n  include missing;\n}\n";
        let text = format!(
            "# configuration file /etc/nginx/nginx.conf:\n{main}\n# configuration file /etc/nginx/conf.d/b.conf:\nb;\n\n\
             # configuration file /etc/nginx/conf.d/a.conf:\na;\nx;\n\n"
        );
        let new = BTreeMap::from([
            ("/etc/nginx/conf.d/b.conf".to_owned(), b"new;".to_vec()),
            ("/etc/nginx/conf.d/c.conf".to_owned(), b"c;".to_vec()),
        ]);
        let files = changed(&Dump::read(&text), new, &[]);
        let mut flat = Flat::default();
        flat.add(&files, 0, 0);
        let text = String::from_utf8(flat.bytes.clone()).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["http", "{", "a;", "x;", "new;", "c;", "include", "missing;", "}"]);
        let line = text.lines().position(|line| line == "x;").unwrap() + 1;
        let said = named(
            &format!("2026/11/28 11:52:31 [emerg] 3#3: bad in /t/c:{line}\nnginx: file /t/c failed"),
            "/t/c",
            &flat,
            &files,
        );
        assert_eq!(said, "emerg: bad in /etc/nginx/conf.d/a.conf:2");
        assert_eq!(changed(&Dump::read(""), BTreeMap::new(), &[]).len(), 0);
    }
}
