use std::time::Duration;

use super::{Broken, Rules};
use crate::model::{AppName, Color, DeploymentId, Digest, ImageRef, Release};
use crate::plan::Step;
use crate::port::{Holder, Journal, JournalError};
use crate::state::{Activity, Entry, Outcome, Record, Verb};
use crate::testing::World;

const RULES: Rules = Rules("Journal");

/// The rules of a [`Journal`]. `app` must be one that it knows nothing of; a few records are left there.
///
/// # Errors
///
/// The first rule that is not kept.
pub async fn journal(journal: &dyn Journal, app: &AppName) -> Result<(), Broken> {
    records(journal, app).await?;
    lock(journal, app).await?;
    queue(journal, app).await
}

async fn records(journal: &dyn Journal, app: &AppName) -> Result<(), Broken> {
    let load = async || RULES.answered("what was appended can be loaded", journal.load(app).await);
    RULES.hold(
        "an application that nothing was appended for has no records",
        &load().await?,
        Vec::is_empty,
    )?;
    let written = run(app);
    for record in &written {
        RULES.answered("a record can be appended", journal.append(app, record).await)?;
    }
    let loaded = load().await?;
    RULES.hold(
        "records are loaded as they were appended, oldest first",
        &loaded,
        |loaded: &Vec<Entry>| loaded.iter().map(|entry| &entry.record).eq(&written),
    )?;
    RULES.hold("records are numbered from 1, without gaps", &loaded, |loaded: &Vec<Entry>| {
        loaded.iter().map(|entry| entry.seq).eq(1..=written.len() as u64)
    })?;
    RULES.hold("loading changes nothing", &load().await?, |again| *again == loaded)
}

async fn lock(journal: &dyn Journal, app: &AppName) -> Result<(), Broken> {
    const TAKEN: &str = "the lock can be taken when nobody has it";
    let [first, second] = ["contract-1", "contract-2"].map(holder);
    let look = async || RULES.answered("it can be asked who is at work", journal.queue(app).await);
    RULES.hold("nobody holds the lock at first", &look().await?, |queue| {
        !queue.held && queue.holder.is_none()
    })?;
    let lease = RULES.answered(TAKEN, journal.lock(app, &first).await)?;
    RULES.hold("who holds the lock is told", &look().await?, |queue| {
        queue.held && queue.holder.as_ref() == Some(&first)
    })?;
    let refused = journal.lock(app, &second).await;
    RULES.hold(
        "a held lock is refused at once, with who holds it",
        &refused,
        |refused| matches!(refused, Err(JournalError::Held { holder }) if holder.as_deref() == Some(&first)),
    )?;
    RULES.hold("an attempt that was refused changes nothing", &look().await?, |queue| {
        queue.held && queue.holder.as_ref() == Some(&first)
    })?;
    drop(lease);
    RULES.hold("a dropped lease lets go", &look().await?, |queue| !queue.held)?;
    drop(RULES.answered(TAKEN, journal.lock(app, &second).await)?);
    Ok(())
}

async fn queue(journal: &dyn Journal, app: &AppName) -> Result<(), Broken> {
    let [earlier, mut later] = ["contract-3", "contract-4"].map(holder);
    later.since = earlier.since + Duration::from_secs(1);
    for (asks, rule) in [
        (&earlier, "who asked last is told"),
        (&later, "who asked later takes the place of who asked before"),
        (&earlier, "who asked before does not take the place of who asked later"),
    ] {
        let newest = if rule.starts_with("who asked last") { &earlier } else { &later };
        RULES.answered("one can ask for a turn", journal.enqueue(app, asks).await)?;
        let queue = RULES.answered("it can be asked who is at work", journal.queue(app).await)?;
        RULES.hold(rule, &queue, |queue| queue.newest.as_ref() == Some(newest))?;
        RULES.hold("asking for a turn takes no lock", &queue, |queue| !queue.held)?;
    }
    Ok(())
}

/// The records of a run that was rolled back, with text that has to be kept as it is.
fn run(app: &AppName) -> Vec<Record> {
    let mut spec = World::new().spec();
    spec.name = app.clone();
    let deployment: DeploymentId = "contract-0".parse().expect("an id");
    let image: ImageRef = "registry.test/contract:1".parse().expect("a reference");
    let image = image.pin(Digest::new(format!("sha256:{:064x}", 1)).expect("a digest"));
    let candidate = Box::new(Release::new(spec.instance(Color::Blue, image, deployment.clone())));
    let step = Step::Pull;
    vec![
        Record::Begun {
            deployment,
            app: app.clone(),
            verb: Verb::Deploy,
            candidate,
            previous: None,
            adopted: None,
        },
        Record::Started { step },
        Record::Failed { step, error: "a \"text\" \\ of\ntwo lines, 3 µs".to_owned() },
        Record::Ended { outcome: Outcome::RolledBack },
    ]
}

fn holder(deployment: &str) -> Holder {
    let deployment = deployment.parse().expect("an id");
    Holder::new(std::process::id(), "contract", Activity::Deploy, deployment)
}
