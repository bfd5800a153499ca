//! `retire`: stops what is kept warm.

use bluegreen_core::orchestrator::Retired;

use super::{Context, RunLimits};
use crate::args::RetireArgs;
use crate::output::{Next, Verdict};
use crate::settings::{self, Target};
use crate::{duration, explain};

/// `retire`.
pub(super) fn retire(cx: &Context, args: &RetireArgs) -> Verdict {
    const COMMAND: &str = "retire";
    let target = match settings::target(&cx.global, &args.app) {
        Ok(target) => target,
        Err(error) => return explain::settings(COMMAND, &error, cx.out.is_styled()),
    };
    let id = match cx.deployment_id(None, false) {
        Ok(id) => id,
        Err(error) => return Context::bad_id(COMMAND, &error),
    };
    let limits = RunLimits { wait: args.wait, deadline: None };
    cx.with_orchestrator(COMMAND, &target, &limits, async |orchestrator| {
        orchestrator.retire(id, args.now).await.map(|retired| to_verdict(&retired, &target))
    })
}

pub(super) fn to_verdict(retired: &Retired, target: &Target) -> Verdict {
    let app = &retired.app;
    let text = match (&retired.stopped, &retired.warm) {
        (Some(name), _) => format!("retired: {name} is stopped"),
        (None, Some(warm)) => {
            format!("{} stays warm for another {}", warm.name, duration::short(warm.left))
        }
        (None, None) => format!("nothing to retire: no previous container of {app} is running"),
    };
    let mut verdict = Verdict::success("retire", text, serde_json::to_value(retired).unwrap_or_default());
    if retired.warm.is_some() {
        let mut command = target.command("retire");
        command.push("--now".to_owned());
        verdict.next = Some(Next::run(command).offering("stop it now"));
    }
    verdict
}
