use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::{BoxError, Instance};
use crate::model::Check;

/// Asks an instance whether it is well.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait HealthProbe: fmt::Debug + Send + Sync + 'static {
    /// Makes one attempt, within `within`. It does not retry and does not pause: the gate does. A
    /// [`Check::Log`] attempt is the exception that waits: it follows the log until the line comes.
    ///
    /// # Errors
    ///
    /// When the question could not be asked. An instance that gives no answer or the wrong one is `Ok` with
    /// [`Health::Unhealthy`].
    async fn probe(&self, check: &Check, target: &Instance, within: Duration) -> Result<Health, ProbeError>;
}

/// An instance's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it is well or it is not; the rest is in the reason")]
pub enum Health {
    /// As expected.
    Healthy,
    /// Not as expected.
    Unhealthy {
        /// What came instead, for a person: `status 500`, `connection refused`.
        reason: String,
    },
}

impl Health {
    /// Not well, because of `reason`.
    pub fn unhealthy(reason: impl Into<String>) -> Self {
        Self::Unhealthy { reason: reason.into() }
    }
}

/// Why the question could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// This check cannot work on this instance, however long one waits: no HEALTHCHECK in its image, no address,
    /// a pattern that is no regular expression.
    #[error("this check cannot work here: {reason}")]
    Impossible {
        /// Why not.
        reason: String,
    },
    /// Anything else; the next attempt may work.
    #[error("{operation} failed")]
    Other {
        /// What was being done.
        operation: &'static str,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
}
