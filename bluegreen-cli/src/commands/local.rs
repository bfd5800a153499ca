//! The verbs around a deployment: config, completions, man.

use bluegreen_core::model::{AppName, Check, ImageRef};
use bluegreen_core::orchestrator::{Cause, Orchestrator};
use bluegreen_core::port::Registry as _;
use clap::CommandFactory as _;
use serde_json::json;

use super::Context;
use crate::args::{Cli, ConfigCommand, ImageArgs};
use crate::exit::Exit;
use crate::output::{Out, Verdict};
use crate::settings::{self, SettingsError, Target};
use crate::{config, explain, ports};

const CHECK: &str = "config check";

/// `config check`.
pub(super) fn config(cx: &Context, command: &ConfigCommand) -> Verdict {
    let ConfigCommand::Check = command;
    let refused = |error: SettingsError| explain::settings(CHECK, &error, cx.out.is_styled());
    let Some(path) = config::locate(cx.global.config.as_deref()) else {
        return refused(SettingsError::NoConfig);
    };
    let names: Vec<AppName> = match config::load(&path) {
        Ok(config) => config.apps.into_keys().collect(),
        Err(error) => return refused(error.into()),
    };
    let shown: Vec<&str> = names.iter().map(AppName::as_str).collect();
    let text = format!("{} is valid: {}", path.display(), shown.join(", "));
    let right = Verdict::success(CHECK, text, json!({ "path": path, "apps": shown }));
    let asks = |(target, _): &(Target, ImageRef)| {
        let checks = &target.app.spec.gate.checks;
        checks.iter().any(|check| matches!(check, Check::Image | Check::Log(_)))
    };
    let of_app = |app| {
        let args = ImageArgs { app: Some(app), ..ImageArgs::default() };
        settings::deployment(&cx.global, &args).ok()
    };
    let asked: Vec<_> = names.into_iter().filter_map(of_app).filter(asks).collect();
    if asked.is_empty() {
        return right;
    }
    Context::block_on(CHECK, async {
        for (target, image) in &asked {
            if let Some(refusal) = could_not_pass(cx, target, image).await {
                return refusal;
            }
        }
        right
    })
}

/// The refusal of a gate that this image could never pass. An image that is not here, or an Engine that cannot be asked,
/// is no fault of a configuration: it may be checked on another machine.
async fn could_not_pass(cx: &Context, target: &Target, image: &ImageRef) -> Option<Verdict> {
    let pinned = ports::local(target, &cx.env).ok()?.resolve(image).await.ok()?;
    let ports = ports::connect(target, &cx.env).ok()?;
    let failure = Orchestrator::new(ports, target.app.spec.clone()).could_pass(&pinned).await.err()?;
    matches!(failure.cause, Cause::CannotPass(_))
        .then(|| explain::failure(CHECK, &failure, target).about(target))
}

/// `completions`.
pub(super) fn completions(out: &Out, shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bluegreen", &mut script);
    out.result(String::from_utf8_lossy(&script).trim_end());
    Exit::Success
}

/// `man`.
pub(super) fn man(out: &Out) -> Exit {
    let mut page = Vec::new();
    match clap_mangen::Man::new(Cli::command()).render(&mut page) {
        Ok(()) => {
            out.result(String::from_utf8_lossy(&page).trim_end());
            Exit::Success
        }
        Err(_) => Exit::Unexpected,
    }
}
