//! Bugs, planted one at a time between the orchestrator and the World: the suite must catch each. They are what an
//! orchestrator would do that wrote too late, took back in the wrong order or not at all, or did not go forward.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bluegreen_core::model::{AppName, Backend};
use bluegreen_core::plan::Step;
use bluegreen_core::port::{
    Asking, Client, FileChange, Holder, InFlight, Journal, JournalError, Lease, Ports, Proof, Proxy,
    ProxyError, Queue, Serving,
};
use bluegreen_core::state::{Entry, Record};
use bluegreen_core::testing::{Fault, When, World};

use crate::{Scene, Settled, Wiring, combination, orchestrator, request};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// A step's intent is written when the step is over.
    EffectBeforeIntent,
    /// A committed run that was cut off is read as one that never was.
    NoRollForward,
    /// The proxy is switched back only after the candidate is gone.
    WrongUndoOrder,
    /// A switch that failed is not rolled back.
    FailingStepNotUndone,
}

fn ports(world: &World, bug: Bug) -> Ports {
    let ports = world.ports();
    let buggy = Arc::new(Buggy { ports: ports.clone(), bug, late: Mutex::default() });
    Ports { journal: buggy.clone(), proxy: buggy, ..ports }
}

struct Buggy {
    ports: Ports,
    bug: Bug,
    /// What was answered and not done yet.
    late: Mutex<Late>,
}

#[derive(Default)]
struct Late {
    record: Option<Record>,
    switched_back: bool,
    switch: Option<Option<Backend>>,
}

impl fmt::Debug for Buggy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bug.fmt(f)
    }
}

#[async_trait]
impl Journal for Buggy {
    async fn lock(&self, app: &AppName, holder: &Holder) -> Result<Lease, JournalError> {
        self.ports.journal.lock(app, holder).await
    }

    async fn append(&self, app: &AppName, record: &Record) -> Result<(), JournalError> {
        let late = self.late.lock().unwrap().record.take();
        if let Some(late) = late {
            self.ports.journal.append(app, &late).await?;
        }
        if self.bug == Bug::EffectBeforeIntent && matches!(record, Record::Started { .. }) {
            self.late.lock().unwrap().record = Some(record.clone());
            return Ok(());
        }
        if self.bug == Bug::WrongUndoOrder && *record == (Record::Undone { step: Step::Start }) {
            let switch = self.late.lock().unwrap().switch.take();
            if let Some(to) = switch {
                drop(self.ports.proxy.switch(app, to).await);
            }
        }
        self.ports.journal.append(app, record).await
    }

    async fn apps(&self) -> Result<Vec<AppName>, JournalError> {
        self.ports.journal.apps().await
    }

    async fn load(&self, app: &AppName) -> Result<Vec<Entry>, JournalError> {
        let mut entries = self.ports.journal.load(app).await?;
        let commit = Record::Succeeded { step: Step::Verify };
        let cut_off = !matches!(entries.last().map(|last| &last.record), None | Some(Record::Ended { .. }));
        if self.bug == Bug::NoRollForward
            && cut_off
            && let Some(at) = entries.iter().rposition(|entry| entry.record == commit)
            && !entries[at..].iter().any(|entry| matches!(entry.record, Record::Ended { .. }))
        {
            entries.truncate(at);
        }
        Ok(entries)
    }

    async fn is_elsewhere(&self, app: &AppName, place: &str) -> Result<bool, JournalError> {
        self.ports.journal.is_elsewhere(app, place).await
    }

    async fn queue(&self, app: &AppName) -> Result<Queue, JournalError> {
        self.ports.journal.queue(app).await
    }

    async fn enqueue(&self, app: &AppName, holder: &Holder) -> Result<(), JournalError> {
        self.ports.journal.enqueue(app, holder).await
    }
}

#[async_trait]
impl Proxy for Buggy {
    async fn check(&self, app: &AppName) -> Result<(), ProxyError> {
        self.ports.proxy.check(app).await
    }

    async fn active(&self, app: &AppName) -> Result<Serving, ProxyError> {
        self.ports.proxy.active(app).await
    }

    async fn preview(&self, app: &AppName, to: &Backend) -> Result<Vec<FileChange>, ProxyError> {
        self.ports.proxy.preview(app, to).await
    }

    async fn switch(&self, app: &AppName, to: Option<Backend>) -> Result<(), ProxyError> {
        let back = std::mem::replace(&mut self.late.lock().unwrap().switched_back, true);
        match self.bug {
            Bug::WrongUndoOrder if back => {
                self.late.lock().unwrap().switch = Some(to);
                Ok(())
            }
            Bug::FailingStepNotUndone if back => Ok(()),
            _ => self.ports.proxy.switch(app, to).await,
        }
    }

    async fn verify(&self, app: &AppName, to: &Backend) -> Result<Proof, ProxyError> {
        self.ports.proxy.verify(app, to).await
    }

    async fn in_flight(&self, app: &AppName, from: &Backend) -> Result<InFlight, ProxyError> {
        self.ports.proxy.in_flight(app, from).await
    }

    async fn client(&self, app: &AppName, asking: &Asking) -> Result<Arc<dyn Client>, ProxyError> {
        self.ports.proxy.client(app, asking).await
    }
}

/// Runs one combination with the bug in it; whether the suite fails.
async fn is_caught(wiring: Wiring, fault: (usize, Fault, When)) -> bool {
    let run =
        tokio::spawn(async move { combination(Scene::Deploy, wiring, fault, None, Settled::Recover).await });
    run.await.is_err_and(|error| error.is_panic())
}

/// The number of a call in a deploy without faults.
async fn call_of(operation: &str) -> usize {
    let world = Scene::Deploy.prepare().await;
    let before = world.calls().len();
    Scene::Deploy.run(&world, World::ports).await;
    world.calls()[before..].iter().position(|call| call.starts_with(operation)).expect("it is called")
}

#[tokio::test(start_paused = true)]
async fn an_effect_before_its_intent_is_caught() {
    let at = (call_of("runtime.ensure_running").await, Fault::Crash, When::After);
    assert!(!is_caught(World::ports, at).await, "the suite fails without a bug");
    assert!(is_caught(|world| ports(world, Bug::EffectBeforeIntent), at).await);
}

#[tokio::test(start_paused = true)]
async fn a_committed_run_that_is_taken_back_is_caught() {
    let at = (call_of("runtime.ensure_stopped").await, Fault::Crash, When::After);
    assert!(!is_caught(World::ports, at).await, "the suite fails without a bug");
    assert!(is_caught(|world| ports(world, Bug::NoRollForward), at).await);
}

#[tokio::test(start_paused = true)]
async fn an_undo_in_the_wrong_order_is_caught() {
    let at = (call_of("proxy.verify").await, Fault::Fail, When::Before);
    assert!(!is_caught(World::ports, at).await, "the suite fails without a bug");
    assert!(is_caught(|world| ports(world, Bug::WrongUndoOrder), at).await);
}

#[tokio::test(start_paused = true)]
async fn a_failing_step_that_is_not_taken_back_is_caught() {
    let at = (call_of("proxy.switch").await, Fault::Fail, When::After);
    assert!(!is_caught(World::ports, at).await, "the suite fails without a bug");
    assert!(is_caught(|world| ports(world, Bug::FailingStepNotUndone), at).await);
}

/// "Already at this version" is no reason to leave a proxy that points elsewhere.
#[tokio::test(start_paused = true)]
async fn the_same_version_again_mends_a_proxy_that_points_elsewhere() {
    let world = Scene::Rollback.prepare().await;
    let wrong = world.serving().unwrap().color.other();
    world.tamper_proxy(Some(wrong));
    orchestrator(&world, Scene::Rollback).deploy(request("2", "again")).await.unwrap();
    assert_eq!(world.serving().unwrap().tag, "2");
}
