//! The real world behind the ports, each adapter behind its cargo feature.
//!
//! An adapter knows its port and the model, and nothing of the orchestrator or of the other adapters. These
//! are the only places that name bollard or AWS, run programs or read and write files.

#[cfg(feature = "nginx")]
mod atomic;
#[cfg(feature = "docker")]
pub mod docker;
#[cfg(feature = "ecr")]
pub mod ecr;
#[cfg(feature = "file-journal")]
pub mod file;
#[cfg(feature = "http-client")]
mod http;
#[cfg(feature = "nginx")]
pub mod nginx;
#[cfg(feature = "probes")]
pub mod probe;
pub mod registries;
