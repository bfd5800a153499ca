//! The CodeDeploy hook that a command is part of, and how much of its time is left.
//!
//! The agent runs a script out of the revision, as the leader of a process group, and sends the group SIGTERM when the
//! `timeout` is over that appspec.yml gives that script. No variable says so. But the script is among our ancestors, with
//! its path among their arguments: by itself, behind its shell, or behind `su … -c`; also behind a `sudo` that leaves us
//! the agent's variables (`sudo -E`), as without them nobody knows that this is a hook. A script that gave its place to
//! us (`exec`) is found by the deployment's id; which one of its event it is, is not known then.
//!
//! Source: aws-codedeploy-agent, `hook_executor.rb`, `linux_util.rb`, `script_info.rb`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::process::Process;
use procfs::{Current as _, Uptime};
use yaml_rust2::{Yaml, YamlLoader};

use crate::bounded::{self, MIB};

/// What the agent gives a script that has no `timeout`.
const DEFAULT_LIMIT: Duration = Duration::from_hours(1);
/// Where the agent keeps revisions, each in `<group>/<deployment>`; its default.
const ROOT: &str = "/opt/codedeploy-agent/deployment-root";
/// The files of a revision.
const ARCHIVE: &str = "deployment-archive";
/// More generations than this are no hook.
const ANCESTORS: usize = 32;

/// How long the script may take that a command is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    /// Since its start.
    pub(crate) limit: Duration,
    /// From now on.
    pub(crate) left: Duration,
}

impl Hook {
    /// The hook of that lifecycle event that this process is part of.
    pub(crate) fn find(event: &str, deployment: Option<&str>) -> Option<Self> {
        let (archive, location, started) = if let Some(Script { archive, location, started }) = ancestor() {
            (Some(archive), Some(location), started)
        } else {
            // One that gave its place to us has our start.
            let started = Process::myself().ok()?.stat().ok()?.starttime;
            (deployment.and_then(|id| revision(Path::new(ROOT), id)), None, started)
        };
        let limit = archive.and_then(|archive| limit(&archive, event, location.as_deref()));
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        Some(Self { limit, left: limit.saturating_sub(age(started)?) })
    }
}

/// A script that the agent waits for.
struct Script {
    archive: PathBuf,
    location: String,
    /// In ticks since boot.
    started: u64,
}

/// The script that one of our ancestors runs. The oldest: a shell or `sudo` may stand between.
fn ancestor() -> Option<Script> {
    let mut process = Process::myself().ok()?;
    let mut found = None;
    for _ in 0..ANCESTORS {
        let stat = process.stat().ok()?;
        if let Some((archive, location)) = script(process.cmdline().ok()?) {
            found = Some(Script { archive, location, started: stat.starttime });
        }
        match Process::new(stat.ppid) {
            Ok(parent) if stat.ppid > 1 => process = parent,
            _ => break,
        }
    }
    found
}

/// How long ago that was, in ticks since boot: no clock that is set moves it.
fn age(started: u64) -> Option<Duration> {
    let up = Duration::try_from_secs_f64(Uptime::current().ok()?.uptime).ok()?;
    let started = Duration::from_millis(started.saturating_mul(1000) / procfs::ticks_per_second());
    Some(up.saturating_sub(started))
}

/// The revision's files and the script's place among them, where a process's arguments name one.
fn script(arguments: impl IntoIterator<Item = String>) -> Option<(PathBuf, String)> {
    arguments.into_iter().find_map(|argument| {
        let (root, location) = argument.split_once(&format!("/{ARCHIVE}/"))?;
        root.starts_with('/').then(|| (Path::new(root).join(ARCHIVE), location.to_owned()))
    })
}

/// The files of a deployment's revision, whatever its group.
fn revision(root: &Path, deployment: &str) -> Option<PathBuf> {
    let groups = fs::read_dir(root).ok()?.flatten();
    groups.map(|group| group.path().join(deployment).join(ARCHIVE)).find(|archive| archive.is_dir())
}

/// What that script of the event may take; the most of all where it is not known which it is, or where it is none of
/// them and one of them has begun it: a signal that comes first does less harm than a deploy that is rolled back for
/// another script's limit. None where appspec.yml cannot tell.
pub(crate) fn limit(archive: &Path, event: &str, location: Option<&str>) -> Option<Duration> {
    let text = ["appspec.yml", "appspec.yaml"]
        .into_iter()
        .find_map(|name| bounded::text(&archive.join(name), MIB).ok())?;
    limit_in(&text, event, location)
}

fn limit_in(spec: &str, event: &str, location: Option<&str>) -> Option<Duration> {
    let spec = YamlLoader::load_from_str(spec).ok()?;
    let scripts = spec.first()?["hooks"][event].as_vec()?;
    let is_ours = |script: &&Yaml| {
        location.is_some_and(|location| script["location"].as_str().map(parts) == Some(parts(location)))
    };
    let may_take = |script| timeout(script).unwrap_or(DEFAULT_LIMIT);
    let ours = scripts.iter().filter(is_ours).map(may_take).max();
    ours.or_else(|| scripts.iter().map(may_take).max())
}

fn timeout(script: &Yaml) -> Option<Duration> {
    let seconds = match &script["timeout"] {
        Yaml::Integer(number) => u64::try_from(*number).ok()?,
        // The agent takes text too, and of it the number that it begins with (Ruby's `to_i`).
        Yaml::String(text) | Yaml::Real(text) => {
            let digits = text.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == '_');
            digits.filter(|c| *c != '_').collect::<String>().parse().ok()?
        }
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// A path's parts, without those that mean nothing.
fn parts(location: &str) -> Vec<&str> {
    location.trim().split('/').filter(|part| !["", "."].contains(part)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const START: &str = "/opt/codedeploy-agent/deployment-root/g/d-1/deployment-archive/scripts/start.sh";

    #[test]
    fn the_script_is_found_as_the_agent_starts_it() {
        for line in ["", "/bin/bash ", "/bin/sh -e ", "sudo ", "su ec2-user -c ", "sudo su ec2-user -c "] {
            let words = format!("{line}{START}");
            let (archive, location) = script(words.split(' ').map(str::to_owned)).unwrap();
            assert!(archive.ends_with("g/d-1/deployment-archive"), "{archive:?}");
            assert_eq!(location, "scripts/start.sh");
        }
        for line in ["bluegreen deploy web", "cat deployment-archive/appspec.yml", "codedeploy-agent: master"]
        {
            assert_eq!(script(line.split(' ').map(str::to_owned)), None, "{line}");
        }
    }

    #[test]
    fn its_limit_is_the_one_that_appspec_gives_it_in_this_event() {
        let spec = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: scripts/migrate.sh\n      \
                    timeout: 30\n    - location: ./scripts/start.sh\n      timeout: 300\n      runas: root\n  \
                    ValidateService:\n    - location: scripts/start.sh\n      timeout: \"60\"\n  \
                    AfterInstall:\n    - location: scripts/start.sh\n      timeout: 9.7\n  \
                    BeforeInstall:\n    - location: scripts/start.sh\n";
        let limit = |event, location| limit_in(spec, event, location).map(|limit| limit.as_secs());
        let start = Some("scripts/start.sh");
        assert_eq!(limit("ApplicationStart", start), Some(300));
        assert_eq!(limit("ApplicationStart", Some("scripts/migrate.sh")), Some(30));
        assert_eq!(limit("ApplicationStart", None), Some(300), "it is not known which it is");
        assert_eq!(limit("BeforeInstall", start), Some(3600));
        assert_eq!(limit("ValidateService", start), Some(60));
        assert_eq!(limit("AfterInstall", start), Some(9));
        for other in ["scripts/other.sh", "imagedefinitions.json"] {
            assert_eq!(limit("ApplicationStart", Some(other)), Some(300), "one of them has begun {other}");
        }
        assert_eq!(limit("None", None), None);
        for (text, seconds) in [("90s", 90), ("'1_000'", 1000), ("' 60'", 60), ("soon", 3600), ("-5", 3600)] {
            let spec = format!("hooks:\n  E:\n    - location: a\n      timeout: {text}\n");
            assert_eq!(limit_in(&spec, "E", Some("a")), Some(Duration::from_secs(seconds)), "{text}");
        }
        for spec in ["", "hooks: [", "hooks:\n  ApplicationStart: yes", "- 1", "\u{0}"] {
            assert_eq!(limit_in(spec, "ApplicationStart", start), None, "{spec}");
        }
    }

    #[test]
    fn a_script_that_gave_its_place_away_is_found_by_its_deployment() {
        let root = tempfile::tempdir().unwrap();
        let archive = root.path().join("group/d-1/deployment-archive");
        fs::create_dir_all(&archive).unwrap();
        fs::create_dir_all(root.path().join("another/d-2")).unwrap();
        assert_eq!(revision(root.path(), "d-1").as_deref(), Some(archive.as_path()));
        assert_eq!(revision(root.path(), "d-2"), None);
        assert_eq!(limit(&archive, "ApplicationStart", None), None, "there is no appspec.yml");
        let spec = "hooks:\n  ApplicationStart:\n    - location: start.sh\n      timeout: 90\n";
        fs::File::create(archive.join("appspec.yaml")).unwrap().write_all(spec.as_bytes()).unwrap();
        assert_eq!(limit(&archive, "ApplicationStart", None), Some(Duration::from_secs(90)));
    }

    #[test]
    fn where_nothing_is_known_it_is_the_agents_default() {
        let hook = Hook::find("ApplicationStart", Some("d-none")).unwrap();
        assert_eq!(hook.limit, Duration::from_hours(1));
        assert!(hook.left > Duration::from_mins(30), "{hook:?}: this process is not that old");
    }
}
