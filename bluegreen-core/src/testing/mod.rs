//! One in-memory host behind fakes of all ports, for tests of this crate and of embedders.
//!
//! Fakes for behaviour, mocks for wiring: [`World::ports`] gives fakes that share one host, so that what one port
//! does is seen by the others, and after every change the World checks what must never be untrue (see
//! [`World::violations`]). The mocks of each port ([`MockProxy`] and the others, made by mockall) are for tests
//! that only want to see a call. A [`Recorder`] keeps the events of a run; [`OnEvent`] does something in its middle.
//!
//! [`contract`] is for whoever writes an implementation of a port: what the orchestrator relies on, as a test.
//!
//! This module is not covered by semver.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! use bluegreen_core::orchestrator::{Aftermath, Orchestrator, Request};
//! use bluegreen_core::testing::{Health, World};
//!
//! let world = World::new();
//! world.publish("registry.test/web:1");
//! world.publish("registry.test/web:2").behaves(Health::never("status 500"));
//! let deploy = |tag: &str, id: &str| {
//!     Request::new(format!("registry.test/web:{tag}").parse().unwrap(), id.parse().unwrap())
//! };
//! let orchestrator = Orchestrator::new(world.ports(), world.spec());
//! orchestrator.deploy(deploy("1", "first")).await.unwrap();
//! let failure = orchestrator.deploy(deploy("2", "second")).await.unwrap_err();
//! assert_eq!(failure.aftermath, Aftermath::RolledBack);
//! assert_eq!(world.serving().unwrap().tag, "1");
//! assert!(world.violations().is_empty());
//! # });
//! ```

#![allow(clippy::expect_used, reason = "a test double that is misused should panic and say so")]

mod client;
pub mod contract;
mod fakes;
mod fault;
mod inside;
mod observers;
mod world;

pub use self::fault::{Fault, When};
pub use self::observers::{OnEvent, Recorder};
pub use self::world::{Health, Published, ServedBy, World};
pub use crate::port::{
    MockClient, MockContainerRuntime, MockHealthProbe, MockJournal, MockProxy, MockRegistry,
};
