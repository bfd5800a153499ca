//! Live mode: what an install does with the user's own lines, and what a removal puts there again.

use std::net::IpAddr;
use std::path::Path;

use tokio::net::TcpStream;

use crate::model::{Color, Endpoint, InstanceName};
use crate::port::ProxyError;

use super::check::passes_by;
use super::control::{other, unrecognized};
use super::copy::changed;
use super::dump::Dump;
use super::edit::{Edit, Op};
use super::live::Live;
use super::render;
use super::spell::{Target, Why};
use super::syntax::Directive;
use super::taken::{Line, Taken};
use super::takeover::{self, Pass, PassSearch};

/// A line of the user's own configuration, and what is to stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LineChange {
    /// The file, on this host where it can be seen there, else as nginx names it.
    pub path: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What stands there.
    pub from: String,
    /// What is to stand there.
    pub to: String,
}

/// Whether the user's own configuration includes the live switch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserLine {
    /// It does.
    InPlace,
    /// Not everywhere, and these lines can be exchanged without a doubt.
    Known(Vec<LineChange>),
    /// It does not, and a person has to say where.
    ByHand {
        /// Why.
        reason: String,
        /// The lines that it may be.
        candidates: Vec<LineChange>,
    },
}

/// What an install does with the user's lines.
#[derive(Debug)]
pub(super) struct Takeover {
    pub(super) line: UserLine,
    /// The user's files that are to be changed.
    pub(super) edits: Vec<Edit>,
    /// What was taken over, then.
    pub(super) taken: Taken,
    /// Nothing of ours was in use: what is to be served, then, as far as the user's lines tell.
    pub(super) begins: Option<Begins>,
}

/// Where requests go until the first switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begins {
    /// To this colour, else to where they went before.
    pub(super) color: Option<Color>,
}

/// Where lines lead now.
struct Before {
    address: Option<String>,
    color: Option<Color>,
}

/// What is to be done with which directives.
type Ops<'d> = Vec<(&'d Directive, Op)>;

impl Live<'_> {
    /// What was taken over.
    pub(super) fn taken(&self) -> Result<Taken, ProxyError> {
        let path = self.flag("lines");
        match crate::adapter::atomic::read(&path).map_err(other("read nginx's files"))? {
            None => Ok(Taken::default()),
            Some(text) => Taken::read(&text).map_err(|reason| {
                unrecognized(&path, format!("it cannot be read: {reason}"), "it as an install wrote it")
            }),
        }
    }

    /// What is to be done with the user's lines.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Unrecognized`] when a line leads to this application that must not be exchanged.
    pub(super) async fn takeover(&self, dump: &Dump) -> Result<Takeover, ProxyError> {
        self.takeover_after(dump, &[], !self.included(dump)).await
    }

    /// The same for an install, which brings lines of the earlier form into today's: they are made plain, as a removal
    /// would make them, and then taken over as any line is.
    pub(super) async fn takeover_anew(&self, dump: &Dump) -> Result<Takeover, ProxyError> {
        let earlier = self.earlier_form(dump);
        if earlier.is_empty() {
            return self.takeover(dump).await;
        }
        let plain = self.made(self.flagged()?, &self.taken()?);
        let ops: Vec<_> = earlier.iter().map(|line| (*line, Op::Replace(plain.clone()))).collect();
        let edits = Edit::all(&self.control, dump, &ops, &[])?;
        let new = edits.iter().map(|edit| (edit.inside.clone(), edit.new.clone())).collect();
        self.takeover_after(&Dump::of(changed(dump, new, &[])), &edits, false).await
    }

    /// Lines that a person wrote, which choose the colour and pass requests on in one.
    pub(super) fn earlier_form<'d>(&self, dump: &'d Dump) -> Vec<&'d Directive> {
        let mut lines = self.includes(dump);
        lines.retain(|line| self.includes_kind(dump, line, "location"));
        lines
    }

    /// What is to be done where these edits were made already. `fresh`: nothing of ours is in use.
    async fn takeover_after(
        &self,
        dump: &Dump,
        earlier: &[Edit],
        fresh: bool,
    ) -> Result<Takeover, ProxyError> {
        self.control.readable(dump)?;
        let mut taken = if fresh { Taken::default() } else { self.taken()? };
        let used = |line: &Line| self.is_used(dump, &render::line_kind(line.number));
        taken.lines.retain(used);
        let protocol = self.site.protocol;
        let chosen = |path: &str, line: usize| {
            self.site.lines.iter().any(|wanted| wanted.line == line && wanted.is(path, &self.outside(path)))
        };
        let found = takeover::find(dump, &self.site.slots, protocol, &|path| self.is_own(path), &chosen);
        let passes = match found {
            PassSearch::Sure(passes) => passes,
            PassSearch::Refused(pass, why) => return Err(self.refused(&pass, why)),
            PassSearch::Unsure { .. } if !fresh => {
                return Ok(Takeover { line: UserLine::InPlace, edits: Vec::new(), taken, begins: None });
            }
            PassSearch::Unsure { reason, candidates } => {
                // What cannot be read may be where it stands.
                if let Some((path, unread)) = dump.unread().next() {
                    return Err(self.control.unreadable(path, unread));
                }
                self.no_other_way(dump, &[])?;
                let begins = Begins { color: self.only_answering().await };
                let candidates = candidates.iter().map(|pass| self.change_of(pass, taken.next())).collect();
                let line = UserLine::ByHand { reason, candidates };
                return Ok(Takeover { line, edits: Vec::new(), taken, begins: Some(begins) });
            }
        };
        self.no_other_way(dump, &passes)?;
        let before = self.before(&passes[0]).await?;
        taken.before = taken.before.or(before.address);
        let (ops, changes) = self.exchange(dump, &passes, &mut taken)?;
        let edits = Edit::all(&self.control, dump, &ops, earlier)?;
        let begins = fresh.then_some(Begins { color: before.color });
        Ok(Takeover { line: UserLine::Known(changes), edits, taken, begins })
    }

    /// Whether something else leads to the application, which a switch would leave behind.
    fn no_other_way(&self, dump: &Dump, passes: &[Pass<'_>]) -> Result<(), ProxyError> {
        let ways = self.ways(dump);
        let other = ways.iter().filter(|way| {
            passes_by(way) && passes.iter().all(|pass| !std::ptr::eq(pass.directive, way.directive))
        });
        let ways: Vec<_> = other.map(|way| self.control.way(way)).collect();
        if ways.is_empty() { Ok(()) } else { Err(ProxyError::SecondWay { ways }) }
    }

    /// The lines exchanged, and the choice of the colour put in front of their servers.
    fn exchange<'d>(
        &self,
        dump: &'d Dump,
        passes: &[Pass<'d>],
        taken: &mut Taken,
    ) -> Result<(Ops<'d>, Vec<LineChange>), ProxyError> {
        let protocol = self.site.protocol;
        let upstream = render::upstream_name(self.app);
        let tries = render::tries(protocol, &self.site.slots, taken.before.as_deref());
        let choice = render::include(self.app, &self.inside, "color");
        let (mut ops, mut changes, mut servers) = (Vec::new(), Vec::new(), Vec::new());
        for pass in passes {
            let refused = |why: Why| self.refused(pass, why);
            let now = pass.spelled(dump, protocol, &upstream, tries.as_deref()).map_err(refused)?;
            for server in pass.servers() {
                if servers.iter().any(|known| std::ptr::eq(*known, server)) {
                    continue;
                }
                servers.push(server);
                if dump.level(server).iter().any(|said| self.includes_kind(dump, said, "color")) {
                    continue;
                }
                if let Some(why) = takeover::bars(dump, server) {
                    return Err(refused(why));
                }
                ops.extend(server.children().first().map(|first| (first, Op::Before(choice.clone()))));
            }
            let number = taken.next();
            let original = dump
                .file_of(pass.directive)
                .and_then(|(_, bytes)| bytes.get(pass.directive.span.clone()))
                .filter(|original| original.is_ascii())
                .ok_or_else(|| refused(Why::new("it has letters that are not ASCII", "plain ones")))?;
            taken.lines.push(Line { number, original: String::from_utf8_lossy(original).into_owned(), now });
            changes.push(self.change_of(pass, number));
            ops.push((
                pass.directive,
                Op::Replace(render::include(self.app, &self.inside, &render::line_kind(number))),
            ));
        }
        Ok((ops, changes))
    }

    fn refused(&self, pass: &Pass<'_>, why: Why) -> ProxyError {
        let at = format!("{}:{}", self.outside(pass.path), pass.directive.line);
        let line = pass.directive.arg(0).unwrap_or_default();
        let found = format!("`{} {line}` cannot be taken over: {}", pass.directive.name, why.found);
        unrecognized(Path::new(&at), found, why.expected)
    }

    pub(super) fn outside(&self, path: &str) -> String {
        let outside = self.control.outside(Path::new(path));
        outside.map_or_else(|| path.to_owned(), |path| path.display().to_string())
    }

    fn change_of(&self, pass: &Pass<'_>, number: usize) -> LineChange {
        let argument = pass.directive.arg(0).unwrap_or_default();
        LineChange {
            path: self.outside(pass.path),
            line: pass.directive.line,
            from: format!("{} {argument};", pass.directive.name),
            to: render::include(self.app, &self.inside, &render::line_kind(number)),
        }
    }

    /// Where a line leads now: the colour that answers there, if it is one, and the address.
    async fn before(&self, pass: &Pass<'_>) -> Result<Before, ProxyError> {
        let mut before = Before { address: None, color: None };
        for host in &pass.leads.hosts {
            let Some(address) = self.address(host).await? else { continue };
            let shown = address.to_string();
            let color = Color::ALL.into_iter().find(|color| self.site.slots.of(*color).endpoint == address);
            before.address.get_or_insert(shown);
            if let Some(color) = color
                && self.answers(&address).await
            {
                before.color = Some(color);
                break;
            }
        }
        let several = pass.leads.colors.is_empty() && pass.leads.hosts.len() > 1;
        if before.address.is_none() || several {
            let at = format!("{}:{}", self.outside(pass.path), pass.directive.line);
            let hosts = pass.leads.hosts.join(", ");
            let (found, expected) = if several {
                (format!("it leads to several servers: {hosts}"), "one, to go back to")
            } else {
                let found = format!(
                    "it leads to {hosts}, whose address could not be found: requests could not go there until the \
                     first release"
                );
                (found, "a container that runs on a network of nginx's, or an address")
            };
            return Err(unrecognized(Path::new(&at), found, expected));
        }
        Ok(before)
    }

    /// The address that a host of the user's has for nginx now.
    async fn address(&self, host: &str) -> Result<Option<Endpoint>, ProxyError> {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (host, Some(80)),
        };
        let Some(port) = port else { return Ok(None) };
        if let Ok(ip) = name.trim_matches(['[', ']']).parse() {
            return Ok(Some(Endpoint::from_ip(ip, port)));
        }
        let contained = self.control.own_address().is_some();
        if name == "localhost" && !contained {
            return Ok(Some(Endpoint::from_ip(IpAddr::from([127, 0, 0, 1]), port)));
        }
        let instance = match InstanceName::new(name) {
            Ok(name) => self.runtime.find(&name).await.map_err(other("find the application's container"))?,
            Err(_) => None,
        };
        if let Some(ip) = instance.and_then(|instance| self.control.seen(&instance)) {
            return Ok(Some(Endpoint::from_ip(ip, port)));
        }
        if contained {
            return Ok(None);
        }
        let found =
            tokio::time::timeout(self.site.request_timeout, tokio::net::lookup_host((name, port))).await;
        let found = found.ok().and_then(Result::ok).and_then(|mut found| found.next());
        Ok(found.map(|found| Endpoint::from_ip(found.ip(), port)))
    }

    /// The one that takes connections, when the other does not.
    async fn only_answering(&self) -> Option<Color> {
        let [blue, green] = [Color::Blue, Color::Green].map(|color| &self.site.slots.of(color).endpoint);
        match (self.answers(blue).await, self.answers(green).await) {
            (true, false) => Some(Color::Blue),
            (false, true) => Some(Color::Green),
            _ => None,
        }
    }

    async fn answers(&self, endpoint: &Endpoint) -> bool {
        let connect = TcpStream::connect((endpoint.host(), endpoint.port()));
        matches!(tokio::time::timeout(self.site.request_timeout, connect).await, Ok(Ok(_)))
    }

    /// The user's files without the live switch: each line as it was, naming what serves.
    pub(super) async fn plain(&self, dump: &Dump, serves: Option<Color>) -> Result<Vec<Edit>, ProxyError> {
        let taken = self.taken()?;
        let mut ops: Vec<(&Directive, Op)> = Vec::new();
        for include in self.includes(dump) {
            if self.includes_kind(dump, include, "color") {
                ops.push((include, Op::Remove));
                continue;
            }
            let line = taken
                .lines
                .iter()
                .find(|line| self.includes_kind(dump, include, &render::line_kind(line.number)));
            let to = match line {
                Some(line) => {
                    let to = self.original(dump, line, serves, &mut ops).await?;
                    redirects(dump, &authority(&line.original), &authority(&to), &mut ops);
                    to
                }
                None => self.made(serves, &taken),
            };
            ops.push((include, Op::Replace(to)));
        }
        Edit::all(&self.control, dump, &ops, &[])
    }

    /// A line where a person put our include.
    fn made(&self, serves: Option<Color>, taken: &Taken) -> String {
        let of = |color: Color| self.site.slots.of(color).endpoint.to_string();
        let address = serves.map(of).or_else(|| taken.before.clone()).unwrap_or_else(|| of(Color::Blue));
        format!("{} {}{address};", self.site.protocol.directive(), self.site.protocol.scheme())
    }

    /// A line as it was, naming what serves; its upstream in `ops`, where that does the naming.
    async fn original<'d>(
        &self,
        dump: &'d Dump,
        line: &Line,
        serves: Option<Color>,
        ops: &mut Ops<'d>,
    ) -> Result<String, ProxyError> {
        let Some(color) = serves else { return Ok(line.original.clone()) };
        let slot = self.site.slots.of(color);
        let authority = authority(&line.original);
        let authority = authority.as_str();
        if let Some(upstream) = dump.upstreams().find(|upstream| upstream.arg(0) == Some(authority)) {
            let members: Vec<_> =
                dump.level(upstream).into_iter().filter(|child| child.name == "server").collect();
            let leads = |server: &&Directive| {
                takeover::target(&self.site.slots, server.arg(0).unwrap_or_default())
                    .is_some_and(|(to, _)| to == color)
            };
            if let (None, [first, ..]) = (members.iter().copied().find(|server| leads(server)), &members[..])
                && !ops.iter().any(|(known, _)| std::ptr::eq(*known, *first))
            {
                ops.push((first, Op::Word(slot.endpoint.to_string())));
            }
            return Ok(line.original.clone());
        }
        if takeover::target(&self.site.slots, authority).is_some_and(|(to, _)| to == color) {
            return Ok(line.original.clone());
        }
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let local = slot.endpoint.ip().is_some_and(|ip| ip.is_loopback());
        let named = format!("{}:{}", slot.name, slot.port);
        let to = if host == "localhost" && local {
            format!("localhost:{}", slot.endpoint.port())
        } else if host.trim_matches(['[', ']']).parse::<IpAddr>().is_err()
            && self.address(&named).await?.as_ref() == Some(&slot.endpoint)
        {
            named
        } else {
            slot.endpoint.to_string()
        };
        Ok(line.original.replacen(authority, &to, 1))
    }
}

/// Host and port in a line.
fn authority(line: &str) -> String {
    let parsed = super::syntax::parse(line).unwrap_or_default();
    let value = parsed.first().and_then(|directive| directive.arg(0)).unwrap_or_default();
    Target::of(value).authority.to_owned()
}

/// What the user says of the redirects of one place, said of another.
fn redirects<'d>(dump: &'d Dump, from: &str, to: &str, ops: &mut Vec<(&'d Directive, Op)>) {
    if from == to {
        return;
    }
    dump.visit(&mut |directive, _| {
        let Some(pattern) = directive.arg(0).filter(|_| directive.name == "proxy_redirect") else { return };
        if Target::of(pattern).authority == from
            && !ops.iter().any(|(known, _)| std::ptr::eq(*known, directive))
        {
            ops.push((directive, Op::Word(pattern.replacen(from, to, 1))));
        }
    });
}
