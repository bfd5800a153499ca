//! The terminal as the moving line sees it. It is drawn by whole frames, and one that finds the terminal busy or stopped
//! is left out.

use std::io::Result;
use std::sync::{Mutex, PoisonError};

use console::Term;
use indicatif::TermLike;

use super::writer::Writer;

/// What is drawn since the last frame was sent.
#[derive(Debug, Default)]
pub(super) struct Terminal(Mutex<String>);

impl Terminal {
    fn draw(&self, text: &str) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        Ok(())
    }

    /// ANSI's movements, each by `n`.
    fn go(&self, n: usize, way: char) -> Result<()> {
        if n == 0 { Ok(()) } else { self.draw(&format!("\x1b[{n}{way}")) }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        Term::stderr().size().1
    }

    fn move_cursor_up(&self, n: usize) -> Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, s: &str) -> Result<()> {
        self.draw(s)?;
        self.draw("\n")
    }

    fn write_str(&self, s: &str) -> Result<()> {
        self.draw(s)
    }

    fn clear_line(&self) -> Result<()> {
        self.draw("\r\x1b[2K")
    }

    fn flush(&self) -> Result<()> {
        let frame = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Writer::stderr().now_or_never(frame);
        Ok(())
    }
}
