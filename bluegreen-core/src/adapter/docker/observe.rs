//! From the Engine's description of a container to ours.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status, EndpointSettings, Health,
    HealthConfig, HealthStatusEnum,
};
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use jiff::Timestamp;

use super::Docker;
use super::create::label;
use super::error::Failure;
use crate::model::{AppName, Fingerprint, Healthcheck, InstanceName};
use crate::port::{HealthStatus, Instance, InstanceId, InstanceState, Ownership, RuntimeError};

impl Docker {
    pub(super) async fn inspect(&self, id: &str) -> Result<Option<ContainerInspectResponse>, RuntimeError> {
        match self.engine().await?.inspect_container(id, None).await.map_err(Failure::from) {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure.other("looking at the container", self.address())),
        }
    }

    /// By name and by nothing else: the Engine also takes the beginning of an id for a name, and its list filter
    /// takes part of a name.
    pub(super) async fn inspect_name(
        &self,
        name: &InstanceName,
    ) -> Result<Option<ContainerInspectResponse>, RuntimeError> {
        match self.engine().await?.inspect_container(name.as_str(), None).await.map_err(Failure::from) {
            Ok(found) => Ok(Some(found).filter(|found| plain_name(found) == Some(name.as_str()))),
            Err(failure)
                if failure.said().is_some_and(|said| said.is_not_found() || said.is_ambiguous_prefix()) =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure.other("looking at the container", self.address())),
        }
    }

    pub(super) async fn list_app(&self, app: &AppName) -> Result<Vec<Instance>, RuntimeError> {
        let filter = HashMap::from([("label".to_owned(), vec![format!("{}={app}", label::APP)])]);
        let options = ListContainersOptions { all: true, filters: Some(filter), ..Default::default() };
        let listed = self.engine().await?.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| self.other("listing containers", error))?;
        // The list has neither exit codes nor restarts. There are a handful, at 0.6 ms each.
        let ids: Vec<_> = listed.into_iter().filter_map(|summary| summary.id).collect();
        let found = try_join_all(ids.iter().map(|id| self.inspect(id))).await?;
        let mut instances: Vec<_> = found.iter().flatten().filter_map(instance).collect();
        instances.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(instances)
    }
}

/// How long the Engine may take to tell what happened lately. It only explains.
const EVENTS_WITHIN: Duration = Duration::from_secs(1);

impl Docker {
    /// How a container ended that runs again: its description says nothing of it any more, the last events that
    /// the Engine keeps do.
    pub(super) async fn last_exit(&self, id: &str) -> Option<InstanceState> {
        let now = Timestamp::now();
        let of = |name: &str, values: &[&str]| {
            (name.to_owned(), values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
        };
        let options = EventsOptions {
            since: Some("1".to_owned()),
            until: Some(format!("{}.{:09}", now.as_second(), now.subsec_nanosecond())),
            filters: Some(HashMap::from([of("container", &[id]), of("event", &["die", "oom", "start"])])),
        };
        let mut events = self.engine().await.ok()?.events(Some(options)).boxed();
        let (mut ended, mut oom_killed) = (None, false);
        let told = async {
            while let Some(Ok(event)) = events.next().await {
                match event.action.as_deref() {
                    Some("oom") => oom_killed = true,
                    Some("die") => {
                        let attributes = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
                        let exit_code = attributes.get("exitCode").and_then(|code| code.parse().ok());
                        ended = exit_code.map(|exit_code| (exit_code, oom_killed));
                    }
                    _ => oom_killed = false,
                }
            }
        };
        // An Engine whose clock is behind ours would go on: what it has told until then is all there is.
        tokio::time::timeout(EVENTS_WITHIN, told).await.ok();
        ended.map(|(exit_code, oom_killed)| InstanceState::Exited { exit_code, oom_killed, error: None })
    }
}

/// The name without the Engine's slash.
fn plain_name(found: &ContainerInspectResponse) -> Option<&str> {
    found.name.as_deref().map(|name| name.strip_prefix('/').unwrap_or(name))
}

/// `None` for what no call of ours can have asked about: a container without an id or with a name of one letter.
pub(super) fn instance(found: &ContainerInspectResponse) -> Option<Instance> {
    let id = InstanceId::new(found.id.clone()?);
    let name = InstanceName::new(plain_name(found)?).ok()?;
    let mut instance = Instance::new(id, name, state(found.state.as_ref()));
    let config = found.config.as_ref();
    instance.owned = config.and_then(|config| config.labels.as_ref()).and_then(ownership);
    instance.image = config.and_then(|config| config.image.clone()).unwrap_or_default();
    let mode = found.host_config.as_ref().and_then(|host| host.network_mode.as_deref()).unwrap_or_default();
    let none = HashMap::new();
    let networks =
        found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref()).unwrap_or(&none);
    instance.networks = addresses(networks);
    instance.ip = if mode == "host" {
        Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
    } else {
        first_network(networks, mode).and_then(address).or_else(|| instance.networks.values().next().copied())
    };
    let pid = found.state.as_ref().and_then(|state| state.pid);
    instance.pid = pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
    instance.restarts = found.restart_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    instance.health = found.state.as_ref().and_then(|state| state.health.as_ref()).and_then(health);
    instance.healthcheck = config.and_then(|config| config.healthcheck.as_ref()).and_then(healthcheck);
    instance.mounts = found
        .mounts
        .iter()
        .flatten()
        .filter_map(|mount| Some((mount.source.clone()?, mount.destination.clone()?)))
        .filter(|(source, _)| !source.is_empty())
        .collect();
    Some(instance)
}

fn addresses(networks: &HashMap<String, EndpointSettings>) -> BTreeMap<String, IpAddr> {
    networks.iter().filter_map(|(name, endpoint)| Some((name.clone(), address(endpoint)?))).collect()
}

fn address(endpoint: &EndpointSettings) -> Option<IpAddr> {
    let of = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
    of(&endpoint.ip_address).or_else(|| of(&endpoint.global_ipv6_address))
}

/// The network that the container was made on: the mode names it by its id when it is ours, and by its name when
/// the docker command made it.
fn first_network<'a>(
    networks: &'a HashMap<String, EndpointSettings>,
    mode: &str,
) -> Option<&'a EndpointSettings> {
    let mode = if mode == "default" { "bridge" } else { mode };
    networks
        .get(mode)
        .or_else(|| networks.values().find(|endpoint| endpoint.network_id.as_deref() == Some(mode)))
}

fn ownership(labels: &HashMap<String, String>) -> Option<Ownership> {
    let get = |name: &str| labels.get(name).map(String::as_str);
    let mut owned = Ownership::new(
        get(label::APP)?.parse().ok()?,
        get(label::COLOR)?.parse().ok()?,
        get(label::DEPLOYMENT)?.parse().ok()?,
        get(label::DIGEST)?.parse().ok()?,
        Fingerprint::from_label(get(label::FINGERPRINT)?),
    );
    owned.recorded_in = get(label::STATE).map(str::to_owned);
    Some(owned)
}

fn state(state: Option<&ContainerState>) -> InstanceState {
    let Some(state) = state else { return InstanceState::Other("unknown".to_owned()) };
    let exit_code = state.exit_code.unwrap_or(0);
    match state.status {
        Some(Status::CREATED) => InstanceState::Created,
        Some(Status::RUNNING) => InstanceState::Running,
        Some(Status::RESTARTING) => {
            InstanceState::Restarting { exit_code, oom_killed: state.oom_killed.unwrap_or(false) }
        }
        Some(Status::EXITED) => InstanceState::Exited {
            exit_code,
            oom_killed: state.oom_killed.unwrap_or(false),
            error: state.error.clone().filter(|error| !error.is_empty()),
        },
        Some(status) => InstanceState::Other(status.to_string()),
        None => InstanceState::Other("unknown".to_owned()),
    }
}

/// Zero and unset are Docker's defaults.
pub(super) fn healthcheck(config: &HealthConfig) -> Option<Healthcheck> {
    let test = config.test.as_ref().and_then(|test| test.first())?;
    if test == "NONE" {
        return None;
    }
    let mut healthcheck = Healthcheck::default();
    for (nanos, field) in [
        (config.start_period, &mut healthcheck.start_period),
        (config.start_interval, &mut healthcheck.start_interval),
        (config.interval, &mut healthcheck.interval),
        (config.timeout, &mut healthcheck.timeout),
    ] {
        if let Some(nanos) = nanos.and_then(|nanos| u64::try_from(nanos).ok()).filter(|nanos| *nanos > 0) {
            *field = Duration::from_nanos(nanos);
        }
    }
    let retries =
        config.retries.and_then(|retries| u32::try_from(retries).ok()).filter(|retries| *retries > 0);
    healthcheck.retries = retries.unwrap_or(healthcheck.retries);
    Some(healthcheck)
}

fn health(health: &Health) -> Option<HealthStatus> {
    match health.status {
        Some(HealthStatusEnum::STARTING) => Some(HealthStatus::Starting),
        Some(HealthStatusEnum::HEALTHY) => Some(HealthStatus::Healthy),
        Some(HealthStatusEnum::UNHEALTHY) => {
            let last = health.log.as_ref().and_then(|log| log.last()).and_then(|last| last.output.as_deref());
            Some(HealthStatus::Unhealthy { output: last.unwrap_or_default().trim().to_owned() })
        }
        Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: serde_json::Value) -> Instance {
        instance(&serde_json::from_value(json).unwrap()).unwrap()
    }

    #[test]
    fn the_address_is_the_first_networks() {
        let container = |mode: &str| {
            parse(serde_json::json!({
                "Id": "12ab", "Name": "/web",
                "State": {"Status": "running", "Pid": 7},
                "HostConfig": {"NetworkMode": mode},
                "NetworkSettings": {"Networks": {
                    "a": {"NetworkID": "id-a", "IPAddress": "10.0.0.1"},
                    "b": {"NetworkID": "id-b", "IPAddress": "10.0.1.1"},
                    "c": {"NetworkID": "id-c", "IPAddress": ""},
                }},
            }))
        };
        for (mode, ip) in
            [("id-b", "10.0.1.1"), ("b", "10.0.1.1"), ("id-c", "10.0.0.1"), ("host", "127.0.0.1")]
        {
            assert_eq!(container(mode).ip, Some(ip.parse().unwrap()), "{mode}");
        }
        assert_eq!(container("b").networks.len(), 2);
        assert_eq!(container("b").pid, Some(7));
    }

    #[test]
    fn incomplete_labels_are_no_ownership() {
        let labels = |color: &str| {
            HashMap::from(
                [
                    (label::APP, "shop"),
                    (label::COLOR, color),
                    (label::DEPLOYMENT, "d-1"),
                    (label::DIGEST, &format!("sha256:{}", "0".repeat(64))),
                    (label::FINGERPRINT, "f"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            )
        };
        assert!(ownership(&labels("blue")).is_some());
        assert!(ownership(&labels("red")).is_none());
    }

    #[test]
    fn a_healthcheck_is_dockers_where_it_says_nothing() {
        let of = |check: serde_json::Value| {
            let config = serde_json::json!({"Healthcheck": check});
            parse(serde_json::json!({"Id": "12ab", "Name": "/web", "Config": config})).healthcheck
        };
        assert_eq!(of(serde_json::json!({"Test": ["CMD", "x"]})), Some(Healthcheck::default()));
        let mut quick = Healthcheck::default();
        (quick.interval, quick.retries) = (Duration::from_millis(500), 5);
        let said =
            serde_json::json!({"Test": ["CMD", "x"], "Interval": 500_000_000, "Timeout": 0, "Retries": 5});
        assert_eq!(of(said), Some(quick));
        assert_eq!(of(serde_json::json!({"Test": ["NONE"]})), None);
        assert_eq!(of(serde_json::json!({"Test": []})), None);
    }

    #[test]
    fn the_last_health_output_counts() {
        let container = parse(serde_json::json!({
            "Id": "12ab", "Name": "/web",
            "State": {"Status": "running", "Health": {"Status": "unhealthy", "Log": [
                {"ExitCode": 0, "Output": "fine\n"}, {"ExitCode": 1, "Output": "no database\n"},
            ]}},
        }));
        assert_eq!(container.health, Some(HealthStatus::Unhealthy { output: "no database".to_owned() }));
    }
}
