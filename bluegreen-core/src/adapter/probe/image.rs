//! What does the image's own HEALTHCHECK say?

use std::time::Duration;

use crate::port::{ContainerRuntime, Health, HealthStatus, Instance, ProbeError};

/// Looks at the instance once; the Engine runs the check at its own pace.
pub(super) async fn probe(
    runtime: &dyn ContainerRuntime,
    target: &Instance,
    within: Duration,
) -> Result<Health, ProbeError> {
    const OPERATION: &str = "looking at the image's HEALTHCHECK";
    let now = tokio::time::timeout(within, runtime.find(&target.name))
        .await
        .map_err(|late| ProbeError::Other { operation: OPERATION, source: late.into() })?
        .map_err(|source| ProbeError::Other { operation: OPERATION, source: source.into() })?;
    Ok(match now {
        None => Health::unhealthy("the container is gone"),
        // Names are reused; what another container says is no answer.
        Some(now) if now.id != target.id => Health::unhealthy("another container has its name now"),
        Some(now) if !now.is_running() => super::not_running(&now),
        Some(now) => match now.health {
            Some(HealthStatus::Healthy) => Health::Healthy,
            Some(HealthStatus::Starting) => Health::unhealthy("HEALTHCHECK says starting"),
            Some(HealthStatus::Unhealthy { output }) => {
                Health::unhealthy(format!("HEALTHCHECK says unhealthy: {}", super::last_line(&output)))
            }
            None => {
                return Err(ProbeError::Impossible {
                    reason: format!("the image {} has no HEALTHCHECK", now.image),
                });
            }
        },
    })
}
