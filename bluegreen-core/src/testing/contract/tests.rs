//! That the fakes keep the rules, and that each rule is one that can be broken.

use async_trait::async_trait;

use super::*;
use crate::model::{AppName, AppSpec, Color, DeploymentId, ImageRef, InstanceSpec, Secret};
use crate::port::{
    Health, Holder, Instance, InstanceId, InstanceState, Journal, JournalError, Lease, MockContainerRuntime,
    MockHealthProbe, MockProxy, MockRegistry, Queue, Serving,
};
use crate::state::{Entry, Record};
use crate::testing::World;

fn app() -> AppName {
    "web".parse().unwrap()
}

fn image(tag: &str) -> ImageRef {
    format!("registry.test/web:{tag}").parse().unwrap()
}

async fn specs(world: &World) -> [InstanceSpec; 2] {
    world.publish("registry.test/web:1");
    let pinned = world.ports().registry.resolve(&image("1")).await.unwrap();
    let deployment: DeploymentId = "d".parse().unwrap();
    let plain = world.spec();
    let mut changed: AppSpec = world.spec();
    changed.options.env.insert("A".to_owned(), Secret::new("b"));
    [plain, changed].map(|spec| spec.instance(Color::Blue, pinned.clone(), deployment.clone()))
}

#[tokio::test(start_paused = true)]
async fn the_fakes_keep_every_rule() {
    let world = World::new();
    let ports = world.ports();
    journal(&*ports.journal, &app()).await.unwrap();
    let [spec, other] = specs(&world).await;
    registry(&*ports.registry, &image("1"), &image("none")).await.unwrap();
    runtime(&*ports.runtime, &spec, &other).await.unwrap();
    for color in Color::ALL {
        let spec = world.spec().instance(color, spec.image.clone(), spec.deployment.clone());
        ports.runtime.ensure_running(&spec).await.unwrap();
    }
    proxy(&*ports.proxy, &app(), &world.spec().slots).await.unwrap();
    let well = ports.runtime.find(&spec.slot.name).await.unwrap().unwrap();
    let ill = Instance::new(well.id.clone(), "web-nobody".parse().unwrap(), well.state.clone());
    let check = &world.spec().gate.checks[0];
    probe(&*ports.probe, (check, &well), (check, &ill)).await.unwrap();
}

/// A journal that keeps all rules but one.
#[derive(Debug)]
struct Flawed {
    good: std::sync::Arc<dyn Journal>,
    flaw: &'static str,
}

#[async_trait]
impl Journal for Flawed {
    async fn lock(&self, app: &AppName, holder: &Holder) -> Result<Lease, JournalError> {
        match self.flaw {
            "lets everybody in" => Ok(Lease::new(())),
            "does not say who" => {
                self.good.lock(app, holder).await.map_err(|_| JournalError::Held { holder: None })
            }
            "never lets go" => {
                self.good.lock(app, holder).await.map(|lease| Lease::new(std::mem::ManuallyDrop::new(lease)))
            }
            _ => self.good.lock(app, holder).await,
        }
    }

    async fn append(&self, app: &AppName, record: &Record) -> Result<(), JournalError> {
        match (self.flaw, record) {
            ("forgets an end", Record::Ended { .. }) => Ok(()),
            _ => self.good.append(app, record).await,
        }
    }

    async fn apps(&self) -> Result<Vec<AppName>, JournalError> {
        self.good.apps().await
    }

    async fn load(&self, app: &AppName) -> Result<Vec<Entry>, JournalError> {
        let mut entries = self.good.load(app).await?;
        match self.flaw {
            "newest first" => entries.reverse(),
            "numbers from 0" => entries.iter_mut().for_each(|entry| entry.seq -= 1),
            _ => {}
        }
        Ok(entries)
    }

    async fn queue(&self, app: &AppName) -> Result<Queue, JournalError> {
        let queue = self.good.queue(app).await?;
        Ok(if self.flaw == "tells nobody" { Queue::default() } else { queue })
    }

    async fn enqueue(&self, app: &AppName, holder: &Holder) -> Result<(), JournalError> {
        if self.flaw == "never hears" { Ok(()) } else { self.good.enqueue(app, holder).await }
    }

    async fn is_elsewhere(&self, app: &AppName, place: &str) -> Result<bool, JournalError> {
        self.good.is_elsewhere(app, place).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_with_a_flaw_is_told_which_rule_it_breaks() {
    for (flaw, rule) in [
        ("forgets an end", "oldest first"),
        ("newest first", "oldest first"),
        ("numbers from 0", "numbered from 1"),
        ("lets everybody in", "who holds the lock"),
        ("tells nobody", "who holds the lock"),
        ("does not say who", "refused at once"),
        ("never lets go", "lets go"),
        ("never hears", "who asked last"),
    ] {
        let flawed = Flawed { good: World::new().ports().journal, flaw };
        let broken = journal(&flawed, &app()).await.expect_err(flaw);
        assert!(broken.rule.contains(rule), "{flaw}: {broken}");
        assert!(broken.to_string().starts_with("Journal: "), "{broken}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_nothing_keeps_no_rule() {
    let world = World::new();
    let [spec, other] = specs(&world).await;
    let mut idle = MockContainerRuntime::new();
    idle.expect_ensure_image().returning(|_, _, _| Ok(()));
    idle.expect_has_image().returning(|_| Ok(false));
    let broken = runtime(&idle, &spec, &other).await.unwrap_err();
    assert_eq!((broken.rule, broken.seen.as_str()), ("an image that was had is here", "false"));

    let mut idle = MockProxy::new();
    idle.expect_check().returning(|_| Ok(()));
    idle.expect_active().returning(|_| Ok(Serving::new(None, "nothing")));
    idle.expect_preview().returning(|_, _| Ok(Vec::new()));
    idle.expect_switch().returning(|_, _| Ok(()));
    let broken = proxy(&idle, &app(), &world.spec().slots).await.unwrap_err();
    assert_eq!(broken.rule, "after a switch that is what is served");

    let mut hopes = MockHealthProbe::new();
    hopes.expect_probe().returning(|_, _, _| Ok(Health::Healthy));
    let check = &world.spec().gate.checks[0];
    let any = Instance::new(InstanceId::new("1"), "web-blue".parse().unwrap(), InstanceState::Running);
    let broken = probe(&hopes, (check, &any), (check, &any)).await.unwrap_err();
    assert!(broken.rule.contains("there is a reason"), "{broken}");

    let mut guesses = MockRegistry::new();
    let pinned = spec.image.clone();
    guesses.expect_resolve().returning(move |_| Ok(pinned.clone()));
    let broken = registry(&guesses, &image("1"), &image("none")).await.unwrap_err();
    assert!(broken.rule.contains("not there"), "{broken}");
}
