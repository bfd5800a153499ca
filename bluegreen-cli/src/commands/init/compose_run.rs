//! Compose files: how a service's container is run.

use super::compose::Service;
use super::draft::{array, quoted, seconds, size, table};
use super::tree::{Node, Value};

impl Service<'_> {
    pub(super) fn resources(&mut self, node: &Node) {
        let limits = node.at(&["deploy", "resources", "limits"]);
        let memory = node.get("mem_limit").or_else(|| limits?.get("memory"));
        if let Some(memory) = memory {
            match memory.text().and_then(size) {
                Some(size) => self.draft.set("", "memory", quoted(&size), ""),
                None => self.leave(memory, "memory", format!("{} is not a size", memory.shown()), ""),
            }
        }
        if let Some(cpus) = node.get("cpus").or_else(|| limits?.get("cpus")).and_then(Node::number::<f64>) {
            self.draft.set("", "cpus", format!("{cpus:?}"), "");
        }
        if let Some(replicas) = node.at(&["deploy", "replicas"])
            && !replicas.is("1")
        {
            self.leave(
                replicas,
                "deploy.replicas",
                "a colour is one container",
                "let the application use its cores itself",
            );
        }
        if let Some(update) = node.at(&["deploy", "update_config"]) {
            self.leave(
                update,
                "deploy.update_config",
                "an exchange is always start, check, switch, drain, stop",
                "",
            );
        }
    }

    pub(super) fn process(&mut self, node: &Node) {
        for key in ["command", "entrypoint"] {
            let Some(value) = node.get(key) else { continue };
            match &value.value {
                Value::List(items) => {
                    let words: Vec<String> = items.iter().map(Node::shown).collect();
                    self.draft.set("", key, array(&words), "");
                }
                _ if shlex::split(&value.shown()).is_some_and(|words| !words.is_empty()) => {
                    self.draft.set("", key, quoted(&value.shown()), "");
                }
                _ => self.leave(value, key, "it is not a valid shell command line", ""),
            }
        }
        if let Some(restart) = node.get("restart").and_then(Node::text) {
            let word = restart.split(':').next().unwrap_or_default();
            if ["always", "no", "on-failure"].contains(&word) {
                self.draft.set("", "restart", quoted(word), "");
            }
        }
        for (key, ours) in [("user", "user"), ("stop_signal", "stop_signal")] {
            if let Some(text) = node.get(key).and_then(Node::text) {
                self.draft.set("", ours, quoted(text), "");
            }
        }
        for key in ["read_only", "init"] {
            if let Some(flag) = node.get(key).filter(|node| node.is("true") || node.is("false")) {
                self.draft.set("", key, flag.shown(), "");
            }
        }
        for key in ["tmpfs", "cap_add", "cap_drop"] {
            if let Some(list) = node.get(key) {
                let words: Vec<String> = list.items().iter().map(|item| item.shown()).collect();
                self.draft.set("", key, array(&words), "");
            }
        }
        if let Some(hosts) = node.get("extra_hosts") {
            let lines: Vec<String> = match &hosts.value {
                Value::Map(entries) => {
                    entries.iter().map(|(name, node)| format!("{name}:{}", node.shown())).collect()
                }
                _ => hosts.items().iter().map(|item| item.shown().replacen('=', ":", 1)).collect(),
            };
            self.draft.set("", "extra_hosts", array(&lines), "");
        }
        if let Some(grace) =
            node.get("stop_grace_period").and_then(Node::text).and_then(|text| seconds(text, "s"))
        {
            self.draft.set("", "stop_timeout", quoted(&format!("{grace}s")), "");
        }
        for item in node.get("security_opt").map(Node::items).unwrap_or_default() {
            if item
                .text()
                .is_some_and(|text| text.starts_with("no-new-privileges") && !text.ends_with("false"))
            {
                self.draft.set("", "no_new_privileges", "true".to_owned(), "");
            } else {
                self.leave(item, "security_opt", format!("{} has no setting here", item.shown()), "");
            }
        }
        self.labels(node);
        self.logging(node);
        if let Some(hostname) = node.get("hostname") {
            self.leave(hostname, "hostname", "two colours run at once and cannot have one name", "");
        }
    }

    fn labels(&mut self, node: &Node) {
        let Some(labels) = node.get("labels") else { return };
        let pairs: Vec<(String, String)> =
            labels.pairs().into_iter().map(|(name, value, _)| (name, value.unwrap_or_default())).collect();
        let (proxied, own): (Vec<_>, Vec<_>) =
            pairs.into_iter().partition(|(name, _)| name.starts_with("traefik."));
        if !proxied.is_empty() {
            self.leave(
                labels,
                "labels traefik.*",
                "here nginx sends the requests",
                "write a server for it in nginx",
            );
        }
        let own: Vec<_> = own.into_iter().filter(|(name, _)| !name.starts_with("bluegreen")).collect();
        if !own.is_empty() {
            self.draft.set("", "labels", table(&own), "");
        }
    }

    fn logging(&mut self, node: &Node) {
        let Some(driver) = node.at(&["logging", "driver"]).and_then(Node::text) else { return };
        let options: Vec<(String, String)> = node
            .at(&["logging", "options"])
            .map(Node::pairs)
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value, _)| (name, value.unwrap_or_default()))
            .collect();
        let options =
            if options.is_empty() { String::new() } else { format!(", options = {}", table(&options)) };
        self.draft.set("", "log", format!("{{ driver = {}{options} }}", quoted(driver)), "");
    }
}
