//! Finishes or takes back a run that was cut off.

use tokio_util::sync::CancellationToken;

use super::failure::chain;
use super::prepare::Observed;
use super::{Aftermath, Cause, Deployment, Failure, Orchestrator, RunJournal};
use crate::event::Event;
use crate::model::DeploymentId;
use crate::plan::Step;
use crate::state::{Outcome, Resume};

impl Orchestrator {
    /// Settles what the journal says is unsettled. The journal gives the direction; every step looks again at what
    /// is really there.
    pub(super) async fn recover_open_run(
        &self,
        log: &mut RunJournal,
    ) -> Result<Option<(DeploymentId, Outcome)>, Failure> {
        let Some(open) = log.state().open().cloned() else { return Ok(None) };
        let mut run =
            Deployment::new(self, open.verb, open.deployment.clone(), open.candidate.clone(), open.previous);
        let deployment = open.deployment.clone();
        let forward = |forward| Event::Recovering { deployment: deployment.clone(), forward };
        match open.resume() {
            Resume::Nothing => Ok(None),
            Resume::Unwind(steps) => {
                self.tell(&forward(false));
                self.take_back(&mut run, log, &steps).await?;
                Ok(Some((deployment, Outcome::RolledBack)))
            }
            Resume::Forward(steps) => {
                let observed = match self.observe().await {
                    Ok(observed) => observed,
                    // Nothing is decided without a look.
                    Err(cause) => return Err(self.stuck(&run, log, Step::Verify, cause).await),
                };
                if run.was_taken_back(&observed) {
                    self.tell(&forward(false));
                    self.take_back(&mut run, log, &[Step::Start]).await?;
                    return Ok(Some((deployment, Outcome::RolledBack)));
                }
                self.tell(&forward(true));
                match run.reinstate(&observed).await {
                    Ok(()) => match run.finish(log, &steps).await {
                        Ok(_) => Ok(Some((deployment, Outcome::Committed))),
                        // Lost at the very end, and settled all the same.
                        Err(failure) if failure.aftermath == Aftermath::RolledBack => {
                            self.warn(chain(&failure));
                            Ok(Some((deployment, Outcome::RolledBack)))
                        }
                        Err(failure) => Err(failure),
                    },
                    // Nothing speaks against it: the next run goes on from here.
                    Err(Unproven::Unknown(cause)) => Err(self.stuck(&run, log, Step::Verify, cause).await),
                    // A committed candidate that cannot serve any more: whoever can, must.
                    Err(Unproven::Cannot(cause)) => {
                        self.warn(chain(&cause));
                        self.take_back(&mut run, log, &open.undoable()).await?;
                        Ok(Some((deployment, Outcome::RolledBack)))
                    }
                }
            }
        }
    }

    async fn take_back(
        &self,
        run: &mut Deployment<'_>,
        log: &mut RunJournal,
        steps: &[Step],
    ) -> Result<(), Failure> {
        match run.unwind(log, steps).await {
            Ok(()) => Ok(()),
            Err((step, cause)) => Err(self.stuck(run, log, step, cause).await),
        }
    }

    async fn stuck(&self, run: &Deployment<'_>, log: &RunJournal, step: Step, cause: Cause) -> Failure {
        let aftermath = Aftermath::Stuck { step, error: chain(&cause) };
        run.failure(log, step, cause, aftermath, Vec::new()).await
    }
}

/// Why a committed candidate is not proven to serve.
enum Unproven {
    /// It was seen that it cannot: it does not start, is not healthy, or requests do not reach it.
    Cannot(Cause),
    /// That could not be found out.
    Unknown(Cause),
}

impl Unproven {
    fn judged(cause: Cause) -> Self {
        if cause.is_against_candidate() { Self::Cannot(cause) } else { Self::Unknown(cause) }
    }
}

impl Deployment<'_> {
    /// Whether a run whose commit is on record was rolled back all the same: it never learned that its commit
    /// record was durable. Then the previous colour serves and the candidate is gone.
    fn was_taken_back(&self, observed: &Observed) -> bool {
        self.previous.is_some_and(|previous| {
            observed.serving.color == Some(previous)
                && observed.runs(previous)
                && !observed.runs(self.slot().color)
        })
    }

    /// Whether the candidate runs and is what the proxy sends requests to.
    fn serves(&self, observed: &Observed) -> bool {
        let color = self.slot().color;
        observed.serving.color == Some(color) && observed.serving.consistent && observed.runs(color)
    }

    /// Makes a committed candidate serve again before anything of the previous colour is touched: the host may
    /// have restarted since, or the proxy may point elsewhere. Past its commit a run is finished, also when somebody
    /// asks to stop: they, too, want something to serve.
    async fn reinstate(&mut self, observed: &Observed) -> Result<(), Unproven> {
        let orchestrator = self.orchestrator.clone().cancelled_by(CancellationToken::new());
        self.instance = observed.instance(self.slot().color).cloned();
        if !self.serves(observed) {
            self.misdirected = self.previous.is_some_and(|previous| observed.runs(previous))
                && observed.serving.color == Some(self.slot().color)
                && !observed.runs(self.slot().color);
            self.aim_at_previous().await.map_err(Unproven::Unknown)?;
            let instance =
                orchestrator.ensure_running(&self.candidate.spec).await.map_err(Unproven::Cannot)?;
            orchestrator.gate(self.slot(), &instance).await.map_err(Unproven::judged)?;
            self.instance = Some(instance);
            orchestrator.switch(Some(self.backend())).await.map_err(Unproven::Cannot)?;
        }
        orchestrator.verify(&self.backend()).await.map_err(Unproven::judged)?;
        Ok(())
    }
}
