//! A page of docs/ as a test: its commands are run in their order on real parts, and what it shows is what one sees.
//!
//! In a page, a block ```` ```sh ```` is a command that is run; ```` ```sh exit=10 ```` one that ends with that code. A
//! block ```` ```text ```` below it is what is shown of its output: `…` stands for what varies, within a line or, alone
//! on a line, for any number of lines. A block with `file=NAME` is a file that the reader has. Everything else is for
//! reading only.
#![allow(dead_code, reason = "pages use a part each")]
#![expect(clippy::disallowed_methods, reason = "a test writes its own files")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use bluegreen_testkit::workspace_root;

use crate::stage::{Ran, program, ran};

/// A command of a page.
#[derive(Debug)]
struct Step {
    line: usize,
    command: String,
    exit: i32,
    shown: Option<String>,
}

/// A page that was read.
#[derive(Debug)]
pub struct Walk {
    page: String,
    steps: Vec<Step>,
    files: Vec<(String, String)>,
}

/// Where a page is walked.
pub struct Place<'p> {
    /// The directory in which its commands run.
    pub dir: &'p Path,
    /// What a name of the page is called here: the page's, and ours.
    pub names: &'p [(&'p str, String)],
}

impl Walk {
    /// Reads `docs/PAGE`.
    pub fn read(page: &str) -> Self {
        let path = workspace_root().join("docs").join(page);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut walk = Self { page: page.to_owned(), steps: Vec::new(), files: Vec::new() };
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(kind) = line.strip_prefix("```") else { continue };
            let block: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            let block = block.join("\n");
            let file = kind.split(' ').find_map(|word| word.strip_prefix("file="));
            match (kind.split(' ').next(), file) {
                (_, Some(file)) => walk.files.push((file.to_owned(), format!("{block}\n"))),
                (Some("sh"), None) => {
                    let exit = kind.split(' ').find_map(|word| word.strip_prefix("exit="));
                    let exit = exit.map_or(0, |code| code.parse().expect("an exit code"));
                    walk.steps.push(Step { line: number + 1, command: block, exit, shown: None });
                }
                (Some("text"), None) => {
                    let step = walk.steps.last_mut().expect("a command above what is shown");
                    step.shown = Some(block);
                }
                _ => {}
            }
        }
        walk
    }

    /// Fails the test unless each command does what the page says, in at most ten commands.
    #[track_caller]
    pub fn take(&self, place: &Place<'_>) {
        assert!((1..=10).contains(&self.steps.len()), "{} commands in {}", self.steps.len(), self.page);
        self.prepare(place);
        for step in &self.steps {
            let command = here(&step.command, place.names);
            let ran = run(&command, place.dir);
            let said = there(&format!("{}{}", ran.out, ran.err), place);
            let at = format!("docs/{}:{}: {}", self.page, step.line, step.command);
            assert_eq!(ran.code, step.exit, "{at}\n--- it said\n{said}");
            if let Some(shown) = &step.shown {
                assert!(is_shown(shown, &said), "{at}\n--- the page shows\n{shown}\n--- it said\n{said}");
            }
        }
    }

    /// The files that the reader has, and the command under its name, with a state directory of this test's.
    fn prepare(&self, place: &Place<'_>) {
        for (file, text) in &self.files {
            let path = place.dir.join(here(file, place.names));
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            std::fs::write(path, here(text, place.names)).expect("a file");
        }
        let state = place.dir.join("state");
        let script =
            format!("#!/bin/sh\nexec {} --state-dir {} \"$@\"\n", program().display(), state.display());
        tool(place.dir, "bluegreen", &script);
    }
}

/// A program of that name, for the commands of the pages that are walked there.
pub fn tool(dir: &Path, name: &str, script: &str) {
    let bin = dir.join(".bin");
    std::fs::create_dir_all(&bin).expect("a directory");
    std::fs::write(bin.join(name), script).expect("a script");
    std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).expect("its mode");
}

fn run(command: &str, dir: &Path) -> Ran {
    // Both streams as a person sees them, one after the other.
    ran(Command::new("bash")
        .args(["-euc", &format!("export PATH={}:$PATH\nexec 2>&1\n{command}", dir.join(".bin").display())])
        .current_dir(dir)
        .env_remove("DEPLOYMENT_ID")
        .stdin(Stdio::null()))
}

fn here(text: &str, names: &[(&str, String)]) -> String {
    names.iter().fold(text.to_owned(), |text, (page, ours)| text.replace(page, ours))
}

fn there(text: &str, place: &Place<'_>) -> String {
    let state = format!(" --state-dir {}", place.dir.join("state").display());
    place.names.iter().rev().fold(text.replace(&state, ""), |text, (page, ours)| text.replace(ours, page))
}

/// Whether these lines are what was said, from its first to its last.
fn is_shown(shown: &str, said: &str) -> bool {
    let shown: Vec<&str> = shown.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let said: Vec<&str> = said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines_match(&shown, &said)
}

fn lines_match(shown: &[&str], said: &[&str]) -> bool {
    match (shown.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => (0..=said.len()).any(|skipped| lines_match(rest, &said[skipped..])),
        (Some((line, rest)), Some((first, others))) => line_matches(line, first) && lines_match(rest, others),
        _ => false,
    }
}

fn line_matches(shown: &str, said: &str) -> bool {
    let Some((first, rest)) = shown.split_once('…') else { return shown == said };
    let Some(said) = said.strip_prefix(first) else { return false };
    (0..=said.len()).filter(|at| said.is_char_boundary(*at)).any(|at| line_matches(rest, &said[at..]))
}

#[test]
fn what_is_shown_is_compared() {
    for (shown, said, is) in [
        ("a\nb", "a\nb\n", true),
        ("a", "a\nb", false),
        ("a\n…", "a\nb\nc", true),
        ("…\nc", "a\nb\nc", true),
        ("took … ms, …", "took 12 ms, fine", true),
        ("took … ms", "took 12 s", false),
        ("…\nb\n…", "a\nc", false),
    ] {
        assert_eq!(is_shown(shown, said), is, "{shown:?} {said:?}");
    }
}
