//! Look at the world and decide what to do, touching nothing.

use super::report::PlannedChange;
use super::{
    Cause, Failure, InstanceView, Orchestrator, PlanReport, PlannedStep, Report, Request, RunView,
    ServingNow, Status, Target,
};
use crate::model::{Color, DeploymentId, Release};
use crate::plan::PLAN;
use crate::port::{Instance, InstanceState, Serving};
use crate::state::{AppState, Outcome, Resume, Run, Verb};

/// What is to be done.
pub(super) enum Prepared {
    /// It serves already; make sure of it.
    Unchanged { release: Box<Release> },
    /// Make `candidate` serve instead of `previous`.
    Run { candidate: Box<Release>, previous: Option<Color> },
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
            _ => {
                let candidate = answering.map_or(Color::Blue, Color::other);
                Prepared::Run { candidate: Box::new(release(candidate)), previous: answering }
            }
        }
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
        self.spec.instance_with(color, target.image.clone(), deployment.clone(), target.options.clone())
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
            if self.active().await?.settled
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
        let state = super::Log::open(self).await?.state().clone();
        Self::not_superseded(&state, &request.deployment)?;
        let (image, observed) = tokio::join!(self.resolve(&request.image), self.examine());
        let target = Target {
            image: image?,
            options: self.spec.options.clone(),
            verb: Verb::Deploy,
            force: request.force,
        };
        let (candidate, previous, unchanged) = match self.prepare(&observed?, &request.deployment, &target) {
            Prepared::Unchanged { release } => (release, None, true),
            Prepared::Run { candidate, previous } => {
                self.check_receipt().await?;
                (candidate, previous, false)
            }
        };
        let previous_slot = previous.map(|color| self.spec.slots.of(color));
        let describe =
            |step: crate::plan::Step| PlannedStep::new(step, step.describe(&candidate.spec, previous_slot));
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

    /// What is serving, and what does not fit together. Touches nothing and takes no lock.
    ///
    /// # Errors
    ///
    /// When the journal or the runtime cannot be read. A proxy that cannot be asked is part of the answer.
    pub async fn status(&self) -> Result<Status, Failure> {
        self.look().await.map_err(|cause| self.untouched(cause))
    }

    async fn look(&self) -> Result<Status, Cause> {
        let state = super::Log::open(self).await?.state().clone();
        let mut instances = Vec::new();
        let mut found = Vec::new();
        for color in Color::ALL {
            if let Some(instance) = self.find(self.spec.slots.of(color)).await? {
                instances.push(view(color, &instance));
                found.push((color, instance));
            }
        }
        let mut warm = None;
        let serving = match self.active().await {
            Ok(serving) => {
                let now = Self::serving_now(&state, &serving, &found);
                let at = |color| found.iter().find(|(at, _)| *at == color).map(|(_, found)| found.clone());
                let observed = Observed { serving, blue: at(Color::Blue), green: at(Color::Green) };
                let kept = self.warm_instance(&state, &observed);
                warm = kept.map(|(instance, left)| super::Warm::new(instance.name.clone(), left));
                Ok(now)
            }
            Err(cause) => Err(super::failure::chain(&cause)),
        };
        let mut findings = Vec::new();
        if let Ok(now) = &serving {
            findings.extend(self.contradictions(&state, now));
        }
        findings.extend(self.strays(&found).await?);
        Ok(Status {
            app: self.spec.name.clone(),
            serving,
            since: state.runs.iter().rfind(|run| run.is_serving()).map(|run| run.last),
            instances,
            warm,
            rollback_to: state.rollback_target().map(|release| release.image().to_string()),
            unfinished: state.open().map(run_view),
            last: state.runs.last().map(run_view),
            findings,
        })
    }

    /// What serves now, for the end of a failure; `None` when it cannot be told.
    pub(super) async fn what_serves(&self, state: &AppState) -> Option<ServingNow> {
        let observed = self.observe().await.ok()?;
        let found: Vec<_> = Color::ALL
            .into_iter()
            .filter_map(|color| observed.instance(color).map(|instance| (color, instance.clone())))
            .collect();
        Some(Self::serving_now(state, &observed.serving, &found))
    }

    fn serving_now(state: &AppState, serving: &Serving, found: &[(Color, Instance)]) -> ServingNow {
        let color = serving.color;
        let instance = found.iter().find(|(at, _)| Some(*at) == color).map(|(_, instance)| instance);
        let recorded = state.current().filter(|current| Some(current.color()) == color);
        ServingNow {
            color,
            evidence: serving.evidence.clone(),
            image: recorded
                .map(|r| r.image().image().to_string())
                .or_else(|| instance.map(|i| i.image.clone())),
            digest: recorded.map(|release| release.image().digest().to_string()),
            deployment: recorded.map(|release| release.deployment().clone()),
            running: instance.is_some_and(Instance::is_running),
        }
    }

    fn contradictions(&self, state: &AppState, now: &ServingNow) -> Vec<String> {
        let mut findings = Vec::new();
        if let Some(color) = now.color
            && !now.running
        {
            findings.push(format!(
                "the proxy sends requests to {color}, but {} does not run",
                self.spec.slots.of(color).name
            ));
        }
        if let Some(current) = state.current()
            && state.open().is_none()
            && now.color != Some(current.color())
        {
            let served = now.color.map_or("nothing", Color::as_str);
            findings.push(format!("the journal says {} serves, the proxy says {served}", current.color()));
        }
        findings
    }

    /// Containers that carry our label and are in neither place.
    async fn strays(&self, found: &[(Color, Instance)]) -> Result<Vec<String>, Cause> {
        let placed = |instance: &Instance| found.iter().any(|(_, known)| known.id == instance.id);
        let strays = self.list().await?.into_iter().filter(|instance| !placed(instance));
        Ok(strays
            .map(|stray| format!("container {} ({}) is in neither place", stray.name, stray.state))
            .collect())
    }
}

fn view(color: Color, instance: &Instance) -> InstanceView {
    InstanceView {
        name: instance.name.to_string(),
        color,
        state: match &instance.state {
            InstanceState::Exited { exit_code: 0, .. } => "stopped".to_owned(),
            state => state.to_string(),
        },
        image: instance.image.clone(),
        owned: instance.owned.is_some(),
    }
}

pub(super) fn run_view(run: &Run) -> RunView {
    let outcome = match (run.outcome, run.resume()) {
        (Some(Outcome::Committed), _) => "committed".to_owned(),
        (Some(Outcome::RolledBack), _) => match &run.failure {
            Some((step, error)) => format!("rolled back: {step} failed: {error}"),
            None => "rolled back".to_owned(),
        },
        (None, Resume::Forward(_)) => "committed, not finished".to_owned(),
        (None, _) => match &run.stuck {
            Some((step, error)) => format!("stuck: taking back {step} failed: {error}"),
            None => "cut off before the commit point".to_owned(),
        },
    };
    RunView {
        deployment: run.deployment.clone(),
        verb: run.verb,
        image: run.candidate.image().image().to_string(),
        began: run.began,
        last: run.last,
        step: run.started.last().copied(),
        outcome,
        receipt: run.receipt.clone(),
    }
}
