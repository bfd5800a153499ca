//! Carries the steps out, forward.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::failure::chain;
use super::receipt::{Phase, Watch};
use super::{Aftermath, Cause, DrainReport, Failure, Orchestrator, Report, RunJournal, StepTime};
use crate::event::Event;
use crate::model::{Backend, Color, DeploymentId, Receipt, Release, Slot};
use crate::plan::{PLAN, Step};
use crate::port::{Instance, InstanceState, Proof, ProxyError};
use crate::state::{Outcome, Record, Verb};

/// How long a switch may take to be seen through the proxy, and how often it is looked for. Not long: where it
/// cannot be proven, clients meet a candidate that does not answer until it is rolled back.
const VERIFY_WITHIN: Duration = Duration::from_secs(1);
const VERIFY_EVERY: Duration = Duration::from_millis(10);
/// How much of the candidate's log goes with a failure.
const LOG_LINES: u16 = 20;

/// One run: what is to serve, what served, and what came of it so far.
pub(super) struct Deployment<'a> {
    pub(super) orchestrator: &'a Orchestrator,
    pub(super) verb: Verb,
    pub(super) id: DeploymentId,
    pub(super) candidate: Release,
    pub(super) previous: Option<Color>,
    /// Whether the proxy names the candidate's place before the run begins.
    pub(super) misdirected: bool,
    /// What serves, when somebody else made it.
    pub(super) adopted: Option<Release>,
    pub(super) instance: Option<Instance>,
    proof: Option<Proof>,
    drain: Option<DrainReport>,
    times: Vec<StepTime>,
    pub(super) watch: Option<Watch>,
    pub(super) receipt: Option<Receipt>,
}

impl<'a> Deployment<'a> {
    pub(super) fn new(
        orchestrator: &'a Orchestrator,
        verb: Verb,
        id: DeploymentId,
        candidate: Release,
        previous: Option<Color>,
    ) -> Self {
        Self {
            orchestrator,
            verb,
            id,
            candidate,
            previous,
            misdirected: false,
            adopted: None,
            instance: None,
            proof: None,
            drain: None,
            times: Vec::new(),
            watch: None,
            receipt: None,
        }
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.candidate.spec.slot
    }

    pub(super) fn backend(&self) -> Backend {
        self.slot().backend()
    }

    pub(super) fn previous_slot(&self) -> Option<&Slot> {
        self.previous.map(|color| self.orchestrator.spec.slots.of(color))
    }

    /// The whole run, from its first record to its last.
    pub(super) async fn execute(&mut self, log: &mut RunJournal) -> Result<Report, Failure> {
        let begun = Record::Begun {
            deployment: self.id.clone(),
            app: self.orchestrator.spec.name.clone(),
            verb: self.verb,
            candidate: Box::new(self.candidate.clone()),
            previous: self.previous,
            adopted: self.adopted.clone().map(Box::new),
        };
        log.append(begun).await.map_err(|cause| self.orchestrator.untouched(cause))?;
        self.orchestrator.tell(&Event::Begun {
            deployment: self.id.clone(),
            app: self.orchestrator.spec.name.clone(),
            verb: self.verb,
            image: self.candidate.image().to_string(),
            candidate: self.slot().color,
            previous: self.previous,
        });
        // Before a first deployment, too: what it takes over from may have served until then.
        self.watch_clients();
        let (before, after): (Vec<Step>, Vec<Step>) =
            PLAN.into_iter().filter(|step| *step != Step::Resolve).partition(|step| !step.is_past_commit());
        if let Err((step, cause)) = self.forward(log, &before).await {
            return Err(self.taken_back(log, step, cause).await);
        }
        self.finish(log, &after).await
    }

    /// The steps after the commit point, and the end of the run.
    pub(super) async fn finish(&mut self, log: &mut RunJournal, steps: &[Step]) -> Result<Report, Failure> {
        let finished = match self.forward(log, steps).await {
            Ok(()) => {
                self.keep_receipt(log).await;
                log.append(Record::Ended { outcome: Outcome::Committed }).await.map_err(|e| (Step::Retire, e))
            }
            Err(failed) => Err(failed),
        };
        match finished {
            Ok(()) => Ok(self.report()),
            // The one way back from behind the commit point: the previous colour is still there, and this one cannot.
            Err((step, cause)) if cause.is_against_candidate() => {
                Err(self.taken_back(log, step, cause).await)
            }
            Err((step, cause)) => {
                self.keep_receipt(log).await;
                Err(self.failure(log, step, cause, Aftermath::Committed, Vec::new()).await)
            }
        }
    }

    /// Takes the run back after a failure, and says what that led to.
    async fn taken_back(&mut self, log: &mut RunJournal, step: Step, cause: Cause) -> Failure {
        // Before it is removed, and whatever failed: what the candidate said is half of every diagnosis.
        let tail = match &self.instance {
            Some(instance) if !matches!(cause, Cause::Cancelled) => {
                self.orchestrator.log_tail(&instance.id, LOG_LINES).await
            }
            _ => Vec::new(),
        };
        let steps = log.state().open().map(crate::state::Run::undoable).unwrap_or_default();
        let cancelled = matches!(cause, Cause::Cancelled);
        let aftermath = match self.unwind(log, &steps).await {
            Ok(()) if cancelled => Aftermath::Cancelled,
            Ok(()) => Aftermath::RolledBack,
            Err((step, error)) => Aftermath::Stuck { step, error: chain(&error) },
        };
        // One that is stuck has not ended.
        self.keep_receipt(log).await;
        self.failure(log, step, cause, aftermath, tail).await
    }

    pub(super) async fn failure(
        &self,
        log: &RunJournal,
        step: Step,
        cause: Cause,
        aftermath: Aftermath,
        tail: Vec<String>,
    ) -> Failure {
        Failure {
            app: self.orchestrator.spec.name.clone(),
            step: Some(step),
            cause,
            aftermath,
            serving: self.orchestrator.what_serves(log.state()).await,
            log: tail,
            deployment: Some(self.id.clone()),
            receipt: self.receipt.clone(),
        }
    }

    /// Runs `steps` in order, each with its intent durable before its effect.
    pub(super) async fn forward(
        &mut self,
        log: &mut RunJournal,
        steps: &[Step],
    ) -> Result<(), (Step, Cause)> {
        for &step in steps {
            if !step.is_past_commit() && self.orchestrator.cancel.is_cancelled() {
                return Err((step, Cause::Cancelled));
            }
            log.append(Record::Started { step }).await.map_err(|cause| (step, cause))?;
            let detail = step.describe(&self.candidate.spec, self.previous_slot());
            self.orchestrator.tell(&Event::StepStarted { step, detail });
            let began = Instant::now();
            let performed = match self.perform(log, step).await {
                Ok(detail) => log.append(Record::Succeeded { step }).await.map(|()| detail),
                Err(cause) => Err(cause),
            };
            let elapsed = began.elapsed();
            self.times.push(StepTime::new(step, elapsed));
            match performed {
                Ok(detail) => self.orchestrator.tell(&Event::StepSucceeded { step, detail, elapsed }),
                Err(cause) => {
                    let error = chain(&cause);
                    self.orchestrator.tell(&Event::StepFailed { step, error: error.clone() });
                    // The intent is on record; that it failed only helps whoever reads the history.
                    drop(log.append(Record::Failed { step, error }).await);
                    return Err((step, cause));
                }
            }
        }
        Ok(())
    }

    /// One step's effect; what came of it, in a line.
    async fn perform(&mut self, log: &RunJournal, step: Step) -> Result<String, Cause> {
        let orchestrator = self.orchestrator;
        match step {
            Step::Resolve => Ok(self.candidate.image().to_string()),
            Step::Pull => {
                self.pull(log).await?;
                Ok(format!("{} is here", self.candidate.image()))
            }
            Step::Start => {
                self.aim_at_previous().await?;
                let instance = orchestrator.ensure_running(&self.candidate.spec).await?;
                let detail = format!("{} runs", instance.name);
                self.instance = Some(instance);
                Ok(detail)
            }
            Step::Gate => {
                orchestrator.gate(self.slot(), self.running()?).await?;
                Ok(format!("{} is healthy", self.slot().name))
            }
            Step::Switch => {
                self.still_running().await?;
                self.phase(Phase::During);
                orchestrator.switch(Some(self.backend())).await?;
                if self.watch.is_none() {
                    // A recovery begins here.
                    self.watch_clients();
                    self.phase(Phase::During);
                }
                Ok(format!("new requests go to {}", self.slot().color))
            }
            Step::Verify => {
                let proof = orchestrator.verify(&self.backend()).await?;
                self.phase(Phase::After);
                self.bake().await?;
                self.still_running().await?;
                let evidence = proof.evidence.clone();
                self.proof = Some(proof);
                Ok(evidence)
            }
            Step::Drain => match self.previous_slot() {
                None => Ok("nothing to drain".to_owned()),
                Some(previous) => {
                    let backend = previous.backend();
                    let report = tokio::select! {
                        report = orchestrator.drain(&backend) => report,
                        state = orchestrator.until_lost(self.slot(), self.running()?) => return Err(self.lost(&state)),
                    };
                    let color = previous.color;
                    let detail = match &report.left {
                        None => format!("nothing is in flight to {color}"),
                        Some(left) => format!("{left} to {color} outlived it"),
                    };
                    self.drain = Some(report);
                    Ok(detail)
                }
            },
            Step::Retire => {
                self.still_running().await?;
                self.retire(log).await
            }
        }
    }

    /// Where the proxy names the candidate's place although the previous colour is what answers, it would send clients
    /// to the candidate as soon as that listens, long before its gate. So it is pointed at what lives.
    pub(super) async fn aim_at_previous(&self) -> Result<(), Cause> {
        match self.previous_slot() {
            Some(previous) if self.misdirected => self.orchestrator.switch(Some(previous.backend())).await,
            _ => Ok(()),
        }
    }

    pub(super) fn running(&self) -> Result<&Instance, Cause> {
        self.instance.as_ref().ok_or_else(|| Cause::CandidateLost {
            name: self.slot().name.to_string(),
            state: "not started by this run".to_owned(),
        })
    }

    /// The candidate must still be the container that passed the gate.
    pub(super) async fn still_running(&self) -> Result<(), Cause> {
        match self.orchestrator.lost(self.slot(), self.running()?).await? {
            None => Ok(()),
            Some(state) => Err(self.lost(&state)),
        }
    }

    pub(super) fn lost(&self, state: &InstanceState) -> Cause {
        Cause::CandidateLost { name: self.slot().name.to_string(), state: state.to_string() }
    }

    fn report(&self) -> Report {
        Report {
            deployment: self.id.clone(),
            app: self.orchestrator.spec.name.clone(),
            verb: self.verb,
            image: self.candidate.image().image().to_string(),
            digest: self.candidate.image().digest().to_string(),
            candidate: self.slot().color,
            previous: self.previous,
            unchanged: false,
            recovered: None,
            proof: self.proof.as_ref().map(|proof| proof.evidence.clone()),
            drain: self.drain.clone(),
            receipt: self.receipt.clone(),
            rollback: None,
            steps: self.times.clone(),
        }
    }
}

impl Orchestrator {
    /// Proves the switch, allowing it a moment to be seen.
    pub(super) async fn verify(&self, to: &Backend) -> Result<Proof, Cause> {
        let until = Instant::now() + VERIFY_WITHIN;
        loop {
            match self.verify_once(to).await {
                // nginx, too, turns some away for a moment only.
                Err(Cause::Proxy(ProxyError::NotProven { .. } | ProxyError::AnswersItself { .. }))
                    if Instant::now() < until =>
                {
                    sleep(VERIFY_EVERY).await;
                }
                outcome => return outcome,
            }
        }
    }
}
