//! A word that is no verb of ours. Whoever types it has it from another tool and means something: they are told what to
//! type here, with the names that are real on this host.

use std::ffi::OsString;

use bluegreen_core::model::{AppName, Color};
use bluegreen_core::orchestrator::{Orchestrator, ServingNow};
use clap::{CommandFactory as _, Parser};

use super::{Context, show};
use crate::args::{AppArgs, Cli, Global};
use crate::exit::Exit;
use crate::output::{Explained, Next, Out, Verdict};
use crate::settings::{self, Target};
use crate::{nearest, ports};

/// What somebody means by a word of another tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The output of the application.
    Logs,
    /// A command inside the container.
    Inside,
    /// What its container takes.
    Usage,
    /// The same version, started anew.
    Restart,
    /// A new version.
    Deploy,
    /// Bring traffic to what was started.
    Promote,
    /// Take the application down.
    Stop,
    /// More than one process.
    Scale,
    /// Another verb of ours, which needs nothing but the application.
    Ours(&'static str),
}

const WORDS: [(&[&str], Meaning); 15] = [
    (&["logs", "log", "tail"], Meaning::Logs),
    (&["exec", "sh", "shell", "bash", "ssh", "attach", "console"], Meaning::Inside),
    (&["monit", "monitor", "top", "stats", "metrics"], Meaning::Usage),
    (&["restart", "reload", "redeploy", "reboot"], Meaning::Restart),
    (
        &["start", "up", "run", "release", "ship", "push", "pull", "update", "upgrade", "apply", "create"],
        Meaning::Deploy,
    ),
    (&["promote", "switch", "swap", "activate", "migrate"], Meaning::Promote),
    (&["stop", "down", "rm", "remove", "delete", "destroy", "kill", "terminate"], Meaning::Stop),
    (&["scale", "replicas", "autoscale"], Meaning::Scale),
    (
        &[
            "list", "ls", "ps", "apps", "app", "services", "service", "show", "info", "describe", "inspect",
            "details",
        ],
        Meaning::Ours("status"),
    ),
    (&["versions", "version", "releases", "revisions", "events", "audit"], Meaning::Ours("history")),
    (&["undo", "back", "revert"], Meaning::Ours("rollback")),
    (&["abort", "interrupt"], Meaning::Ours("cancel")),
    (&["diff", "preview", "dry-run"], Meaning::Ours("plan")),
    (&["check", "diagnose", "health", "healthcheck", "test", "ping"], Meaning::Ours("doctor")),
    (&["setup", "install", "proxy", "traefik"], Meaning::Ours("nginx check")),
];

fn meaning(word: &str) -> Option<Meaning> {
    let word = word.to_lowercase();
    WORDS.iter().find(|(words, _)| words.contains(&word.as_str())).map(|(_, meaning)| *meaning)
}

/// What may stand behind such a word: what is ours is understood, the rest is another tool's.
#[derive(Debug, Parser)]
struct Behind {
    #[command(flatten)]
    global: Global,
    app: Option<AppName>,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// The answer to a word that is no verb.
pub(super) fn unknown(cx: &Context, words: &[OsString]) -> Verdict {
    let word = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let behind = Behind::try_parse_from(words).ok();
    let global = if cx.global.config.is_some() || cx.global.state_dir.is_some() {
        cx.global.clone()
    } else {
        behind.as_ref().map_or_else(|| cx.global.clone(), |behind| behind.global.clone())
    };
    let app = behind.and_then(|behind| behind.app);
    let target = |app| settings::target(&global, &AppArgs { app, nginx_conf: None }).ok();
    let Some(meaning) = meaning(&word) else {
        let named = word.parse::<AppName>().ok().and_then(|app| target(Some(app)));
        return stranger(&word, named.as_ref());
    };
    let target = target(app);
    let serving = target.as_ref().and_then(|target| serving(cx, target));
    answer(&word, meaning, target.as_ref(), serving.as_ref())
}

/// What serves, if that can be told at once.
fn serving(cx: &Context, target: &Target) -> Option<ServingNow> {
    let ports = ports::connect(target, &cx.env).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let status = runtime.block_on(async { Orchestrator::new(ports, target.app.spec.clone()).status().await });
    runtime.shutdown_background();
    status.ok()?.serving.ok()
}

/// A word that no tool is known to have: an application's name, a slip, or nothing.
fn stranger(word: &str, named: Option<&Target>) -> Verdict {
    let command = Cli::command();
    let verbs = command.get_subcommands().map(clap::Command::get_name);
    let (message, next) = match (named, nearest::name(word, verbs)) {
        (Some(target), _) => (
            format!("{word} is an application, not a command"),
            target.run("status").saying("put a command before it, such as deploy, rollback or status"),
        ),
        (None, Some(verb)) => (
            format!("there is no command {word}"),
            Next::run(["bluegreen", verb, "--help"]).saying(format!("did you mean {verb}?")),
        ),
        (None, None) => (format!("there is no command {word}"), Next::run(["bluegreen", "--help"])),
    };
    refuse(message, next)
}

fn answer(word: &str, meaning: Meaning, target: Option<&Target>, serving: Option<&ServingNow>) -> Verdict {
    // Which of the two containers it is, is known where it is known what serves.
    let color = serving.and_then(|now| now.color).unwrap_or(Color::Blue);
    let container = target.map(|target| target.app.spec.slots.of(color).name.to_string());
    let docker = |arguments: &[&str], todo: &str| match &container {
        Some(name) => {
            let fill =
                |argument: &&str| if *argument == "NAME" { name.clone() } else { (*argument).to_owned() };
            Next::run(std::iter::once("docker".to_owned()).chain(arguments.iter().map(fill))).saying(todo)
        }
        None => {
            Next::todo(format!("{todo}: docker {}, with the name that docker ps shows", arguments.join(" ")))
        }
    };
    let ours = |verb: &str| match target {
        Some(target) => target.run(verb),
        None => Next::run(std::iter::once("bluegreen").chain(verb.split(' ')).chain(["--help"])),
    };
    let (message, next) = match meaning {
        Meaning::Logs => {
            ("Docker keeps the application's log", docker(&["logs", "--follow", "NAME"], "read it there"))
        }
        Meaning::Inside => (
            "an application runs in a Docker container",
            docker(&["exec", "-it", "NAME", "sh"], "open a shell in the one that serves"),
        ),
        Meaning::Usage => {
            ("Docker shows what a container uses", docker(&["stats", "NAME"], "watch the one that serves"))
        }
        Meaning::Restart => (
            "to restart without losing a request, deploy the version that serves again",
            match (target, serving) {
                (Some(target), Some(now)) => show::right(now, target),
                _ => Next::todo("deploy it: bluegreen deploy with --image and --force"),
            },
        ),
        Meaning::Deploy => {
            ("use deploy to bring a version into service", target.map_or_else(|| ours("deploy"), show::first))
        }
        Meaning::Promote => (
            "deploy moves traffic by itself as soon as the new version is healthy",
            ours("status").saying("see what serves"),
        ),
        Meaning::Stop => (
            "bluegreen does not stop what serves; cancel stops a run that is in progress",
            docker(&["stop", "NAME"], "to take the application down anyway"),
        ),
        Meaning::Scale => (
            "one container serves; run more processes inside it if the application supports that",
            ours("status").saying("see what serves"),
        ),
        Meaning::Ours(verb) => ("bluegreen has another name for it", ours(verb)),
    };
    refuse(format!("there is no command {word}: {message}"), next)
}

fn refuse(message: String, next: Next) -> Verdict {
    let explained = Explained { code: "unknown-verb", message, ..Explained::default() };
    Verdict::failure("bluegreen", Exit::Usage, explained, Some(next))
}

/// How to print the answer: what was asked for may stand behind the word.
pub(super) fn out(cx: &Context, words: &[OsString]) -> Out {
    match Behind::try_parse_from(words) {
        Ok(behind) if !cx.out.is_json() => Out::new(&behind.global),
        _ => cx.out.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verb that a slip is nearest to would be `cancel` for `scale`: one that stops a run.
    #[test]
    fn a_word_of_another_tool_is_answered_and_never_taken_for_a_slip() {
        let command = Cli::command();
        for (words, _) in WORDS {
            for word in words {
                assert!(command.find_subcommand(word).is_none(), "{word} is a verb");
                let said = answer(word, meaning(word).unwrap(), None, None);
                let text: Vec<String> = said.next.iter().flat_map(Next::lines).collect();
                assert!(
                    said.exit == Exit::Usage && !text.concat().contains("did you mean"),
                    "{word}: {text:?}"
                );
            }
        }
    }

    #[test]
    fn a_slip_is_asked_back_and_a_stranger_is_shown_the_help() {
        let lines = |word| stranger(word, None).next.unwrap().lines();
        assert_eq!(lines("roolback"), ["to do: did you mean rollback?", "next: bluegreen rollback --help"]);
        assert_eq!(lines("qqq"), ["next: bluegreen --help"]);
    }
}
