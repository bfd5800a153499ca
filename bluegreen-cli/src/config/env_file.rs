//! Environment files, as `docker create --env-file` reads them: `NAME=value` lines, `#` comments, no quoting, nothing
//! expanded. A name without `=` has the value that the caller's environment gives it, and is left out where that has
//! none.
//!
//! No message here ever contains a value.

use std::collections::BTreeMap;
use std::path::Path;

use bluegreen_core::model::Secret;

use crate::bounded;
use crate::env;

/// Docker's client takes no line that is longer.
const LONGEST_LINE: usize = 64 * 1024 - 1;
/// A byte order mark, which some editors put first.
const MARK: char = '\u{feff}';

/// Reads one.
///
/// # Errors
///
/// When it cannot be read or Docker would refuse it; the text names the file and the line, never a value.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Secret>, String> {
    let text = bounded::text(path, bounded::MIB).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        std::io::ErrorKind::FileTooLarge => format!("{} is larger than 1 MiB", path.display()),
        _ => format!("{} cannot be read: {error}", path.display()),
    })?;
    parse(&text, path, env::variable)
}

/// Reads the text of one. `callers` has the caller's environment.
pub(super) fn parse(
    text: &str,
    path: &Path,
    callers: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, Secret>, String> {
    let mut entries = BTreeMap::new();
    // Not `lines`, which leaves a carriage return at the very end.
    for (number, line) in text.strip_prefix(MARK).unwrap_or(text).split('\n').enumerate() {
        let place = || format!("{} line {}", path.display(), number + 1);
        if line.len() > LONGEST_LINE {
            return Err(format!("{} is longer than the 64 KiB that Docker takes", place()));
        }
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        if !is_name(name) {
            return Err(format!("{} does not start with the name of a variable", place()));
        }
        let value = value.map(str::to_owned).or_else(|| callers(name));
        entries.extend(value.map(|value| (name.to_owned(), Secret::new(value))));
    }
    Ok(entries)
}

/// Whether Docker takes it for the name of a variable. It takes far more than a shell does: programs read names like
/// `ConnectionStrings:Default`, `app[0]` or `1PASSWORD`.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', ' ', '\t', '\0'])
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

    use super::*;

    fn of(text: &str) -> Result<BTreeMap<String, Secret>, String> {
        parse(text, Path::new("f.env"), |name| (name == "GIVEN").then(|| "by the caller".to_owned()))
    }

    #[track_caller]
    fn has(text: &str, expected: &[(&str, &str)]) {
        let env = of(text).unwrap();
        let values: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(values, expected, "{text:?}");
    }

    #[test]
    fn dockers_own_rules() {
        has(
            "# comment\n\nA=1\n  B=two words # not a comment\nC=\nD=\"quoted\"\nE=x=y\n",
            &[("A", "1"), ("B", "two words # not a comment"), ("C", ""), ("D", "\"quoted\""), ("E", "x=y")],
        );
        has("\u{feff}ASPNETCORE_ENVIRONMENT=Production\n", &[("ASPNETCORE_ENVIRONMENT", "Production")]);
        has("\u{feff}# comment\nA=1\n", &[("A", "1")]);
        has("app[0]=x\n1PASSWORD=x", &[("1PASSWORD", "x"), ("app[0]", "x")]);
        has("ConnectionStrings:Default=Server=db\n", &[("ConnectionStrings:Default", "Server=db")]);
        has("A=1 \r\nB=2\r", &[("A", "1 "), ("B", "2")]);
        has("A=1\nA=2\n", &[("A", "2")]);
        has("\u{a0}\u{2003}A=1\n", &[("A", "1")]);
    }

    #[test]
    fn a_name_alone_is_the_callers_or_is_left_out() {
        has("GIVEN\nNOT_GIVEN\nA=1\n", &[("A", "1"), ("GIVEN", "by the caller")]);
    }

    #[test]
    fn a_bad_line_is_named_without_what_is_in_it() {
        let long = format!("A=1\nB={}\n", "hunter".repeat(11_000));
        for text in
            ["A=1\n=hunter2\n", "A=1\nhunter 2=x\n", "A=1\nhunter\t2\n", &long, "\n\u{feff}x y=hunter"]
        {
            let problem = of(text).unwrap_err();
            assert!(problem.contains("line 2") && !problem.contains("hunter"), "{problem}");
        }
        has(&format!("B={}\n", "x".repeat(65_533)), &[("B", &"x".repeat(65_533))]);
    }

    /// An image without anything in it, and what is made from it, for as long as this lives.
    struct Nothing(String);

    impl Nothing {
        fn import() -> Self {
            let name = format!("bgt-env-file:{}", std::process::id());
            // Two empty blocks are a whole archive.
            let script =
                "head -c 1024 /dev/zero | docker import --change \"LABEL bluegreen.test=env-file\" - \"$0\"";
            assert!(Command::new("sh").args(["-c", script, &name]).output().unwrap().status.success());
            Self(name)
        }

        /// The environment that Docker makes of a file; `None` when it refuses it.
        fn environment(&self, file: &Path) -> Option<BTreeMap<String, String>> {
            let mut create = Command::new("docker");
            create.arg("create").arg("--env-file").arg(file).args([&self.0, "none"]);
            let made = create.env("GIVEN", "by the caller").env_remove("NOT_GIVEN").output().unwrap();
            if !made.status.success() {
                return None;
            }
            let id = String::from_utf8(made.stdout).unwrap().trim().to_owned();
            let shown = Command::new("docker").args(["inspect", "-f", "{{json .Config.Env}}", &id]).output();
            assert!(Command::new("docker").args(["rm", &id]).output().unwrap().status.success());
            let lines: Option<Vec<String>> = serde_json::from_slice(&shown.unwrap().stdout).unwrap();
            let pair = |line: &String| line.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
            Some(lines.unwrap_or_default().iter().filter_map(pair).collect())
        }
    }

    impl Drop for Nothing {
        fn drop(&mut self) {
            drop(Command::new("docker").args(["rmi", &self.0]).output());
        }
    }

    #[test]
    #[ignore = "needs Docker: ./scripts/test"]
    fn docker_makes_the_same_of_it() {
        let (long, longer) = ("x".repeat(65_533), "x".repeat(65_534));
        let docker = Nothing::import();
        let mut refused = 0;
        for text in [
            "\u{feff}ASPNETCORE_ENVIRONMENT=Production\n",
            "\u{feff}# comment\nA=1\n",
            "A=1\n\u{feff}B=2\n",
            "app[0]=x\n",
            "ConnectionStrings:Default=Server=db\n",
            "1PASSWORD=x\n",
            "# comment\n\n   \nA=1\n \tB=two words # more\nC=\nD=\"quoted\"\nE=x=y \n",
            "A=1\r\nB=2\r",
            "A=1\r\r\n",
            "A=1\nA=2\n",
            "GIVEN\nNOT_GIVEN\nA=1\n",
            "GIVEN\r\n",
            "GIVEN \n",
            "\u{a0}\u{2003}A=1\n",
            "A\u{a0}B=1\n",
            "export A=1\n",
            "A =1\n",
            "A\tB=1\n",
            "=1\n",
            "\u{b}A=1\u{c}\n",
            "caf\u{e9}=\u{fc}\n",
            "$A=${B}\n",
            "",
            &format!("B={long}"),
            &format!("B={long}\nA=1\n"),
            &format!("B={longer}"),
            &format!("A=1\nB={longer}\n"),
        ] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let ours = of(text).ok();
            let ours = ours.map(|entries| {
                entries.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect()
            });
            refused += usize::from(ours.is_none());
            assert_eq!(ours, docker.environment(file.path()), "{:?}", text.get(..40).unwrap_or(text));
        }
        assert!(refused > 4, "this test tests no refusal");
    }

    #[test]
    fn one_without_end_is_refused() {
        assert!(read(Path::new("/dev/zero")).unwrap_err().ends_with("is larger than 1 MiB"));
    }
}
