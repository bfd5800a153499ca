use std::sync::Arc;
use std::time::Duration;

use super::{Broken, Rules};
use crate::model::InstanceSpec;
use crate::port::{ContainerRuntime, Instance, InstanceId, Ownership};

const RULES: Rules = Rules("ContainerRuntime");
const FOUND: &str = "instances can be looked for";
const RUNS: &str = "an instance can be made to run";

/// The rules of a [`ContainerRuntime`]. `spec` and `other` differ in nothing but their options, so that one takes the
/// other's place; their image can be had without credentials and goes on running by itself. Nothing of the
/// application may be there before; nothing but the image is left.
///
/// # Errors
///
/// The first rule that is not kept.
pub async fn runtime(
    runtime: &dyn ContainerRuntime,
    spec: &InstanceSpec,
    other: &InstanceSpec,
) -> Result<(), Broken> {
    let kit = Kit { runtime, spec };
    kit.image().await?;
    let first = kit.running().await?;
    let second = kit.replaced(&first, other).await?;
    kit.gone(&second).await
}

struct Kit<'a> {
    runtime: &'a dyn ContainerRuntime,
    spec: &'a InstanceSpec,
}

impl Kit<'_> {
    async fn find(&self) -> Result<Option<Instance>, Broken> {
        RULES.answered(FOUND, self.runtime.find(&self.spec.slot.name).await)
    }

    async fn list(&self) -> Result<Vec<Instance>, Broken> {
        RULES.answered(FOUND, self.runtime.list(&self.spec.app).await)
    }

    async fn image(&self) -> Result<(), Broken> {
        let (runtime, image) = (self.runtime, &self.spec.image);
        for _ in 0..2 {
            let pulled = runtime.ensure_image(image, None, Arc::new(drop)).await;
            RULES.answered("an image can be had, also when it is here already", pulled)?;
            let here = RULES.answered("it can be asked for an image", runtime.has_image(image).await)?;
            RULES.hold("an image that was had is here", &here, |here| *here)?;
        }
        RULES.answered("it can be asked for free space", runtime.free_space().await)?;
        RULES.hold("what is not there is not found", &self.find().await?, Option::is_none)?;
        RULES.hold("what is not there is not listed", &self.list().await?, Vec::is_empty)
    }

    async fn running(&self) -> Result<Instance, Broken> {
        let (runtime, spec) = (self.runtime, self.spec);
        let first = RULES.answered(RUNS, runtime.ensure_running(spec).await)?;
        RULES.hold("what was made to run runs, under its name", &first, |instance| {
            instance.is_running() && instance.name == spec.slot.name
        })?;
        let labels = Ownership::new(
            spec.app.clone(),
            spec.slot.color,
            spec.deployment.clone(),
            spec.image.digest().clone(),
            spec.fingerprint(),
        );
        RULES.hold("it says whose it is and what it runs", &first.owned, |owned| *owned == Some(labels))?;
        self.is_the_only(&first).await?;
        let again = RULES.answered(RUNS, runtime.ensure_running(spec).await)?;
        RULES.hold("making it run again changes nothing", &again, |again| {
            again.id == first.id && again.pid == first.pid
        })?;
        for _ in 0..2 {
            let stopped = runtime.ensure_stopped(&first.id, Some(Duration::from_secs(1))).await;
            RULES.answered("an instance can be stopped, also when it is already", stopped)?;
        }
        RULES.hold("one that was stopped is there and does not run", &self.find().await?, |found| {
            found.as_ref().is_some_and(|found| found.id == first.id && !found.is_running())
        })?;
        let started = RULES.answered(RUNS, runtime.ensure_running(spec).await)?;
        RULES.hold("one that was stopped is started, not made anew", &started, |started| {
            started.is_running() && started.id == first.id
        })?;
        Ok(started)
    }

    async fn replaced(&self, first: &Instance, other: &InstanceSpec) -> Result<Instance, Broken> {
        let second = RULES.answered(RUNS, self.runtime.ensure_running(other).await)?;
        RULES.hold("another description replaces the instance", &second, |second| {
            second.is_running() && second.id != first.id
        })?;
        self.is_the_only(&second).await?;
        Ok(second)
    }

    async fn gone(&self, last: &Instance) -> Result<(), Broken> {
        let (runtime, image) = (self.runtime, &self.spec.image);
        let kept = runtime.ensure_image_removed(image).await;
        RULES.answered("removing an image that is in use is no error", kept)?;
        let here = RULES.answered("it can be asked for an image", runtime.has_image(image).await)?;
        RULES.hold("an image that is in use stays", &here, |here| *here)?;
        for id in [&last.id, &last.id, &InstanceId::new("contract-that-never-was")] {
            let removed = runtime.ensure_removed(id).await;
            RULES.answered("an instance can be removed, also when it is gone", removed)?;
            let stopped = runtime.ensure_stopped(id, None).await;
            RULES.answered("stopping what is gone is no error", stopped)?;
        }
        RULES.hold("what was removed is not found", &self.find().await?, Option::is_none)?;
        RULES.hold("what was removed is not listed", &self.list().await?, Vec::is_empty)
    }

    async fn is_the_only(&self, instance: &Instance) -> Result<(), Broken> {
        RULES.hold(
            "there is exactly one instance of a place",
            &self.list().await?,
            |listed| matches!(&listed[..], [only] if only.id == instance.id),
        )?;
        RULES.hold("it is found by its name", &self.find().await?, |found| {
            found.as_ref().is_some_and(|found| found.id == instance.id)
        })
    }
}
