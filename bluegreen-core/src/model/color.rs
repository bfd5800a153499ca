use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the two places that an application's release can be in.
///
/// A colour is a place, not a version: releases alternate between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "blue/green has two colours; callers match both")]
pub enum Color {
    /// The first place, where a first deploy goes.
    Blue,
    /// The second place.
    Green,
}

impl Color {
    /// Both, blue first.
    pub const ALL: [Self; 2] = [Self::Blue, Self::Green];

    /// The colour that is not this one.
    ///
    /// ```
    /// use bluegreen_core::model::Color;
    /// assert_eq!(Color::Blue.other(), Color::Green);
    /// ```
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// `blue` or `green`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Color {
    type Err = super::ParseError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "blue" => Ok(Self::Blue),
            "green" => Ok(Self::Green),
            _ => Err(super::ParseError::new("colour", value, "`blue` or `green`")),
        }
    }
}
