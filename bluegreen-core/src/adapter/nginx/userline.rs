//! Live mode: the line of the user's own that is exchanged, on disk and with what serves now.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::net::TcpStream;

use crate::model::{Color, Endpoint};
use crate::port::{FileChange, ProxyError};

use super::adopt::{self, Pass, Place};
use super::control::{other, unrecognized};
use super::dump::Dump;
use super::live::Live;
use super::syntax::{self, Directive};
use super::{render, unified};

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
    /// It does not, and this one line can be exchanged without a doubt.
    Known(LineChange),
    /// It does not, and a person has to say where.
    ByHand {
        /// Why.
        reason: String,
        /// The lines that it may be.
        candidates: Vec<LineChange>,
    },
}

/// A file of the user's with lines exchanged.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) path: PathBuf,
    old: Vec<u8>,
    pub(super) new: Vec<u8>,
}

impl Edit {
    pub(super) fn change(&self) -> FileChange {
        let path = self.path.display().to_string();
        let [old, new] = [&self.old, &self.new].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        FileChange::new(&path, format!("change {path}"), unified(&path, &old, &new))
    }
}

/// What an install does with the user's line.
#[derive(Debug)]
pub(super) struct Adoption {
    pub(super) line: UserLine,
    /// The user's file, when it is to be changed.
    pub(super) edit: Option<Edit>,
    /// The colour that the user's configuration sends its traffic to now, as far as that can be told.
    pub(super) serves: Option<Color>,
}

impl Live<'_> {
    /// What is to be done with the user's line.
    pub(super) async fn adoption(&self, dump: &Dump) -> Result<Adoption, ProxyError> {
        if self.included(dump) {
            return Ok(Adoption { line: UserLine::InPlace, edit: None, serves: None });
        }
        let ours = |path: &str| Path::new(path).starts_with(self.inside.join(render::FOLDER));
        let (pass, mut reason, candidates) =
            match adopt::find(dump, &self.site.slots, self.site.protocol, &ours) {
                Place::Sure(pass) => (Some(pass), String::new(), Vec::new()),
                Place::Unsure { reason, candidates } => (None, reason, candidates),
            };
        let to = render::include_line(self.app, &self.inside);
        let serves;
        let mut at: Vec<&Pass<'_>> = candidates.iter().collect();
        if let Some(pass) = &pass {
            serves = self.answering(&pass.colors).await;
            match self.doubt(pass, serves).await? {
                Some(doubt) => reason = doubt,
                None => match self.edit(pass.path, &[(pass.directive, to.clone())]) {
                    Ok(edit) => {
                        let line = UserLine::Known(self.line_change(pass, &to));
                        return Ok(Adoption { line, edit: Some(edit), serves });
                    }
                    Err(ProxyError::Unrecognized { found, expected, .. }) => {
                        reason = format!("{found}; expected {expected}");
                    }
                    Err(error) => return Err(error),
                },
            }
            at.push(pass);
        } else {
            // A person who changes the line and reloads must not meet a 503.
            serves = match &candidates[..] {
                [only] if !only.colors.is_empty() => self.answering(&only.colors).await,
                _ => self.only_answering().await,
            };
        }
        let candidates = at.into_iter().map(|pass| self.line_change(pass, &to)).collect();
        Ok(Adoption { line: UserLine::ByHand { reason, candidates }, edit: None, serves })
    }

    fn line_change(&self, pass: &Pass<'_>, to: &str) -> LineChange {
        let path = self.control.outside(Path::new(pass.path));
        let argument = pass.directive.arg(0).unwrap_or_default();
        LineChange {
            path: path.map_or_else(|| pass.path.to_owned(), |path| path.display().to_string()),
            line: pass.directive.line,
            from: format!("{} {argument};", pass.directive.name),
            to: to.to_owned(),
        }
    }

    /// Why what the line goes to now may be another place than where the live switch would send its traffic.
    async fn doubt(&self, pass: &Pass<'_>, serves: Option<Color>) -> Result<Option<String>, ProxyError> {
        if !pass.by_name {
            return Ok(None);
        }
        let Some(color) = serves else {
            let places: Vec<String> =
                pass.colors.iter().map(|color| self.site.slots.of(*color).endpoint.to_string()).collect();
            return Ok(Some(format!(
                "it names a container, and nothing answers at {}, where the live switch would send its traffic",
                places.join(" or ")
            )));
        };
        let slot = self.site.slots.of(color);
        let Some(ip) = slot.endpoint.ip().filter(|ip| !ip.is_loopback()) else { return Ok(None) };
        let found = self.runtime.find(&slot.name).await.map_err(other("find the application's container"))?;
        let there = found.is_some_and(|instance| {
            instance.networks.values().chain(&instance.ip).any(|address| *address == ip)
        });
        Ok((!there).then(|| {
            format!(
                "it names container {}, which is not at {}, where the live switch would send its traffic",
                slot.name, slot.endpoint
            )
        }))
    }

    /// The first of these that takes a connection.
    async fn answering(&self, colors: &[Color]) -> Option<Color> {
        for color in colors {
            if self.answers(&self.site.slots.of(*color).endpoint).await {
                return Some(*color);
            }
        }
        None
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

    /// A file of the user's, as nginx names it, with these directives exchanged and every other byte kept.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Unrecognized`] when what lies on this host is not what nginx reads.
    pub(super) fn edit(&self, path: &str, exchange: &[(&Directive, String)]) -> Result<Edit, ProxyError> {
        let inside = Path::new(path);
        let unseen = || {
            unrecognized(
                inside,
                "it lies only in nginx's container",
                "its directory to be mounted from this host",
            )
        };
        let outside = self.control.outside(inside).ok_or_else(unseen)?;
        // Links are followed: a link is not replaced by a file.
        let outside = fs::canonicalize(outside).map_err(|_| unseen())?;
        self.control.inside(&outside)?;
        let old = fs::read(&outside).map_err(other("read nginx's files"))?;
        let text = syntax::ascii(&old);
        let directives = syntax::parse(&text).unwrap_or_default();
        let mut edits = Vec::new();
        for (wanted, to) in exchange {
            let mut found = Vec::new();
            for directive in &directives {
                directive.walk("", &mut |directive, _| {
                    let same = directive.line == wanted.line
                        && directive.name == wanted.name
                        && directive.arg(0) == wanted.arg(0);
                    found.extend(same.then(|| directive.span.clone()));
                });
            }
            let [span] = &found[..] else {
                let line = wanted.line;
                return Err(unrecognized(
                    &outside,
                    format!("line {line} is another"),
                    "what nginx reads there",
                ));
            };
            edits.push((span.clone(), to));
        }
        edits.sort_by_key(|(span, _)| span.start);
        let (mut new, mut from) = (Vec::with_capacity(old.len()), 0);
        for (span, to) in edits {
            new.extend_from_slice(old.get(from..span.start).unwrap_or_default());
            new.extend_from_slice(to.as_bytes());
            from = span.end;
        }
        new.extend_from_slice(old.get(from..).unwrap_or_default());
        Ok(Edit { path: outside, old, new })
    }

    /// The user's files with each include of the live switch made a plain line to `color`, or to a 503.
    pub(super) fn plain(&self, dump: &Dump, color: Option<Color>) -> Result<Vec<Edit>, ProxyError> {
        let (pass, scheme) = (self.site.protocol.directive(), self.site.protocol.scheme());
        let to = match color {
            Some(color) => format!("{pass} {scheme}{};", self.site.slots.of(color).endpoint),
            None => "return 503;".to_owned(),
        };
        let mut files: Vec<(&str, Vec<(&Directive, String)>)> = Vec::new();
        for include in self.includes(dump) {
            let Some((path, _)) = dump.file_of(include) else { continue };
            match files.iter_mut().find(|(known, _)| *known == path) {
                Some((_, exchange)) => exchange.push((include, to.clone())),
                None => files.push((path, vec![(include, to.clone())])),
            }
        }
        files.into_iter().map(|(path, exchange)| self.edit(path, &exchange)).collect()
    }
}
