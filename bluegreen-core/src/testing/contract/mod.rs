//! What every implementation of a port must keep, for the tests of whoever writes one.
//!
//! Each function uses an implementation as the orchestrator does, on something that it may change, and says which rule
//! is not kept. The fakes of this module and the adapters of this crate keep all of them. Failures that cannot be
//! brought about through a port (a full disk, a lost connection) are the implementation's own to test.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! use bluegreen_core::testing::{World, contract};
//!
//! let journal = World::new().ports().journal;
//! contract::journal(&*journal, &"contract".parse().unwrap()).await.unwrap();
//! # });
//! ```

mod journal;
mod probe;
mod proxy;
mod registry;
mod runtime;

use std::error::Error;
use std::fmt::Debug;

pub use self::journal::journal;
pub use self::probe::probe;
pub use self::proxy::proxy;
pub use self::registry::registry;
pub use self::runtime::runtime;

/// A rule of a port that is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{port}: {rule}; seen: {seen}")]
#[non_exhaustive]
pub struct Broken {
    /// The port's name.
    pub port: &'static str,
    /// The rule, in words.
    pub rule: &'static str,
    /// What was seen instead.
    pub seen: String,
}

/// The rules of one port.
#[derive(Debug, Clone, Copy)]
struct Rules(&'static str);

impl Rules {
    /// `seen` must be as the rule says.
    fn hold<T: Debug>(
        self,
        rule: &'static str,
        seen: &T,
        kept: impl FnOnce(&T) -> bool,
    ) -> Result<(), Broken> {
        if kept(seen) { Ok(()) } else { Err(self.broken(rule, format!("{seen:?}"))) }
    }

    /// A call must be answered, and what it answers.
    fn answered<T, E: Error>(self, rule: &'static str, answer: Result<T, E>) -> Result<T, Broken> {
        answer.map_err(|error| {
            let mut seen = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                seen = format!("{seen}: {error}");
                cause = error.source();
            }
            self.broken(rule, seen)
        })
    }

    fn broken(self, rule: &'static str, seen: String) -> Broken {
        Broken { port: self.0, rule, seen }
    }
}

#[cfg(test)]
mod tests;
