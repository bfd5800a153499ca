//! The outside world, as traits: four ports of the product, and the journal; and what a proxy hands out, a client.
//!
//! Each port is a small trait with its error and its data in one file, an instance in a file of its own. Rules that hold for all of them:
//!
//! - Verbs named `ensure_*` are idempotent: calling one again, or after half of it happened, is not an error.
//! - An `Err` says nothing about the effect: it may have happened. Only the next look tells.
//! - No method retries or waits for a condition; policy belongs to the orchestrator, which also puts a deadline
//!   on every call.
//! - Errors name a variant only where somebody branches on it, and never repeat their source in `Display`.

mod client;
mod instance;
mod journal;
mod probe;
mod proxy;
mod registry;
mod runtime;

use std::sync::Arc;

pub use client::{Client, Connection};
pub use instance::{Described, Foreseen, HealthStatus, Instance, InstanceId, InstanceState, Ownership};
pub use journal::{Holder, Journal, JournalError, Lease, Queue};
pub use probe::{Health, HealthProbe, ProbeError};
pub use proxy::{
    Asking, FileChange, InFlight, Location, MissingFile, Proof, Proxy, ProxyError, Serving, Way,
};
pub use registry::{Credentials, Registry, RegistryError};
pub use runtime::{
    ContainerRuntime, ExecOutput, ExecUser, LineStream, PullObserver, PullProgress, RuntimeError,
};

#[cfg(feature = "testing")]
pub use self::{
    client::MockClient, journal::MockJournal, probe::MockHealthProbe, proxy::MockProxy,
    registry::MockRegistry, runtime::MockContainerRuntime,
};

/// What an error was caused by.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// One of each port: all that the orchestrator knows of the world.
#[derive(Debug, Clone)]
#[expect(
    clippy::exhaustive_structs,
    reason = "an embedder must name every port; a new one should not compile unseen"
)]
pub struct Ports {
    /// Resolves tags and gives credentials.
    pub registry: Arc<dyn Registry>,
    /// Runs instances.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Sends traffic to a colour.
    pub proxy: Arc<dyn Proxy>,
    /// Asks an instance whether it is well.
    pub probe: Arc<dyn HealthProbe>,
    /// Remembers, durably, and holds the application's lock.
    pub journal: Arc<dyn Journal>,
}
