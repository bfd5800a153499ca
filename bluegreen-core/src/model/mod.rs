//! Plain values, parsed once at the edge and trusted from then on.
//!
//! Nothing here does I/O, knows the time or names an adapter. A value that exists is valid: the
//! constructors refuse what Docker, nginx or a registry would refuse later, or would take for something else.

mod check;
mod color;
mod ecr_host;
mod fingerprint;
mod image;
mod name;
mod network;
mod options;
mod policy;
mod receipt;
mod release;
mod secret;

pub use check::{BodyPattern, Check, Healthcheck, HttpCheck, LogPattern};
pub use color::Color;
pub use ecr_host::EcrHost;
pub use fingerprint::Fingerprint;
pub use image::{Digest, ImageRef, ImageSource, PinnedImage};
pub use name::{AppName, DeploymentId, InstanceName};
pub use network::{Backend, Endpoint, Publish};
pub use options::{Mount, NetworkAttachment, RestartPolicy, RunOptions};
pub use policy::{DeadlineTooShort, DrainPolicy, GatePolicy, Limits, LongLived, Retain};
pub use receipt::{
    KeepAlive, Latency, Measurement, Rate, Receipt, ReceiptGate, ReceiptPolicy, RequestError, RequestErrors,
    Segment, Slowdown,
};
pub use release::{AppSpec, InstanceSpec, Release, Slot, Slots};
pub use secret::Secret;

/// A value that was refused, with what would have been accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {what}: expected {expected}")]
pub struct ParseError {
    what: &'static str,
    value: String,
    expected: &'static str,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, value: impl Into<String>, expected: &'static str) -> Self {
        Self { what, value: value.into(), expected }
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What kind of value was being read, for example `image reference`.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// What would have been accepted, in words.
    pub fn expected(&self) -> &'static str {
        self.expected
    }
}

/// Makes a string newtype that is only built by its parser and reads back as that string.
macro_rules! parsed_string {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads a value.
            ///
            /// # Errors
            ///
            #[doc = concat!("When it is not ", $expected, ".")]
            pub fn new(value: impl Into<String>) -> Result<Self, $crate::model::ParseError> {
                let value = value.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&value) {
                    Ok(Self(value))
                } else {
                    Err($crate::model::ParseError::new($what, value, $expected))
                }
            }

            /// The value as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::model::ParseError;
            fn from_str(value: &str) -> Result<Self, Self::Err> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::model::ParseError;
            fn try_from(value: String) -> Result<Self, Self::Error> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}
pub(crate) use parsed_string;
