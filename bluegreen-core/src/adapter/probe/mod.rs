//! Health probes: HTTP, TCP, a log line, the image's HEALTHCHECK, a command.
//!
//! # Guarantees
//!
//! - One attempt a call, over before the time that it was given is.
//! - Connections are new ones, to the instance's own address and never to a published port: Docker's port proxy
//!   accepts before the application listens.
//! - Nothing is remembered from one call to the next, so nothing of one instance can count for another.

mod command;
mod http;
mod image;
mod log;
mod pattern;
mod tcp;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::Check;
use crate::port::{ContainerRuntime, Health, HealthProbe, Instance, ProbeError};

/// All kinds of [`Check`].
#[derive(Debug, Clone)]
pub struct Probes {
    runtime: Arc<dyn ContainerRuntime>,
}

impl Probes {
    /// Probes of instances of this runtime, which is asked for logs, for HEALTHCHECKs and to run commands.
    pub fn new(runtime: Arc<dyn ContainerRuntime>) -> Self {
        Self { runtime }
    }
}

#[async_trait]
impl HealthProbe for Probes {
    async fn probe(&self, check: &Check, target: &Instance, within: Duration) -> Result<Health, ProbeError> {
        match check {
            Check::Http(check) => {
                let Some(endpoint) = target.endpoint(check.port) else { return no_address(target) };
                http::probe(check, &endpoint, within).await
            }
            Check::Tcp { port } => {
                let Some(endpoint) = target.endpoint(*port) else { return no_address(target) };
                Ok(tcp::probe(&endpoint, within).await)
            }
            Check::Log(pattern) => log::probe(&*self.runtime, pattern, target, within).await,
            Check::Image => image::probe(&*self.runtime, target, within).await,
            Check::Command { command } => command::probe(&*self.runtime, command, target, within).await,
        }
    }
}

/// What to say of an instance that cannot be connected to: one that runs will not get an address by waiting, one
/// that does not may be started again.
fn no_address(target: &Instance) -> Result<Health, ProbeError> {
    if target.is_running() {
        let reason = format!("{} runs and has no address that this host can reach", target.name);
        return Err(ProbeError::Impossible { reason });
    }
    Ok(not_running(target))
}

fn not_running(target: &Instance) -> Health {
    Health::unhealthy(format!("not running: {}", target.state))
}

/// Why a connection was not made or did not last, in the words that people search for.
fn connection_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => format!("no connection: {error}"),
    }
}

/// A limit for a reason. The last attempt has what the gate's deadline leaves, to the nanosecond.
fn span(within: Duration) -> String {
    let millis = within.as_millis();
    let shown = if millis < 100 { millis } else { millis.div_ceil(10) * 10 };
    format!("{:?}", Duration::from_millis(u64::try_from(shown).unwrap_or(u64::MAX)))
}

/// The last line of what a program printed, for a reason: complaints come last.
fn last_line(output: &str) -> String {
    let line = output.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no output");
    clip(line)
}

/// At most 200 characters and nothing that would move a terminal's cursor.
fn clip(text: &str) -> String {
    let mut clipped: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    if clipped.len() < text.len() && text.chars().count() > 200 {
        clipped.push_str(" ...");
    }
    clipped
}
