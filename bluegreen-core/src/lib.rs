//! Zero-downtime blue/green deployment of containers on one host, as a library.
//!
//! Two places, blue and green, stand behind a proxy. One serves. A deployment starts the candidate in the idle
//! place, waits until it is healthy, sends new requests to it, proves that they arrive, and only then lets go of
//! the previous one: when nothing is in flight to it any more. Each step is announced in a durable journal before
//! it happens, so that a run that is cut off at any moment is finished or rolled back by the next one.
//!
//! - [`model`]: plain values, valid by construction.
//! - [`port`]: the outside world as traits: registry, container runtime, proxy, health probe, journal.
//! - [`plan`] and [`state`]: the steps and the journal's meaning. Pure.
//! - [`orchestrator`]: runs the plan. [`Orchestrator`](orchestrator::Orchestrator) is the type to begin with.
//! - [`event`]: what is told while a run goes on.
//! - [`adapter`]: the real world: Docker, ECR, nginx, probes, files. Each behind a cargo feature.
//! - `testing` (feature `testing`): an in-memory host with faults, fakes and mocks.
//!
//! The library never prints, never exits and never reads the environment or a home directory.

pub mod adapter;
pub mod event;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod model;
pub mod orchestrator;
pub mod plan;
pub mod port;
pub mod state;
#[cfg(feature = "testing")]
pub mod testing;
