//! PM2's ecosystem files: its applications are processes of the host, ours are containers.

use super::draft::{Draft, Left, app_name, quoted, seconds, size, table};
use super::source::{Described, Source};
use super::tree::{Node, Value};

/// What PM2 does that has no setting here: what does it instead.
const ELSEWHERE: [(&[&str], &str, &str); 7] = [
    (
        &["watch", "ignore_watch", "watch_delay"],
        "nothing is restarted when a file changes",
        "a new version is a new image: bluegreen deploy",
    ),
    (
        &[
            "error_file",
            "out_file",
            "log_file",
            "error",
            "output",
            "log",
            "log_date_format",
            "merge_logs",
            "combine_logs",
            "time",
            "pid_file",
        ],
        "what a container prints is kept by Docker",
        "write to the standard streams; `log` chooses another driver",
    ),
    (&["cron_restart"], "nothing is restarted by the clock", "use cron and docker restart"),
    (
        &["min_uptime", "max_restarts", "restart_delay", "exp_backoff_restart_delay", "autorestart"],
        "Docker restarts what ends, each time after a longer pause",
        "`restart` chooses when",
    ),
    (
        &["wait_ready", "shutdown_with_message", "increment_var", "instance_var"],
        "a container has no channel of messages to its manager",
        "let the application answer a health check, and end at SIGTERM",
    ),
    (
        &["cwd", "interpreter", "interpreter_args", "node_args", "source_map_support"],
        "the image decides it",
        "say it in the Dockerfile",
    ),
    (
        &[
            "post_update",
            "namespace",
            "filter_env",
            "vizion",
            "treekill",
            "pmx",
            "disable_logs",
            "force",
            "append_env_to_name",
        ],
        "it is PM2's own",
        "",
    ),
];

pub(super) fn read(source: &Source) -> Described {
    let mut described = Described::default();
    let apps = source.root.get("apps").unwrap_or(&source.root);
    for node in apps.items() {
        let at = source.at(node);
        if node.entries().is_empty() {
            described.left.push(Left::new(
                at,
                "an application",
                format!("`{}` is code, which is not run", node.shown()),
                "write it out",
            ));
            continue;
        }
        let script = node.get("script").and_then(Node::text).unwrap_or_default();
        let stem = script.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or_default();
        let name = node.get("name").and_then(Node::text).unwrap_or(stem);
        let mut draft =
            Draft { name: app_name(name), from: format!("{at}, application {name}"), ..Draft::default() };
        application(source, node, &mut draft, &mut described.left);
        described.drafts.push(draft);
    }
    if let Some(deploy) = source.root.get("deploy") {
        described.left.push(Left::new(
            source.at(deploy),
            "deploy",
            "bluegreen runs on the host itself and pulls images, no repository",
            "let CI build the image, then run `bluegreen deploy` on the host",
        ));
    }
    described
}

fn application(source: &Source, node: &Node, draft: &mut Draft, left: &mut Vec<Left>) {
    let name = draft.name.clone();
    let mut leave = |node: &Node, what: &str, why: &str, todo: &str| {
        left.push(Left::new(source.at(node), format!("{what} of {name}"), why, todo));
    };
    leave(
        node,
        "script",
        "PM2 runs it on the host; bluegreen runs an image",
        "write a Dockerfile that starts it, build it, and name the image with --image",
    );
    let env = environment(node, &mut leave);
    let port = env.iter().find(|(variable, _)| variable == "PORT").and_then(|(_, value)| value.parse().ok());
    if let Some(port) = port {
        (draft.port, draft.host_port) = (Some(port), Some(port));
    }
    if !env.is_empty() {
        draft.set("", "env", table(&env), "env, and env_production over it");
    }
    if let Some(instances) = node.get("instances").filter(|node| !node.is("1")) {
        leave(
            instances,
            "instances",
            &format!("a colour is one container, not {}", instances.shown()),
            "let the application use its cores itself (Node: cluster), or start `pm2-runtime` in the image",
        );
    }
    if let Some(memory) = node.get("max_memory_restart") {
        match memory.text().and_then(size) {
            Some(size) => draft.set(
                "",
                "memory",
                quoted(&size),
                "max_memory_restart; here it is a limit, and who exceeds it is killed",
            ),
            None => leave(memory, "max_memory_restart", "it is not a size", "set `memory`"),
        }
    }
    if let Some(kill) = node.get("kill_timeout").and_then(Node::text).and_then(|text| seconds(text, "ms")) {
        draft.set("", "stop_timeout", quoted(&format!("{}s", kill.max(1))), "kill_timeout");
    }
    if let Some(listen) = node.get("listen_timeout").and_then(Node::text).and_then(|text| seconds(text, "ms"))
    {
        draft.set(
            "health",
            "deadline",
            quoted(&format!("{}s", listen.max(30))),
            "listen_timeout, and no less than 30 s, as a container starts too",
        );
    }
    if let Some(arguments) = node.get("args") {
        leave(
            arguments,
            "args",
            &format!("they follow the script: {}", arguments.shown()),
            "say them in the Dockerfile, or in `command`",
        );
    }
    if let Some(exec) = node.get("exec_mode").filter(|node| node.shown().starts_with("cluster")) {
        leave(
            exec,
            "exec_mode",
            "PM2's cluster shares one port between processes of one host",
            "bluegreen's colours share nothing: no reload cuts a request",
        );
    }
    if node.get("autorestart").is_some_and(|node| node.is("false")) {
        draft.set("", "restart", quoted("no"), "autorestart: false");
    }
    if let Some(user) = node.get("user").or_else(|| node.get("uid")).and_then(Node::text) {
        draft.set("", "user", quoted(user), "must be a user of the image");
    }
    for (keys, why, todo) in &ELSEWHERE {
        let found: Vec<&(String, Node)> = node
            .entries()
            .iter()
            .filter(|(key, node)| keys.contains(&key.as_str()) && !node.is("false"))
            .collect();
        let Some((_, first)) = found.first() else { continue };
        let names: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        leave(first, &names.join(", "), why, todo);
    }
}

/// The variables of the environment that is deployed: those of `env`, and of `env_production` over them.
fn environment(node: &Node, leave: &mut impl FnMut(&Node, &str, &str, &str)) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    for key in ["env", "env_production"] {
        let Some(environment) = node.get(key) else { continue };
        for (variable, value) in environment.entries() {
            match value.text() {
                Some(text) => {
                    env.retain(|(known, _)| known != variable);
                    env.push((variable.clone(), text.to_owned()));
                }
                None if value.value == Value::Null => {}
                None => leave(
                    value,
                    &format!("{key}.{variable}"),
                    &format!("`{}` is code, which is not run", value.shown()),
                    "put it into a file with lines of NAME=value and name that in `env_file`",
                ),
            }
        }
    }
    for (key, value) in
        node.entries().iter().filter(|(key, _)| key.starts_with("env_") && key != "env_production")
    {
        if key == "env_file" {
            leave(
                value,
                key,
                "PM2 reads it by other rules than Docker",
                "name it in `env_file` when its lines are NAME=value",
            );
        } else {
            leave(
                value,
                key,
                "one configuration is one environment",
                "for another one write another file: --config FILE",
            );
        }
    }
    env
}
