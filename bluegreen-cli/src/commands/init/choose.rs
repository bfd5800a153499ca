//! From what was found to what is written: which nginx, which applications, and where their colours are. Pure.

use std::collections::BTreeSet;

use bluegreen_core::adapter::docker::SeenContainer;
use bluegreen_core::adapter::nginx::SeenPass;

use super::draft::{Draft, Left, Setting, app_name, array, quoted};
use super::look::{Facts, FoundProxy};

/// What is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Chosen {
    /// `[nginx]`.
    pub(super) nginx: Vec<Setting>,
    pub(super) apps: Vec<Draft>,
    pub(super) left: Vec<Left>,
    /// What has to be typed before anything else.
    pub(super) first: Vec<Vec<String>>,
    /// Whether nginx has to be prepared.
    pub(super) live: bool,
}

pub(super) fn choose(facts: &Facts) -> Chosen {
    let mut choice = Choice { facts, taken: facts.taken.clone(), chosen: Chosen::default() };
    choice.chosen.left.clone_from(&facts.left);
    for described in &facts.described {
        choice.chosen.left.extend(described.left.iter().cloned());
    }
    let drafts = choice.drafts();
    let proxy = choice.proxy(&drafts);
    let apps = choice.applications(drafts, proxy);
    choice.nginx(proxy, &apps);
    for app in apps {
        choice.place(app, proxy);
    }
    choice.chosen
}

pub(super) struct Choice<'f> {
    pub(super) facts: &'f Facts,
    pub(super) taken: BTreeSet<u16>,
    pub(super) chosen: Chosen,
}

/// An application and what leads to it.
#[derive(Debug, Clone)]
pub(super) struct App<'f> {
    pub(super) draft: Draft,
    pub(super) container: Option<&'f SeenContainer>,
    pub(super) passes: Vec<&'f SeenPass>,
}

impl<'f> Choice<'f> {
    pub(super) fn leave(
        &mut self,
        at: impl Into<String>,
        what: &str,
        why: impl Into<String>,
        todo: impl Into<String>,
    ) {
        self.chosen.left.push(Left::new(at, what, why, todo));
    }

    /// What the files describe, each with the container that it runs in now.
    fn drafts(&self) -> Vec<App<'f>> {
        let mut apps = Vec::new();
        for described in &self.facts.described {
            for draft in &described.drafts {
                let is_it = |container: &&SeenContainer| {
                    let label = |name: &str| container.labels.get(name).map(String::as_str);
                    let composed = label("com.docker.compose.project") == described.project.as_deref()
                        && described.project.is_some()
                        && label("com.docker.compose.service").is_some_and(|name| draft.names.contains(name));
                    let by_kamal =
                        label("service") == Some(draft.name.as_str()) && label("role") == Some("web");
                    composed
                        || by_kamal
                        || container.name == draft.name
                        || draft.names.contains(&container.name)
                };
                let mut found: Vec<_> = self.facts.containers.iter().filter(is_it).collect();
                found.sort_by_key(|container| container.pid.is_none());
                apps.push(App {
                    draft: draft.clone(),
                    container: found.first().copied(),
                    passes: Vec::new(),
                });
            }
        }
        apps
    }

    /// The nginx that leads to most of what is known.
    fn proxy(&mut self, drafts: &[App<'f>]) -> Option<&'f FoundProxy> {
        let leads = |proxy: &&FoundProxy| {
            let known = proxy.seen.passes.iter().filter(|pass| {
                pass.targets.iter().any(|target| {
                    self.container_at(proxy, target).is_some()
                        || described_at(drafts, proxy, target).is_some()
                })
            });
            known.count()
        };
        // The first of those that are alike: one on the host comes before those in containers.
        let best = self.facts.proxies.iter().rev().max_by_key(leads)?;
        for other in self.facts.proxies.iter().filter(|other| other.seen.master != best.seen.master) {
            let which = |proxy: &FoundProxy| match &proxy.container {
                Some(container) => format!("nginx in container {}", container.name),
                None => format!("nginx with process id {}", proxy.seen.master),
            };
            let why = format!("{} leads to more of what runs here, so it was taken", which(best));
            self.leave(which(other), "this nginx", why, "for an application behind it set [app.NAME.nginx]");
        }
        Some(best)
    }

    /// The container that a pass of this nginx leads to.
    fn container_at(&self, proxy: &FoundProxy, (host, port): &(String, u16)) -> Option<&'f SeenContainer> {
        let is_it = |container: &&SeenContainer| {
            let published = container.ports.iter().any(|(_, _, outside)| outside == port);
            let mut endpoints = container.networks.iter();
            let at = |ip: Option<std::net::IpAddr>| ip.is_some_and(|ip| ip.to_string() == *host);
            match &proxy.container {
                None => is_loopback(host) && published || endpoints.any(|endpoint| at(endpoint.ip)),
                Some(own) => {
                    host == "host.docker.internal" && published
                        || container.name != own.name
                            && (container.name == *host
                                || endpoints.any(|endpoint| {
                                    at(endpoint.ip)
                                        || endpoint.aliases.contains(host)
                                            && own.networks.iter().any(|o| o.network == endpoint.network)
                                }))
                }
            }
        };
        let mut found: Vec<_> = self.facts.containers.iter().filter(is_it).collect();
        found.sort_by_key(|container| container.pid.is_none());
        found.first().copied()
    }

    /// Those that nginx leads to, or all that there are where it leads to none.
    fn applications(&mut self, mut drafts: Vec<App<'f>>, proxy: Option<&'f FoundProxy>) -> Vec<App<'f>> {
        let mut apps = proxy.map(|proxy| self.led_to(&mut drafts, proxy)).unwrap_or_default();
        if apps.is_empty() {
            apps = self.known(drafts);
        } else {
            for app in drafts {
                let why = format!(
                    "no pass of nginx leads to it, so it is not in the file; {} is",
                    apps[0].draft.name
                );
                self.leave(
                    app.draft.from,
                    &app.draft.name,
                    why,
                    "write a server for it in nginx, then run init again",
                );
            }
        }
        let ours = |app: &App<'f>| app.container.is_some_and(|own| own.labels.contains_key("bluegreen.app"));
        for app in apps.iter().filter(|app| ours(app)) {
            let why = "bluegreen deployed it already";
            self.leave(
                format!("container {}", app.draft.container.clone().unwrap_or_default()),
                &app.draft.name,
                why,
                "its configuration file is where it was deployed from",
            );
        }
        apps.retain(|app| !ours(app));
        let mut names = BTreeSet::new();
        for app in &mut apps {
            let base = app.draft.name.clone();
            let mut number = 1;
            while !names.insert(app.draft.name.clone()) {
                number += 1;
                app.draft.name = format!("{base}-{number}");
            }
        }
        apps
    }

    /// Those that this nginx leads to; they are taken out of `drafts`.
    fn led_to(&mut self, drafts: &mut Vec<App<'f>>, proxy: &'f FoundProxy) -> Vec<App<'f>> {
        let mut apps: Vec<App<'f>> = Vec::new();
        for pass in &proxy.seen.passes {
            let at = format!("{}:{}", pass.path.display(), pass.line);
            if !matches!(pass.directive.as_str(), "proxy_pass" | "grpc_pass") {
                let why = "only proxy_pass and grpc_pass can be switched";
                self.leave(at, &pass.directive, why, "");
                continue;
            }
            if pass.path.components().any(|part| part.as_os_str() == "bluegreen") {
                continue;
            }
            if pass.targets.is_empty() {
                let why = format!("where `{}` leads is only known at each request", pass.value);
                self.leave(&at, &pass.directive, why, "");
            }
            for target in &pass.targets {
                let container = self.container_at(proxy, target);
                let known = drafts.iter().position(|app| match (app.container, container) {
                    (Some(known), Some(found)) => known.name == found.name,
                    _ => false,
                });
                let described = known.or_else(|| described_at(drafts, proxy, target));
                let mut app = match (described, container) {
                    (Some(index), _) => drafts.remove(index),
                    (None, Some(container)) => {
                        if let Some(app) = apps
                            .iter_mut()
                            .find(|app| app.container.is_some_and(|own| own.name == container.name))
                        {
                            app.passes.push(pass);
                            continue;
                        }
                        App {
                            draft: self.of_container(container),
                            container: Some(container),
                            passes: Vec::new(),
                        }
                    }
                    (None, None) => {
                        let again = apps.iter_mut().find(|app| leads_to(app, proxy, target));
                        if let Some(app) = again {
                            app.passes.push(pass);
                        } else if is_loopback(&target.0) {
                            let why = format!(
                                "nothing that bluegreen knows of listens at {}:{}",
                                target.0, target.1
                            );
                            let todo = "what listens there is not a container: build an image of it, then run init again";
                            self.leave(&at, &pass.directive, why, todo);
                        }
                        continue;
                    }
                };
                if let Some(other) = apps.iter_mut().find(|other| same_pair(other, &app)) {
                    other.passes.push(pass);
                    continue;
                }
                app.passes.push(pass);
                apps.push(app);
            }
        }
        apps
    }

    /// All that is known, to none of which nginx leads.
    fn known(&mut self, drafts: Vec<App<'f>>) -> Vec<App<'f>> {
        let mut apps = drafts;
        if apps.is_empty() {
            let published = |container: &&SeenContainer| {
                !container.ports.is_empty() && container.pid.is_some() && !is_proxy(self.facts, container)
            };
            let found: Vec<_> = self.facts.containers.iter().filter(published).collect();
            apps = found
                .into_iter()
                .map(|container| App {
                    draft: self.of_container(container),
                    container: Some(container),
                    passes: Vec::new(),
                })
                .collect();
        }
        for app in &apps {
            let why = "no nginx that runs here sends requests to it";
            self.chosen.left.push(Left::new(&app.draft.from, &app.draft.name, why, "write a server with `location / { proxy_pass …; }`; `bluegreen nginx install` says what to put there"));
        }
        apps
    }

    /// An application of which only the container is known.
    fn of_container(&mut self, container: &'f SeenContainer) -> Draft {
        let mut draft = Draft {
            name: app_name(base_name(&container.name)),
            from: format!("container {}", container.name),
            image: Some(container.image.clone()).filter(|image| !image.starts_with("sha256:")),
            container: Some(container.name.clone()),
            port: container.ports.first().map(|(inside, ..)| *inside).or(container.exposed.first().copied()),
            ..Draft::default()
        };
        if container.local_image && draft.image.is_some() {
            draft.set(
                "",
                "pull",
                quoted("missing"),
                "it was built on this host: no registry is asked for it",
            );
        }
        if !container.mounts.is_empty() {
            draft.set(
                "",
                "volumes",
                array(&container.mounts),
                "blue and green mount them at the same time during a deploy",
            );
        }
        if let Some(restart) = container.restart.as_deref().filter(|word| *word != "unless-stopped") {
            draft.set("", "restart", quoted(restart), "");
        }
        if container.restart.is_none() {
            // What nobody starts again after a reboot was hardly meant to be so: the default is better, and is said.
            let at = format!("container {}", container.name);
            self.leave(
                at,
                "restart policy",
                "it has none, so it does not start again after a reboot",
                "blue and green get unless-stopped; change it with `restart`",
            );
        }
        if let Some(memory) = container.memory {
            draft.set("", "memory", quoted(&format!("{}m", memory.div_ceil(1 << 20))), "");
        }
        if !container.command.is_empty() {
            draft.set("", "command", array(&container.command), "");
        }
        if let Some(user) = &container.user {
            draft.set("", "user", quoted(user), "");
        }
        if container.healthcheck {
            draft.set("health", "image", "true".to_owned(), "its image's HEALTHCHECK");
        }
        if !container.env.is_empty() {
            let names: Vec<&str> = container.env.iter().map(String::as_str).collect();
            let why = format!("{} may be secret, so no value was written", names.join(", "));
            let todo = "put them into a file with lines of NAME=value and name that in `env_file`";
            self.leave(format!("container {}", container.name), "environment", why, todo);
        }
        draft
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.starts_with("127.") || matches!(host, "[::1]" | "0.0.0.0")
}

/// The description of what a pass leads to.
fn described_at(drafts: &[App<'_>], proxy: &FoundProxy, target: &(String, u16)) -> Option<usize> {
    drafts.iter().position(|app| leads_to(app, proxy, target))
}

fn leads_to(app: &App<'_>, proxy: &FoundProxy, (host, port): &(String, u16)) -> bool {
    let by_name = proxy.container.is_some() && app.draft.names.contains(host);
    by_name || is_loopback(host) && app.draft.host_port == Some(*port)
}

/// `web` of `web-3000` and `web-4000`.
fn base_name(container: &str) -> &str {
    ["-3000", "-4000"].iter().find_map(|end| container.strip_suffix(end)).unwrap_or(container)
}

/// Whether it is set up as the shell script does it: nginx in a container names one of two containers.
pub(super) fn scripts(app: &App<'_>, proxy: &FoundProxy) -> bool {
    let names = ["-3000", "-4000"].map(|end| format!("{}{end}", app.draft.name));
    proxy.container.is_some()
        && app.passes.iter().any(|pass| pass.targets.iter().any(|(host, _)| names.contains(host)))
}

/// Whether both are places of one application, as the script left them.
fn same_pair(one: &App<'_>, other: &App<'_>) -> bool {
    let name = |app: &App<'_>| app.container.map(|own| base_name(&own.name).to_owned());
    let is_pair = |app: &App<'_>| app.container.is_some_and(|own| base_name(&own.name) != own.name);
    is_pair(one) && is_pair(other) && name(one) == name(other)
}

fn is_proxy(facts: &Facts, container: &SeenContainer) -> bool {
    facts.proxies.iter().any(|proxy| proxy.container.as_ref().is_some_and(|own| own.name == container.name))
}
