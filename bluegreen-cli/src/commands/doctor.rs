//! `doctor`: all that a deploy depends on, looked at without touching anything.
//!
//! Each look is its own: one that finds something does not keep the others from looking. Only where Docker itself does
//! not answer are those left out that would only say so again.

mod checks;

use std::fmt::Write as _;

use bluegreen_core::model::ImageRef;
use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::args::{AppArgs, ImageArgs};
use crate::exit::Exit;
use crate::explain;
use crate::output::{Next, Verdict, plain};
use crate::settings::{self, SettingsError, Target, Warning};

const COMMAND: &str = "doctor";

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct CheckResult {
    /// What was looked at.
    pub(super) check: &'static str,
    pub(super) level: Level,
    pub(super) found: String,
    /// What to do about it; none where nothing has to be done.
    pub(super) remedy: Option<Next>,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    /// As it should be.
    Fine,
    /// It could not be looked at, because of something else that is told of.
    Skipped,
    /// A deploy works, and loses or proves less than it could, or will fail one day.
    Warns,
    /// A deploy would be refused or rolled back.
    Blocks,
}

impl Level {
    fn mark(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Skipped => "-",
            Self::Warns => "warn",
            Self::Blocks => "FAIL",
        }
    }
}

impl CheckResult {
    fn fine(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Fine, found: found.into(), remedy: None }
    }

    fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self { check, level: Level::Skipped, found: why.into(), remedy: None }
    }

    fn warns(check: &'static str, found: impl Into<String>, remedy: impl Into<Next>) -> Self {
        Self { check, level: Level::Warns, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn blocks(check: &'static str, found: impl Into<String>, remedy: impl Into<Next>) -> Self {
        Self { check, level: Level::Blocks, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// `doctor`.
pub(super) fn doctor(cx: &Context, args: &ImageArgs) -> Verdict {
    let (target, image) = match what(cx, args) {
        Ok(found) => found,
        Err(error) => return explain::settings(COMMAND, &error, cx.out.is_styled()),
    };
    Context::block_on(COMMAND, async {
        let mut findings = configured(&target);
        findings.extend(checks::all(cx, &target, image.as_ref()).await);
        to_verdict(&findings, &target)
    })
    .about(&target)
}

/// What a deploy warns of before it does anything.
pub(super) fn configured(target: &Target) -> Vec<CheckResult> {
    let finding = |warning: &Warning| CheckResult::warns("config", warning.found, warning.safer);
    target.warnings.iter().map(finding).collect()
}

/// The application, and the image where one is given: without it the rest can be looked at all the same.
fn what(cx: &Context, args: &ImageArgs) -> Result<(Target, Option<ImageRef>), SettingsError> {
    match settings::deployment(&cx.global, args) {
        Ok((target, image)) => Ok((target, Some(image))),
        Err(SettingsError::NoImage { .. } | SettingsError::NoName) => {
            let app = AppArgs { app: args.app.clone(), nginx_conf: args.nginx_conf.clone() };
            settings::target(&cx.global, &app).map(|target| (target, None))
        }
        Err(error) => Err(error),
    }
}

pub(super) fn to_verdict(findings: &[CheckResult], target: &Target) -> Verdict {
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Fine);
    let app = &target.app.spec.name;
    let mut text = String::new();
    for CheckResult { check, level, found, remedy } in findings {
        let _never_fails = writeln!(text, "{:<5}{check:<9}{}", level.mark(), plain(found));
        if let Some(remedy) = remedy {
            for line in remedy.lines() {
                let _never_fails = writeln!(text, "{:<14}{line}", "");
            }
        }
    }
    let number = |level| findings.iter().filter(|finding| finding.level == level).count();
    text.push_str(&match worst {
        Level::Blocks => format!("a deploy of {app} would fail: {} to fix first", number(Level::Blocks)),
        Level::Warns => format!("a deploy of {app} can be made; {} to look at", number(Level::Warns)),
        Level::Fine | Level::Skipped => format!("a deploy of {app} can be made"),
    });
    text.push_str("; nothing was touched");
    let result = json!({ "app": app, "ready": worst < Level::Blocks, "findings": findings });
    let mut verdict = Verdict::success(COMMAND, text, result);
    if worst == Level::Blocks {
        // For a hook that asks before it deploys.
        verdict.exit = Exit::Refused;
    }
    let first = findings.iter().filter(|finding| finding.level == worst).find_map(|f| f.remedy.clone());
    verdict.next = Some(first.unwrap_or_else(|| super::show::first(target)));
    verdict
}
