//! What becomes of what served before: kept warm, stopped, removed; and which images stay.
//!
//! Nothing runs between two commands, so a container that is kept warm is stopped by the next one that comes when its
//! time is over: [`Orchestrator::retire`], or a deployment, which needs its place.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use super::failure::chain;
use super::prepare::Observed;
use super::report::{Retired, Warm};
use super::{Aftermath, Cause, Deployment, Failure, NoRollback, Opened, Orchestrator, RunJournal};
use crate::model::{DeploymentId, Digest, Release, RestartPolicy, RunOptions};
use crate::plan::Step;
use crate::port::{Instance, RuntimeError};
use crate::state::{Activity, AppState, Record, Verb};

/// How many of the releases that are no longer kept have their image removed, the newest first. Removals of the others
/// were tried by earlier runs, and a journal is long.
const FORGOTTEN: usize = 8;

/// How many more releases of another application are left alone than of this one: it may keep more.
const MARGIN: usize = FORGOTTEN / 2;

/// The releases before the last ones of that number, and these.
fn last(state: &AppState, number: usize) -> (Vec<&Release>, Vec<&Release>) {
    let mut releases = state.releases();
    let last = releases.split_off(releases.len().saturating_sub(number));
    (releases, last)
}

impl Deployment<'_> {
    /// Lets go of the previous colour, and of the images of releases that are no longer kept.
    ///
    /// A stop may take minutes. So it is looked once more between the stop and what cannot be rolled back: as long as
    /// the previous container is there it can serve again.
    pub(super) async fn retire(&self, log: &RunJournal) -> Result<String, Cause> {
        let orchestrator = self.orchestrator;
        let mut detail = "no previous release".to_owned();
        let mut stopped = None;
        if let Some(slot) = self.previous_slot()
            && let Some(instance) = orchestrator.find(slot).await?
        {
            let ours = orchestrator.owns(&instance);
            match orchestrator.spec.retain.warm {
                Some(warm) if ours && instance.is_running() => {
                    detail = format!("{} is kept running for {} s", slot.name, warm.as_secs());
                }
                _ if ours || orchestrator.spec.adopt => {
                    let options = log.state().release_in(slot.color).map(|release| &release.spec.options);
                    orchestrator.ensure_stopped(&instance.id, options).await?;
                    stopped = Some(instance);
                }
                _ => detail = format!("{} was not created by bluegreen and is left as it is", slot.name),
            }
        }
        self.still_running().await?;
        orchestrator.verify(&self.backend()).await?;
        if let Some(instance) = &stopped {
            let options = self.previous.and_then(|color| log.state().release_in(color));
            detail = orchestrator.forget(instance, options.map(|release| &release.spec.options)).await?;
        }
        self.prune(log).await;
        self.still_running().await?;
        Ok(detail)
    }

    /// Removes images of releases beyond those that are kept, by this application and by the others of this host. An
    /// image that stays is no reason to fail.
    async fn prune(&self, log: &RunJournal) {
        let orchestrator = self.orchestrator;
        let kept = orchestrator.spec.retain.releases as usize + 1;
        let (beyond, _) = last(log.state(), kept);
        if beyond.is_empty() {
            return;
        }
        // A journal that cannot be read may have any of them: then all stay.
        let neighbours = match orchestrator.neighbours().await {
            Ok(neighbours) => neighbours,
            Err(cause) => {
                return orchestrator.warn(format!("no image was removed: {}", chain(&cause)));
            }
        };
        let states = neighbours.iter().map(|state| (state, kept + MARGIN)).chain([(log.state(), kept)]);
        let mut needed: HashSet<&Digest> = states
            .flat_map(|(state, kept)| last(state, kept).1)
            .map(|release| release.image().digest())
            .collect();
        needed.insert(self.candidate.image().digest());
        // What serves, or is being brought to serve, whatever its place among the releases: after a rollback an old one.
        let runs = neighbours.iter().chain([log.state()]);
        let now = runs.flat_map(|state| [state.current(), state.open().map(|run| &run.candidate)]);
        needed.extend(now.flatten().map(|release| release.image().digest()));
        for release in beyond.iter().rev().take(FORGOTTEN) {
            let image = release.image();
            if !needed.contains(image.digest())
                && let Err(cause) = orchestrator.ensure_image_removed(image).await
            {
                orchestrator.warn(format!("image {image} was not removed: {}", chain(&cause)));
            }
        }
    }

    /// Brings the image here. Only what is no longer kept makes room for it, and where that is not enough nothing is
    /// begun: a disk that is full takes everything else on it down.
    pub(super) async fn pull(&self, log: &RunJournal) -> Result<(), Cause> {
        let orchestrator = self.orchestrator;
        let image = self.candidate.image();
        if orchestrator.has_image(image).await? {
            return Ok(());
        }
        self.prune(log).await;
        let wanted = orchestrator.spec.retain.min_free;
        if wanted > 0 {
            match orchestrator.free_space().await {
                Ok(Some(free)) if free < wanted => return Err(Cause::DiskLow { free, wanted }),
                Ok(_) => {}
                // What cannot be known is no refusal: the pull itself will tell.
                Err(cause) => orchestrator.warn(chain(&cause)),
            }
        }
        match orchestrator.pull(image).await {
            // It was there once: whoever looks for a push that was forgotten looks in vain.
            Err(Cause::Runtime(RuntimeError::ImageNotFound { .. })) if self.verb == Verb::Rollback => {
                Err(NoRollback::ImageGone { image: image.to_string(), source_of: image.source() }.into())
            }
            pulled => pulled,
        }
    }
}

impl Orchestrator {
    /// Stops what is kept warm when its time is over, or at once when `now` is set. Nothing else is touched.
    ///
    /// # Errors
    ///
    /// As [`deploy`](Self::deploy). [`Aftermath::Committed`] when it could not be stopped: what serves, serves.
    pub async fn retire(&self, deployment: DeploymentId, now: bool) -> Result<Retired, Failure> {
        let Opened { _lease, mut log, recovered } = self.open(Activity::Retire, &deployment).await?;
        let mut retired = self.stop_warm(&mut log, now).await?;
        retired.recovered = recovered.map(|(deployment, _)| deployment);
        Ok(retired)
    }

    /// The same under a lock that is held already.
    pub(super) async fn stop_warm(&self, log: &mut RunJournal, now: bool) -> Result<Retired, Failure> {
        let observed = self.observe().await.map_err(|cause| self.untouched(cause))?;
        let mut retired = Retired::nothing(self.spec.name.clone());
        let Some((instance, left)) = self.warm_instance(log.state(), &observed) else { return Ok(retired) };
        if !now && !left.is_zero() {
            retired.warm = Some(Warm::new(instance.name.clone(), left));
            return Ok(retired);
        }
        let Some(color) = instance.owned.as_ref().map(|owned| owned.color) else { return Ok(retired) };
        log.append(Record::Retiring { color }).await.map_err(|cause| self.untouched(cause))?;
        let options = log.state().release_in(color).map(|release| release.spec.options.clone());
        let let_go = async {
            self.ensure_stopped(&instance.id, options.as_ref()).await?;
            self.forget(instance, options.as_ref()).await
        };
        match let_go.await {
            Ok(_) => retired.stopped = Some(instance.name.clone()),
            Err(cause) => {
                return Err(Failure {
                    step: Some(Step::Retire),
                    aftermath: Aftermath::Committed,
                    serving: self.what_serves(log.state()).await,
                    ..self.untouched(cause)
                });
            }
        }
        Ok(retired)
    }

    /// What is kept warm, and for how long yet: what runs beside the colour that serves, once no run is under way.
    /// When that colour is down, the other one may be what answers, and is not warm but needed.
    pub(super) fn warm_instance<'o>(
        &self,
        state: &AppState,
        observed: &'o Observed,
    ) -> Option<(&'o Instance, Duration)> {
        let active = observed.serving.color.filter(|active| observed.answering() == Some(*active))?;
        let instance = observed.instance(active.other())?;
        if state.open().is_some() || !instance.is_running() || !self.owns(instance) {
            return None;
        }
        // By this host's clock: when it was set, a container is stopped sooner or later, and nothing else depends on it.
        let since = state.runs.iter().rfind(|run| run.is_serving()).map(|run| run.last);
        let age = since.map_or(Duration::MAX, |since| {
            Timestamp::now().duration_since(since).try_into().unwrap_or(Duration::ZERO)
        });
        Some((instance, self.spec.retain.warm.unwrap_or_default().saturating_sub(age)))
    }

    fn owns(&self, instance: &Instance) -> bool {
        instance.owned.as_ref().is_some_and(|owned| owned.app == self.spec.name)
    }

    /// Removes what is stopped unless it is to be kept; says which. By the options that it runs with, which may not be
    /// those of today.
    async fn forget(&self, instance: &Instance, own: Option<&RunOptions>) -> Result<String, Cause> {
        // With `always` the Engine would start a kept container again at its next start.
        let restart = own.unwrap_or(&self.spec.options).restart;
        let keep = self.spec.retain.keep_stopped && restart != RestartPolicy::Always;
        if !keep {
            self.ensure_removed(&instance.id).await?;
        }
        Ok(format!("{} is {}", instance.name, if keep { "stopped and kept" } else { "removed" }))
    }
}
