//! What can be gone back to. The rollback itself and whoever offers one (`status`, `deploy`, `history`) ask here: it is
//! offered only where it would be carried out.

use std::str::FromStr;

use serde::Serialize;

use super::failure::chain;
use super::prepare::Observed;
use super::{Cause, Failure, Orchestrator, Report, Target};
use crate::model::{Color, DeploymentId, ImageSource, ParseError, Release};
use crate::port::ProxyError;
use crate::state::{Activity, AppState, Run, Verb};

/// Where a rollback is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Goal {
    /// What served before the release that serves.
    Previous,
    /// The release of a deployment.
    Deployment(DeploymentId),
    /// The release of a digest, or of its first digits: twelve are what is shown.
    Digest(String),
}

/// Fewer digits than that are no name.
const DIGITS: usize = 12;

impl FromStr for Goal {
    type Err = ParseError;

    fn from_str(value: &str) -> Result<Self, ParseError> {
        let hex = value.strip_prefix("sha256:").unwrap_or(value);
        if hex.len() >= DIGITS && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self::Digest(hex.to_owned()));
        }
        value.parse().map(Self::Deployment)
    }
}

/// What a rollback would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "it can be done or it cannot")]
pub enum RollbackOffer {
    /// Go to this release.
    To(Earlier),
    /// Be refused.
    No(NoRollback),
}

impl RollbackOffer {
    /// Where it would go.
    pub const fn to(&self) -> Option<&Earlier> {
        match self {
            Self::To(earlier) => Some(earlier),
            Self::No(_) => None,
        }
    }
}

/// A release that served earlier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Earlier {
    /// The deployment that brought it.
    pub deployment: DeploymentId,
    /// Its image, as it was asked for.
    pub image: String,
    /// Its digest.
    pub digest: String,
    /// Where it ran.
    pub color: Color,
    /// Whether bluegreen had not created it and took it over.
    pub adopted: bool,
    /// Whether its image is on this host. If not, its registry must still have it.
    pub here: bool,
}

/// Why there is nothing to go back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NoRollback {
    /// Nothing served before that was not rolled back from.
    #[error("there is no earlier release to roll back to")]
    NothingEarlier,
    /// It cannot be had any more.
    #[error("the image {image} is gone from this host{}", elsewhere(*.source_of))]
    ImageGone {
        /// The image.
        image: String,
        /// Where it came from.
        #[serde(rename = "source")]
        source_of: ImageSource,
    },
    /// Nothing on record has that name.
    #[error("no release on record is known as {wanted}")]
    Unknown {
        /// What was asked for.
        wanted: String,
    },
    /// It serves.
    #[error("{wanted} serves already")]
    Serves {
        /// What was asked for.
        wanted: String,
    },
    /// It was rolled back from.
    #[error("{wanted} was rolled back from; to use it again, deploy it")]
    RolledBackFrom {
        /// What was asked for.
        wanted: String,
    },
    /// It was never committed.
    #[error("{wanted} never served: its run was rolled back")]
    NeverServed {
        /// What was asked for.
        wanted: String,
    },
}

const fn elsewhere(source: ImageSource) -> &'static str {
    match source {
        ImageSource::Registry => " and from its registry",
        ImageSource::Local => ", and it was built here: no registry has it",
    }
}

impl Goal {
    fn matches(&self, release: &Release) -> bool {
        match self {
            Self::Previous => false,
            Self::Deployment(id) => release.deployment() == id,
            Self::Digest(digits) => {
                release.image().digest().as_str().trim_start_matches("sha256:").starts_with(digits)
            }
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Previous => "the previous release".to_owned(),
            Self::Deployment(id) => id.to_string(),
            Self::Digest(digits) => digits.clone(),
        }
    }

    /// The release on record that is meant.
    fn pick<'s>(&self, state: &'s AppState) -> Result<&'s Release, NoRollback> {
        let line = state.releases();
        if *self == Self::Previous {
            return state.rollback_target().ok_or(NoRollback::NothingEarlier);
        }
        let wanted = self.shown();
        let of = |run: &'s Run| run.adopted.iter().chain(Some(&run.candidate));
        let all = state.runs.iter().rev();
        let Some((run, named)) =
            all.clone().flat_map(|run| of(run).map(move |it| (run, it))).find(|(_, it)| self.matches(it))
        else {
            return Err(NoRollback::Unknown { wanted });
        };
        // What was deployed or gone back to more than once is there once, under the name that it has by now.
        let position = line.iter().rposition(|release| release.spec.content() == named.spec.content());
        match position {
            Some(at) if at + 1 == line.len() => Err(NoRollback::Serves { wanted }),
            Some(at) => Ok(line[at]),
            None if run.is_serving() => Err(NoRollback::RolledBackFrom { wanted }),
            None => Err(NoRollback::NeverServed { wanted }),
        }
    }
}

impl Orchestrator {
    /// Makes the release serve that served before the present one: the same plan with its recorded image and options.
    /// Twice goes further back. Never done automatically.
    ///
    /// # Errors
    ///
    /// As [`deploy`](Self::deploy), and [`Cause::NoRollback`].
    pub async fn rollback(&self, deployment: DeploymentId) -> Result<Report, Failure> {
        self.rollback_to(deployment, &Goal::Previous).await
    }

    /// The same to any release that served and was not rolled back from.
    ///
    /// # Errors
    ///
    /// As [`rollback`](Self::rollback).
    pub async fn rollback_to(&self, deployment: DeploymentId, goal: &Goal) -> Result<Report, Failure> {
        let opened = self.open(Activity::Rollback, &deployment).await?;
        let untouched = |cause| self.untouched(cause);
        let release = goal.pick(opened.log.state()).map_err(|no| untouched(no.into()))?.clone();
        let observed = self.examine_for_rollback().await.map_err(untouched)?;
        if let RollbackOffer::No(no) = self.offer_of(opened.log.state(), &release).await.map_err(untouched)? {
            return Err(untouched(no.into()));
        }
        let target = Target {
            image: release.image().clone(),
            options: release.spec.options.clone(),
            verb: Verb::Rollback,
            force: false,
            recorded: Some(release),
        };
        self.make_serve(opened, deployment, target, &observed).await
    }

    /// As before a deploy, but what does not hinder the switch does not hinder a way back: what another site's mistake
    /// breaks is fixed after it.
    async fn examine_for_rollback(&self) -> Result<Observed, Cause> {
        match self.examine().await {
            Err(Cause::Proxy(error @ ProxyError::Broken { switches: true, .. })) => {
                self.warn(chain(&error));
                self.observe().await
            }
            seen => seen,
        }
    }

    /// What [`rollback_to`](Self::rollback_to) could go to, newest first, each with whether it would. Touches nothing and
    /// takes no lock.
    ///
    /// # Errors
    ///
    /// When the journal or the runtime cannot be read.
    pub async fn rollbacks(&self) -> Result<Vec<(Earlier, Option<NoRollback>)>, Failure> {
        self.list_rollbacks().await.map_err(|cause| self.untouched(cause))
    }

    async fn list_rollbacks(&self) -> Result<Vec<(Earlier, Option<NoRollback>)>, Cause> {
        let log = super::RunJournal::open(self).await?;
        let state = log.state();
        let mut listed = Vec::new();
        for release in state.releases().into_iter().rev().skip(1) {
            let here = self.has_image(release.image()).await?;
            let no = match self.offer_of(state, release).await? {
                RollbackOffer::To(_) => None,
                RollbackOffer::No(no) => Some(no),
            };
            listed.push((earlier(state, release, here), no));
        }
        Ok(listed)
    }

    /// What a rollback would do now.
    pub(super) async fn offer(&self, state: &AppState) -> Result<RollbackOffer, Cause> {
        match Goal::Previous.pick(state) {
            Ok(release) => self.offer_of(state, release).await,
            Err(no) => Ok(RollbackOffer::No(no)),
        }
    }

    async fn offer_of(&self, state: &AppState, release: &Release) -> Result<RollbackOffer, Cause> {
        let image = release.image();
        let here = self.has_image(image).await?;
        Ok(if here || image.source() == ImageSource::Registry {
            RollbackOffer::To(earlier(state, release, here))
        } else {
            RollbackOffer::No(NoRollback::ImageGone { image: image.to_string(), source_of: image.source() })
        })
    }
}

fn earlier(state: &AppState, release: &Release, here: bool) -> Earlier {
    Earlier {
        deployment: release.deployment().clone(),
        image: release.image().image().to_string(),
        digest: release.image().digest().to_string(),
        color: release.color(),
        adopted: state.runs.iter().any(|run| run.adopted.as_ref() == Some(release)),
        here,
    }
}
