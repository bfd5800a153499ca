//! Environment files, in Docker's format: `NAME=value` lines, `#` comments, no quoting, nothing expanded.
//!
//! No message here ever contains a value.

use std::collections::BTreeMap;
use std::path::Path;

use bluegreen_core::model::Secret;

use crate::bounded;

/// Reads one.
///
/// # Errors
///
/// When it cannot be read or a line is no `NAME=value`; the text names the file and the line, never a value.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Secret>, String> {
    let text = bounded::text(path, bounded::MIB).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        std::io::ErrorKind::FileTooLarge => format!("{} is larger than 1 MiB", path.display()),
        _ => format!("{} cannot be read: {error}", path.display()),
    })?;
    parse(&text, path)
}

/// Reads the text of one.
pub(super) fn parse(text: &str, path: &Path) -> Result<BTreeMap<String, Secret>, String> {
    let mut entries = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{} line {}", path.display(), number + 1);
        let Some((name, value)) = line.split_once('=') else {
            // `docker run` would take such a name from the caller's environment, which differs between a shell
            // and a hook: a deploy must not depend on it.
            return Err(format!("{place} has no `=`"));
        };
        if !is_name(name) {
            return Err(format!("{place} does not start with the name of a variable"));
        }
        entries.insert(name.to_owned(), Secret::new(value));
    }
    Ok(entries)
}

/// Whether a process can have a variable of that name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn of(text: &str) -> Result<BTreeMap<String, Secret>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read(file.path())
    }

    #[test]
    fn dockers_own_rules() {
        let env = of("# comment\n\nA=1\n  B=two words # not a comment\nC=\nD=\"quoted\"\nE=x=y\n").unwrap();
        let values: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(
            values,
            [("A", "1"), ("B", "two words # not a comment"), ("C", ""), ("D", "\"quoted\""), ("E", "x=y")]
        );
    }

    #[test]
    fn a_bad_line_is_named_without_what_is_in_it() {
        for text in ["A=1\nhunter2\n", "A=1\n1hunter2=3\n", "A=1\nhunter 2=x\n"] {
            let problem = of(text).unwrap_err();
            assert!(problem.contains("line 2") && !problem.contains("hunter"), "{problem}");
        }
    }

    #[test]
    fn one_without_end_is_refused() {
        assert!(read(Path::new("/dev/zero")).unwrap_err().ends_with("is larger than 1 MiB"));
    }
}
