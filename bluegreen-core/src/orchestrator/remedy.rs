//! What a state calls for, chosen by its cause. Pure.

use super::prepare::Observed;
use super::{Cause, RollbackOffer};
use crate::model::Release;
use crate::port::{Instance, InstanceState, Location, MissingFile, ProxyError};
use crate::state::AppState;

/// What a state calls for, first of all.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// The proxy's own configuration is to be fixed: it does not pass its test. Until then a deploy is refused.
    MendProxy {
        /// The files that are missing, where that is why.
        missing: Vec<MissingFile>,
        /// Whether a rollback works all the same.
        switches: bool,
    },
    /// A switch is not possible as things stand; the proxy's own check tells why.
    CheckProxy,
    /// What has the proxy answer clients itself is to be taken away.
    LetThrough {
        /// The line that says so, where it is to be seen.
        at: Option<Location>,
    },
    /// The release that served is to be deployed again: its container was stopped, or the proxy names another place.
    Redeploy {
        /// Its image.
        image: String,
        /// Its digest.
        digest: String,
    },
    /// The release before it is to serve: this one does not stay up.
    RollBack,
}

/// What was found.
pub(super) struct Found<'a> {
    pub(super) state: &'a AppState,
    pub(super) observed: &'a Observed,
    /// Why the proxy could not switch, where it could not.
    pub(super) check: Option<&'a Cause>,
    /// Why it does not prove that requests reach the colour that it names.
    pub(super) proof: Option<&'a Cause>,
    pub(super) offer: &'a RollbackOffer,
}

impl Found<'_> {
    pub(super) fn remedy(&self) -> Option<Remedy> {
        let down = self.observed.serving.color.filter(|color| !self.observed.runs(*color));
        let crashed = down.and_then(|color| self.observed.instance(color)).is_some_and(crashes);
        let back = self.offer.to().map(|_| Remedy::RollBack);
        match self.check {
            Some(Cause::Proxy(ProxyError::Broken { switches: true, .. }))
                if down.is_some() && back.is_some() =>
            {
                back
            }
            Some(Cause::Proxy(ProxyError::Broken { missing, switches, .. })) => {
                let switches = *switches && back.is_some();
                Some(Remedy::MendProxy { missing: missing.clone(), switches })
            }
            Some(Cause::Proxy(_)) => Some(Remedy::CheckProxy),
            _ if down.is_some() => back.filter(|_| crashed).or_else(|| self.again()),
            _ => match self.proof {
                Some(Cause::Proxy(ProxyError::AnswersItself { at, .. })) => {
                    Some(Remedy::LetThrough { at: at.clone() })
                }
                _ => None,
            },
        }
    }

    /// The release that served last, where the proxy names its place or it runs: never another version than that.
    fn again(&self) -> Option<Remedy> {
        let served: &Release = self.state.current()?;
        let color = served.color();
        let is_it = self.observed.serving.color == Some(color) || self.observed.runs(color);
        is_it.then(|| Remedy::Redeploy {
            image: served.image().image().to_string(),
            digest: served.image().digest().to_string(),
        })
    }
}

/// Whether it ended by itself, with an error. Exit codes of SIGKILL and SIGTERM are somebody's who stopped it.
fn crashes(instance: &Instance) -> bool {
    match instance.state {
        InstanceState::Restarting { .. } => true,
        InstanceState::Exited { exit_code, oom_killed, .. } => {
            oom_killed || !matches!(exit_code, 0 | 137 | 143)
        }
        _ => false,
    }
}
