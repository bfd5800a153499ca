//! Finishes or takes back a run that was cut off.

use super::failure::chain;
use super::{Aftermath, Cause, Deployment, Failure, Log, Orchestrator};
use crate::event::Event;
use crate::model::DeploymentId;
use crate::plan::Step;
use crate::state::{Outcome, Resume};

impl Orchestrator {
    /// Settles what the journal says is unsettled. The journal gives the direction; every step looks again at what
    /// is really there.
    pub(super) async fn settle(&self, log: &mut Log) -> Result<Option<(DeploymentId, Outcome)>, Failure> {
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
                match self.was_taken_back(&run).await {
                    Ok(false) => {}
                    Ok(true) => {
                        self.tell(&forward(false));
                        self.take_back(&mut run, log, &[Step::Start]).await?;
                        return Ok(Some((deployment, Outcome::RolledBack)));
                    }
                    Err(cause) => return Err(self.stuck(&run, log, Step::Verify, cause).await),
                }
                self.tell(&forward(true));
                if let Err(cause) = run.reinstate().await {
                    // A committed candidate that cannot serve any more: whoever can, must.
                    self.warn(chain(&cause));
                    self.take_back(&mut run, log, &open.undoable()).await?;
                    return Ok(Some((deployment, Outcome::RolledBack)));
                }
                run.finish(log, &steps).await?;
                Ok(Some((deployment, Outcome::Committed)))
            }
        }
    }

    async fn take_back(
        &self,
        run: &mut Deployment<'_>,
        log: &mut Log,
        steps: &[Step],
    ) -> Result<(), Failure> {
        match run.unwind(log, steps).await {
            Ok(()) => Ok(()),
            Err((step, cause)) => Err(self.stuck(run, log, step, cause).await),
        }
    }

    async fn stuck(&self, run: &Deployment<'_>, log: &Log, step: Step, cause: Cause) -> Failure {
        let aftermath = Aftermath::Stuck { step, error: chain(&cause) };
        run.failure(log, step, cause, aftermath, Vec::new()).await
    }

    /// Whether a run whose commit is on record was taken back all the same: it never learned that its commit
    /// record was durable. Then the previous colour serves and the candidate is gone.
    async fn was_taken_back(&self, run: &Deployment<'_>) -> Result<bool, Cause> {
        let Some(previous) = run.previous else { return Ok(false) };
        let observed = self.observe().await?;
        Ok(observed.serving.color == Some(previous)
            && observed.runs(previous)
            && !observed.runs(run.slot().color))
    }
}

impl Deployment<'_> {
    /// Makes a committed candidate serve again before anything of the previous colour is touched: the host may
    /// have restarted since, or the proxy may point elsewhere.
    async fn reinstate(&mut self) -> Result<(), Cause> {
        let orchestrator = self.orchestrator;
        let observed = orchestrator.observe().await?;
        let color = self.slot().color;
        self.instance = observed.instance(color).cloned();
        if !(observed.serving.color == Some(color) && observed.serving.settled && observed.runs(color)) {
            let instance = orchestrator.ensure_running(&self.candidate.spec).await?;
            orchestrator.gate(self.slot(), &instance).await?;
            self.instance = Some(instance);
            orchestrator.switch(Some(self.backend())).await?;
        }
        orchestrator.verify(&self.backend()).await?;
        Ok(())
    }
}
