//! Does a command inside the instance succeed?

use std::time::Duration;

use crate::port::{ContainerRuntime, Health, Instance, ProbeError};

/// Runs the command once. When the time is up the answer is no; the command itself may run on, the Engine has no
/// way to stop one.
pub(super) async fn probe(
    runtime: &dyn ContainerRuntime,
    command: &[String],
    target: &Instance,
    within: Duration,
) -> Result<Health, ProbeError> {
    if command.is_empty() {
        return Err(ProbeError::Impossible { reason: "the command is empty".to_owned() });
    }
    match tokio::time::timeout(within, runtime.exec(&target.id, command, None)).await {
        Ok(Ok(output)) if output.success() => Ok(Health::Healthy),
        Ok(Ok(output)) => Ok(Health::unhealthy(format!(
            "exit code {}: {}",
            output.exit_code,
            super::last_line(&output.output)
        ))),
        Ok(Err(source)) => Err(ProbeError::Other {
            operation: "running a command inside the container",
            source: source.into(),
        }),
        Err(_) => Ok(Health::unhealthy(format!("the command did not end within {}", super::span(within)))),
    }
}
