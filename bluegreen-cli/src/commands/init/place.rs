//! Where the colours of what was chosen are, and what nginx is told of it. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use bluegreen_core::adapter::docker::SeenContainer;
use bluegreen_core::adapter::nginx::{SeenNginx, SeenPass};

use super::choose::{App, Choice, scripts};
use super::draft::{Setting, array, quoted};
use super::look::FoundProxy;

/// The port on which a live nginx answers bluegreen, where the configuration says nothing.
const CONTROL_PORT: u16 = 8989;
/// Where packages put nginx's program: there it is found without being named.
const PROGRAMS: [&str; 4] =
    ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx", "/usr/local/bin/nginx"];

impl<'f> Choice<'f> {
    pub(super) fn nginx(&mut self, proxy: Option<&FoundProxy>, apps: &[App<'f>]) {
        self.chosen.live = !apps.iter().any(|app| proxy.is_some_and(|proxy| scripts(app, proxy)));
        let Some(proxy) = proxy else {
            self.leave(
                "this host",
                "nginx",
                "none runs here",
                "install and start it: the file is for the nginx of this host",
            );
            return;
        };
        if !proxy.seen.readable {
            self.leave(
                "nginx",
                "its configuration",
                "it cannot be read by this user",
                "run init again as root",
            );
        }
        if let Some(container) = &proxy.container {
            self.set("container", quoted(&container.name), "nginx runs in this container");
        } else {
            self.program(&proxy.seen);
        }
        if !self.chosen.live {
            let file = apps.iter().find_map(|app| app.passes.first());
            let outside = file.and_then(|pass| outside(proxy, &pass.path, false));
            self.set(
                "mode",
                quoted("rewrite"),
                "as the script did: two names are exchanged in your own file",
            );
            match (outside, file) {
                (Some(path), _) => self.set("conf", quoted(&path), ""),
                (None, Some(pass)) => {
                    let why = "it is in no directory of this host that is mounted into nginx's container";
                    self.leave(
                        pass.path.display().to_string(),
                        "nginx's file",
                        why,
                        "mount its directory, then set `conf` in [nginx]",
                    );
                }
                (None, None) => {}
            }
            return;
        }
        self.directory(proxy);
        if proxy.container.is_none() && self.taken.contains(&CONTROL_PORT) {
            let port = self.free(CONTROL_PORT + 1);
            self.set("control_port", port.to_string(), "8989 is taken here");
        }
    }

    fn set(&mut self, key: &'static str, value: String, why: &str) {
        self.chosen.nginx.push(Setting { table: "nginx", key, value, why: why.to_owned() });
    }

    /// How the nginx of this host is called, where it is not as packages have it.
    fn program(&mut self, seen: &SeenNginx) {
        let text = |path: &PathBuf| quoted(&path.display().to_string());
        if let Some(binary) =
            seen.binary.as_ref().filter(|path| !PROGRAMS.iter().any(|known| Path::new(known) == *path))
        {
            self.set("binary", text(binary), "the program that runs");
        }
        if let Some(config) = &seen.config {
            self.set("main_config", text(config), "its -c");
        }
        if let Some(prefix) = &seen.prefix {
            self.set("prefix", text(prefix), "its -p");
        }
        if let Some(pid_file) =
            seen.pid_file.as_ref().filter(|_| seen.prefix.is_some() || seen.config.is_some())
        {
            self.set("pid_file", text(pid_file), "where it says its process id is");
        }
    }

    /// Where its generated files are.
    fn directory(&mut self, proxy: &FoundProxy) {
        let default = Path::new("/etc/nginx/conf.d");
        let known: Vec<PathBuf> = proxy
            .seen
            .dirs
            .iter()
            .filter_map(|dir| {
                if proxy.container.is_some() {
                    outside(proxy, dir, true).map(PathBuf::from)
                } else {
                    Some(dir.clone())
                }
            })
            .collect();
        match known.iter().find(|dir| *dir == default).or(known.first()) {
            Some(dir) if dir != default || proxy.container.is_some() => {
                let why = "nginx includes *.conf from here inside http { }";
                self.set("dir", quoted(&dir.display().to_string()), why);
            }
            None if proxy.seen.readable => {
                let (why, todo) = if proxy.container.is_some() {
                    (
                        "no directory of this host that is mounted into it is included",
                        "mount one at /etc/nginx/conf.d, then set `dir` in [nginx]",
                    )
                } else {
                    (
                        "it includes no directory's *.conf inside http { }",
                        "add `include /etc/nginx/conf.d/*.conf;` there",
                    )
                };
                self.leave("nginx", "its directory", why, todo);
                if proxy.container.is_some() {
                    self.set(
                        "dir",
                        quoted("/srv/nginx/conf.d"),
                        "to be mounted into nginx's container at /etc/nginx/conf.d",
                    );
                }
            }
            Some(_) | None => {}
        }
    }

    fn free(&mut self, from: u16) -> u16 {
        let port =
            (from..=u16::MAX).chain(3000..from).find(|port| !self.taken.contains(port)).unwrap_or(from);
        self.taken.insert(port);
        port
    }

    /// Where its colours are.
    pub(super) fn place(&mut self, app: App<'f>, proxy: Option<&'f FoundProxy>) {
        match proxy.filter(|proxy| proxy.container.is_some()) {
            Some(proxy) if scripts(&app, proxy) => self.as_the_script(app),
            Some(proxy) => self.on_a_network(app, proxy),
            None => self.on_ports(app),
        }
    }

    /// The script's names, on the script's network.
    fn as_the_script(&mut self, app: App<'f>) {
        let App { mut draft, container, .. } = app;
        let names = [3000, 4000].map(|port| format!("{}-{port}", draft.name));
        draft.set(
            "",
            "names",
            pair(&names.clone().map(|name| quoted(&name))),
            "the script's names, one of which your nginx has",
        );
        let networks: Vec<&str> =
            container.iter().flat_map(|own| &own.networks).map(|on| on.network.as_str()).collect();
        draft.set("", "network", array(&networks), "");
        draft.set("", "reach", quoted("name"), "");
        if let Some((inside, ip, _)) = container.and_then(|own| own.ports.first()) {
            draft.port = Some(*inside);
            if ip.is_unspecified() {
                self.leave(
                    &draft.from,
                    "its port",
                    "it is open to every network, bypassing the host's firewall; blue and green are published on loopback only",
                    "to open it again, set `publish = \"0.0.0.0\"`",
                );
            }
            draft.set(
                "",
                "ports",
                "{ blue = 3000, green = 4000 }".to_owned(),
                "the script's host ports, on loopback",
            );
        } else {
            draft.set("", "publish", quoted("none"), "nginx reaches them by name");
        }
        draft.set(
            "",
            "adopt",
            "true".to_owned(),
            "the script's containers are taken over; bluegreen's own come after them",
        );
        self.chosen.apps.push(draft);
    }

    /// Fixed addresses on a network that nginx's container is on.
    fn on_a_network(&mut self, app: App<'f>, proxy: &'f FoundProxy) {
        let App { mut draft, container, passes } = app;
        let Some(own) = &proxy.container else { return };
        let line = |pass: &&SeenPass| {
            let path = outside(proxy, &pass.path, false);
            format!("{}:{}", path.unwrap_or_else(|| pass.path.display().to_string()), pass.line)
        };
        draft.lines = passes.iter().map(line).collect();
        // Only a network that was made with a subnet gives out addresses that are asked for.
        let shared = own.networks.iter().find(|on| on.chosen);
        let subnet = |name: &str| {
            let network = self.facts.networks.iter().find(|network| network.name == name)?;
            network.subnets.iter().find_map(|range| base(range))
        };
        let (network, start) =
            if let Some(found) = shared.and_then(|on| Some((on.network.clone(), subnet(&on.network)?))) {
                found
            } else {
                let start = self.free_subnet();
                let [a, b, c, _] = start.octets();
                if self.chosen.first.is_empty() {
                    let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
                    self.chosen.first = vec![
                        words(format!("docker network create --subnet {a}.{b}.{c}.0/24 bluegreen")),
                        words(format!("docker network connect bluegreen {}", own.name)),
                    ];
                }
                ("bluegreen".to_owned(), start)
            };
        let [a, b, c, _] = start.octets();
        let used: BTreeSet<Ipv4Addr> = self
            .facts
            .containers
            .iter()
            .flat_map(|container| &container.networks)
            .filter_map(|on| on.ip?.to_string().parse().ok())
            .collect();
        let offset = u8::try_from(self.chosen.apps.len() * 2).unwrap_or(0);
        let mut free =
            (10 + offset..=250).map(|last| Ipv4Addr::new(a, b, c, last)).filter(|ip| !used.contains(ip));
        let ips = [free.next(), free.next()].map(|ip| quoted(&ip.unwrap_or(start).to_string()));
        let mut networks = vec![network];
        networks.extend(
            container
                .iter()
                .flat_map(|own| &own.networks)
                .map(|on| on.network.clone())
                .filter(|name| name != "bridge"),
        );
        networks.dedup();
        draft.set(
            "",
            "network",
            array(&networks),
            "the first has a subnet: there the colours have fixed addresses",
        );
        draft.set("", "reach", quoted("ip"), "");
        draft.set("", "ips", pair(&ips), "free there");
        if let Some(container) = container {
            draft.port = container.ports.first().map(|(inside, ..)| *inside).or(draft.port);
            self.runs_on(container);
        }
        self.chosen.apps.push(draft);
    }

    /// A /24 that no network of Docker's has.
    fn free_subnet(&self) -> Ipv4Addr {
        let ranges: Vec<&String> = self.facts.networks.iter().flat_map(|network| &network.subnets).collect();
        let is_free = |third: &u8| {
            !ranges.iter().any(|range| {
                let (ip, bits) = range.split_once('/').unwrap_or((range, "32"));
                let (Ok(ip), Ok(bits)) = (ip.parse::<Ipv4Addr>(), bits.parse::<u32>()) else { return false };
                let bits = bits.min(24);
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                u32::from(ip) & mask == u32::from(Ipv4Addr::new(172, 30, *third, 0)) & mask
            })
        };
        Ipv4Addr::new(172, 30, (0..=254).find(is_free).unwrap_or(255), 0)
    }

    /// What runs now is not taken over; it goes on until somebody stops it.
    fn runs_on(&mut self, container: &SeenContainer) {
        self.leave(
            format!("container {}", container.name),
            "the container itself",
            "it is in neither slot, so it keeps running after the first deploy",
            format!("when the first release serves: docker stop {}", container.name),
        );
    }

    /// Ports of this host, on loopback.
    fn on_ports(&mut self, app: App<'f>) {
        let App { mut draft, container, passes } = app;
        let published = container.and_then(|own| {
            own.ports.iter().find(|(.., outside)| {
                passes.is_empty()
                    || passes.iter().any(|pass| pass.targets.iter().any(|(_, port)| port == outside))
            })
        });
        if let (Some(container), Some((inside, ip, outside))) = (container, published) {
            draft.port = Some(*inside);
            let green = self.free(if *outside == 3000 { 4000 } else { outside.saturating_add(1) });
            let blue = quoted(&container.name);
            draft.set(
                "",
                "ports",
                pair(&[outside.to_string(), green.to_string()]),
                "blue is where the application answers now",
            );
            draft.set(
                "",
                "names",
                pair(&[blue, quoted(&format!("{}-green", draft.name))]),
                "blue is the container that runs now",
            );
            draft.set("", "adopt", "true".to_owned(), "it was not made by bluegreen, and is taken over");
            if ip.is_unspecified() && !draft.from.contains(':') {
                self.leave(
                    &draft.from,
                    "its port",
                    "it is open to every network, bypassing the host's firewall; blue and green are published on loopback only",
                    "to open it again, set `publish = \"0.0.0.0\"`",
                );
            }
            if draft.value("", "network").is_none() {
                let own =
                    container.networks.iter().map(|on| on.network.as_str()).filter(|name| *name != "bridge");
                let own: Vec<&str> = own.collect();
                if own == ["host"] {
                    draft.set("", "network", quoted("host"), "");
                } else if !own.is_empty() {
                    draft.set("", "network", array(&own), "");
                }
            }
        } else {
            if let Some(port) = draft.host_port.filter(|_| container.is_none() && !passes.is_empty()) {
                self.leave(
                    &draft.from,
                    "its process",
                    format!("it runs on, at 127.0.0.1:{port}, after the first deploy, and gets no requests any more"),
                    format!("when the first release serves, end it, as with pm2 delete {}", draft.name),
                );
            }
            draft.lines =
                passes.iter().map(|pass| format!("{}:{}", pass.path.display(), pass.line)).collect();
            let blue = self.free(3000);
            let green = self.free(4000);
            draft.set(
                "",
                "ports",
                pair(&[blue.to_string(), green.to_string()]),
                "free on this host; published on loopback only",
            );
            if let Some(container) = container {
                self.runs_on(container);
            }
        }
        self.chosen.apps.push(draft);
    }
}

fn pair(values: &[String; 2]) -> String {
    format!("{{ blue = {}, green = {} }}", values[0], values[1])
}

/// Where a path of nginx's container is on this host.
fn outside(proxy: &FoundProxy, inside: &Path, is_dir: bool) -> Option<String> {
    let own = proxy.container.as_ref()?;
    let mounts = own.mounts.iter().filter_map(|mount| {
        let mut parts = mount.split(':');
        let (source, target) = (parts.next()?, parts.next()?);
        let rest = inside.strip_prefix(target).ok()?;
        // A single file that is mounted keeps its old content when it is replaced.
        (source.starts_with('/') && (is_dir || !rest.as_os_str().is_empty()))
            .then(|| (target.len(), Path::new(source).join(rest)))
    });
    mounts
        .max_by_key(|(length, _)| *length)
        .map(|(_, path)| path.display().to_string().trim_end_matches('/').to_owned())
}

/// The first address of a range.
fn base(range: &str) -> Option<Ipv4Addr> {
    range.split('/').next()?.parse().ok()
}
