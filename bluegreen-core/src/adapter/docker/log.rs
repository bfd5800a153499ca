//! A container's log: its last lines, and every line of its present run as it appears.

use std::collections::VecDeque;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::ContainerState;
use bollard::query_parameters::LogsOptions;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use super::Docker;
use super::error::Failure;
use crate::port::{LineStream, RuntimeError};

/// A line that is longer is given in pieces, so that a program that never ends its line cannot fill our memory.
const LONGEST_LINE: usize = 256 * 1024;

/// Puts lines together from the pieces that the Engine gives: a frame holds part of a line when the line is
/// longer than 16 KiB, and the two streams take turns.
#[derive(Debug, Default)]
struct Lines {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Lines {
    fn take(&mut self, is_err: bool, bytes: &[u8], lines: &mut impl Extend<String>) {
        let open = if is_err { &mut self.err } else { &mut self.out };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            open.extend_from_slice(piece);
            if open.ends_with(b"\n") || open.len() >= LONGEST_LINE {
                lines.extend([text(open)]);
                open.clear();
            }
        }
    }

    /// What is left when nothing comes any more.
    fn end(&mut self, lines: &mut impl Extend<String>) {
        for open in [&mut self.out, &mut self.err] {
            if !open.is_empty() {
                lines.extend([text(open)]);
                open.clear();
            }
        }
    }
}

/// A line without its end; a terminal ends it with two characters.
fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

/// A moment between the end of the run before and the first line of the present one; none when there was no run
/// before.
///
/// The start that the Engine notes is no such moment: it is taken after the process began, so the first lines can
/// be older. Between two runs lie some hundred milliseconds, and in the middle of them nothing is written.
fn between_runs(state: &ContainerState) -> Option<Timestamp> {
    let time = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    let started = time(&state.started_at)?;
    // "Never" is the year 1.
    let finished = time(&state.finished_at).filter(|finished| finished.as_second() > 0)?;
    // When this run is over already, the end of the one before is not known any more: rather a line too many.
    let gap = Duration::try_from(started.duration_since(finished)).unwrap_or(Duration::from_secs(2));
    started.checked_sub(gap / 2).ok()
}

/// A message without the time that the Engine put before it, or `None` when it is older than `since`.
fn newer_than(since: Option<Timestamp>, message: &[u8]) -> Option<&[u8]> {
    let Some(since) = since else { return Some(message) };
    let (time, rest) = match message.iter().position(|byte| *byte == b' ') {
        Some(space) => (&message[..space], &message[space + 1..]),
        // An empty line loses its space on some log drivers.
        None => (message.trim_ascii_end(), &message[message.trim_ascii_end().len()..]),
    };
    match std::str::from_utf8(time).ok().and_then(|time| time.parse::<Timestamp>().ok()) {
        Some(time) if time < since => None,
        Some(_) => Some(rest),
        None => Some(message),
    }
}

type Frames = BoxStream<'static, Result<LogOutput, bollard::errors::Error>>;

/// The state of one followed log.
struct Follow {
    frames: Frames,
    since: Option<Timestamp>,
    lines: Lines,
    ready: VecDeque<String>,
    over: bool,
    address: String,
}

impl Follow {
    async fn next(mut self) -> Option<(Result<String, RuntimeError>, Self)> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some((Ok(line), self));
            }
            if self.over {
                return None;
            }
            match self.frames.next().await {
                Some(Ok(frame)) => {
                    if let Some(message) = newer_than(self.since, frame.as_ref()) {
                        let is_err = matches!(frame, LogOutput::StdErr { .. });
                        self.lines.take(is_err, message, &mut self.ready);
                    }
                }
                Some(Err(error)) => {
                    self.over = true;
                    let error = Failure::from(error).other("following the log", &self.address);
                    return Some((Err(error), self));
                }
                None => {
                    self.over = true;
                    self.lines.end(&mut self.ready);
                }
            }
        }
    }
}

impl Docker {
    pub(super) async fn last_lines(&self, id: &str, count: u16) -> Result<Vec<String>, RuntimeError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let options =
            LogsOptions { stdout: true, stderr: true, tail: count.to_string(), ..LogsOptions::default() };
        let frames = self.engine().await?.logs(id, Some(options));
        let (mut lines, mut found) = (Lines::default(), VecDeque::new());
        let mut frames = frames.map_err(|error| self.other("reading the log", error));
        while let Some(frame) = frames.try_next().await? {
            lines.take(matches!(frame, LogOutput::StdErr { .. }), frame.as_ref(), &mut found);
            // The pieces of a long line count as lines to the Engine, so it gives too few rather than too many;
            // a line of ours that was cut is the exception.
            while found.len() > usize::from(count) {
                found.pop_front();
            }
        }
        lines.end(&mut found);
        let surplus = found.len().saturating_sub(usize::from(count));
        Ok(found.into_iter().skip(surplus).collect())
    }

    pub(super) async fn follow(&self, id: &str) -> Result<LineStream, RuntimeError> {
        let found = self.inspect(id).await?.ok_or_else(|| RuntimeError::Other {
            operation: "following the log",
            source: "there is no such container".into(),
        })?;
        let since = found.state.as_ref().and_then(between_runs);
        let options = LogsOptions {
            follow: true,
            stdout: true,
            stderr: true,
            // The Engine's own filter takes whole seconds here and only saves traffic; the times do the rest.
            since: since.and_then(|since| i32::try_from(since.as_second()).ok()).unwrap_or(0),
            timestamps: since.is_some(),
            ..LogsOptions::default()
        };
        let follow = Follow {
            frames: self.engine().await?.logs(id, Some(options)).boxed(),
            since,
            lines: Lines::default(),
            ready: VecDeque::new(),
            over: false,
            address: self.address().to_owned(),
        };
        Ok(stream::unfold(follow, Follow::next).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_across_frames_and_streams() {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        lines.take(false, b"one\ntw", &mut found);
        lines.take(true, b"an error", &mut found);
        lines.take(false, b"o\r\n\n", &mut found);
        lines.take(true, b"\n", &mut found);
        lines.take(false, b"caf\xc3", &mut found);
        lines.take(false, b"\xa9 \xff", &mut found);
        lines.end(&mut found);
        lines.end(&mut found);
        assert_eq!(found, ["one", "two", "", "an error", "café \u{fffd}"]);
    }

    #[test]
    fn a_line_that_never_ends_is_given_in_pieces() {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for _ in 0..20 {
            lines.take(false, &[b'x'; 16 * 1024], &mut found);
        }
        lines.end(&mut found);
        assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [LONGEST_LINE, 4 * 16 * 1024]);
    }

    fn state(started: &str, finished: &str) -> ContainerState {
        ContainerState {
            started_at: Some(started.to_owned()),
            finished_at: Some(finished.to_owned()),
            ..ContainerState::default()
        }
    }

    #[test]
    fn the_moment_between_two_runs() {
        let at = |time: &str| Some(time.parse::<Timestamp>().unwrap());
        let first = state("2026-11-24T10:00:00.5Z", "0001-01-01T00:00:00Z");
        assert_eq!(between_runs(&first), None);
        let second = state("2026-11-24T10:00:00.5Z", "2026-11-24T10:00:00.1Z");
        assert_eq!(between_runs(&second), at("2026-11-24T10:00:00.3Z"));
        let over = state("2026-11-24T10:00:05Z", "2026-11-24T10:00:09Z");
        assert_eq!(between_runs(&over), at("2026-11-24T10:00:04Z"));
    }

    #[test]
    fn times_are_taken_off_and_earlier_runs_left_out() {
        let since = Some("2026-11-24T10:00:00.3Z".parse::<Timestamp>().unwrap());
        assert_eq!(newer_than(since, b"2026-11-24T10:00:00.299999999Z before\n"), None);
        assert_eq!(newer_than(since, b"2026-11-24T10:00:00.300000001Z now\n"), Some(&b"now\n"[..]));
        assert_eq!(newer_than(since, b"2026-11-24T10:00:01.000000000Z \n"), Some(&b"\n"[..]));
        assert_eq!(newer_than(since, b"2026-11-24T10:00:01.000000000Z\n"), Some(&b"\n"[..]));
        assert_eq!(newer_than(None, b"as it is\n"), Some(&b"as it is\n"[..]));
    }
}
