//! What people and machines get to read. The result goes to stdout, everything else to stderr.
//!
//! A reader that has gone away, or does not read, is no reason to stop: CodeDeploy's agent closes our pipes when a
//! hook's time is over, and a rollback that then died of a failed write, or waited for one, would be the outage. So no
//! write here ever fails, and nobody waits for one before the end (`writer`).

mod human;
mod json;
mod next;
pub(crate) mod receipt;
mod report;
#[cfg(test)]
pub(crate) mod schema;
mod terminal;
mod verdict;
mod writer;

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use bluegreen_core::event::Observer;

use crate::args::{Global, Output, When};
pub(crate) use next::{Next, typed};
#[cfg(test)]
pub(crate) use verdict::Line;
pub(crate) use verdict::{Explained, Verdict};
use writer::{To, Writer};

/// Longer lines are cut: one line of 2,048 characters would empty the log that CodeDeploy keeps.
const LONGEST: usize = 400;

/// Where to and how to print.
#[derive(Debug, Clone)]
pub(crate) struct Out {
    format: Output,
    color: When,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    progress: bool,
    /// The warnings that were given: each is given once a run, whoever gives it.
    warned: Arc<Mutex<BTreeSet<String>>>,
    writer: Writer,
}

impl Out {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            format: global.output,
            color: global.color,
            quiet: global.quiet,
            verbose: global.verbose > 0,
            progress: !global.no_progress && !global.quiet && std::io::stderr().is_terminal(),
            warned: Arc::default(),
            writer: Writer::process().clone(),
        }
    }

    /// As with `--output json`, for when nothing else of what was typed could be read.
    pub(crate) fn for_machines() -> Self {
        Self {
            format: Output::Json,
            color: When::Never,
            quiet: false,
            verbose: false,
            progress: false,
            warned: Arc::default(),
            writer: Writer::process().clone(),
        }
    }

    /// Whoever prints the events of a run.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        match self.format {
            Output::Human => Arc::new(human::Human::new(self.clone())),
            Output::Json => Arc::new(json::Json::new(self.clone())),
        }
    }

    /// One line for a person, on stderr.
    pub(crate) fn say(&self, line: &str) {
        self.writer.keep(To::Stderr, self.line(line, &std::io::stderr()), unread);
    }

    /// The same, unless only the verdict is wanted. Lost where nobody reads.
    pub(crate) fn mention(&self, line: &str) {
        if !self.quiet {
            self.writer.offer(To::Stderr, self.line(line, &std::io::stderr()), unread);
        }
    }

    /// A warning, unless the same one was given before.
    pub(crate) fn warn(&self, message: &str) {
        if !self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(message.to_owned()) {
            return;
        }
        let style = anstyle::AnsiColor::Yellow.on_default().bold();
        self.say(&format!("{style}warning:{style:#} {}", plain(message)));
    }

    /// The result, on stdout.
    pub(crate) fn result(&self, text: &str) {
        self.writer.keep(To::Stdout, self.line(text, &std::io::stdout()), json::unread);
    }

    /// An event as a line, on stdout. Lost where nobody reads.
    fn event(&self, line: &str) {
        self.writer.offer(To::Stdout, self.line(line, &std::io::stdout()), json::unread);
    }

    /// The end of the process: waits until all is written, but for a reader that takes nothing only as long as that.
    pub(crate) fn finish(patience: Duration) {
        if let Some(writer) = Writer::in_use() {
            writer.finish(patience);
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Output::Json
    }

    /// Whether what goes to stderr may have colours.
    pub(crate) fn is_styled(&self) -> bool {
        self.choice(&std::io::stderr()) != ColorChoice::Never
    }

    fn choice<S: anstream::stream::RawStream>(&self, stream: &S) -> ColorChoice {
        match self.color {
            When::Auto => AutoStream::choice(stream),
            When::Always => ColorChoice::AlwaysAnsi,
            When::Never => ColorChoice::Never,
        }
    }

    /// A text with its end of line, as its stream is to have it.
    fn line<S: anstream::stream::RawStream>(&self, text: &str, stream: &S) -> String {
        match self.choice(stream) {
            ColorChoice::Never => format!("{}\n", anstream::adapter::strip_str(text)),
            _ => format!("{text}\n"),
        }
    }
}

/// What a person is told of lines that had to go, as nobody read them.
fn unread(lines: u64) -> String {
    format!(
        "({lines} lines were dropped because nobody read them; bluegreen history --journal shows what was done)\n"
    )
}

/// A text that came from elsewhere as one line that can do no harm: no escape sequences, no further lines, and
/// no longer than is kept.
pub(crate) fn plain(text: &str) -> String {
    let mut line: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST + 1).collect();
    if line.chars().count() > LONGEST {
        line = line.chars().take(LONGEST - 1).collect();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, pipe};
    use std::os::fd::AsFd as _;

    use bluegreen_core::event::Event;

    use super::*;

    #[test]
    fn a_warning_is_given_once_whoever_gives_it() {
        let (mut reader, sink) = pipe().unwrap();
        let writer = Writer::new(sink.as_fd(), sink.as_fd());
        let out = Out { format: Output::Human, writer: writer.clone(), ..Out::for_machines() };
        let observer = out.observer();
        out.warn("the ports are open");
        observer.on_event(&Event::Warning { message: "the ports are open".to_owned() });
        out.clone().warn("the ports are open");
        out.warn("something else");
        assert!(writer.finish(Duration::from_secs(20)));
        let mut seen = [0; 256];
        let count = reader.read(&mut seen).unwrap();
        let seen = String::from_utf8_lossy(&seen[..count]);
        assert_eq!(seen, "warning: the ports are open\nwarning: something else\n");
    }

    #[test]
    fn what_comes_from_elsewhere_is_one_short_harmless_line() {
        assert_eq!(plain("a\x1b[31mb\r\nc\n"), "a [31mb  c");
        assert_eq!(plain(&"x".repeat(5000)).chars().count(), 400);
        assert_eq!(plain(&"x".repeat(400)).chars().count(), 400);
    }
}
