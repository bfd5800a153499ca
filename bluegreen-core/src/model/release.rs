use serde::{Deserialize, Serialize};

use super::{
    AppName, Backend, Color, DeploymentId, Digest, DrainPolicy, Endpoint, Fingerprint, GatePolicy,
    InstanceName, Limits, NetworkAttachment, PinnedImage, Publish, ReceiptPolicy, Retain, RunOptions,
};

/// One colour's slot: the same for every release that runs in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slot {
    /// Its colour.
    pub color: Color,
    /// The container's name.
    pub name: InstanceName,
    /// The port that the application listens on inside.
    pub port: u16,
    /// Where that port is published on the host, if it is.
    pub publish: Option<Publish>,
    /// A network of this colour's own attachment, with its fixed address, if it has one.
    pub network: Option<NetworkAttachment>,
    /// Where the proxy reaches it.
    pub endpoint: Endpoint,
}

impl Slot {
    /// A place that is reached at `endpoint`.
    pub fn new(color: Color, name: InstanceName, port: u16, endpoint: Endpoint) -> Self {
        Self { color, name, port, publish: None, network: None, endpoint }
    }

    /// What the proxy is told to serve for this colour.
    pub fn backend(&self) -> Backend {
        Backend::new(self.color, vec![self.endpoint.clone()])
    }
}

/// The two places of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "there are exactly two colours")]
pub struct Slots {
    /// The blue place.
    pub blue: Slot,
    /// The green place.
    pub green: Slot,
}

impl Slots {
    /// The place of a colour.
    pub fn of(&self, color: Color) -> &Slot {
        match color {
            Color::Blue => &self.blue,
            Color::Green => &self.green,
        }
    }
}

/// Everything the orchestrator needs to know of an application, apart from what to deploy.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AppSpec {
    /// Its name.
    pub name: AppName,
    /// Its two places.
    pub slots: Slots,
    /// How its instances run.
    pub options: RunOptions,
    /// When a candidate is good enough.
    pub gate: GatePolicy,
    /// How the previous colour is drained.
    pub drain: DrainPolicy,
    /// The availability probe of a run; unset: none.
    pub receipt: Option<ReceiptPolicy>,
    /// What is kept.
    pub retain: Retain,
    /// How long calls may take.
    pub limits: Limits,
    /// Containers that carry a slot's name but not our label count as this application's, and may be
    /// replaced: for installations that a shell script made under the same names.
    pub adopt: bool,
}

impl AppSpec {
    /// An application with the default policies.
    pub fn new(name: AppName, slots: Slots) -> Self {
        Self {
            name,
            slots,
            options: RunOptions::default(),
            gate: GatePolicy::default(),
            drain: DrainPolicy::default(),
            receipt: Some(ReceiptPolicy::default()),
            retain: Retain::default(),
            limits: Limits::default(),
            adopt: false,
        }
    }

    /// The instance that `image` would run as in the place of `color`.
    pub fn instance(&self, color: Color, image: PinnedImage, deployment: DeploymentId) -> InstanceSpec {
        self.instance_with(color, image, deployment, self.options.clone())
    }

    /// The same with other options: those that an earlier release was run with.
    pub fn instance_with(
        &self,
        color: Color,
        image: PinnedImage,
        deployment: DeploymentId,
        options: RunOptions,
    ) -> InstanceSpec {
        let slot = self.slots.of(color).clone();
        InstanceSpec {
            app: self.name.clone(),
            deployment,
            slot,
            image,
            options,
            adopt: self.adopt,
            made_elsewhere: None,
            uncarried: Vec::new(),
        }
    }
}

/// One instance, completely described: enough to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceSpec {
    /// Whose instance it is.
    pub app: AppName,
    /// The deployment that asked for it.
    pub deployment: DeploymentId,
    /// Its place.
    pub slot: Slot,
    /// What runs.
    pub image: PinnedImage,
    /// How it runs.
    pub options: RunOptions,
    /// Whether a container of that name without our label may be replaced.
    #[serde(default)]
    pub adopt: bool,
    /// The runtime's id of the container, if bluegreen did not create it: as long as that exists, it is used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_elsewhere: Option<String>,
    /// What somebody else made it with that the options have no word for: made again, it is without that. Only told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncarried: Vec<String>,
}

impl InstanceSpec {
    /// What distinguishes its container from another's.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self)
    }

    /// What is run, wherever it runs and whatever its image is called: a tag and a digest may name the same. What
    /// tells containers apart is [`fingerprint`](Self::fingerprint).
    pub fn content(&self) -> (&Digest, &RunOptions) {
        (self.image.digest(), &self.options)
    }
}

/// A release as it is recorded: what rollback re-creates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Release {
    /// Its instances' description.
    pub spec: InstanceSpec,
}

impl Release {
    /// A release of one instance.
    pub fn new(spec: InstanceSpec) -> Self {
        Self { spec }
    }

    /// The colour that it is in.
    pub fn color(&self) -> Color {
        self.spec.slot.color
    }

    /// The deployment that made it.
    pub fn deployment(&self) -> &DeploymentId {
        &self.spec.deployment
    }

    /// What it runs.
    pub fn image(&self) -> &PinnedImage {
        &self.spec.image
    }
}
