//! What serves, as clients see it, and what does not fit together. Touches nothing.

use super::failure::chain;
use super::prepare::Observed;
use super::remedy::Found;
use super::report::{
    AtWork, FailedStep, InstanceView, PublicLook, RunEnding, RunView, ServingNow, Standing, Status, Warm,
};
use super::{Cause, Failure, Orchestrator, RunJournal};
use crate::model::Color;
use crate::plan::Step;
use crate::port::{Connection, Instance, InstanceState, ProxyError, Queue, Serving};
use crate::state::{AppState, Outcome, Resume, Run};

/// So many restarts are no accident any more.
const LOOPING: u32 = 3;

impl Orchestrator {
    /// What is serving, and what does not fit together. Takes no lock.
    ///
    /// # Errors
    ///
    /// When the journal or the runtime cannot be read. A proxy that cannot be asked is part of the answer.
    pub async fn status(&self) -> Result<Status, Failure> {
        self.look().await.map_err(|cause| self.untouched(cause))
    }

    async fn look(&self) -> Result<Status, Cause> {
        // Before and after the journal: a run that begins or ends in between is at work, and not one that was cut off.
        let before = self.queue().await?;
        let state = RunJournal::open(self).await?.state().clone();
        let queue = if before.held { before } else { self.queue().await? };
        let (serving, public, check) = tokio::join!(self.active(), self.public(), self.check_proxy());
        let mut found = Vec::new();
        for color in Color::ALL {
            found.extend(self.find(self.spec.slots.of(color)).await?.map(|instance| (color, instance)));
        }
        let mut findings = Vec::new();
        let (mut warm, mut remedy) = (None, None);
        let rollback = self.offer(&state).await?;
        let serving = match serving {
            Ok(serving) => {
                let now = Self::serving_now(&state, &serving, &found);
                findings.extend(self.contradictions(&state, &now, queue.held));
                let proof = self.proven(&now).await;
                findings.extend(unproven(&now, &public, &proof));
                let at = |color| found.iter().find(|(at, _)| *at == color).map(|(_, found)| found.clone());
                let observed = Observed { serving, blue: at(Color::Blue), green: at(Color::Green) };
                let (check, proof) = (check.as_ref().err(), proof.as_ref().err());
                remedy =
                    Found { state: &state, observed: &observed, check, proof, offer: &rollback }.remedy();
                let kept = self.warm_instance(&state, &observed);
                warm = kept.map(|(instance, left)| Warm::new(instance.name.clone(), left));
                Ok(now)
            }
            Err(cause) => Err(chain(&cause)),
        };
        if serving.is_ok() {
            findings.extend(check.as_ref().err().map(|cause| chain(cause)));
        }
        findings.extend(found.iter().flat_map(|(color, instance)| self.oddities(*color, instance)));
        findings.extend(self.strays(&found).await?);
        let at_work = queue.held.then(|| at_work(&queue, &state));
        let unfinished = state.open().filter(|_| !queue.held).map(run_view);
        let standing = standing(&serving, &public, findings.is_empty() && unfinished.is_none());
        Ok(Status {
            app: self.spec.name.clone(),
            standing,
            serving,
            public,
            since: state.runs.iter().rfind(|run| run.is_serving()).and_then(|run| run.committed),
            instances: found.iter().map(|(color, instance)| view(*color, instance)).collect(),
            warm,
            rollback,
            at_work,
            unfinished,
            last: state.runs.last().map(run_view),
            findings,
            remedy,
        })
    }

    /// One request, as a client sends it.
    async fn public(&self) -> PublicLook {
        let policy = self.spec.receipt.clone().unwrap_or_default();
        match self.client(&policy).await {
            Ok(client) => {
                let target = client.target();
                match super::calls::asked(&*client, Connection::Fresh, policy.timeout).await {
                    Ok(status) => PublicLook::Answered { target, status },
                    Err(miss) => PublicLook::Failed { target, miss },
                }
            }
            Err(cause) => PublicLook::NotAsked { reason: chain(&cause) },
        }
    }

    /// The proxy's own proof that requests reach the colour that it names.
    async fn proven(&self, now: &ServingNow) -> Result<(), Cause> {
        match now.color.filter(|_| now.running) {
            Some(color) => self.verify_once(&self.spec.slots.of(color).backend()).await.map(drop),
            None => Ok(()),
        }
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

    fn contradictions(&self, state: &AppState, now: &ServingNow, at_work: bool) -> Vec<String> {
        let mut findings = Vec::new();
        if let Some(color) = now.color
            && !now.running
        {
            findings.push(format!(
                "the proxy sends requests to {color}, but {} is not running",
                self.spec.slots.of(color).name
            ));
        }
        if let Some(current) = state.current()
            && state.open().is_none()
            && !at_work
            && now.color != Some(current.color())
        {
            let served = now.color.map_or("nothing", Color::as_str);
            findings.push(format!("the journal says {} serves, the proxy says {served}", current.color()));
        }
        findings
    }

    /// What is not as it should be with the container of a place.
    fn oddities(&self, color: Color, instance: &Instance) -> Vec<String> {
        let expected = &self.spec.slots.of(color).name;
        let mut findings = Vec::new();
        if instance.name != *expected {
            findings.push(format!("the container of {color} is named {} and not {expected}", instance.name));
        }
        let loops =
            matches!(instance.state, InstanceState::Restarting { .. }) || instance.restarts >= LOOPING;
        if loops {
            findings.push(format!(
                "{} is in a crash loop: {}",
                instance.name,
                super::gate::restarted(instance)
            ));
        }
        findings
    }

    /// Containers that carry our label and are in neither place.
    async fn strays(&self, found: &[(Color, Instance)]) -> Result<Vec<String>, Cause> {
        let placed = |instance: &Instance| found.iter().any(|(_, known)| known.id == instance.id);
        let strays = self.list().await?.into_iter().filter(|instance| !placed(instance));
        Ok(strays
            .map(|stray| format!("container {} ({}) is in neither slot", stray.name, stray.state))
            .collect())
    }
}

/// What speaks against what the proxy says of itself: its own proof, and clients.
fn unproven(now: &ServingNow, public: &PublicLook, proof: &Result<(), Cause>) -> Vec<String> {
    let mut findings = Vec::new();
    // Then it is not the application that answers so.
    let itself = matches!(proof, Err(Cause::Proxy(ProxyError::AnswersItself { .. })));
    match public {
        // Where nothing is to serve, an error is what clients are to get.
        PublicLook::Answered { target, status: status @ 500.. } if now.color.is_some() && !itself => {
            findings.push(format!("a request to {target} was answered with {status}"));
        }
        PublicLook::Failed { target, miss } => {
            findings.push(format!("a request to {target} failed ({miss})"));
        }
        _ => {}
    }
    findings.extend(proof.as_ref().err().map(|cause| chain(cause)));
    findings
}

/// How an application stands: clients have the last word where they could be asked.
fn standing(serving: &Result<ServingNow, String>, public: &PublicLook, all_well: bool) -> Standing {
    let answers = match public {
        PublicLook::Answered { status, .. } => Some(!matches!(status, 502..=504)),
        PublicLook::Failed { .. } => Some(false),
        PublicLook::NotAsked { .. } => None,
    };
    let should = serving.as_ref().is_ok_and(|now| now.color.is_some() && now.running);
    match answers {
        // Where they could not be asked it is concluded.
        answers if !answers.unwrap_or(should) => Standing::NotServing,
        _ if should && all_well => Standing::Serving,
        _ => Standing::Degraded,
    }
}

fn at_work(queue: &Queue, state: &AppState) -> AtWork {
    let run = state.open();
    AtWork {
        holder: queue.holder.clone(),
        deployment: run.map(|run| run.deployment.clone()),
        step: run.and_then(|run| run.started.last().copied()),
        step_since: run.and_then(|run| run.step_since),
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
        restarts: instance.restarts,
        image: instance.image.clone(),
        owned: instance.owned.is_some(),
    }
}

pub(super) fn run_view(run: &Run) -> RunView {
    let failed =
        |failed: &Option<(Step, String)>| failed.clone().map(|(step, error)| FailedStep { step, error });
    let ending = match (run.outcome, run.resume(), failed(&run.stuck)) {
        (Some(Outcome::Committed), ..) => RunEnding::Committed,
        (Some(Outcome::RolledBack), ..) => RunEnding::RolledBack { failed: failed(&run.failure) },
        (None, Resume::Forward(_), _) => RunEnding::CommittedUnfinished,
        (None, _, Some(failed)) => RunEnding::Stuck { failed },
        (None, _, None) => RunEnding::CutOff,
    };
    RunView {
        deployment: run.deployment.clone(),
        verb: run.verb,
        image: run.candidate.image().image().to_string(),
        began: run.began,
        last: run.last,
        step: run.started.last().copied(),
        ending,
        receipt: run.receipt.clone(),
    }
}
