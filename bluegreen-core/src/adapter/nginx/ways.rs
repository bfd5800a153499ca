//! Every directive of nginx's whole configuration that leads to a place of an application. Pure.
//!
//! A second way to the same place is what a switch leaves behind: it goes on to a container that is stopped. Text is
//! compared word by word, so what only Lua or a client's header decides cannot be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{Color, Slots};

use super::dump::Dump;
use super::syntax::Directive;

/// What kind of directive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Passes requests on: `proxy_pass`, `grpc_pass` and the like, in `http` or `stream`.
    Pass,
    /// `server` in an `upstream`: requests come by way of whatever names that.
    Member,
    /// What a variable is given: `set`, or a line of `map`, `geo`, `split_clients`.
    Value,
    /// What an answer of the application is changed by: it must name the place that the answer comes from.
    Redirect,
}

/// A directive that leads to a place.
#[derive(Debug, Clone)]
pub(super) struct Way<'d> {
    /// Its file, as nginx names it.
    pub(super) path: &'d str,
    pub(super) directive: &'d Directive,
    pub(super) kind: Kind,
    /// The places that it leads to.
    pub(super) colors: Vec<Color>,
    /// Whether it names the place itself, and not an upstream or a variable that does.
    pub(super) direct: bool,
    /// Whether anything reads it.
    pub(super) used: bool,
}

impl Way<'_> {
    /// The directive as one line.
    pub(super) fn text(&self) -> String {
        let words = self.directive.args.iter().map(|word| format!(" {}", word.value));
        format!("{}{};", self.directive.name, words.collect::<String>())
    }
}

/// How many values a word with variables is tried with.
const TRIES: usize = 256;

/// Finds them in all files that are not `ours`, each directive once.
pub(super) fn find<'d>(dump: &'d Dump, slots: &Slots, ours: &dyn Fn(&str) -> bool) -> Vec<Way<'d>> {
    let all = all(dump);
    let map = Map::of(dump, slots, ours, &all);
    let mut found = Vec::new();
    for met in &all {
        let Some((kind, values)) = met.kind() else { continue };
        let mut reach = Reach::default();
        for value in values {
            reach.add(map.reach(value));
        }
        if reach.colors.is_empty() {
            continue;
        }
        let Some((path, _)) = dump.file_of(met.directive).filter(|(path, _)| !ours(path)) else { continue };
        let used = match kind {
            Kind::Pass | Kind::Redirect => true,
            Kind::Value => met.variable().is_none_or(|name| map.read.contains(name)),
            Kind::Member => met.upstream().is_none_or(|name| map.named.contains(name)),
        };
        let Reach { colors, direct } = reach;
        found.push(Way {
            path,
            directive: met.directive,
            kind,
            colors: colors.into_iter().collect(),
            direct,
            used,
        });
    }
    found
}

/// A directive and the blocks that it stands in.
struct Met<'d> {
    directive: &'d Directive,
    stack: Vec<&'d Directive>,
}

fn all(dump: &Dump) -> Vec<Met<'_>> {
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    dump.visit(&mut |directive, stack| {
        if seen.insert(std::ptr::from_ref(directive)) {
            all.push(Met { directive, stack: stack.to_vec() });
        }
    });
    all
}

impl<'d> Met<'d> {
    fn block(&self) -> Option<&'d Directive> {
        self.stack.last().copied()
    }

    /// The block whose lines give a variable its values.
    fn table(&self) -> Option<&'d Directive> {
        self.block().filter(|block| matches!(block.name.as_str(), "map" | "geo" | "split_clients"))
    }

    /// What it is, and those of its words that say where something goes.
    fn kind(&self) -> Option<(Kind, Vec<&'d str>)> {
        let directive = self.directive;
        let arg = |index| directive.arg(index).into_iter().collect();
        if self.table().is_some() {
            let value = directive.args.last().map(|word| word.value.as_str());
            return Some((Kind::Value, value.into_iter().collect()));
        }
        match directive.name.as_str() {
            "server" if directive.block.is_none() && self.upstream().is_some() => {
                Some((Kind::Member, arg(0)))
            }
            "set" | "auth_request_set" => Some((Kind::Value, arg(1))),
            name if name.ends_with("_pass") => Some((Kind::Pass, arg(0))),
            name if name.ends_with("_redirect") => Some((Kind::Redirect, arg(0))),
            _ => None,
        }
    }

    /// The variable that it gives a value, without its `$`.
    fn variable(&self) -> Option<&'d str> {
        let name = match self.table() {
            Some(table) => table.args.last().map(|word| word.value.as_str()),
            None => self.directive.arg(0).filter(|_| matches!(self.kind(), Some((Kind::Value, _)))),
        };
        name?.strip_prefix('$')
    }

    /// The upstream that it stands in.
    fn upstream(&self) -> Option<&'d str> {
        self.block().filter(|block| block.name == "upstream").and_then(|block| block.arg(0))
    }
}

/// Where a word leads.
#[derive(Debug, Default)]
struct Reach {
    colors: BTreeSet<Color>,
    direct: bool,
}

impl Reach {
    fn add(&mut self, other: Self) {
        self.direct |= other.direct;
        self.colors.extend(other.colors);
    }
}

/// What names lead where.
struct Map<'d, 's> {
    slots: &'s Slots,
    upstreams: BTreeMap<&'d str, BTreeSet<Color>>,
    values: BTreeMap<&'d str, Vec<&'d str>>,
    /// The variables that decide where requests go.
    read: BTreeSet<&'d str>,
    /// The upstreams that something which is read names.
    named: BTreeSet<&'d str>,
}

impl<'d, 's> Map<'d, 's> {
    fn of(dump: &'d Dump, slots: &'s Slots, ours: &dyn Fn(&str) -> bool, all: &[Met<'d>]) -> Self {
        let mut map = Self {
            slots,
            upstreams: BTreeMap::new(),
            values: BTreeMap::new(),
            read: BTreeSet::new(),
            named: BTreeSet::new(),
        };
        let is_ours = |directive: &Directive| dump.file_of(directive).is_some_and(|(path, _)| ours(path));
        for met in all {
            if let Some(upstream) = met.upstream()
                && met.directive.name == "server"
                && !is_ours(met.directive)
            {
                let color = place(slots, met.directive.arg(0).unwrap_or_default(), 80);
                map.upstreams.entry(upstream).or_default().extend(color);
            }
            if let (Some(name), Some((_, values))) = (met.variable(), met.kind()) {
                map.values.entry(name).or_default().extend(values);
            }
        }
        map.follow(all);
        map
    }

    /// From what passes requests on back to what decides where.
    fn follow(&mut self, all: &[Met<'d>]) {
        let mut words: Vec<&'d str> = Vec::new();
        for met in all {
            match met.kind() {
                Some((Kind::Pass, values)) => words.extend(values),
                // Code may read any variable and name any upstream.
                _ if met.directive.name.ends_with("_by_lua_block") => {
                    words.extend(met.directive.args.last().map(|word| word.value.as_str()));
                }
                _ => {}
            }
        }
        while let Some(word) = words.pop() {
            let is_code = word.contains(['\n', '=']);
            for (name, values) in &self.values {
                if (variables(word).any(|used| used == *name) || is_code && word.contains(name))
                    && self.read.insert(name)
                {
                    words.extend(values);
                }
            }
            for name in self.upstreams.keys() {
                if authority(word).0 == *name || is_code && word.contains(name) {
                    self.named.insert(name);
                }
            }
        }
    }

    /// The places that a word leads to.
    fn reach(&self, word: &str) -> Reach {
        let mut tries = TRIES;
        self.reach_with(word, &mut tries, 0)
    }

    fn reach_with(&self, word: &str, tries: &mut usize, depth: usize) -> Reach {
        let mut reach = Reach::default();
        *tries = tries.saturating_sub(1);
        let (host, port) = authority(word);
        let Some(name) = variables(host).next() else {
            if let Some(color) = place(self.slots, host, port) {
                reach.colors.insert(color);
                reach.direct = true;
            } else if let Some(colors) = self.upstreams.get(host) {
                reach.colors.extend(colors);
            }
            return reach;
        };
        for value in self.values.get(name).into_iter().flatten() {
            if *tries == 0 || depth > 4 {
                break;
            }
            let [plain, braced] = [format!("${name}"), format!("${{{name}}}")];
            let filled = word.replacen(&braced, value, 1);
            let filled = if filled == word { word.replacen(&plain, value, 1) } else { filled };
            let mut found = self.reach_with(&filled, tries, depth + 1);
            // When the value leads there by itself, it is the value that names the place.
            found.direct &= place(self.slots, authority(value).0, 80).is_none();
            reach.add(found);
        }
        reach
    }
}

/// The names of the variables in a word.
fn variables(word: &str) -> impl Iterator<Item = &str> {
    word.split('$').skip(1).map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    })
}

/// The host, with its port, that a word names, and the port that it means without one.
fn authority(word: &str) -> (&str, u16) {
    let (scheme, rest) = word.split_once("://").unwrap_or(("", word));
    let port = if matches!(scheme, "https" | "grpcs") { 443 } else { 80 };
    let mut end = rest.find(['/', '?']).unwrap_or(rest.len());
    for variable in ["$request_uri", "$uri"] {
        end = rest.find(variable).map_or(end, |at| end.min(at));
    }
    (rest.get(..end).unwrap_or_default(), port)
}

/// The colour whose place an address is, in any spelling.
pub(super) fn place(slots: &Slots, address: &str, default: u16) -> Option<Color> {
    let colon = address.rfind(':').filter(|at| !address[*at..].contains(']'));
    let (host, port) = match colon {
        Some(at) => (address.get(..at)?, address.get(at + 1..)?.parse().ok()?),
        None => (address, default),
    };
    let ip: Option<IpAddr> = if host.eq_ignore_ascii_case("localhost") {
        Some([127, 0, 0, 1].into())
    } else {
        host.trim_matches(['[', ']']).parse().ok()
    };
    let here = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    let by_port = slots.blue.endpoint.host() == slots.green.endpoint.host();
    Color::ALL.into_iter().find(|color| {
        let slot = slots.of(*color);
        let endpoint = &slot.endpoint;
        match (endpoint.ip(), ip) {
            (Some(own), Some(ip)) => port == endpoint.port() && (own == ip || here(own) && here(ip)),
            (None, None) if host.eq_ignore_ascii_case(endpoint.host()) => !by_port || port == endpoint.port(),
            // A container that is stopped answers at no port.
            (_, None) => host.eq_ignore_ascii_case(slot.name.as_str()),
            (None, Some(_)) => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::nginx::rewrite::tests::slots;

    fn seen(http: &str) -> Vec<String> {
        let text = format!("# configuration file /n.conf:\nhttp {{\n{http}\n}}\n");
        let dump = Dump::read(&text);
        let slots = slots("127.0.0.1:3000", "127.0.0.1:4000");
        let show = |way: &Way<'_>| {
            let colors: Vec<_> = way.colors.iter().map(|color| color.as_str()).collect();
            let how = match (way.used, way.direct) {
                (false, _) => "unused",
                (true, true) => "direct",
                (true, false) => "through",
            };
            format!("{} {:?} {} {how}", way.directive.line, way.kind, colors.join("+"))
        };
        find(&dump, &slots, &|path| path.contains("/bluegreen/")).iter().map(show).collect()
    }

    #[test]
    fn every_directive_that_leads_there_is_listed() {
        for (text, expected) in [
            ("server { location / { proxy_pass http://127.0.0.1:3000; } }", &["2 Pass blue direct"][..]),
            ("server { location / { proxy_pass http://LOCALHOST:4000/x/; } }", &["2 Pass green direct"]),
            ("server { location / { grpc_pass grpc://[::1]:3000; } }", &["2 Pass blue direct"]),
            ("server { location / { fastcgi_pass 127.0.0.2:3000; } }", &["2 Pass blue direct"]),
            ("server { location / { uwsgi_pass 0.0.0.0:3000; } }", &["2 Pass blue direct"]),
            (
                "server { location / { proxy_pass http://127.0.0.1:3000$request_uri; } }",
                &["2 Pass blue direct"],
            ),
            ("server { location / { proxy_pass http://10.0.0.1:3000; } }", &[]),
            ("server { location / { proxy_pass http://127.0.0.1:30001; } }", &[]),
            ("server { listen 127.0.0.1:3000; location / { return 200; } }", &[]),
            (
                "server { location / { set $b http://127.0.0.1:3000; proxy_pass $b; } }",
                &["2 Value blue direct", "2 Pass blue through"],
            ),
            (
                "server { location / { set $b http://127.0.0.1:3000; add_header X $b; } }",
                &["2 Value blue unused"],
            ),
            (
                "server { set $p 3000; location / { proxy_pass http://127.0.0.1:$p/a; } }",
                &["2 Pass blue direct"],
            ),
            (
                "map $uri $b { default 127.0.0.1:3000; ~x localhost:4000; }\nserver { location / { proxy_pass http://$b; } }",
                &["2 Value blue direct", "2 Value green direct", "3 Pass blue+green through"],
            ),
            (
                "split_clients $a $b { 50% 127.0.0.1:3000; * u; }\nupstream u { server 127.0.0.1:4000; }\n\
                 server { location / { set $c $b; proxy_pass http://${c}; } }",
                &[
                    "2 Value blue direct",
                    "2 Value green through",
                    "3 Member green direct",
                    "4 Value blue+green through",
                    "4 Pass blue+green through",
                ],
            ),
            ("geo $b { default 127.0.0.1:3000; }", &["2 Value blue unused"]),
            ("upstream u { server 127.0.0.1:3000; }", &["2 Member blue unused"]),
            (
                "upstream u { server 10.0.0.1:1; server 127.0.0.1:3000 backup; }\n\
                 server { location / { proxy_pass https://u/x; } }",
                &["2 Member blue direct", "3 Pass blue through"],
            ),
            (
                "server { location / { proxy_pass http://bluegreen_web; proxy_redirect http://127.0.0.1:3000/ /; } }",
                &["2 Redirect blue direct"],
            ),
            (
                "server { location / { access_by_lua_block { ngx.var.b = 1 } } set $b 127.0.0.1:3000; }",
                &["2 Value blue direct"],
            ),
            ("}\nstream { server { proxy_pass 127.0.0.1:4000; } ", &["3 Pass green direct"]),
            ("server { location / { proxy_pass http://unix:/x:; proxy_pass_header 127.0.0.1:3000; } }", &[]),
        ] {
            assert_eq!(seen(text), expected, "{text}");
        }
    }

    #[test]
    fn files_of_ours_are_no_second_way() {
        let text = "# configuration file /n.conf:\nhttp { include /bluegreen/a; server { proxy_pass http://us; } }\n\
                    # configuration file /bluegreen/a:\nupstream us { server 127.0.0.1:3000; }\n";
        let dump = Dump::read(text);
        assert!(
            find(&dump, &slots("127.0.0.1:3000", "127.0.0.1:4000"), &|path| path.contains("/bluegreen/"))
                .is_empty()
        );
    }

    #[test]
    fn places_are_known_by_name_and_by_address() {
        let by_name = slots("web-3000:3000", "web-4000:3000");
        let one_host = slots("app:3000", "app:4000");
        let network = slots("172.30.0.10:3000", "172.30.0.11:3000");
        for (slots, address, expected) in [
            (&by_name, "web-3000:3000", Some(Color::Blue)),
            (&by_name, "web-4000", Some(Color::Green)),
            (&by_name, "web-30000", None),
            (&one_host, "app:4000", Some(Color::Green)),
            (&one_host, "app", None),
            (&network, "172.30.0.11:3000", Some(Color::Green)),
            (&network, "172.30.0.11:80", None),
            (&network, "127.0.0.1:3000", None),
            (&network, "", None),
        ] {
            assert_eq!(place(slots, address, 80), expected, "{address}");
        }
    }
}
