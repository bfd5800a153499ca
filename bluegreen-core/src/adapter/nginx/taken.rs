//! Live mode: the lines of the user's own that an install took the place of. What is kept of them beside the other
//! files is all that the way back needs.

use serde::{Deserialize, Serialize};

/// The version of the format.
const VERSION: u32 = 1;

/// What an install took over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Taken {
    version: u32,
    /// The address that the lines led to: what is served while no release of ours is.
    pub(super) before: Option<String>,
    /// The lines.
    pub(super) lines: Vec<Line>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// The number in its file's name.
    pub(super) number: usize,
    /// What stood there, byte for byte.
    pub(super) original: String,
    /// What stands in its file.
    pub(super) now: Vec<String>,
}

impl Default for Taken {
    fn default() -> Self {
        Self { version: VERSION, before: None, lines: Vec::new() }
    }
}

impl Taken {
    /// Reads what [`Taken::to_text`] wrote; the reason when it is nothing of the kind.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let taken: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if taken.version != VERSION {
            return Err(format!("its format is version {}, and this program knows {VERSION}", taken.version));
        }
        Ok(taken)
    }

    pub(super) fn to_text(&self) -> String {
        // Strings and numbers only: it cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The number of the next line.
    pub(super) fn next(&self) -> usize {
        self.lines.iter().map(|line| line.number).max().unwrap_or_default() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_another_version_is_refused() {
        let line = Line { number: 3, original: "proxy_pass  http://a:1 ;".into(), now: vec!["x;".into()] };
        let taken = Taken { before: Some("10.0.0.1:80".into()), lines: vec![line], ..Taken::default() };
        let text = taken.to_text();
        assert_eq!((Taken::read(text.as_bytes()), taken.next()), (Ok(taken), 4));
        let newer = text.replace("\"version\": 1", "\"version\": 2");
        assert!(Taken::read(newer.as_bytes()).unwrap_err().contains("version 2"));
        assert!(Taken::read(b"").is_err());
    }
}
