//! What an nginx needs before it can switch, each finding with its place and what to change. Read-only.

use std::fmt;
use std::path::Path;

use crate::port::{Location, ProxyError, Way};

use super::check::{OLDEST, passes_by};
use super::control::{Control, Seen, Version};
use super::dump::Dump;
use super::live::Live;
use super::reload::Rewrite;
use super::syntax::Directive;
use super::userline::UserLine;
use super::{public, render, takeover};

/// The first nginx with `keepalive_min_timeout`.
const WAITS: Version = Version(1, 27, 4);

/// The first nginx that keeps idle connections to an upstream unasked.
const KEEPS: Version = Version(1, 29, 7);

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// Nothing can be switched before it is changed.
    Blocks,
    /// A switch works, and loses or proves less than it could.
    Weakens,
    /// Good to know.
    Advice,
}

impl Severity {
    /// Its name in a report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Weakens => "weakens",
            Self::Advice => "advice",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A word for programs, such as `version`. Words are added, and none changes its meaning.
    pub code: &'static str,
    /// The file, with its line where one is meant.
    pub place: Option<String>,
    /// What was found.
    pub found: String,
    /// What to change.
    pub change: String,
    /// Who can change it.
    pub fix: Fix,
}

/// Who can put a finding right.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fix {
    /// [`Nginx::install`](super::Nginx::install).
    Install,
    /// The same, when it is told to take over this line: `FILE:LINE`.
    InstallLine(String),
    /// Only a person.
    ByHand,
}

impl Finding {
    fn new(
        severity: Severity,
        code: &'static str,
        found: impl Into<String>,
        change: impl Into<String>,
    ) -> Self {
        Self { severity, code, place: None, found: found.into(), change: change.into(), fix: Fix::ByHand }
    }

    fn fixed_by(mut self, fix: Fix) -> Self {
        self.fix = fix;
        self
    }

    fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }
}

/// What an nginx was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examination {
    /// Its version, when it could be asked.
    pub version: Option<String>,
    /// What was found, the gravest first.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// Whether a switch can be made now.
    pub fn can_switch(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Blocks)
    }

    fn new(version: Option<Version>, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.severity);
        Self { version: version.map(|version| version.to_string()), findings }
    }

    /// A refusal that came before anything could be looked at; other errors stay errors.
    pub(super) fn refused(error: ProxyError) -> Result<Self, ProxyError> {
        Ok(Self::new(None, refusal("place", error)?))
    }
}

/// What is not recognized is a finding; what failed is an error.
fn refusal(code: &'static str, error: ProxyError) -> Result<Vec<Finding>, ProxyError> {
    match error {
        ProxyError::Unrecognized { path, found, expected } => {
            Ok(vec![Finding::new(Severity::Blocks, code, found, format!("expected: {expected}")).at(path)])
        }
        ProxyError::Unreadable { at, reason } => Ok(vec![unreadable(Severity::Blocks, &at, &reason)]),
        ProxyError::SecondWay { ways } => {
            let change =
                "move it into that file and let it name the same container, so that it is switched as well";
            Ok(ways.iter().map(|way| second_way(way, "the switch", change)).collect())
        }
        error => Err(error),
    }
}

/// It would go on to a place that is stopped.
fn second_way(way: &Way, past: &str, change: &str) -> Finding {
    let colors: Vec<_> = way.colors.iter().map(|color| color.as_str()).collect();
    let found = format!(
        "`{}` leads to {} without passing {past}: it would still lead to a container that a deploy stops",
        way.directive,
        colors.join(" and ")
    );
    Finding::new(Severity::Blocks, "second-way", found, change).at(way.at.to_string())
}

/// Nothing is wrong with what it runs with, and it could not load that again.
fn no_reload(error: &ProxyError) -> Finding {
    let (found, place) = match error {
        ProxyError::Broken { output, missing, .. } if missing.is_empty() => (output.clone(), None),
        ProxyError::Broken { missing, .. } => {
            let all: Vec<_> = missing.iter().map(ToString::to_string).collect();
            (all.join("; "), missing.first().map(|missing| missing.at.to_string()))
        }
        error => (error.to_string(), None),
    };
    let found =
        format!("nginx would not start or reload with what lies there, a switch needs neither: {found}");
    let change = "put the file back, or take out what names it";
    Finding { place, ..Finding::new(Severity::Weakens, "test", found, change) }
}

/// What is in there is not known, which is not the same as nothing.
fn unreadable(severity: Severity, at: &Location, reason: &str) -> Finding {
    let change = "fix it, or let the user that runs bluegreen read it";
    Finding::new(severity, "unreadable", format!("could not be read: {reason}"), change).at(at.to_string())
}

fn place(control: &Control<'_>, dump: &Dump, directive: &Directive) -> String {
    let path = dump.file_of(directive).map_or(dump.main(), |(path, _)| path);
    control.location(path, Some(directive.line)).to_string()
}

/// Files that could not be read: what they say is not known.
fn unread(control: &Control<'_>, dump: &Dump, findings: &mut Vec<Finding>) {
    for (path, unread) in dump.unread() {
        let at = control.location(path, unread.line);
        let finding = unreadable(Severity::Weakens, &at, &unread.reason);
        if !findings.iter().any(|known| known.code == finding.code && known.place == finding.place) {
            findings.push(finding);
        }
    }
}

/// What takes lines over, tested before it says that it can.
const INSTALL: &str = "bluegreen nginx install";

impl Live<'_> {
    pub(super) async fn examine(&self) -> Result<Examination, ProxyError> {
        self.control.master().await?;
        let seen = self.control.read().await?;
        self.tested(&seen).await?;
        let Seen { dump, version, sound } = seen;
        let mut findings = Vec::new();
        // What it has loaded may not pass any more: a file that it names is gone.
        if sound && let Err(output) = self.control.test().await? {
            findings.push(no_reload(&self.broken(&dump, output, true).await));
        }
        if version < OLDEST {
            let found = format!("nginx is {version}");
            findings.push(Finding::new(
                Severity::Blocks,
                "version",
                found,
                format!("update it to {OLDEST} or newer"),
            ));
        }
        if let Err(error) = self.check_slots() {
            findings.extend(refusal("address", error)?);
        }
        let rendered = match self.rendered() {
            Ok(rendered) => rendered,
            Err(error) => {
                findings.extend(refusal("name-resolution", error)?);
                return Ok(Examination::new(Some(version), findings));
            }
        };
        let own = self.inside.join(render::upstreams_file(self.app));
        if !dump.takes(&own.display().to_string()) {
            let change = format!("put `include {}/*.conf;` inside http {{ }}", self.inside.display());
            let found = format!("nginx includes no *.conf of {}", self.inside.display());
            findings.push(Finding::new(Severity::Blocks, "directory", found, change).at(self.main(&dump)));
        } else if let Some(change) = self.changes(&rendered)?.first() {
            let found = format!("the files are not installed: an install would {}", change.summary);
            findings.push(Finding::new(Severity::Blocks, "files", found, INSTALL).fixed_by(Fix::Install));
        } else if self.generation().await.as_ref() != Some(&rendered.generation) {
            let found = "the files are there, and nginx has not loaded them";
            findings.push(Finding::new(Severity::Blocks, "reload", found, INSTALL).fixed_by(Fix::Install));
        }
        self.line(&dump, &mut findings).await?;
        self.beside(&dump, version, &mut findings);
        self.past(&dump, &mut findings);
        unread(&self.control, &dump, &mut findings);
        Ok(Examination::new(Some(version), findings))
    }

    fn main(&self, dump: &Dump) -> String {
        let main = Path::new(dump.main());
        self.control.outside(main).unwrap_or_else(|| main.to_owned()).display().to_string()
    }

    /// The user's line.
    async fn line(&self, dump: &Dump, findings: &mut Vec<Finding>) -> Result<(), ProxyError> {
        let takeover = match self.takeover(dump).await {
            Ok(takeover) => takeover,
            Err(error) => {
                findings.extend(refusal("line", error)?);
                return Ok(());
            }
        };
        match takeover.line {
            UserLine::Known(lines) => {
                for line in lines {
                    let found =
                        format!("`{}` leads to the application without passing the live switch", line.from);
                    let change = format!("{INSTALL} makes it `{}`", line.to);
                    let at = format!("{}:{}", line.path, line.line);
                    let finding = Finding::new(Severity::Blocks, "line", found, change).at(at);
                    findings.push(finding.fixed_by(Fix::Install));
                }
            }
            UserLine::ByHand { reason, candidates } if candidates.is_empty() => {
                let place = &self.site.slots.blue.endpoint;
                let change =
                    format!("add a proxy_pass to {place} to a location of your server, then run {INSTALL}");
                findings.push(Finding::new(Severity::Blocks, "line", reason, change).at(self.main(dump)));
            }
            UserLine::ByHand { reason, candidates } => {
                for line in candidates {
                    let found = format!("`{}`: {reason}", line.from);
                    let at = format!("{}:{}", line.path, line.line);
                    let change = format!("if this line belongs to the application: {INSTALL} --line {at}");
                    let finding = Finding::new(Severity::Blocks, "line", found, change).at(at.clone());
                    findings.push(finding.fixed_by(Fix::InstallLine(at)));
                }
            }
            UserLine::InPlace => {
                findings.extend(self.earlier_form(dump).into_iter().map(|line| {
                    let found = "this is the earlier form of our line: the application sees another Host, and \
                                 clients get 503 while nothing of ours serves";
                    let change = format!("{INSTALL} brings it into today's form");
                    let finding = Finding::new(Severity::Advice, "earlier-form", found, change);
                    finding.at(place(&self.control, dump, line)).fixed_by(Fix::Install)
                }));
                if let Err(error) = self.check_location(dump) {
                    findings.extend(refusal("location", error)?);
                }
                if self.site.public.is_none() && self.public(dump).is_none() {
                    let found = public::NOT_ASKED;
                    let change = "set `url` in [nginx] to a plain HTTP address of the same server, or live with a \
                                  proof by nginx's own word and a request through it from inside";
                    findings.push(Finding::new(Severity::Weakens, "tls-only", found, change));
                }
            }
        }
        Ok(())
    }

    /// What else of the user's leads to the same places.
    fn past(&self, dump: &Dump, findings: &mut Vec<Finding>) {
        let change =
            format!("name the address itself in its proxy_pass, which {INSTALL} takes over, or remove it");
        for way in self.ways(dump) {
            let told = self.control.way(&way);
            let at = Some(told.at.to_string());
            // The line that an install exchanges is said to be that.
            if findings.iter().any(|known| known.severity == Severity::Blocks && known.place == at) {
                continue;
            }
            if passes_by(&way) {
                findings.push(second_way(&told, "the live switch", &change));
            } else if !way.used {
                let found =
                    format!("`{}` names a slot of the application, and nothing uses it", told.directive);
                findings.push(
                    Finding::new(Severity::Advice, "unused", found, "remove it").at(told.at.to_string()),
                );
            }
        }
    }

    /// What else of the user's costs something.
    fn beside(&self, dump: &Dump, version: Version, findings: &mut Vec<Finding>) {
        let target =
            |directive: &Directive| takeover::target(&self.site.slots, directive.arg(0).unwrap_or_default());
        for upstream in dump.upstreams() {
            if dump.file_of(upstream).is_none_or(|(path, _)| self.is_own(path)) {
                continue;
            }
            let children = upstream.children();
            if !children.iter().any(|child| child.name == "server" && target(child).is_some()) {
                continue;
            }
            let says = |name: &str| children.iter().any(|child| child.name == name);
            let name = upstream.arg(0).unwrap_or_default();
            if (says("keepalive") || version >= KEEPS) && !says("keepalive_timeout") {
                let found = format!(
                    "upstream {name} keeps idle connections to the application for 60 s, which cannot be \
                     distinguished from requests in flight: a drain would wait for them"
                );
                let change = "remove it if nothing uses it any more, or add `keepalive_timeout 2s;` to it";
                let finding = Finding::new(Severity::Weakens, "upstream-keepalive", found, change);
                findings.push(finding.at(place(&self.control, dump, upstream)));
            }
            let named = children
                .iter()
                .any(|child| child.name == "server" && target(child).is_some_and(|(_, by)| by));
            if named {
                let found = format!(
                    "upstream {name} names a container: nginx will not start while that name does not resolve"
                );
                let change = "remove it if nothing uses it any more, or use addresses";
                let finding = Finding::new(Severity::Weakens, "name-resolution", found, change);
                findings.push(finding.at(place(&self.control, dump, upstream)));
            }
        }
    }
}

impl Rewrite<'_> {
    pub(super) async fn examine(&self) -> Result<Examination, ProxyError> {
        self.control.master().await?;
        let mut findings = Vec::new();
        if let Err(error) = self.check().await {
            findings.extend(refusal("file", error)?);
        }
        // A configuration that names only a container that is gone passes the check, and cannot be looked at.
        let Ok(Seen { dump, version, .. }) = self.control.read().await else {
            return Ok(Examination::new(None, findings));
        };
        findings.extend(self.reload_finding(&dump, version));
        unread(&self.control, &dump, &mut findings);
        Ok(Examination::new(Some(version), findings))
    }

    /// What a reload of this nginx loses, and what to do about it. `None`: nothing is lost.
    pub(super) async fn loss(&self) -> Result<Option<Finding>, ProxyError> {
        let Seen { dump, version, .. } = self.control.read().await?;
        Ok(self.reload_finding(&dump, version))
    }

    fn reload_finding(&self, dump: &Dump, version: Version) -> Option<Finding> {
        if version < WAITS {
            let found = format!(
                "nginx {version} closes idle client connections at a reload: expect about (keep-alive requests/s x \
                 round trip) lost requests at each switch, as 1000/s x 50 ms = 50"
            );
            let change = "`mode = \"live\"` and `bluegreen nginx install` lose none; nginx 1.27.4 has \
                          keepalive_min_timeout";
            return Some(Finding::new(Severity::Weakens, "reload-loss", found, change));
        }
        let mut said = None;
        dump.visit(&mut |directive, _| {
            if directive.name == "keepalive_min_timeout" {
                said = directive.arg(0).map(str::to_owned);
            }
        });
        if said.is_some_and(|value| value.trim_end_matches(char::is_alphabetic) != "0") {
            return None;
        }
        let found = "without keepalive_min_timeout nginx closes idle client connections at a reload, and requests \
                     on their way are lost";
        let change = "add this line inside http { }: keepalive_min_timeout 5s;";
        let finding = Finding::new(Severity::Weakens, "keepalive-min-timeout", found, change);
        let at = dump.http().map(|http| place(&self.control, dump, http));
        Some(finding.at(at.unwrap_or_else(|| dump.main().to_owned())))
    }
}
