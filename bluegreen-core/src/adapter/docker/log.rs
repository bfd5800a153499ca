//! A container's log: its last lines, and every line of its present run as it appears.

use std::collections::VecDeque;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::{ContainerState, ContainerStateStatusEnum};
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
    let started = time(state.started_at.as_ref())?;
    // "Never" is the year 1.
    let finished = time(state.finished_at.as_ref()).filter(|finished| finished.as_second() > 0)?;
    if is_over(state) {
        // The end that is noted is this run's, even when it is earlier than the start (seen on a process that ended
        // at once), and that of the one before is not known any more: rather a line too many.
        return started.min(finished).checked_sub(Duration::from_secs(1)).ok();
    }
    let gap = Duration::try_from(started.duration_since(finished)).unwrap_or_default();
    started.checked_sub(gap / 2).ok()
}

fn is_over(state: &ContainerState) -> bool {
    use ContainerStateStatusEnum as Status;
    matches!(state.status, Some(Status::EXITED | Status::RESTARTING | Status::DEAD | Status::REMOVING))
}

/// When a run ended; none while it runs.
fn end(state: &ContainerState) -> Option<Timestamp> {
    time(state.finished_at.as_ref()).filter(|_| is_over(state))
}

fn time(text: Option<&String>) -> Option<Timestamp> {
    text.and_then(|text| text.parse().ok())
}

/// The part of a log that belongs to one run.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Run {
    fn has(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// A message and the time that the Engine put before it.
fn timed(message: &[u8]) -> (Option<Timestamp>, &[u8]) {
    let end = message.iter().position(|byte| matches!(byte, b' ' | b'\n')).unwrap_or(message.len());
    let time = std::str::from_utf8(&message[..end]).ok().and_then(|time| time.parse::<Timestamp>().ok());
    match time {
        Some(time) => (Some(time), message[end..].strip_prefix(b" ").unwrap_or(&message[end..])),
        None => (None, message),
    }
}

/// What has been seen of one stream: its last time, and how many messages had it. The pieces of one long line
/// have the same time.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    last: Option<Timestamp>,
    count: u32,
}

impl Seen {
    fn note(&mut self, time: Timestamp) {
        if self.last == Some(time) {
            self.count += 1;
        } else {
            *self = Self { last: Some(time), count: 1 };
        }
    }

    /// Whether a message that is read again has not been seen before.
    fn lacks(&mut self, time: Timestamp) -> bool {
        if self.last == Some(time) && self.count > 0 {
            self.count -= 1;
            return false;
        }
        self.last.is_none_or(|last| time >= last)
    }
}

type Frames = BoxStream<'static, Result<LogOutput, bollard::errors::Error>>;

/// Where a followed log is.
enum Phase {
    /// Nothing has been asked for, as the run is over already. An Engine that is asked to follow a container
    /// between two runs goes on with the next one.
    Late,
    /// The Engine tells what is new.
    Following(Frames),
    /// It has told that it is over, and what it left out is read again: when a container ends, the Engine now and
    /// then drops the end of its log from a stream that follows (1 in 40 lost some of the last 3,000 lines, and
    /// every second one a last line without a line end; 20.10).
    Rest(Frames),
    Over,
}

/// The state of one followed log.
struct Follow {
    docker: Docker,
    id: String,
    started: Option<String>,
    run: Run,
    phase: Phase,
    lines: Lines,
    seen: [Seen; 2],
    /// When the run ended, once that is known.
    end: Option<Timestamp>,
    doubtful: Vec<LogOutput>,
    ready: VecDeque<String>,
}

impl Follow {
    async fn next(mut self) -> Option<(Result<String, RuntimeError>, Self)> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some((Ok(line), self));
            }
            let (frame, again) = match &mut self.phase {
                Phase::Late => (None, false),
                Phase::Following(frames) => (frames.next().await, false),
                Phase::Rest(frames) => (frames.next().await, true),
                Phase::Over => return None,
            };
            match frame {
                Some(Ok(frame)) if again => self.take_again(frame),
                Some(Ok(frame)) => self.take(&frame, false),
                Some(Err(error)) if !again => {
                    self.phase = Phase::Over;
                    let error = Failure::from(error).other("following the log", self.docker.address());
                    return Some((Err(error), self));
                }
                None if !again => self.phase = self.rest().await.map_or(Phase::Over, Phase::Rest),
                // That the rest cannot be had any more, because the container is removed, is no error.
                Some(Err(_)) | None => {
                    self.resolve_doubts().await;
                    self.phase = Phase::Over;
                }
            }
            if matches!(self.phase, Phase::Over) {
                self.lines.end(&mut self.ready);
            }
        }
    }

    fn take(&mut self, frame: &LogOutput, again: bool) {
        let is_err = matches!(frame, LogOutput::StdErr { .. });
        let (time, message) = timed(frame.as_ref());
        let seen = &mut self.seen[usize::from(is_err)];
        let wanted = match time {
            Some(time) if !self.run.has(time) => false,
            Some(time) if again => seen.lacks(time),
            Some(time) => {
                seen.note(time);
                true
            }
            None => !again,
        };
        if wanted {
            self.lines.take(is_err, message, &mut self.ready);
        }
    }

    /// Takes what was read again. The Engine notes the time at which it reads, so a message that is newer than the
    /// end of the run may still belong to it, or to the next one: that is known when all has been read.
    fn take_again(&mut self, frame: LogOutput) {
        match timed(frame.as_ref()).0 {
            Some(time) if self.end.is_none_or(|end| time > end) => self.doubtful.push(frame),
            _ => self.take(&frame, true),
        }
    }

    /// The run's log as it is now, without following.
    async fn rest(&mut self) -> Option<Frames> {
        let state = self.docker.inspect(&self.id).await.ok()??.state?;
        self.end = Some(&state).filter(|state| state.started_at == self.started).and_then(end);
        // From the stream that is further behind.
        let [out, err] = self.seen.map(|seen| seen.last.or(self.run.since));
        let since = out.zip(err).map(|(out, err)| out.min(err));
        Some(self.docker.shared.client.logs(&self.id, Some(options(since, false))).boxed())
    }

    async fn resolve_doubts(&mut self) {
        if self.doubtful.is_empty() {
            return;
        }
        if let Ok(Some(found)) = self.docker.inspect(&self.id).await
            && let Some(state) = found.state.filter(|state| state.started_at != self.started)
        {
            self.run.until = between_runs(&state);
        }
        for frame in std::mem::take(&mut self.doubtful) {
            self.take(&frame, true);
        }
    }
}

/// With times always: they tell the runs apart, and what has been seen. The Engine's own filter takes whole
/// seconds here and only saves traffic.
fn options(since: Option<Timestamp>, follow: bool) -> LogsOptions {
    LogsOptions {
        follow,
        stdout: true,
        stderr: true,
        timestamps: true,
        since: since.and_then(|since| i32::try_from(since.as_second()).ok()).unwrap_or(0),
        ..LogsOptions::default()
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
        let run = Run { since: found.state.as_ref().and_then(between_runs), until: None };
        let phase = if found.state.as_ref().is_some_and(is_over) {
            Phase::Late
        } else {
            Phase::Following(self.engine().await?.logs(id, Some(options(run.since, true))).boxed())
        };
        let follow = Follow {
            docker: self.clone(),
            id: id.to_owned(),
            started: found.state.and_then(|state| state.started_at),
            run,
            phase,
            lines: Lines::default(),
            seen: [Seen::default(); 2],
            end: None,
            doubtful: Vec::new(),
            ready: VecDeque::new(),
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

    fn state(status: ContainerStateStatusEnum, started: &str, finished: &str) -> ContainerState {
        ContainerState {
            status: Some(status),
            started_at: Some(started.to_owned()),
            finished_at: Some(finished.to_owned()),
            ..ContainerState::default()
        }
    }

    #[test]
    fn the_moment_between_two_runs() {
        use ContainerStateStatusEnum::{EXITED, RUNNING};
        let at = |time: &str| Some(time.parse::<Timestamp>().unwrap());
        let first = state(RUNNING, "2026-11-24T10:00:00.5Z", "0001-01-01T00:00:00Z");
        assert_eq!((between_runs(&first), end(&first)), (None, None));
        let second = state(RUNNING, "2026-11-24T10:00:00.5Z", "2026-11-24T10:00:00.1Z");
        assert_eq!((between_runs(&second), end(&second)), (at("2026-11-24T10:00:00.3Z"), None));
        let over = state(EXITED, "2026-11-24T10:00:05Z", "2026-11-24T10:00:09Z");
        assert_eq!(
            (between_runs(&over), end(&over)),
            (at("2026-11-24T10:00:04Z"), at("2026-11-24T10:00:09Z"))
        );
        let at_once = state(EXITED, "2026-11-24T10:00:05.2Z", "2026-11-24T10:00:05.1Z");
        assert_eq!(between_runs(&at_once), at("2026-11-24T10:00:04.1Z"));
    }

    #[test]
    fn times_are_taken_off_and_other_runs_left_out() {
        let at = |time: &str| time.parse::<Timestamp>().unwrap();
        let time = Some(at("2026-11-24T10:00:01Z"));
        assert_eq!(timed(b"2026-11-24T10:00:01.000000000Z a b\n"), (time, &b"a b\n"[..]));
        assert_eq!(timed(b"2026-11-24T10:00:01.000000000Z \n"), (time, &b"\n"[..]));
        assert_eq!(timed(b"2026-11-24T10:00:01.000000000Z\n"), (time, &b"\n"[..]));
        assert_eq!(timed(b"as it is\n"), (None, &b"as it is\n"[..]));

        let run = Run { since: time, until: Some(at("2026-11-24T10:00:02Z")) };
        assert!(!run.has(at("2026-11-24T10:00:00.999Z")) && run.has(at("2026-11-24T10:00:01Z")));
        assert!(!run.has(at("2026-11-24T10:00:02Z")) && Run::default().has(at("1970-01-01T00:00:00Z")));
    }

    #[test]
    fn what_was_seen_is_known_again_and_what_was_dropped_is_not() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut seen = Seen::default();
        for second in [1, 2, 3, 3] {
            seen.note(at(second));
        }
        let again = [1, 2, 3, 3, 3, 4].map(|second| seen.lacks(at(second)));
        assert_eq!(again, [false, false, false, false, true, true]);
        assert!(Seen::default().lacks(at(1)));
    }
}
