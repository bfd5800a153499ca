//! What a deployment does, in which order, and how each step is undone. Pure: no clock, no I/O.
//!
//! The order is constant and the list is closed. There is no graph and there are no boxed actions: recovery
//! enters in the middle of a run, and a closed enum is what a journal can name for years.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{InstanceSpec, Slot};

/// One step of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(
    clippy::exhaustive_enums,
    reason = "the plan is closed; everybody who matches should see a new step"
)]
pub enum Step {
    /// Decide the digest that the tag means. Nothing is touched.
    Resolve,
    /// Bring the image to this host.
    Pull,
    /// Start the candidate beside what serves.
    Start,
    /// Wait until the candidate is healthy.
    Gate,
    /// Send new requests to the candidate.
    Switch,
    /// Prove that a request through the proxy reaches the candidate. Its success is the commit point.
    Verify,
    /// Wait until nothing is in flight to the previous colour.
    Drain,
    /// Stop the previous colour, and remove what is no longer kept.
    Retire,
}

/// The order, always this one.
pub const PLAN: [Step; 8] = [
    Step::Resolve,
    Step::Pull,
    Step::Start,
    Step::Gate,
    Step::Switch,
    Step::Verify,
    Step::Drain,
    Step::Retire,
];

/// How a step's effect is undone.
///
/// An undo is right whether its step never ran, ran half or ran wholly, and whether it was undone already: a
/// step that failed may have had its effect all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "as closed as the plan")]
pub enum Undo {
    /// Remove the candidate, or stop it again when an earlier deployment had made and kept it.
    RemoveCandidate,
    /// Send new requests to what served before, and drain the candidate.
    SwitchBack,
}

impl Step {
    /// The step's name, as the journal and all output have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Pull => "pull",
            Self::Start => "start",
            Self::Gate => "gate",
            Self::Switch => "switch",
            Self::Verify => "verify",
            Self::Drain => "drain",
            Self::Retire => "retire",
        }
    }

    /// Whether the deployment is decided when this step runs: from here on it only goes forward.
    pub const fn is_past_commit(self) -> bool {
        matches!(self, Self::Drain | Self::Retire)
    }

    /// How it is undone, if it has an effect that must be.
    pub const fn undo(self) -> Option<Undo> {
        match self {
            Self::Start => Some(Undo::RemoveCandidate),
            Self::Switch => Some(Undo::SwitchBack),
            // A pulled image harms nobody; what is kept of images is Retire's matter.
            Self::Resolve | Self::Pull | Self::Gate | Self::Verify | Self::Drain | Self::Retire => None,
        }
    }

    /// The step in one line, for `bluegreen plan`.
    pub fn describe(self, candidate: &InstanceSpec, previous: Option<&Slot>) -> String {
        let slot = &candidate.slot;
        let (image, name, color) = (&candidate.image, &slot.name, slot.color);
        match (self, previous) {
            (Self::Resolve, _) => format!("{} is {}", image.image(), image.digest()),
            (Self::Pull, _) => format!("pull {}", image.run_reference()),
            (Self::Start, _) => match slot.publish {
                Some(publish) => {
                    format!("start {name} ({color}), port {} on {}:{}", slot.port, publish.ip, publish.port)
                }
                None => format!("start {name} ({color}), port {}", slot.port),
            },
            (Self::Gate, _) => format!("wait until {name} is healthy"),
            (Self::Switch, _) => format!("send new requests to {color} at {}", slot.endpoint),
            (Self::Verify, _) => {
                format!("prove through the proxy that {color} answers; this is the commit point")
            }
            (Self::Drain, Some(previous)) => format!("wait until nothing is in flight to {}", previous.name),
            (Self::Retire, Some(previous)) => format!("stop {}", previous.name),
            (Self::Drain | Self::Retire, None) => "nothing to do: there is no previous release".to_owned(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_after_the_commit_point_is_without_undo() {
        let mut committed = false;
        for step in PLAN {
            assert_eq!(step.is_past_commit(), committed, "{step}");
            assert!(!committed || step.undo().is_none(), "{step} is undone after the commit point");
            committed |= step == Step::Verify;
        }
    }

    #[test]
    fn the_plan_is_in_the_order_of_its_steps() {
        assert!(PLAN.is_sorted());
    }
}
