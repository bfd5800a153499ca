//! `init`: looks at this host and writes a configuration for it. Nothing that is there is touched.

mod choose;
mod codedeploy;
mod compose;
mod compose_run;
mod document;
mod draft;
mod js;
mod kamal;
mod look;
mod place;
mod pm2;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use self::choose::Chosen;
use super::Context;
use crate::args::{InitArgs, InitCommand};
use crate::exit::Exit;
use crate::output::{Explained, Next, Verdict, typed};
use crate::{config, explain};

const COMMAND: &str = "init";

/// `init` and `init codedeploy`.
pub(super) fn init(cx: &Context, args: &InitArgs) -> Verdict {
    if let Some(InitCommand::Codedeploy(args)) = &args.command {
        return codedeploy::init(cx, args);
    }
    let path = cx.global.config.clone().unwrap_or_else(|| PathBuf::from(config::DEFAULT_PATHS[0]));
    if !args.stdout && path.symlink_metadata().is_ok() {
        return exists(COMMAND, &[path], Next::run(["bluegreen", "config", "check"]));
    }
    Context::block_on(COMMAND, async {
        let facts = look::all(cx.env.docker_host.as_deref(), Path::new("."), &args.from).await;
        let chosen = choose::choose(&facts);
        written(&chosen, &path, args.stdout, cx.out.is_styled())
    })
}

fn written(chosen: &Chosen, path: &Path, only_shown: bool, styled: bool) -> Verdict {
    if chosen.apps.is_empty() {
        return nothing(chosen);
    }
    let text = document::render(chosen);
    let base = path.parent().unwrap_or(Path::new("."));
    if let Err(problems) = config::parse(&text, base) {
        // Better no file than one that the next command refuses.
        let error = config::ConfigError::Invalid { path: path.to_owned(), text, problems };
        let explained = Explained {
            message: "what was found here does not make a configuration".to_owned(),
            details: error.details(styled),
            ..Explained::default()
        };
        return Verdict::failure(COMMAND, Exit::Unexpected, explained, None);
    }
    if !only_shown && let Err(error) = create(path, &text, 0o666) {
        if error.kind() == ErrorKind::AlreadyExists {
            return exists(COMMAND, &[path.to_owned()], Next::run(["bluegreen", "config", "check"]));
        }
        return explain::other(
            COMMAND,
            Exit::Refused,
            format!("{} cannot be written", path.display()),
            &error,
        );
    }
    let then = then(chosen, path);
    let lines: Vec<String> = then.iter().map(|words| typed(words)).collect();
    let names: Vec<&str> = chosen.apps.iter().map(|app| app.name.as_str()).collect();
    let mut said = String::new();
    if only_shown {
        said.push_str(&text);
    } else {
        said.push_str(&format!("{} is written\n", path.display()));
        for app in &chosen.apps {
            said.push_str(&format!("  {}: from {}\n", app.name, app.from));
        }
        if !chosen.left.is_empty() {
            said.push_str("not carried over (in the file, too):\n");
            said.extend(chosen.left.iter().map(|left| format!("  {left}\n")));
        }
        said.push_str("then, in this order:\n");
        said.extend(lines.iter().map(|line| format!("  {line}\n")));
    }
    let result = json!({
        "path": path, "written": !only_shown, "apps": names, "left": chosen.left, "then": then, "text": text,
    });
    let mut verdict = Verdict::success(COMMAND, said, result);
    verdict.next = if only_shown { None } else { then.into_iter().next().map(Next::run) };
    verdict
}

/// What to type from here to the first deploy, each as it stands.
fn then(chosen: &Chosen, path: &Path) -> Vec<Vec<String>> {
    let config = (path != Path::new(config::DEFAULT_PATHS[0])).then(|| path.display().to_string());
    let ours = |words: &[&str]| {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        words.insert(0, "bluegreen".to_owned());
        words.extend(config.iter().flat_map(|path| ["--config".to_owned(), path.clone()]));
        words
    };
    let mut then = chosen.first.clone();
    then.push(ours(&["config", "check"]));
    for app in &chosen.apps {
        let app_name = app.name.as_str();
        if chosen.live {
            let lines = app.lines.iter().flat_map(|line| ["--line", line]);
            then.push(ours(&["nginx", "install", app_name].into_iter().chain(lines).collect::<Vec<_>>()));
        }
        then.push(ours(&["doctor", app_name]));
        if app.image.is_some() {
            then.push(ours(&["plan", app_name]));
        }
    }
    then
}

fn nothing(chosen: &Chosen) -> Verdict {
    let explained = Explained {
        message: "nothing was found here that could be deployed; nothing was written".to_owned(),
        causes: chosen.left.iter().map(ToString::to_string).collect(),
        ..Explained::default()
    };
    let next = "give `bluegreen init` a Compose, PM2 or Kamal file: --from FILE";
    Verdict::failure(COMMAND, Exit::Refused, explained, Some(Next::todo(next)))
}

/// Files that are there are somebody's.
fn exists(command: &'static str, paths: &[PathBuf], next: Next) -> Verdict {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let explained = Explained {
        message: format!("{} exists, and init writes over nothing; nothing was written", paths.join(", ")),
        causes: vec!["to see what it would write: the same with --stdout".to_owned()],
        ..Explained::default()
    };
    Verdict::failure(command, Exit::Refused, explained, Some(next))
}

/// Writes a file that was not there, whole or not at all. Its mode is what the umask leaves of `mode`.
fn create(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a file would keep the next attempt from being made.
        std::fs::remove_file(path).ok();
    }
    written
}
