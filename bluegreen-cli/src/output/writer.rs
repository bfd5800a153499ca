//! What is printed goes through a queue to threads of its own: a pipe that nobody reads, a terminal that is stopped with
//! Ctrl-S or a reader that has gone away holds up its thread, and never the run.
//!
//! The two streams may end in one place, so what was printed first is written first, whatever its stream is. Only a
//! stream whose reader takes nothing is not waited for by the other one.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// As much progress waits for its reader; what comes then is lost. The journal has it.
const QUEUE_LIMIT: usize = 256 * 1024;

/// A write that takes longer has a reader that takes nothing: the other stream goes on without it.
const STUCK_AFTER: Duration = Duration::from_millis(100);

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Stdout,
    Stderr,
}

impl To {
    const fn other(self) -> Self {
        match self {
            Self::Stdout => Self::Stderr,
            Self::Stderr => Self::Stdout,
        }
    }
}

static PROCESS: OnceLock<Writer> = OnceLock::new();

/// The queue of both streams.
#[derive(Debug, Clone)]
pub(super) struct Writer(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stdout: Stream,
    stderr: Stream,
    /// The number of the next text.
    next: u64,
}

#[derive(Debug, Default)]
struct Stream {
    /// Texts with their numbers.
    waiting: VecDeque<(u64, String)>,
    /// Bytes of what waits.
    bytes: usize,
    /// The number of the text that is being written at this moment, and since when.
    writing: Option<(u64, Instant)>,
    /// How many texts were written; it tells a slow reader from one that has stopped.
    written: u64,
    /// How many had no room since the last one that had.
    lost: u64,
    /// The reader has gone away: nothing will be read any more.
    closed: bool,
}

impl Writer {
    /// This process's own streams.
    pub(super) fn process() -> &'static Self {
        PROCESS.get_or_init(|| Self::new(std::io::stdout().as_fd(), std::io::stderr().as_fd()))
    }

    /// Those of this process, when something was printed.
    pub(super) fn in_use() -> Option<&'static Self> {
        PROCESS.get()
    }

    pub(super) fn new(stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> Self {
        let writer = Self(Arc::default());
        for (to, stream) in [(To::Stdout, stdout), (To::Stderr, stderr)] {
            let queue = writer.0.clone();
            let started = stream.try_clone_to_owned().and_then(|stream| {
                let work = move || queue.write(to, &mut File::from(stream));
                std::thread::Builder::new().name("output".to_owned()).spawn(work)
            });
            // Without it nothing can be printed there, and the run goes on.
            writer.0.lock().of(to).closed |= started.is_err();
        }
        writer
    }

    /// Adds a text that must not be lost: there are few of them. `missing` is what to say of those that were.
    pub(super) fn keep(&self, to: To, text: String, missing: fn(u64) -> String) {
        self.0.add(to, text, usize::MAX, missing);
    }

    /// Adds one that may be lost where its reader does not keep up.
    pub(super) fn offer(&self, to: To, text: String, missing: fn(u64) -> String) {
        self.0.add(to, text, QUEUE_LIMIT, missing);
    }

    /// Adds one that is worth something only at this moment.
    pub(super) fn now_or_never(&self, to: To, text: String) {
        let idle = self.0.lock().of(to).first().is_none();
        if idle {
            self.0.add(to, text, QUEUE_LIMIT, |_| String::new());
        }
    }

    /// Waits until all is written, and no longer than `patience` for readers that take nothing. Says whether it is.
    pub(super) fn finish(&self, patience: Duration) -> bool {
        let mut state = self.0.lock();
        while state.is_pending() {
            let before = state.written();
            let wait = self.0.changed.wait_timeout(state, patience);
            let timeout;
            (state, timeout) = wait.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() && state.written() == before {
                return false;
            }
        }
        !state.stdout.closed && !state.stderr.closed
    }
}

impl State {
    fn of(&mut self, to: To) -> &mut Stream {
        match to {
            To::Stdout => &mut self.stdout,
            To::Stderr => &mut self.stderr,
        }
    }

    fn is_pending(&self) -> bool {
        [&self.stdout, &self.stderr].into_iter().any(|stream| stream.first().is_some())
    }

    fn written(&self) -> u64 {
        self.stdout.written + self.stderr.written
    }

    /// Takes the next text for a stream, or says how long to wait before looking again: none is for as long as nothing
    /// changes.
    fn take(&mut self, to: To) -> Result<String, Option<Duration>> {
        let Some((number, _)) = self.of(to).waiting.front() else { return Err(None) };
        let number = *number;
        let other = self.of(to.other());
        if other.first().is_some_and(|first| first < number) {
            let taken = other.writing.map_or(Duration::ZERO, |(_, since)| since.elapsed());
            let left = STUCK_AFTER.saturating_sub(taken);
            if !left.is_zero() {
                return Err(Some(left));
            }
        }
        let stream = self.of(to);
        stream.writing = Some((number, Instant::now()));
        stream.waiting.pop_front().map(|(_, text)| text).ok_or(None)
    }
}

impl Stream {
    /// The number of the first text that is not written.
    fn first(&self) -> Option<u64> {
        self.writing.map(|(number, _)| number).or_else(|| self.waiting.front().map(|(number, _)| *number))
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, to: To, text: String, limit: usize, missing: fn(u64) -> String) {
        let mut state = self.lock();
        let mut number = state.next;
        let stream = state.of(to);
        if stream.closed {
            return;
        }
        if stream.bytes.saturating_add(text.len()) > limit {
            stream.lost += 1;
            return;
        }
        let lost = std::mem::take(&mut stream.lost);
        let notice = if lost > 0 { missing(lost) } else { String::new() };
        for text in [notice, text] {
            if !text.is_empty() {
                stream.bytes += text.len();
                stream.waiting.push_back((number, text));
                number += 1;
            }
        }
        state.next = number;
        self.changed.notify_all();
    }

    /// A stream's thread: writes whatever comes, for ever.
    fn write(&self, to: To, stream: &mut File) {
        loop {
            let mut state = self.lock();
            let text = loop {
                state = match state.take(to) {
                    Ok(text) => break text,
                    Err(None) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Err(Some(left)) => {
                        self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            };
            drop(state);
            // One write for a text and its end of line, so that lines of two processes do not mix.
            let outcome = stream.write_all(text.as_bytes());
            let mut state = self.lock();
            let stream = state.of(to);
            stream.writing = None;
            stream.bytes = stream.bytes.saturating_sub(text.len());
            stream.written += 1;
            stream.closed = outcome.is_err();
            if stream.closed {
                stream.waiting.clear();
            }
            self.changed.notify_all();
            if state.of(to).closed {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, pipe};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    fn missing(lines: u64) -> String {
        format!("{lines} missing\n")
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read_and_it_is_told_what_it_missed() {
        let (mut reader, sink) = pipe().unwrap();
        let writer = Writer::new(sink.as_fd(), sink.as_fd());
        drop(sink);
        // More than a pipe and the queue hold together.
        let line = "x".repeat(4095) + "\n";
        for _ in 0..200 {
            writer.offer(To::Stdout, line.clone(), missing);
        }
        writer.keep(To::Stdout, "the verdict\n".to_owned(), missing);
        writer.now_or_never(To::Stdout, "a frame".to_owned());
        assert!(!writer.finish(SHORT), "it cannot be written");
        let reading = std::thread::spawn(move || {
            let mut text = vec![0; 1024 * 1024];
            let mut seen = String::new();
            while !seen.contains("later\n") {
                let count = reader.read(&mut text).unwrap();
                seen.push_str(std::str::from_utf8(&text[..count]).unwrap());
            }
            seen
        });
        assert!(writer.finish(LONG), "it is read by now");
        writer.offer(To::Stdout, "later\n".to_owned(), missing);
        let seen = reading.join().unwrap();
        let lost = 200 - seen.matches("xxx\n").count();
        assert!(lost > 0, "all had room");
        assert!(seen.ends_with(&format!("xxx\n{lost} missing\nthe verdict\nlater\n")), "{lost} were lost");
    }

    #[test]
    fn a_reader_that_has_gone_away_is_not_waited_for() {
        let (reader, sink) = pipe().unwrap();
        let writer = Writer::new(sink.as_fd(), sink.as_fd());
        drop((reader, sink));
        writer.keep(To::Stdout, "lost\n".to_owned(), missing);
        assert!(!writer.finish(LONG));
        writer.keep(To::Stdout, "as well\n".to_owned(), missing);
        assert!(writer.0.lock().stdout.waiting.is_empty());
    }

    #[test]
    fn two_streams_that_end_in_one_place_keep_their_order() {
        let (reader, sink) = pipe().unwrap();
        let writer = Writer::new(sink.as_fd(), sink.as_fd());
        drop(sink);
        let lines: Vec<String> = (0..500).map(|number| number.to_string()).collect();
        for (number, line) in lines.iter().enumerate() {
            let to = if number % 3 == 0 { To::Stdout } else { To::Stderr };
            writer.keep(to, format!("{line}\n"), missing);
        }
        assert!(writer.finish(LONG));
        let seen: Vec<String> =
            BufReader::new(reader).lines().take(lines.len()).map(Result::unwrap).collect();
        assert_eq!(seen, lines);
    }

    #[test]
    fn a_stream_that_nobody_reads_holds_up_the_other_one_once_and_not_for_each_line() {
        const LINES: u32 = 50;
        let (_unread, stdout) = pipe().unwrap();
        let (reader, stderr) = pipe().unwrap();
        let writer = Writer::new(stdout.as_fd(), stderr.as_fd());
        let began = Instant::now();
        writer.keep(To::Stdout, "x".repeat(1024 * 1024), missing);
        for number in 0..LINES {
            writer.keep(To::Stderr, format!("{number}\n"), missing);
            writer.keep(To::Stdout, "more\n".to_owned(), missing);
        }
        let seen = BufReader::new(reader).lines().take(50).map(Result::unwrap).last();
        assert_eq!(seen.as_deref(), Some("49"));
        let took = began.elapsed();
        assert!(took >= STUCK_AFTER, "{took:?}: it was not waited for at all");
        assert!(took < STUCK_AFTER * LINES / 2, "{took:?}: each line waited");
        assert!(!writer.finish(SHORT), "stdout is not read");
    }
}
