//! What can be known of a candidate before anything is touched: a gate that it could never pass is refused at once.

use super::{Cause, Failure, Orchestrator};
use crate::model::{Check, DeadlineTooShort, GatePolicy, PinnedImage, RunOptions};
use crate::port::Foreseen;

/// Why no candidate of an image could ever pass the gate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CannotPass {
    /// Its HEALTHCHECK answers too late.
    #[error(transparent)]
    TooLate(#[from] DeadlineTooShort),
    /// The gate asks for what its image does not have.
    #[error("the gate asks the image's HEALTHCHECK, and the image has none")]
    NoHealthcheck,
    /// The gate waits for a line of a log that cannot be read.
    #[error(
        "the gate waits for a log line, and nothing can be read of what goes to the logging driver {driver:?}"
    )]
    UnreadableLog {
        /// The driver, be it the container's own or the runtime's.
        driver: String,
    },
}

impl CannotPass {
    /// What stands in the way of an instance of which so much is known; `None` where nothing does.
    pub fn find(gate: &GatePolicy, foreseen: &Foreseen) -> Option<Self> {
        let waits_for_line = gate.checks.iter().any(|check| matches!(check, Check::Log(_)));
        if let Some(driver) = foreseen.unreadable_log.clone().filter(|_| waits_for_line) {
            return Some(Self::UnreadableLog { driver });
        }
        if gate.checks.contains(&Check::Image) && foreseen.healthcheck.is_none() {
            return Some(Self::NoHealthcheck);
        }
        gate.time_for(foreseen.healthcheck.as_ref()).err().map(Self::TooLate)
    }
}

impl Orchestrator {
    /// Whether a candidate of this image could pass the gate, as far as that is known while nothing is touched. What is
    /// not on this host yet is not known.
    ///
    /// # Errors
    ///
    /// When it could not, or the runtime cannot be asked.
    pub async fn could_pass(&self, image: &PinnedImage) -> Result<(), Failure> {
        let checked = self.check_gate(image, &self.spec.options).await;
        checked.map_err(|cause| self.untouched(cause))
    }

    pub(super) async fn check_gate(&self, image: &PinnedImage, options: &RunOptions) -> Result<(), Cause> {
        let gate = &self.spec.gate;
        if !gate.checks.iter().any(|check| matches!(check, Check::Image | Check::Log(_))) {
            return Ok(());
        }
        let foreseen = self.foresee(image, options).await?;
        foreseen
            .and_then(|foreseen| CannotPass::find(gate, &foreseen))
            .map_or(Ok(()), |found| Err(found.into()))
    }
}
