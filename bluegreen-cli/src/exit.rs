//! The exit codes: an interface that hooks and scripts build on, in one place.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success,
    /// Something that no other code describes.
    Unexpected,
    /// The command line, the configuration or an input file is wrong.
    Usage,
    /// Refused before anything was touched.
    Refused,
    /// Failed and rolled back.
    RolledBack,
    /// Cancelled and rolled back.
    Cancelled,
    /// Neither forward nor back: a person is needed.
    Stuck,
    /// The candidate serves, the previous release is not fully retired.
    Unretired,
    /// `status`: it serves, or should, and something needs a person.
    Degraded,
    /// `status`: clients are not answered.
    NotServing,
}

impl Exit {
    const ALL: [Self; 10] = [
        Self::Success,
        Self::Unexpected,
        Self::Usage,
        Self::Refused,
        Self::RolledBack,
        Self::Cancelled,
        Self::Stuck,
        Self::Unretired,
        Self::Degraded,
        Self::NotServing,
    ];

    /// The number that the process ends with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::Refused => 10,
            Self::RolledBack => 20,
            Self::Cancelled => 21,
            Self::Stuck => 30,
            Self::Unretired => 40,
            Self::Degraded => 50,
            Self::NotServing => 51,
        }
    }

    /// One word for machines.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Success => "done",
            Self::Unexpected => "unexpected",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
            Self::Cancelled => "cancelled",
            Self::Stuck => "stuck",
            Self::Unretired => "unretired",
            Self::Degraded => "degraded",
            Self::NotServing => "not-serving",
        }
    }

    /// One line for the help and the manual.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done: the candidate serves, or the command did what it was asked to do",
            Self::Unexpected => "unexpected error",
            Self::Usage => "invalid usage, configuration or input file; nothing touched",
            Self::Refused => "refused; nothing touched, the same release serves as before",
            Self::RolledBack => "failed and rolled back; the previous release serves",
            Self::Cancelled => "cancelled and rolled back; the previous release serves",
            Self::Stuck => {
                "stuck: the run could be neither finished nor rolled back, manual action is needed"
            }
            Self::Unretired => "the candidate serves, but the previous release is not fully retired",
            Self::Degraded => "status: degraded; something needs attention",
            Self::NotServing => "status: not serving; requests fail",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The examples and the table of exit codes, for the long help.
pub(crate) fn help(examples: &str) -> String {
    let mut text = format!("{examples}\n\nExit codes:\n");
    for exit in Exit::ALL {
        text.push_str(&format!("  {:>2}  {}\n", exit.code(), exit.meaning()));
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_an_interface() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 10, 20, 21, 30, 40, 50, 51]);
    }
}
