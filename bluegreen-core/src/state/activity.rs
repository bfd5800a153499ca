//! What is asked for, and what is done, by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a deployment was asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Verb {
    /// Something to serve from now on.
    Deploy,
    /// An earlier release, again.
    Rollback,
}

impl Verb {
    /// Its name, as it is typed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What somebody who holds an application's lock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Activity {
    /// A run of [`Verb::Deploy`].
    Deploy,
    /// A run of [`Verb::Rollback`].
    Rollback,
    /// What a run left is settled.
    Recover,
    /// What was kept warm is stopped.
    Retire,
    /// The proxy is prepared.
    #[serde(rename = "nginx install")]
    InstallProxy,
    /// That is taken out again.
    #[serde(rename = "nginx remove")]
    RemoveProxy,
    /// What another version of this program does and this one has no word for.
    #[serde(other)]
    Other,
}

impl Activity {
    /// Its name, as it is typed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => Verb::Deploy.as_str(),
            Self::Rollback => Verb::Rollback.as_str(),
            Self::Recover => "recover",
            Self::Retire => "retire",
            Self::InstallProxy => "nginx install",
            Self::RemoveProxy => "nginx remove",
            Self::Other => "another command",
        }
    }

    /// Whether it listens when it is asked to stop, and knows what to do then.
    pub const fn is_cancellable(self) -> bool {
        matches!(self, Self::Deploy | Self::Rollback | Self::Recover | Self::Retire)
    }

    /// Whether it makes a run of its own.
    pub const fn is_run(self) -> bool {
        matches!(self, Self::Deploy | Self::Rollback)
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_version_does_is_no_error() {
        let read = |text: &str| serde_json::from_str::<Activity>(text).unwrap();
        assert_eq!(read("\"deploy\""), Activity::Deploy);
        assert_eq!(read("\"nginx install\""), Activity::InstallProxy);
        assert_eq!(read("\"promote\""), Activity::Other);
    }
}
