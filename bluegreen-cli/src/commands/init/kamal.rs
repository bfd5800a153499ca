//! Kamal's deploy.yml: what of it holds on this one host.

use super::draft::{Draft, Left, app_name, quoted, seconds, size, table};
use super::source::{Described, Source};
use super::tree::{Node, Value};

/// What Kamal does that is somebody else's matter here.
const ELSEWHERE: [(&str, &str, &str); 15] = [
    ("traefik", "nginx does its work here", "see what its arguments ask for"),
    (
        "registry",
        "credentials are Docker's own",
        "docker login on this host; for ECR nothing: the instance's role is used",
    ),
    ("builder", "bluegreen builds nothing", "let CI build and push the image"),
    ("accessories", "bluegreen does not run them", "keep them running as they are: docker ps"),
    ("ssh", "bluegreen runs on the host itself", ""),
    ("sshkit", "bluegreen runs on the host itself", ""),
    ("boot", "with one host there is nothing to wait for", ""),
    ("aliases", "they are Kamal's own commands", ""),
    ("asset_path", "the assets of the previous release are not kept", "serve them from a place of their own"),
    ("logging", "is not carried over", "see `log`"),
    ("hooks_path", "hooks are not run", "run them before and after `bluegreen deploy`"),
    (
        "secrets_path",
        "Kamal's secrets are not read",
        "put them into a file with lines of NAME=value and name that in `env_file`",
    ),
    (
        "require_destination",
        "one configuration is one destination",
        "another one is another file: --config FILE",
    ),
    ("readiness_delay", "a container with a health check needs none", "see `min_healthy` in [health]"),
    ("error_pages", "nginx has them", "error_page in nginx"),
];

/// Keys that are read, or mean nothing here.
const READ: [&str; 16] = [
    "service",
    "image",
    "servers",
    "proxy",
    "env",
    "volumes",
    "labels",
    "retain_containers",
    "deploy_timeout",
    "drain_timeout",
    "stop_wait_time",
    "minimum_version",
    "primary_role",
    "allow_empty_roles",
    "run_directory",
    "healthcheck",
];

pub(super) fn read(source: &Source) -> Described {
    let root = &source.root;
    let mut kamal = Kamal { source, draft: Draft::default(), left: Vec::new() };
    for line in &source.erb {
        kamal.left.push(Left::new(
            source.line(*line),
            "ERB",
            "it is code, which is not run",
            "see what it would have written",
        ));
    }
    let service =
        kamal.plain(root.get("service"), "service", "the application has the image's name; write yours");
    let service = service.unwrap_or_else(|| {
        let image = root.get("image").and_then(Node::text).unwrap_or_default();
        image.rsplit('/').next().unwrap_or_default().split(':').next().unwrap_or_default().to_owned()
    });
    kamal.draft.name = app_name(&service);
    kamal.draft.from = format!("{}, service {service}", source.at(root.get("service").unwrap_or(root)));
    if let Some(image) = kamal.plain(root.get("image"), "image", "give it with --image") {
        let server =
            kamal.plain(root.at(&["registry", "server"]), "registry.server", "put it before `image`");
        let image = server.map_or_else(|| image.clone(), |server| format!("{server}/{image}"));
        if image.parse::<bluegreen_core::model::ImageRef>().is_ok() {
            kamal.draft.image = Some(image);
        }
    }
    kamal.servers();
    kamal.proxy();
    kamal.env();
    kamal.rest();
    Described { drafts: vec![kamal.draft], left: kamal.left, project: None }
}

struct Kamal<'s> {
    source: &'s Source,
    draft: Draft,
    left: Vec<Left>,
}

impl Kamal<'_> {
    fn leave(&mut self, node: &Node, what: &str, why: impl Into<String>, todo: &str) {
        self.left.push(Left::new(self.source.at(node), what, why, todo));
    }

    /// A value that no code has to make.
    fn plain(&mut self, node: Option<&Node>, what: &str, todo: &str) -> Option<String> {
        let node = node?;
        match node.text() {
            Some(text) if !text.contains("<%") => Some(text.to_owned()),
            _ => {
                self.leave(node, what, format!("`{}` is code, which is not run", node.shown()), todo);
                None
            }
        }
    }

    fn servers(&mut self) {
        let Some(servers) = self.source.root.get("servers") else { return };
        let mut hosts = 0;
        let web = if servers.entries().is_empty() { Some(servers) } else { servers.get("web") };
        if let Some(web) = web {
            hosts = web.get("hosts").unwrap_or(web).items().len();
            if let Some(command) = web.get("cmd") {
                self.leave(command, "cmd", "it is the web role's command", "say it in `command`");
            }
            self.options(web.get("options"));
        }
        if hosts > 1 {
            self.leave(
                servers,
                "servers",
                format!("{hosts} hosts, and bluegreen deploys on the one that it runs on"),
                "run it on each",
            );
        }
        for (role, node) in servers.entries().iter().filter(|(role, _)| role != "web") {
            self.leave(
                node,
                &format!("role {role}"),
                "nginx sends it no requests, so there is nothing to switch",
                "start it with docker run or Compose",
            );
        }
    }

    /// The role's options of `docker run`.
    fn options(&mut self, options: Option<&Node>) {
        for (name, node) in options.map(Node::entries).unwrap_or_default() {
            match (name.as_str(), node.text()) {
                ("memory", Some(text)) if size(text).is_some() => {
                    self.draft.set("", "memory", quoted(&size(text).unwrap_or_default()), "");
                }
                ("cpus", Some(text)) if text.parse::<f64>().is_ok() => {
                    self.draft.set(
                        "",
                        "cpus",
                        text.parse::<f64>().map(|cpus| format!("{cpus:?}")).unwrap_or_default(),
                        "",
                    );
                }
                ("user", Some(text)) => self.draft.set("", "user", quoted(text), ""),
                ("init", Some("true")) => self.draft.set("", "init", "true".to_owned(), ""),
                ("network", Some(text)) => self.draft.set("", "network", quoted(text), ""),
                ("add-host", Some(text)) => self.draft.set("", "extra_hosts", quoted(text), ""),
                _ => self.leave(
                    node,
                    &format!("options.{name}"),
                    "is not carried over",
                    "see whether there is such a setting",
                ),
            }
        }
    }

    fn proxy(&mut self) {
        let root = &self.source.root;
        // Kamal's containers are on a network of its own, where accessories are found by their names.
        if self.draft.value("", "network").is_none() {
            self.draft.set(
                "",
                "network",
                quoted("kamal"),
                "Kamal's network, where accessories are found by their names",
            );
        }
        let proxy = root.get("proxy");
        let of = |keys: &[&str]| proxy.and_then(|proxy| proxy.at(keys));
        let port = of(&["app_port"])
            .or_else(|| root.at(&["healthcheck", "port"]))
            .and_then(Node::number)
            .unwrap_or(80);
        self.draft.port = Some(port);
        let check = of(&["healthcheck", "path"]).or_else(|| root.at(&["healthcheck", "path"]));
        let path = match check {
            Some(node) => self.plain(Some(node), "healthcheck.path", "set `http` in [health]"),
            None => Some("/up".to_owned()),
        };
        if let Some(path) = path.filter(|path| path.starts_with('/')) {
            self.draft.set(
                "health",
                "http",
                quoted(&path),
                "Kamal's healthcheck; /up where the file says nothing",
            );
        }
        if let Some(timeout) =
            of(&["healthcheck", "timeout"]).and_then(Node::text).and_then(|text| seconds(text, "s"))
        {
            self.draft.set("health", "attempt_timeout", quoted(&format!("{timeout}s")), "");
        }
        if let Some(ssl) = of(&["ssl"]).filter(|node| !node.is("false")) {
            self.leave(
                ssl,
                "proxy.ssl",
                "nginx speaks TLS here",
                "have a certificate for its server, as from certbot",
            );
        }
        if let Some(hosts) = of(&["host"]).or_else(|| of(&["hosts"])) {
            self.leave(
                hosts,
                "proxy.host",
                format!("nginx has a server for {}", hosts.shown()),
                "server_name in nginx",
            );
        }
        for key in [
            "response_timeout",
            "buffering",
            "forward_headers",
            "logging",
            "path_prefix",
            "strip_path_prefix",
            "ssl_redirect",
        ] {
            if let Some(node) = of(&[key]) {
                self.leave(node, &format!("proxy.{key}"), "it is nginx's matter", "say it in nginx");
            }
        }
    }

    fn env(&mut self) {
        let Some(env) = self.source.root.get("env") else { return };
        let clear = env.get("clear");
        let plain = clear.is_none() && env.get("secret").is_none();
        let mut pairs = Vec::new();
        for (name, node) in clear.or(plain.then_some(env)).map(Node::entries).unwrap_or_default() {
            let todo = "put it into a file with lines of NAME=value and name that in `env_file`";
            if let Some(value) = self.plain(Some(node), &format!("env.{name}"), todo) {
                pairs.push((name.clone(), value));
            }
        }
        if !pairs.is_empty() {
            self.draft.set("", "env", table(&pairs), "");
        }
        if let Some(secret) = env.get("secret") {
            self.leave(
                secret,
                "env.secret",
                format!("the values of {} are not in this file", secret.shown()),
                "put them into a file with lines of NAME=value and name that in `env_file`",
            );
        }
        if let Some(tags) = env.get("tags") {
            self.leave(tags, "env.tags", "a tag is for some of several hosts", "");
        }
    }

    fn rest(&mut self) {
        let root = &self.source.root;
        let labels: Vec<(String, String)> = root
            .get("labels")
            .map(Node::pairs)
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value, _)| (name, value.unwrap_or_default()))
            .filter(|(name, _)| !name.starts_with("bluegreen"))
            .collect();
        if !labels.is_empty() {
            self.draft.set("", "labels", table(&labels), "");
        }
        let mut mounts = Vec::new();
        for item in root.get("volumes").map(Node::items).unwrap_or_default() {
            match item.text().filter(|text| text.parse::<bluegreen_core::model::Mount>().is_ok()) {
                Some(text) => mounts.push(text.to_owned()),
                None => self.leave(
                    item,
                    "volumes",
                    format!("{} is neither an absolute path nor a volume's name", item.shown()),
                    "write it out",
                ),
            }
        }
        if !mounts.is_empty() {
            self.draft.set(
                "",
                "volumes",
                super::draft::array(&mounts),
                "blue and green mount them at the same time during a deploy",
            );
        }
        for (key, to, ours, why) in [
            ("deploy_timeout", "health", "deadline", "deploy_timeout"),
            ("drain_timeout", "drain", "timeout", "drain_timeout"),
            ("stop_wait_time", "", "stop_timeout", "stop_wait_time"),
        ] {
            if let Some(time) = root.get(key).and_then(Node::text).and_then(|text| seconds(text, "s")) {
                self.draft.set(to, ours, quoted(&format!("{}s", time.max(1))), why);
            }
        }
        if let Some(kept) =
            root.get("retain_containers").and_then(Node::number::<u16>).filter(|kept| *kept <= 1000)
        {
            self.draft.set("retain", "releases", kept.to_string(), "retain_containers");
        }
        for (key, node) in root.entries().iter().filter(|(_, node)| node.value != Value::Null) {
            if let Some((_, why, todo)) = ELSEWHERE.iter().find(|(known, ..)| known == key) {
                self.leave(node, key, *why, todo);
            } else if !READ.contains(&key.as_str()) && !key.starts_with("x-") {
                self.leave(
                    node,
                    key,
                    "there is no such setting here",
                    "see whether the application needs it",
                );
            }
        }
    }
}
