//! Compose files: which services are applications, and what of them goes into a table of ours.

use super::draft::{Draft, Left, app_name, array, quoted, seconds, table};
use super::source::{Described, Source};
use super::tree::{Node, Value};

/// Images of what an application uses: they are not deployed with it.
const COMPANIONS: [&str; 24] = [
    "adminer",
    "caddy",
    "certbot",
    "clickhouse",
    "cockroach",
    "elasticsearch",
    "grafana",
    "haproxy",
    "kafka",
    "mailhog",
    "mariadb",
    "memcached",
    "minio",
    "mongo",
    "mysql",
    "nginx",
    "postgis",
    "postgres",
    "prometheus",
    "rabbitmq",
    "redis",
    "traefik",
    "valkey",
    "zookeeper",
];

/// What Compose does itself, and goes on doing for the services that stay with it.
const COMPOSES: [(&str, &str, &str); 7] = [
    (
        "depends_on",
        "bluegreen starts no other services",
        "keep what it depends on with Compose: `docker compose up -d`",
    ),
    (
        "build",
        "bluegreen builds nothing",
        "build and tag the image before `deploy`, and name it with --image",
    ),
    ("profiles", "which services run is Compose's", ""),
    ("scale", "a colour is one container", ""),
    ("develop", "it is for development", ""),
    ("extends", "another file says more of this service", "write what it says here"),
    ("pull_policy", "`pull` here is always, missing or never", "set `pull`"),
];

/// Keys that [`service`] reads.
const READ: [&str; 31] = [
    "image",
    "container_name",
    "ports",
    "expose",
    "environment",
    "env_file",
    "volumes",
    "networks",
    "network_mode",
    "healthcheck",
    "restart",
    "mem_limit",
    "cpus",
    "deploy",
    "command",
    "entrypoint",
    "user",
    "read_only",
    "tmpfs",
    "cap_add",
    "cap_drop",
    "extra_hosts",
    "labels",
    "init",
    "stop_signal",
    "stop_grace_period",
    "logging",
    "security_opt",
    "hostname",
    "tty",
    "stdin_open",
];

pub(super) fn read(source: &Source) -> Described {
    let root = &source.root;
    let dir = source.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-_".contains(*c);
    let named = root.get("name").and_then(Node::text).map(str::to_owned);
    let named = named.or_else(|| source.vars.get("COMPOSE_PROJECT_NAME").cloned());
    let project = named.unwrap_or_else(|| dir.to_ascii_lowercase().chars().filter(plain).collect());
    let mut described = Described { project: Some(project.clone()), ..Described::default() };
    if let Some(include) = root.get("include") {
        described.left.push(Left::new(
            source.at(include),
            "include",
            "the files that it names were not read",
            "name each with --from",
        ));
    }
    for (name, node) in root.get("services").map(Node::entries).unwrap_or_default() {
        let at = source.line(node.line.saturating_sub(1).max(1));
        let image = node.get("image").and_then(Node::text).unwrap_or_default();
        let base = image.rsplit('/').next().unwrap_or_default();
        let base = base.split([':', '@']).next().unwrap_or_default();
        if COMPANIONS.iter().any(|known| base.starts_with(known)) {
            described.left.push(Left::new(
                at,
                format!("service {name}"),
                format!("{image} is not one of your applications"),
                "it stays with Compose",
            ));
            continue;
        }
        if node.get("ports").is_none() && node.get("expose").is_none() {
            described.left.push(Left::new(
                at,
                format!("service {name}"),
                "it has no port to which nginx could send requests",
                "it stays with Compose; has it one, say so with `expose` and run init again",
            ));
            continue;
        }
        let mut service =
            Service { source, name, project: &project, left: Vec::new(), draft: Draft::default() };
        service.read(node);
        described.drafts.push(service.draft);
        described.left.extend(service.left);
    }
    described
}

pub(super) struct Service<'s> {
    source: &'s Source,
    name: &'s str,
    project: &'s str,
    left: Vec<Left>,
    pub(super) draft: Draft,
}

impl Service<'_> {
    pub(super) fn leave(&mut self, node: &Node, what: &str, why: impl Into<String>, todo: impl Into<String>) {
        self.left.push(Left::new(self.source.at(node), format!("{what} of {}", self.name), why, todo));
    }

    fn read(&mut self, node: &Node) {
        self.draft.name = app_name(self.name);
        self.draft.from =
            format!("{}, service {}", self.source.line(node.line.saturating_sub(1).max(1)), self.name);
        self.draft.names.insert(self.name.to_owned());
        if let Some(container) = node.get("container_name").and_then(Node::text) {
            self.draft.names.insert(container.to_owned());
        }
        self.image(node);
        self.ports(node);
        self.environment(node);
        self.volumes(node);
        self.networks(node);
        self.health(node);
        self.resources(node);
        self.process(node);
        for (key, value) in node.entries() {
            if let Some((_, why, todo)) = COMPOSES.iter().find(|(known, ..)| known == key) {
                self.leave(value, key, *why, *todo);
            } else if !READ.contains(&key.as_str()) && !key.starts_with("x-") && value.value != Value::Null {
                self.leave(
                    value,
                    key,
                    "there is no such setting here",
                    "see whether the application needs it",
                );
            }
        }
    }

    fn image(&mut self, node: &Node) {
        let Some(image) = node.get("image") else { return };
        match image.text().and_then(|text| interpolated(text, self.source)) {
            Some(text) if text.parse::<bluegreen_core::model::ImageRef>().is_ok() => {
                self.draft.image = Some(text);
            }
            _ => self.leave(
                image,
                "image",
                format!("{} is only known when it is filled in", image.shown()),
                "give it with --image",
            ),
        }
    }

    fn ports(&mut self, node: &Node) {
        let mut found = Vec::new();
        for item in node.get("ports").map(Node::items).unwrap_or_default() {
            match port(item, self.source) {
                Some(port) => found.push((item.clone(), port)),
                None => self.leave(item, "ports", format!("{} is not a single TCP port", item.shown()), ""),
            }
        }
        for (index, (item, (inside, outside, open))) in found.into_iter().enumerate() {
            if index > 0 {
                self.leave(&item, "ports", format!("a colour has one port, and {inside} is another one"), "");
                continue;
            }
            (self.draft.port, self.draft.host_port) = (Some(inside), outside);
            if open && outside.is_some() {
                self.leave(
                    &item,
                    "ports",
                    "it is open to every network, bypassing the host's firewall; blue and green are published on loopback only",
                    "to open it again, set `publish = \"0.0.0.0\"`",
                );
            }
        }
        if self.draft.port.is_none() {
            let exposed = node.get("expose").map(Node::items).unwrap_or_default();
            self.draft.port = exposed.iter().find_map(|item| item.text()?.split('/').next()?.parse().ok());
        }
    }

    fn environment(&mut self, node: &Node) {
        let mut env = Vec::new();
        if let Some(environment) = node.get("environment") {
            for (name, value, line) in environment.pairs() {
                let at = Node::new(line, Value::Null);
                match value.as_deref().map(|text| (text, interpolated(text, self.source))) {
                    Some((text, Some(value))) if text == value => env.push((name, value)),
                    // From `.env` or the shell of whoever started it: as likely as not a secret.
                    _ => self.leave(
                        &at,
                        &format!("environment: {name}"),
                        "its value comes from outside of the file",
                        "put it into a file with lines of NAME=value and name that in `env_file`",
                    ),
                }
            }
        }
        if !env.is_empty() {
            self.draft.set("", "env", table(&env), "");
        }
        let mut files = Vec::new();
        for item in node.get("env_file").map(Node::items).unwrap_or_default() {
            let Some(text) = item.text().or_else(|| item.get("path")?.text()) else { continue };
            let path = self.source.path(text);
            if self.source.present.contains(&path) {
                files.push(path.display().to_string());
            } else {
                self.leave(
                    item,
                    &format!("env_file {text}"),
                    "the file is not there",
                    "name it in `env_file` once it is",
                );
            }
        }
        if !files.is_empty() {
            self.draft.set(
                "",
                "env_file",
                array(&files),
                "read as Docker reads it: no quotes, nothing expanded",
            );
        }
    }

    fn volumes(&mut self, node: &Node) {
        let mut mounts = Vec::new();
        for item in node.get("volumes").map(Node::items).unwrap_or_default() {
            let (from, to, mode) = if let Some(text) = item.text() {
                let mut parts = text.splitn(3, ':');
                let from = parts.next().unwrap_or_default();
                (from, parts.next(), parts.next().unwrap_or_default())
            } else {
                let of = |key: &str| item.get(key).and_then(Node::text);
                let mode = if of("read_only") == Some("true") { "ro" } else { "" };
                (of("source").unwrap_or_default(), of("target"), mode)
            };
            let Some(to) = to.filter(|to| to.starts_with('/') && !from.is_empty()) else {
                self.leave(item, "volumes", format!("{} has no name", item.shown()), "give it one");
                continue;
            };
            let named = !from.starts_with(['/', '.', '~']);
            let from = if from.starts_with('.') {
                self.source.path(from).display().to_string()
            } else if named {
                self.external("volumes", from).unwrap_or_else(|| format!("{}_{from}", self.project))
            } else {
                from.to_owned()
            };
            let read_only = if mode.split(',').any(|word| word == "ro") { ":ro" } else { "" };
            let mount = format!("{from}:{to}{read_only}");
            if mount.parse::<bluegreen_core::model::Mount>().is_ok() {
                mounts.push(mount);
            } else {
                self.leave(
                    item,
                    "volumes",
                    format!("{from} is neither an absolute path nor a volume's name"),
                    "write it out",
                );
            }
        }
        if !mounts.is_empty() {
            self.draft.set(
                "",
                "volumes",
                array(&mounts),
                "blue and green mount them at the same time during a deploy",
            );
        }
    }

    /// The Engine's name of a network or volume that has one of its own.
    fn external(&self, kind: &str, name: &str) -> Option<String> {
        let node = self.source.root.at(&[kind, name])?;
        let own = node.get("name").or_else(|| node.at(&["external", "name"])).and_then(Node::text);
        own.map(str::to_owned).or_else(|| node.get("external").is_some().then(|| name.to_owned()))
    }

    fn networks(&mut self, node: &Node) {
        if let Some(mode) = node.get("network_mode") {
            if mode.is("host") {
                self.draft.set("", "network", quoted("host"), "");
                let why = "both colours run at once, so each gets its own port in the variable PORT";
                self.leave(mode, "network_mode", why, "let the application listen there");
            } else {
                self.leave(
                    mode,
                    "network_mode",
                    format!("{} cannot be shared by two colours", mode.shown()),
                    "",
                );
            }
            return;
        }
        let mut names: Vec<String> = match node.get("networks") {
            Some(networks) if !networks.entries().is_empty() => {
                networks.entries().iter().map(|(name, _)| name.clone()).collect()
            }
            Some(networks) => {
                networks.items().iter().filter_map(|item| item.text().map(str::to_owned)).collect()
            }
            None => vec!["default".to_owned()],
        };
        for name in &mut names {
            *name = self.external("networks", name).unwrap_or_else(|| format!("{}_{name}", self.project));
        }
        self.draft.set(
            "",
            "network",
            array(&names),
            "where Compose's other services are found by their names",
        );
    }

    fn health(&mut self, node: &Node) {
        let Some(check) = node.get("healthcheck") else { return };
        if check.get("disable").is_some_and(|node| node.is("true")) {
            return;
        }
        let Some(test) = check.get("test") else { return };
        let words: Vec<String> = test.items().iter().map(|item| item.shown()).collect();
        let command: Vec<String> = match (words.first().map(String::as_str), &test.value) {
            (Some("NONE") | None, _) => return,
            (Some("CMD"), _) => words[1..].to_vec(),
            (Some("CMD-SHELL"), _) => vec!["sh".to_owned(), "-c".to_owned(), words[1..].join(" ")],
            _ => vec!["sh".to_owned(), "-c".to_owned(), words.join(" ")],
        };
        match path_asked(&command.join(" ")) {
            Some(path) => self.draft.set("health", "http", quoted(&path), "what its healthcheck asks for"),
            None => self.draft.set("health", "command", array(&command), "its healthcheck"),
        }
        let of = |key: &str| check.get(key).and_then(Node::text).and_then(|text| seconds(text, "s"));
        if let Some(timeout) = of("timeout").filter(|timeout| *timeout > 0) {
            self.draft.set("health", "attempt_timeout", quoted(&format!("{timeout}s")), "");
        }
        let retries = check.get("retries").and_then(Node::number::<u64>).unwrap_or(3);
        let waits = of("start_period").unwrap_or(0) + of("interval").unwrap_or(30) * retries;
        if waits > 30 {
            self.draft.set(
                "health",
                "deadline",
                quoted(&format!("{waits}s")),
                "start_period and interval × retries: so long Compose waits",
            );
        }
    }
}

/// The path of this host's own that a health check's command asks for.
pub(super) fn path_asked(command: &str) -> Option<String> {
    if !["curl", "wget"].iter().any(|program| command.contains(program)) {
        return None;
    }
    let (_, rest) = ["http://localhost", "http://127.0.0.1", "http://0.0.0.0"]
        .iter()
        .find_map(|start| command.split_once(start))?;
    let rest = rest.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit());
    let end = rest.find(|c: char| c.is_whitespace() || "'\"|;&)".contains(c)).unwrap_or(rest.len());
    let path = &rest[..end];
    (path.is_empty() || path.starts_with('/'))
        .then(|| if path.is_empty() { "/".to_owned() } else { path.to_owned() })
}

/// A text with its `${NAME:-default}` filled in from `.env`; none when one of them is not known.
fn interpolated(text: &str, source: &Source) -> Option<String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((inside, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}'))
        {
            let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inside.len());
            let (name, how) = inside.split_at(end);
            let given = source.vars.get(name).filter(|value| !value.is_empty()).cloned();
            let default = how.strip_prefix(":-").or_else(|| how.strip_prefix('-')).map(str::to_owned);
            result.push_str(&given.or(default)?);
            rest = after;
        } else {
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            result.push_str(source.vars.get(&after[..end])?);
            rest = &after[end..];
        }
    }
    result.push_str(rest);
    Some(result)
}

/// The port inside, that of the host, and whether everybody can reach it.
fn port(item: &Node, source: &Source) -> Option<(u16, Option<u16>, bool)> {
    if let Some(target) = item.get("target") {
        if item.get("protocol").is_some_and(|protocol| !protocol.is("tcp")) {
            return None;
        }
        let local = item.get("host_ip").and_then(Node::text).is_some_and(|ip| ip.starts_with("127."));
        return Some((target.number()?, item.get("published").and_then(Node::number), !local));
    }
    let text = interpolated(item.text()?, source)?;
    let text = text.strip_suffix("/tcp").unwrap_or(&text);
    let mut parts = text.rsplitn(3, ':');
    let inside = parts.next()?.parse().ok()?;
    let outside = parts.next().map(str::parse).transpose().ok()?;
    let local = parts.next().is_some_and(|ip| ip.starts_with("127.") || ip == "localhost" || ip == "[::1]");
    Some((inside, outside, !local))
}
