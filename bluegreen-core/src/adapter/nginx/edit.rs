//! A user's file, changed at some of its directives and nowhere else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::adapter::atomic;
use crate::port::{FileChange, ProxyError};

use super::control::{Control, other, unrecognized};
use super::dump::Dump;
use super::syntax::{self, Directive};
use super::unified;

/// A file of the user's with lines exchanged.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) path: PathBuf,
    /// As nginx names it.
    pub(super) inside: String,
    old: Vec<u8>,
    pub(super) new: Vec<u8>,
}

/// What is done at a directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// This text takes its place.
    Replace(String),
    /// This word takes the place of its first argument.
    Word(String),
    /// This text comes in front of it, on a line of its own where it has one of its own.
    Before(String),
    /// It goes, with what [`Op::Before`] put behind it.
    Remove,
}

impl Edit {
    pub(super) fn change(&self) -> FileChange {
        let path = self.path.display().to_string();
        let [old, new] = [&self.old, &self.new].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        FileChange::new(&path, format!("change {path}"), unified(&path, &old, &new))
    }

    /// Puts it in the place of what it was, with its owner and mode.
    pub(super) fn write(&self) -> io::Result<()> {
        atomic::replace(&self.path, &self.new, Some(&fs::metadata(&self.path)?))
    }

    /// The files of these directives, changed; `earlier` is what of them is changed already in the dump.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Unrecognized`] when what lies on this host is not what nginx reads.
    pub(super) fn all(
        control: &Control<'_>,
        dump: &Dump,
        ops: &[(&Directive, Op)],
        earlier: &[Self],
    ) -> Result<Vec<Self>, ProxyError> {
        let mut files: Vec<(&str, Vec<&(&Directive, Op)>)> = Vec::new();
        for op in ops {
            let Some((path, _)) = dump.file_of(op.0) else { continue };
            match files.iter_mut().find(|(known, _)| *known == path) {
                Some((_, of)) => of.push(op),
                None => files.push((path, vec![op])),
            }
        }
        files.into_iter().map(|(path, ops)| Self::one(control, dump, path, &ops, earlier)).collect()
    }

    fn one(
        control: &Control<'_>,
        dump: &Dump,
        path: &str,
        ops: &[&(&Directive, Op)],
        earlier: &[Self],
    ) -> Result<Self, ProxyError> {
        let inside = Path::new(path);
        let unseen = || {
            unrecognized(
                inside,
                "it lies only in nginx's container",
                "its directory to be mounted from this host",
            )
        };
        let outside = control.outside(inside).ok_or_else(unseen)?;
        // Links are followed: a link is not replaced by a file.
        let outside = fs::canonicalize(outside).map_err(|_| unseen())?;
        control.inside(&outside)?;
        let real = fs::read(&outside).map_err(other("read nginx's files"))?;
        let changed = earlier.iter().find(|edit| edit.path == outside && edit.old == real);
        let old = changed.map_or_else(|| real.clone(), |edit| edit.new.clone());
        let text = syntax::ascii(&old);
        let directives = syntax::parse(&text).unwrap_or_default();
        let mut on_disk = Vec::new();
        for directive in &directives {
            directive.walk("", &mut |directive, _| on_disk.push(directive));
        }
        let mut edits = Vec::new();
        for (wanted, op) in ops {
            let found = dump.ordinal(wanted).and_then(|at| on_disk.get(at)).filter(|found| {
                found.line == wanted.line && found.name == wanted.name && found.arg(0) == wanted.arg(0)
            });
            let span = found.and_then(|found| match op {
                Op::Word(_) => found.args.first().map(|word| word.span.clone()),
                _ => Some(found.span.clone()),
            });
            let span = span.ok_or_else(|| {
                let line = wanted.line;
                unrecognized(&outside, format!("line {line} is another"), "what nginx reads there")
            })?;
            let blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
            edits.push(match op {
                Op::Replace(to) | Op::Word(to) => (span, to.clone()),
                Op::Before(what) => {
                    let indent: Vec<u8> = old[..span.start].iter().rev().take_while(blank).copied().collect();
                    let own = old[..span.start - indent.len()].last() == Some(&b'\n');
                    let indent: String = indent.iter().rev().map(|byte| char::from(*byte)).collect();
                    let end = if old[..span.start - indent.len()].ends_with(b"\r\n") { "\r\n" } else { "\n" };
                    let gap = if own { format!("{end}{indent}") } else { " ".to_owned() };
                    (span.start..span.start, format!("{what}{gap}"))
                }
                Op::Remove => {
                    let rest = &old[span.end..];
                    let ended =
                        if rest.starts_with(b"\r\n") { 2 } else { usize::from(rest.starts_with(b"\n")) };
                    let gap = match ended {
                        0 => usize::from(rest.starts_with(b" ")),
                        ended => ended + rest[ended..].iter().take_while(blank).count(),
                    };
                    (span.start..span.end + gap, String::new())
                }
            });
        }
        edits.sort_by_key(|(span, _)| (span.start, span.end));
        let (mut new, mut from) = (Vec::with_capacity(old.len()), 0);
        for (span, to) in edits {
            new.extend_from_slice(old.get(from..span.start).unwrap_or_default());
            new.extend_from_slice(to.as_bytes());
            from = span.end;
        }
        new.extend_from_slice(old.get(from..).unwrap_or_default());
        Ok(Self { path: outside, inside: path.to_owned(), old: real, new })
    }
}
