//! How long a run may wait and take.

use std::time::Duration;

use bluegreen_core::model::AppSpec;

use crate::args::TimeArgs;
use crate::duration;
use crate::hook::Hook;
use crate::output::Next;

/// Docker's own time between a stop signal and a kill.
const STOP: Duration = Duration::from_secs(10);
/// For the calls around a drain and a stop.
const CALLS: Duration = Duration::from_secs(10);

/// How long a run may wait and take.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunLimits {
    /// For another run to end.
    pub(crate) wait: Option<Duration>,
    /// By when it is to be committed.
    pub(crate) deadline: Option<Deadline>,
}

/// By when a run is to be committed; it is rolled back otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// From now on.
    pub(crate) within: Duration,
    /// Who set it.
    pub(crate) set_by: SetBy,
}

/// Who set a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetBy {
    /// `--deadline`.
    Option,
    /// The hook that this runs in, by the time that it may take.
    Hook(Duration),
}

impl std::fmt::Display for Deadline {
    /// What is said when it is over. Whether the run is committed by then, it does not know.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.set_by {
            SetBy::Option => write!(f, "the deadline of {} has passed", duration::short(self.within))?,
            SetBy::Hook(limit) => {
                write!(f, "this hook may take {} s, and that time is nearly over", limit.as_secs())?;
            }
        }
        f.write_str(": a run that is not committed is rolled back")
    }
}

impl RunLimits {
    /// What was asked for; in a hook also what its own limit leaves.
    pub(crate) fn new(args: &TimeArgs, hook: Option<Hook>, spec: &AppSpec) -> Self {
        let given = args.deadline.map(Deadline::given);
        Self { wait: args.wait, deadline: given.or_else(|| hook.map(|hook| Deadline::of(hook, spec))) }
    }
}

/// A deadline that is over before a run can be committed, however well all goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooShort {
    deadline: Deadline,
    /// What the configuration itself asks a run to wait for.
    least: Duration,
}

impl std::fmt::Display for TooShort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let within = duration::format(self.deadline.within);
        match self.deadline.set_by {
            SetBy::Option => write!(f, "the deadline is {within}")?,
            SetBy::Hook(limit) => {
                write!(f, "this hook may take {} s, which leaves {within} for a commit", limit.as_secs())?;
            }
        }
        let least = duration::format(self.least);
        write!(f, ", and `min_healthy`, `successes` and `bake` alone make a run wait {least} before it")
    }
}

impl TooShort {
    /// What to do about it.
    pub(crate) fn next(&self) -> Next {
        let longer = duration::format(self.least.saturating_mul(2));
        Next::todo(match self.deadline.set_by {
            SetBy::Option => format!("give --deadline at least {longer}, or lower `min_healthy` and `bake`"),
            SetBy::Hook(_) => {
                format!(
                    "raise the hook's `timeout` in appspec.yml by {longer}, or lower `min_healthy` and `bake`"
                )
            }
        })
    }
}

impl RunLimits {
    /// Whether the deadline cannot be kept, whatever happens.
    pub(crate) fn too_short(&self, spec: &AppSpec) -> Option<TooShort> {
        let bake = spec.receipt.as_ref().and_then(|receipt| receipt.gate).map(|gate| gate.bake);
        let least = spec.gate.least().saturating_add(bake.unwrap_or_default());
        let deadline = self.deadline.clone().filter(|deadline| deadline.within <= least)?;
        // One that is over already is told of as such.
        (!least.is_zero()).then_some(TooShort { deadline, least })
    }
}

impl Deadline {
    fn given(within: Duration) -> Self {
        Self { within, set_by: SetBy::Option }
    }

    /// After the commit point, or to take a run back, there may be a drain and a stop. The hook's time is to last for
    /// them, so that it ends with what came of it and not with a signal. Where it is short, half of it.
    fn of(hook: Hook, spec: &AppSpec) -> Self {
        let after = spec.drain.timeout + spec.options.stop_timeout.unwrap_or(STOP) + CALLS;
        let within = hook.left.saturating_sub(after).max(hook.left / 2);
        Self { within, set_by: SetBy::Hook(hook.limit) }
    }
}

#[cfg(test)]
mod tests {
    use bluegreen_core::testing::World;

    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn within(left: u64, given: Option<Duration>, more: impl FnOnce(&mut AppSpec)) -> Duration {
        let mut spec = World::new().spec();
        more(&mut spec);
        let args = TimeArgs { wait: None, no_wait: false, deadline: given };
        RunLimits::new(&args, Some(Hook { limit: secs(3600), left: secs(left) }), &spec)
            .deadline
            .unwrap()
            .within
    }

    #[test]
    fn a_hook_leaves_time_for_a_drain_and_a_stop_after_the_deadline() {
        assert_eq!(within(3600, None, |_| ()), secs(3550));
        let slow = |spec: &mut AppSpec| {
            (spec.drain.timeout, spec.options.stop_timeout) = (secs(120), Some(secs(60)));
        };
        assert_eq!(within(3000, None, slow), secs(2810));
    }

    #[test]
    fn a_short_one_is_shared_and_one_that_is_over_leaves_nothing() {
        assert_eq!(within(60, None, |_| ()), secs(30));
        assert_eq!(within(0, None, |_| ()), secs(0));
    }

    #[test]
    fn a_deadline_that_was_asked_for_comes_first() {
        assert_eq!(within(60, Some(secs(50)), |_| ()), secs(50));
        let args = TimeArgs { wait: None, no_wait: false, deadline: None };
        assert_eq!(RunLimits::new(&args, None, &World::new().spec()).deadline, None);
    }

    #[test]
    fn a_deadline_that_the_configuration_itself_cannot_keep_is_known_before() {
        let judged = |given: Option<u64>, bake: u64, min_healthy: u64| {
            let mut spec = World::new().spec();
            spec.gate.min_healthy = secs(min_healthy);
            let mut gate = bluegreen_core::model::ReceiptGate::new(0);
            gate.bake = secs(bake);
            spec.receipt.as_mut().unwrap().gate = Some(gate);
            let args = TimeArgs { wait: None, no_wait: false, deadline: given.map(secs) };
            RunLimits::new(&args, None, &spec).too_short(&spec).map(|found| found.to_string())
        };
        assert_eq!(judged(Some(31), 20, 10), None);
        assert_eq!(judged(None, 20, 10), None);
        assert_eq!(judged(Some(0), 0, 0), None);
        let found = judged(Some(30), 20, 10).unwrap();
        assert!(found.starts_with("the deadline is 30s") && found.contains("wait 30s before it"), "{found}");
    }
}
