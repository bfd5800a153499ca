//! What is printed goes through a queue to a thread of its own: a pipe that nobody reads, a terminal that is stopped
//! with Ctrl-S or a reader that has gone away holds up that thread, and never the run.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// As much progress waits for its reader; what comes then is lost. The journal has it.
const ROOM: usize = 256 * 1024;

/// One of the two streams.
#[derive(Debug, Clone)]
pub(super) struct Writer(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<String>,
    /// Bytes of what waits.
    bytes: usize,
    /// Whether a text is being written at this moment.
    writing: bool,
    /// How many texts were written; it tells a slow reader from one that has stopped.
    written: u64,
    /// How many had no room since the last one that had.
    lost: u64,
    /// The reader has gone away: nothing will be read any more.
    closed: bool,
}

impl Writer {
    /// This process's stdout.
    pub(super) fn stdout() -> Self {
        static STDOUT: OnceLock<Writer> = OnceLock::new();
        STDOUT.get_or_init(|| Self::to(std::io::stdout().as_fd())).clone()
    }

    /// This process's stderr.
    pub(super) fn stderr() -> Self {
        static STDERR: OnceLock<Writer> = OnceLock::new();
        STDERR.get_or_init(|| Self::to(std::io::stderr().as_fd())).clone()
    }

    fn to(stream: BorrowedFd<'_>) -> Self {
        let queue = Arc::new(Queue::default());
        let writer = Self(queue.clone());
        let started = stream.try_clone_to_owned().and_then(|stream| {
            let work = move || queue.write(&mut File::from(stream));
            std::thread::Builder::new().name("output".to_owned()).spawn(work)
        });
        // Without it nothing can be printed, and the run goes on.
        writer.0.lock().closed = started.is_err();
        writer
    }

    /// Adds a text that must not be lost: there are few of them. `missing` is what to say of those that were.
    pub(super) fn keep(&self, text: String, missing: fn(u64) -> String) {
        self.0.add(text, usize::MAX, missing);
    }

    /// Adds one that may be lost where its reader does not keep up.
    pub(super) fn offer(&self, text: String, missing: fn(u64) -> String) {
        self.0.add(text, ROOM, missing);
    }

    /// Adds one that is worth something only at this moment.
    pub(super) fn now_or_never(&self, text: String) {
        let idle = {
            let state = self.0.lock();
            state.waiting.is_empty() && !state.writing
        };
        if idle {
            self.0.add(text, ROOM, |_| String::new());
        }
    }

    /// Waits until all is written, and no longer than `patience` for a reader that takes nothing. Says whether it is.
    pub(super) fn finish(&self, patience: Duration) -> bool {
        let mut state = self.0.lock();
        while !state.closed && (state.writing || !state.waiting.is_empty()) {
            let before = state.written;
            let wait = self.0.changed.wait_timeout(state, patience);
            let timeout;
            (state, timeout) = wait.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() && state.written == before {
                return false;
            }
        }
        !state.closed
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, text: String, room: usize, missing: fn(u64) -> String) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if state.bytes.saturating_add(text.len()) > room {
            state.lost += 1;
            return;
        }
        let lost = std::mem::take(&mut state.lost);
        let notice = if lost > 0 { missing(lost) } else { String::new() };
        for text in [notice, text] {
            if !text.is_empty() {
                state.bytes += text.len();
                state.waiting.push_back(text);
            }
        }
        self.changed.notify_all();
    }

    /// The thread: writes whatever comes, for ever.
    fn write(&self, stream: &mut File) {
        loop {
            let mut state = self.lock();
            let text = loop {
                if let Some(text) = state.waiting.pop_front() {
                    break text;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            state.writing = true;
            drop(state);
            // One write for a text and its end of line, so that lines of two processes do not mix.
            let outcome = stream.write_all(text.as_bytes());
            let mut state = self.lock();
            state.writing = false;
            state.bytes = state.bytes.saturating_sub(text.len());
            state.written += 1;
            state.closed = outcome.is_err();
            self.changed.notify_all();
            if state.closed {
                state.waiting.clear();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, pipe};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    fn missing(lines: u64) -> String {
        format!("{lines} missing\n")
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read_and_it_is_told_what_it_missed() {
        let (mut reader, sink) = pipe().unwrap();
        let writer = Writer::to(sink.as_fd());
        drop(sink);
        // More than a pipe and the queue hold together.
        let line = "x".repeat(4095) + "\n";
        for _ in 0..200 {
            writer.offer(line.clone(), missing);
        }
        writer.keep("the verdict\n".to_owned(), missing);
        writer.now_or_never("a frame".to_owned());
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
        assert!(writer.finish(Duration::from_secs(20)), "it is read by now");
        writer.offer("later\n".to_owned(), missing);
        let seen = reading.join().unwrap();
        let lost = 200 - seen.matches("xxx\n").count();
        assert!(lost > 0, "all had room");
        assert!(seen.ends_with(&format!("xxx\n{lost} missing\nthe verdict\nlater\n")), "{lost} were lost");
    }

    #[test]
    fn a_reader_that_has_gone_away_is_not_waited_for() {
        let (reader, sink) = pipe().unwrap();
        let writer = Writer::to(sink.as_fd());
        drop((reader, sink));
        writer.keep("lost\n".to_owned(), missing);
        assert!(!writer.finish(Duration::from_secs(20)));
        writer.keep("as well\n".to_owned(), missing);
        assert!(writer.0.lock().waiting.is_empty());
    }
}
