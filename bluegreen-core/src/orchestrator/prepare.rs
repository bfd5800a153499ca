//! Look at the world and decide what to do, touching nothing.

use super::report::PlannedChange;
use super::{Cause, Deployment, Failure, Orchestrator, PlanReport, PlannedStep, Report, Request, Target};
use crate::model::{Color, DeploymentId, Release};
use crate::plan::{PLAN, Step};
use crate::port::{Instance, Serving};
use crate::state::AppState;

/// What is to be done.
pub(super) enum Prepared {
    /// It serves already; make sure of it.
    Unchanged { release: Box<Release> },
    /// Make `candidate` serve instead of `previous`, which answers although the proxy names the other place when
    /// `misdirected`.
    Run { candidate: Box<Release>, previous: Option<Color>, misdirected: bool },
}

/// What was seen of an application.
pub(super) struct Observed {
    /// What the proxy serves.
    pub(super) serving: Serving,
    /// The container in the blue place.
    pub(super) blue: Option<Instance>,
    /// The container in the green place.
    pub(super) green: Option<Instance>,
}

impl Observed {
    pub(super) fn instance(&self, color: Color) -> Option<&Instance> {
        match color {
            Color::Blue => self.blue.as_ref(),
            Color::Green => self.green.as_ref(),
        }
    }

    pub(super) fn runs(&self, color: Color) -> bool {
        self.instance(color).is_some_and(Instance::is_running)
    }

    /// The colour that answers clients: the one that the proxy names, or, when that one is down, the other,
    /// which a proxy may be falling back to.
    pub(super) fn answering(&self) -> Option<Color> {
        let named = self.serving.color;
        named.into_iter().chain(named.map(Color::other)).find(|color| self.runs(*color))
    }
}

impl Orchestrator {
    pub(super) async fn observe(&self) -> Result<Observed, Cause> {
        let slots = &self.spec.slots;
        let (serving, blue, green) =
            tokio::join!(self.active(), self.find(&slots.blue), self.find(&slots.green));
        Ok(Observed { serving: serving?, blue: blue?, green: green? })
    }

    /// Looks at everything that a run depends on, side by side: nginx's own test is the slowest part of a
    /// deployment of an image that is here already. Whether the proxy could switch is the first thing to say.
    pub(super) async fn examine(&self) -> Result<Observed, Cause> {
        let (checked, observed) = tokio::join!(self.check_proxy(), self.observe());
        checked?;
        observed
    }

    /// A deployment that was committed once and has been followed by another is not made again under its id.
    pub(super) fn not_superseded(state: &AppState, deployment: &DeploymentId) -> Result<(), Cause> {
        match (state.run(deployment), state.current()) {
            (Some(run), Some(current)) if run.is_committed() && current.deployment() != deployment => {
                let (deployment, current) = (deployment.clone(), current.deployment().clone());
                Err(Cause::Superseded { deployment, current })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn prepare(
        &self,
        observed: &Observed,
        deployment: &DeploymentId,
        target: &Target,
    ) -> Prepared {
        let release = |color| Release::new(self.instance_of(color, deployment, target));
        let serves = |color: Color| {
            let wanted = release(color).spec.fingerprint();
            observed
                .instance(color)
                .filter(|instance| instance.is_running())
                .and_then(|instance| instance.owned.as_ref())
                .is_some_and(|owned| owned.app == self.spec.name && owned.fingerprint == wanted)
        };
        let answering = observed.answering();
        match observed.serving.color {
            Some(active) if !target.force && serves(active) => {
                Prepared::Unchanged { release: Box::new(release(active)) }
            }
            named => {
                let candidate = answering.map_or_else(|| self.first_color(observed), Color::other);
                Prepared::Run {
                    candidate: Box::new(release(candidate)),
                    previous: answering,
                    misdirected: named == Some(candidate),
                }
            }
        }
    }

    /// Where a first release goes: not in the place of a running container that is to be taken over, for clients may be
    /// served by it past the proxy's colours.
    fn first_color(&self, observed: &Observed) -> Color {
        let foreign = |color: &Color| {
            observed.instance(*color).is_some_and(|there| there.is_running() && there.owned.is_none())
        };
        Color::ALL.into_iter().find(|color| !self.spec.adopt || !foreign(color)).unwrap_or(Color::Blue)
    }

    /// A gate that cannot see is refused before anything is touched.
    pub(super) async fn check_receipt(&self) -> Result<(), Cause> {
        match &self.spec.receipt {
            Some(policy) if policy.gate.is_some() => self.client(policy).await.map(drop),
            _ => Ok(()),
        }
    }

    fn instance_of(
        &self,
        color: Color,
        deployment: &DeploymentId,
        target: &Target,
    ) -> crate::model::InstanceSpec {
        let mut spec =
            self.spec.instance_with(color, target.image.clone(), deployment.clone(), target.options.clone());
        let recorded = target.recorded.as_ref().filter(|recorded| recorded.spec.slot == spec.slot);
        spec.made_elsewhere = recorded.and_then(|recorded| recorded.spec.made_elsewhere.clone());
        spec
    }

    /// What serves, when somebody else made it and a run takes its place: recorded before it is touched, so that it can
    /// be brought back.
    pub(super) async fn adopted(
        &self,
        observed: &Observed,
        run: &Deployment<'_>,
    ) -> Result<Option<Release>, Cause> {
        let Some(color) = run.previous.filter(|_| self.spec.adopt) else { return Ok(None) };
        let Some(instance) = observed.instance(color).filter(|instance| instance.owned.is_none()) else {
            return Ok(None);
        };
        let slot = self.spec.slots.of(color);
        let Some(found) = self.describe(&instance.id, slot).await? else { return Ok(None) };
        if !found.uncarried.is_empty() {
            self.warn(format!(
                "{} was made with {}, which is not recorded: while it is kept, a rollback starts it again as it is; made                  again, it is without",
                slot.name,
                found.uncarried.join(", ")
            ));
        }
        // It has no deployment of its own. This name is a valid one wherever the run's is not too long for it.
        let before = DeploymentId::new(format!("before-{}", run.id)).unwrap_or_else(|_| run.id.clone());
        let mut spec = self.spec.instance_with(color, found.image, before, found.options);
        spec.made_elsewhere = Some(instance.id.as_str().to_owned());
        spec.uncarried = found.uncarried;
        Ok(Some(Release::new(spec)))
    }

    /// Says what a release will be without that somebody else made and whose container is gone.
    pub(super) fn warn_of_uncarried(&self, target: &Target, candidate: &Release, observed: &Observed) {
        let Some(recorded) = target.recorded.as_ref().map(|recorded| &recorded.spec) else { return };
        let is_there = observed
            .instance(candidate.color())
            .is_some_and(|found| recorded.made_elsewhere.as_deref() == Some(found.id.as_str()));
        if !recorded.uncarried.is_empty() && !is_there {
            self.warn(format!(
                "{} is made again from what is recorded of it: without {}, which somebody else made it with",
                candidate.spec.slot.name,
                recorded.uncarried.join(", ")
            ));
        }
    }

    /// It serves already: prove it, and put right what does not agree.
    pub(super) async fn confirm(
        &self,
        deployment: DeploymentId,
        target: &Target,
        release: Box<Release>,
    ) -> Result<Report, Failure> {
        let backend = release.spec.slot.backend();
        let proven = async {
            if self.active().await?.consistent
                && let Ok(proof) = self.verify(&backend).await
            {
                return Ok(proof);
            }
            // Also one that agrees may not reach it: nginx sends to the address that a name had when it was looked up.
            self.switch(Some(backend.clone())).await?;
            self.verify(&backend).await
        };
        let proof = match proven.await {
            Ok(proof) => proof,
            Err(cause) => return Err(self.untouched(cause)),
        };
        Ok(Report {
            deployment,
            app: self.spec.name.clone(),
            verb: target.verb,
            image: target.image.image().to_string(),
            digest: target.image.digest().to_string(),
            candidate: release.color(),
            previous: Some(release.color()),
            unchanged: true,
            recovered: None,
            proof: Some(proof.evidence),
            drain: None,
            receipt: None,
            rollback: None,
            steps: Vec::new(),
        })
    }

    /// What [`deploy`](Self::deploy) would do now. Touches nothing and takes no lock.
    ///
    /// # Errors
    ///
    /// Whatever a deploy would refuse at once.
    pub async fn plan(&self, request: Request) -> Result<PlanReport, Failure> {
        self.planned(&request).await.map_err(|cause| self.untouched(cause))
    }

    async fn planned(&self, request: &Request) -> Result<PlanReport, Cause> {
        self.not_elsewhere().await?;
        let state = super::RunJournal::open(self).await?.state().clone();
        Self::not_superseded(&state, &request.deployment)?;
        let (image, observed) = tokio::join!(self.resolve(&request.image), self.examine());
        let target = Target::deployed(image?, self.spec.options.clone(), request.force);
        let (candidate, previous, unchanged) = match self.prepare(&observed?, &request.deployment, &target) {
            Prepared::Unchanged { release } => (release, None, true),
            Prepared::Run { candidate, previous, .. } => {
                self.check_receipt().await?;
                self.check_gate(&target.image, &target.options).await?;
                (candidate, previous, false)
            }
        };
        let previous_slot = previous.map(|color| self.spec.slots.of(color));
        let describe = |step: Step| PlannedStep::new(step, step.describe(&candidate.spec, previous_slot));
        let steps = if unchanged { Vec::new() } else { PLAN.into_iter().map(describe).collect() };
        let changes =
            if unchanged { Vec::new() } else { self.preview(&candidate.spec.slot.backend()).await? };
        Ok(PlanReport {
            app: self.spec.name.clone(),
            image: candidate.image().image().to_string(),
            digest: candidate.image().digest().to_string(),
            candidate: candidate.color(),
            previous: if unchanged { Some(candidate.color()) } else { previous },
            unchanged,
            unfinished: state.open().map(|run| run.deployment.clone()),
            steps,
            changes: changes.into_iter().map(PlannedChange::from).collect(),
        })
    }
}
