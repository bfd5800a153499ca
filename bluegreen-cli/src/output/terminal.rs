//! The terminal as the moving line sees it. It is drawn by whole frames, and one that finds the terminal busy or stopped
//! is left out.

use std::io::Result;
use std::sync::{Mutex, PoisonError};

use console::Term;
use indicatif::TermLike;

use super::writer::{To, Writer};

/// What is drawn since the last frame was sent.
#[derive(Debug, Default)]
pub(super) struct Terminal(Mutex<String>);

impl Terminal {
    fn draw(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
    }

    /// ANSI's movements, each by `n`.
    fn go(&self, n: usize, way: char) {
        if n > 0 {
            self.draw(&format!("\x1b[{n}{way}"));
        }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        Term::stderr().size().1
    }

    fn move_cursor_up(&self, n: usize) -> Result<()> {
        self.go(n, 'A');
        Ok(())
    }

    fn move_cursor_down(&self, n: usize) -> Result<()> {
        self.go(n, 'B');
        Ok(())
    }

    fn move_cursor_right(&self, n: usize) -> Result<()> {
        self.go(n, 'C');
        Ok(())
    }

    fn move_cursor_left(&self, n: usize) -> Result<()> {
        self.go(n, 'D');
        Ok(())
    }

    fn write_line(&self, s: &str) -> Result<()> {
        self.draw(s);
        self.draw("\n");
        Ok(())
    }

    fn write_str(&self, s: &str) -> Result<()> {
        self.draw(s);
        Ok(())
    }

    fn clear_line(&self) -> Result<()> {
        self.draw("\r\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let frame = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Writer::process().now_or_never(To::Stderr, frame);
        Ok(())
    }
}
