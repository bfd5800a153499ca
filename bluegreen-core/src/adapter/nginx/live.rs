//! Live mode: which colour is served is a matter of two empty files, looked at by nginx for each request.
//!
//! | `<app>.none` | `<app>.green` | served |
//! |---|---|---|
//! | there | any | nothing of ours: what the user had, where that is known, else nothing (503) |
//! | not | there | green |
//! | not | not | blue |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::adapter::{atomic, http};
use crate::model::{AppName, Backend, Color, Endpoint};
use crate::port::{ContainerRuntime, FileChange, InFlight, Proof, ProxyError, Serving};

use super::control::{Control, other, unrecognized};
use super::render::{self, Rendered};
use super::taken::Taken;
use super::{PublicUrl, Site, process, public};

/// An application whose nginx switches live.
#[derive(Debug)]
pub(super) struct Live<'a> {
    pub(super) app: &'a AppName,
    pub(super) site: &'a Site,
    pub(super) runtime: &'a Arc<dyn ContainerRuntime>,
    pub(super) control: Control<'a>,
    /// The directory on this host.
    pub(super) dir: PathBuf,
    /// The directory as nginx sees it.
    pub(super) inside: PathBuf,
    port: u16,
}

/// A flag that is made, or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) kind: &'static str,
    pub(super) there: bool,
}

impl<'a> Live<'a> {
    pub(super) async fn open(
        runtime: &'a Arc<dyn ContainerRuntime>,
        app: &'a AppName,
        site: &'a Site,
        dir: &Path,
        port: u16,
    ) -> Result<Self, ProxyError> {
        let control = Control::open(runtime, site).await?;
        let dir = std::fs::canonicalize(dir).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                unrecognized(dir, "there is no such directory", "the one whose *.conf nginx includes")
            }
            _ => other("look at nginx's directory")(source),
        })?;
        let inside = control.inside(&dir)?;
        Ok(Self { app, site, runtime, control, dir, inside, port })
    }

    /// The files as they should be.
    pub(super) fn rendered(&self) -> Result<Rendered, ProxyError> {
        self.rendered_with(&self.taken()?)
    }

    /// The files as they should be with these lines taken over.
    pub(super) fn rendered_with(&self, taken: &Taken) -> Result<Rendered, ProxyError> {
        let input = render::Input {
            app: self.app,
            slots: &self.site.slots,
            inside: &self.inside,
            port: self.port,
            callers: &self.control.callers()?,
            protocol: self.site.protocol,
            keepalive: self.site.keepalive,
            taken,
        };
        render::render(&input)
            .map_err(|found| unrecognized(&self.dir, found, "words that nginx takes as they are"))
    }

    /// A flag's path on this host.
    pub(super) fn flag(&self, kind: &str) -> PathBuf {
        self.dir.join(render::folder_file(self.app, kind))
    }

    pub(super) fn has(&self, kind: &str) -> Result<bool, ProxyError> {
        self.flag(kind).try_exists().map_err(other("look at a flag"))
    }

    /// What the flags on disk say.
    pub(super) fn flagged(&self) -> Result<Option<Color>, ProxyError> {
        if self.has("none")? {
            return Ok(None);
        }
        Ok(Some(if self.has("green")? { Color::Green } else { Color::Blue }))
    }

    fn control_endpoint(&self) -> Endpoint {
        let loopback = || Endpoint::from_ip([127, 0, 0, 1].into(), self.port);
        self.control.reach(None, self.port).unwrap_or_else(loopback)
    }

    /// Asks nginx itself.
    ///
    /// # Errors
    ///
    /// [`ProxyError::NotRunning`] when nothing answers and there is no master process either.
    pub(super) async fn ask(&self, what: &str) -> Result<String, ProxyError> {
        let endpoint = self.control_endpoint();
        let path = format!("/bluegreen/{}/{what}", self.app);
        let missing = |found: &str| {
            unrecognized(
                &self.dir.join(render::CONTROL),
                format!("nginx runs, but http://{endpoint}{path} {found}"),
                format!(
                    "nginx to include {}/*.conf inside http {{ }}, with our files installed there and loaded",
                    self.inside.display()
                ),
            )
        };
        match http::get(&endpoint, &path, None, self.site.request_timeout).await {
            Ok(answer) if answer.status == 200 => {
                Ok(String::from_utf8_lossy(&answer.body).trim_end().to_owned())
            }
            Ok(answer) => Err(missing(&format!("answers {}", answer.status))),
            Err(error) => {
                // Not there at all, or there and not listening to us?
                self.control.master().await?;
                if error.is_refused() {
                    Err(missing("is refused"))
                } else {
                    Err(other("ask nginx for its colour")(error))
                }
            }
        }
    }

    /// The colour that nginx says it serves.
    pub(super) async fn color(&self) -> Result<Option<Color>, ProxyError> {
        let answer = self.ask("color").await?;
        match answer.as_str() {
            "none" => Ok(None),
            color => color.parse().map(Some).map_err(|_| {
                unrecognized(
                    &self.dir.join(render::CONTROL),
                    format!("port {} answers {answer:?}", self.port),
                    "a colour",
                )
            }),
        }
    }

    pub(super) async fn active(&self) -> Result<Serving, ProxyError> {
        let (served, flagged) = (self.color().await?, self.flagged()?);
        let show = |color: Option<Color>| color.map_or("nothing", Color::as_str);
        let mut evidence = format!("nginx says {} at port {}", show(served), self.port);
        if let (None, Some(before)) = (served, self.taken()?.before) {
            evidence = format!("{evidence}: requests go to {before}, as before the install");
        }
        if served == flagged {
            Ok(Serving::new(served, evidence))
        } else {
            let evidence = format!("{evidence}; the flags in {} say {}", self.dir.display(), show(flagged));
            Ok(Serving::new(served, evidence).inconsistent())
        }
    }

    /// The flags that must change for `to`, in an order in which nothing wrong is served in between.
    pub(super) fn steps(&self, to: Option<Color>) -> Result<Vec<Flag>, ProxyError> {
        // Leaving nothing: the colour is set before the 503 ends.
        let wanted = match to {
            Some(color) => {
                [Flag { kind: "green", there: color == Color::Green }, Flag { kind: "none", there: false }]
            }
            None => [Flag { kind: "none", there: true }; 2],
        };
        let mut steps = Vec::new();
        for flag in wanted {
            if self.has(flag.kind)? != flag.there && !steps.contains(&flag) {
                steps.push(flag);
            }
        }
        Ok(steps)
    }

    pub(super) fn apply(&self, flag: Flag) -> io::Result<bool> {
        let path = self.flag(flag.kind);
        if flag.there { atomic::create_flag(&path) } else { atomic::remove(&path) }
    }

    pub(super) fn preview(&self, to: &Backend) -> Result<Vec<FileChange>, ProxyError> {
        let change = |flag: Flag| {
            let path = self.flag(flag.kind).display().to_string();
            let verb = if flag.there { "make" } else { "remove" };
            FileChange::new(path, format!("{verb} the flag {}.{}; no reload", self.app, flag.kind), "")
        };
        Ok(self.steps(Some(to.color))?.into_iter().map(change).collect())
    }

    pub(super) async fn switch(&self, to: Option<&Backend>) -> Result<(), ProxyError> {
        if let Some(backend) = to {
            let installed = self.site.slots.of(backend.color).backend();
            if *backend != installed {
                let show = |backend: &Backend| {
                    backend.endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(", ")
                };
                let reason = format!(
                    "{} was asked to be at {}, and nginx's files have it at {}",
                    backend.color,
                    show(backend),
                    show(&installed)
                );
                return Err(ProxyError::Refused { reason });
            }
        }
        let to = to.map(|backend| backend.color);
        let (mut done, mut failure) = (Vec::new(), None);
        for step in self.steps(to)? {
            match self.apply(step) {
                Ok(true) => done.push(step),
                Ok(false) => {}
                Err(error) => {
                    // It may have happened, and only its durability is in doubt.
                    done.push(step);
                    failure = Some(other("change a flag")(error));
                    break;
                }
            }
        }
        if failure.is_none() {
            // The directory may not be the one that nginx sees, or its workers may not look into it.
            failure = match self.color().await {
                Ok(served) if served == to => return Ok(()),
                Ok(served) => Some(ProxyError::Refused {
                    reason: format!(
                        "the flags in {} were changed, and nginx still says {}: it sees another directory, or its \
                         workers may not look into this one",
                        self.dir.display(),
                        served.map_or("nothing", Color::as_str)
                    ),
                }),
                Err(error) => Some(error),
            };
        }
        for step in done.into_iter().rev() {
            if let Err(error) = self.apply(Flag { there: !step.there, ..step }) {
                let path = self.flag(step.kind);
                return Err(ProxyError::NotRestored { reason: format!("{}: {error}", path.display()) });
            }
        }
        failure.map_or(Ok(()), Err)
    }

    pub(super) async fn verify(&self, to: &Backend, public: Option<PublicUrl>) -> Result<Proof, ProxyError> {
        let not_proven = |reason: String| Err(ProxyError::NotProven { reason });
        let served = self.color().await?;
        if served != Some(to.color) {
            return not_proven(format!(
                "nginx says that it serves {}",
                served.map_or("nothing", Color::as_str)
            ));
        }
        let (path, host) = match &public {
            Some(url) => (url.path.clone(), url.host_header()),
            None => ("/".to_owned(), "localhost".to_owned()),
        };
        let path = format!("/bluegreen/{}/probe{path}", self.app);
        let answer = http::get(&self.control_endpoint(), &path, Some(&host), self.site.request_timeout).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return not_proven(format!("a request through nginx: {}", public::chain(&error))),
        };
        let upstream = answer
            .headers
            .get("x-bluegreen-upstream")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("nobody");
        if !to.endpoints.iter().any(|endpoint| endpoint.to_string() == upstream) {
            return not_proven(format!("nginx asked {upstream}, and status {} came back", answer.status));
        }
        if matches!(answer.status, 502..=504) {
            return not_proven(format!("{upstream} was asked, and status {} came back", answer.status));
        }
        let seen = format!("nginx says {}; through it {upstream} answered {}", to.color, answer.status);
        match public {
            Some(url) => {
                let status = self.ask_as_client(&url).await?;
                Ok(Proof::new(format!("{seen}; {url} answered {status}"), 3))
            }
            None => Ok(Proof::new(format!("{seen}; weaker: {}", public::NOT_ASKED), 2)),
        }
    }

    pub(super) async fn in_flight(&self, from: &Backend) -> Result<InFlight, ProxyError> {
        let master = self.control.master().await?;
        let targets: Vec<_> =
            from.endpoints.iter().filter_map(|endpoint| Some((endpoint.ip()?, endpoint.port()))).collect();
        let open = process::connections(master, &targets).map_err(other("count nginx's connections"))?;
        Ok(InFlight::new(open, 0))
    }
}
