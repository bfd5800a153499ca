//! What a log line or a body must contain.

use std::fmt;

use regex::Regex;

use crate::model::LogPattern;
use crate::port::ProbeError;

/// A [`LogPattern`] that is ready to be looked for.
pub(super) enum Pattern {
    Text(String),
    Regex(Regex),
}

impl Pattern {
    /// Gets it ready. One that is no regular expression never will be: [`ProbeError::Impossible`].
    pub(super) fn new(pattern: &LogPattern) -> Result<Self, ProbeError> {
        if !pattern.regex {
            return Ok(Self::Text(pattern.pattern.clone()));
        }
        Regex::new(&pattern.pattern).map(Self::Regex).map_err(|error| ProbeError::Impossible {
            // The crate's message repeats the pattern and points into it, over many lines; the last says why.
            reason: format!(
                "{:?} is not a regular expression: {}",
                pattern.pattern,
                super::last_line(&error.to_string())
            ),
        })
    }

    /// Whether it is in the text.
    pub(super) fn is_in(&self, text: &str) -> bool {
        match self {
            Self::Text(pattern) => text.contains(pattern),
            Self::Regex(pattern) => pattern.is_match(text),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(pattern) => write!(f, "{pattern:?}"),
            Self::Regex(pattern) => write!(f, "/{pattern}/"),
        }
    }
}
