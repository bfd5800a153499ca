//! The verbs around a deployment: config, completions, man.

use clap::CommandFactory as _;
use serde_json::json;

use super::Context;
use crate::args::{Cli, ConfigCommand};
use crate::exit::Exit;
use crate::output::{Out, Verdict};
use crate::settings::SettingsError;
use crate::{config, explain};

/// `config check`.
pub(super) fn config(cx: &Context, command: &ConfigCommand) -> Verdict {
    const COMMAND: &str = "config check";
    let ConfigCommand::Check = command;
    let refused = |error: SettingsError| explain::settings(COMMAND, &error, cx.out.is_styled());
    let Some(path) = config::locate(cx.global.config.as_deref()) else {
        return refused(SettingsError::NoConfig);
    };
    match config::load(&path) {
        Ok(config) => {
            let names: Vec<String> = config.apps.keys().map(ToString::to_string).collect();
            let text = format!("{} is valid: {}", path.display(), names.join(", "));
            Verdict::success(COMMAND, text, json!({ "path": path, "apps": names }))
        }
        Err(error) => refused(error.into()),
    }
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
