//! Has the line come?

use std::time::Duration;

use futures_util::StreamExt as _;

use super::pattern::Pattern;
use crate::model::LogPattern;
use crate::port::{ContainerRuntime, Health, Instance, ProbeError, RuntimeError};

/// Follows the log from the instance's present start until the line comes, the log ends or the time is up. The
/// runtime gives each line once; one that was printed before the probe began counts like any other. A line stays in
/// the log of an instance that has died since, so it counts only if the instance still runs.
pub(super) async fn probe(
    runtime: &dyn ContainerRuntime,
    pattern: &LogPattern,
    target: &Instance,
    within: Duration,
) -> Result<Health, ProbeError> {
    let pattern = Pattern::new(pattern)?;
    let mut seen = 0_usize;
    let found = async {
        let mut lines = runtime.follow_log(&target.id).await?;
        while let Some(line) = lines.next().await {
            seen += 1;
            if pattern.is_in(&line?) {
                return Ok::<_, RuntimeError>(Some(runtime.find(&target.name).await?));
            }
        }
        Ok(None)
    };
    match tokio::time::timeout(within, found).await {
        Ok(Ok(Some(Some(now)))) if now.id == target.id && now.is_running() => Ok(Health::Healthy),
        Ok(Ok(Some(Some(now)))) if now.id == target.id => Ok(Health::unhealthy(format!(
            "{pattern} was logged, but the container is no longer running: {}",
            now.state
        ))),
        Ok(Ok(Some(_))) => Ok(Health::unhealthy(format!("{pattern} was logged, but the container is gone"))),
        // It ends when the instance does: waiting longer helps nobody.
        Ok(Ok(None)) => {
            Ok(Health::unhealthy(format!("the log ended after {seen} lines and {pattern} was in none")))
        }
        // Not by waiting either.
        Ok(Err(RuntimeError::LogUnreadable { source })) => Err(ProbeError::Impossible {
            reason: format!("the log of {} cannot be read: {source}", target.name),
        }),
        Ok(Err(source)) => Err(ProbeError::Other { operation: "following the log", source: source.into() }),
        Err(_) => Ok(Health::unhealthy(format!(
            "{pattern} was in none of {seen} log lines within {}",
            super::span(within)
        ))),
    }
}
