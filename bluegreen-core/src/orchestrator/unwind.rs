//! Undoes steps. Never cancelled, tried several times, and stops at the first that cannot be undone:
//! what comes after it might remove what traffic still points at.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::failure::chain;
use super::receipt::Phase;
use super::{Cause, Deployment, RunJournal};
use crate::event::Event;
use crate::plan::{Step, Undo};
use crate::state::{Outcome, Record};

const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

impl Deployment<'_> {
    /// Undoes `steps`, in this order, and ends the run.
    ///
    /// Each undo is written to the journal first, but an undo goes on if that fails: the start of the step is on record,
    /// so a later recovery does the same again.
    pub(super) async fn unwind(&mut self, log: &mut RunJournal, steps: &[Step]) -> Result<(), (Step, Cause)> {
        if steps.contains(&Step::Switch) {
            self.phase(Phase::During);
        }
        for &step in steps {
            let Some(undo) = step.undo() else { continue };
            drop(log.append(Record::UndoStarted { step }).await);
            self.orchestrator.tell(&Event::Undoing { step });
            if let Err(cause) = self.undo_retrying(log, undo).await {
                drop(log.append(Record::UndoFailed { step, error: chain(&cause) }).await);
                return Err((step, cause));
            }
            drop(log.append(Record::Undone { step }).await);
            self.orchestrator.tell(&Event::Undone { step });
        }
        self.keep_receipt(log).await;
        drop(log.append(Record::Ended { outcome: Outcome::RolledBack }).await);
        Ok(())
    }

    async fn undo_retrying(&self, log: &RunJournal, undo: Undo) -> Result<(), Cause> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match self.undo(log, undo).await {
                Ok(()) => return Ok(()),
                Err(cause) => self.orchestrator.warn(format!("{}; trying again", chain(&cause))),
            }
            sleep(pause).await;
            pause *= 2;
        }
        self.undo(log, undo).await
    }

    async fn undo(&self, log: &RunJournal, undo: Undo) -> Result<(), Cause> {
        match undo {
            Undo::SwitchBack => self.switch_back(log).await,
            Undo::RemoveCandidate => {
                self.restart_previous(log).await?;
                self.remove_candidate().await
            }
        }
    }

    /// Sends new requests to what served before, and lets go of the candidate: requests may be in flight to it.
    async fn switch_back(&self, log: &RunJournal) -> Result<(), Cause> {
        let orchestrator = self.orchestrator;
        self.restart_previous(log).await?;
        orchestrator.switch(self.previous_slot().map(crate::model::Slot::backend)).await?;
        orchestrator.drain(&self.backend()).await;
        Ok(())
    }

    /// Starts what served before where it does not run any more: a reboot or a restart of the Engine in the middle may
    /// have stopped it, or this run. Requests are sent there when it is healthy, or when its time for that is over: it is
    /// all that there is. One that was never on record can only be left as it is.
    async fn restart_previous(&self, log: &RunJournal) -> Result<(), Cause> {
        let (orchestrator, Some(slot)) = (self.orchestrator, self.previous_slot()) else { return Ok(()) };
        let down = orchestrator.find(slot).await?.is_none_or(|instance| !instance.is_running());
        let recorded = log.state().release_in(slot.color).filter(|release| release.spec.slot == *slot);
        if let (true, Some(release)) = (down, recorded) {
            let instance = orchestrator.ensure_running(&release.spec).await?;
            // Nobody's wish to stop ends this: they, too, want something to serve.
            let patient = orchestrator.clone().cancelled_by(CancellationToken::new());
            if let Err(cause) = patient.gate(slot, &instance).await {
                orchestrator.warn(chain(&cause));
            }
        }
        Ok(())
    }

    /// Removes what this run made. A container that an earlier run made and kept, or that was adopted, is
    /// stopped again; any other that is not ours is not touched.
    async fn remove_candidate(&self) -> Result<(), Cause> {
        let orchestrator = self.orchestrator;
        self.remove_replaced().await?;
        let Some(instance) = orchestrator.find(self.slot()).await? else { return Ok(()) };
        let owned = instance.owned.as_ref().filter(|owned| owned.app == orchestrator.spec.name);
        let brought_back = self.candidate.spec.made_elsewhere.as_deref() == Some(instance.id.as_str());
        match owned {
            Some(owned) if owned.deployment == self.id => orchestrator.ensure_removed(&instance.id).await,
            None if !brought_back => Ok(()),
            _ => orchestrator.ensure_stopped(&instance.id, Some(&self.candidate.spec.options)).await,
        }
    }

    /// Removes what had the candidate's place before, where a start that was cut off has set it aside under another
    /// name: it is stopped, and no later look at the two places would find it.
    async fn remove_replaced(&self) -> Result<(), Cause> {
        let (orchestrator, slots) = (self.orchestrator, &self.orchestrator.spec.slots);
        for instance in orchestrator.list().await? {
            let of_this_place = instance.owned.as_ref().is_some_and(|owned| owned.color == self.slot().color);
            let placed = [&slots.blue.name, &slots.green.name].contains(&&instance.name);
            if of_this_place && !placed && !instance.is_running() {
                orchestrator.ensure_removed(&instance.id).await?;
            }
        }
        Ok(())
    }
}
