//! From an instance's description to the Engine's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig,
    Mount as EngineMount, MountType, NetworkingConfig, PortBinding, RestartPolicy as EngineRestart,
    RestartPolicyNameEnum,
};

use super::network::Attached;
use crate::model::{InstanceSpec, Mount, NetworkAttachment, RestartPolicy, RunOptions};
use crate::port::RuntimeError;

/// Our labels.
pub(super) mod label {
    pub(crate) const PREFIX: &str = "bluegreen.";
    pub(crate) const APP: &str = "bluegreen.app";
    pub(crate) const COLOR: &str = "bluegreen.color";
    pub(crate) const DEPLOYMENT: &str = "bluegreen.deployment";
    pub(crate) const DIGEST: &str = "bluegreen.digest";
    pub(crate) const FINGERPRINT: &str = "bluegreen.fingerprint";
    pub(crate) const VERSION: &str = "bluegreen.version";
    /// The state directory that has it on record. Not part of the fingerprint: what moves it restarts nothing.
    pub(crate) const STATE: &str = "bluegreen.state";
}

/// What the Engine would take and mean something else by, or would repeat in an error together with a secret.
pub(super) fn check(spec: &InstanceSpec) -> Result<(), RuntimeError> {
    let rejected = |reason: String| Err(RuntimeError::Rejected { source: reason.into() });
    if let Some(label) = spec.options.labels.keys().find(|label| label.starts_with(label::PREFIX)) {
        return rejected(format!("label {label}: labels under `{}` are bluegreen's own", label::PREFIX));
    }
    if let Some(name) = spec.options.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return rejected(format!("{name:?} is not a name of an environment variable"));
    }
    if let Some((name, _)) = spec.options.env.iter().find(|(_, value)| value.expose().contains('\0')) {
        return rejected(format!("the value of {name} in the environment has a NUL character"));
    }
    Ok(())
}

/// What is sent to make the container from `image`. `networks` are those of the spec, the first one first; there is one
/// of each name, so the name does, as with the docker command.
pub(super) fn body(spec: &InstanceSpec, image: String, networks: &[Attached]) -> ContainerCreateBody {
    let options = &spec.options;
    let port = format!("{}/tcp", spec.slot.port);
    let publish = spec.slot.publish.filter(|_| !options.host_network);
    ContainerCreateBody {
        image: Some(image),
        env: some(environment(spec)),
        labels: Some(labels(spec)),
        user: options.user.clone(),
        cmd: options.command.clone(),
        entrypoint: options.entrypoint.clone(),
        stop_signal: options.stop_signal.clone(),
        stop_timeout: options.stop_timeout.map(|timeout| i64::from(whole_seconds(timeout))),
        exposed_ports: publish.map(|_| vec![port.clone()]),
        networking_config: networks.first().filter(|first| !first.is_default_bridge()).map(|first| {
            NetworkingConfig {
                endpoints_config: Some(HashMap::from([(first.wanted.name.clone(), endpoint(&first.wanted))])),
            }
        }),
        host_config: Some(HostConfig {
            port_bindings: publish.map(|publish| {
                let binding = PortBinding {
                    host_ip: Some(host_ip(publish.ip)),
                    host_port: Some(publish.port.to_string()),
                };
                HashMap::from([(port, Some(vec![binding]))])
            }),
            network_mode: if options.host_network {
                Some("host".to_owned())
            } else {
                networks.first().map(|first| first.wanted.name.clone())
            },
            ..host_config(options)
        }),
        ..ContainerCreateBody::default()
    }
}

/// The same, marked with the place of the journal that has it on record.
pub(super) fn marked(mut body: ContainerCreateBody, state: Option<&str>) -> ContainerCreateBody {
    let mark = state.map(|state| (label::STATE.to_owned(), state.to_owned()));
    body.labels.get_or_insert_default().extend(mark);
    body
}

fn host_config(options: &RunOptions) -> HostConfig {
    let restart = match options.restart {
        RestartPolicy::No => RestartPolicyNameEnum::NO,
        RestartPolicy::UnlessStopped => RestartPolicyNameEnum::UNLESS_STOPPED,
        RestartPolicy::Always => RestartPolicyNameEnum::ALWAYS,
        RestartPolicy::OnFailure => RestartPolicyNameEnum::ON_FAILURE,
    };
    let log =
        (options.log_driver.is_some() || !options.log_options.is_empty()).then(|| HostConfigLogConfig {
            typ: options.log_driver.clone(),
            config: Some(
                options
                    .log_options
                    .iter()
                    .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                    .collect(),
            ),
        });
    HostConfig {
        mounts: some(options.mounts.iter().map(mount).collect()),
        restart_policy: Some(EngineRestart { name: Some(restart), maximum_retry_count: None }),
        memory: options.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        nano_cpus: options.milli_cpus.map(|milli| i64::from(milli) * 1_000_000),
        readonly_rootfs: options.read_only.then_some(true),
        tmpfs: (!options.tmpfs.is_empty()).then(|| options.tmpfs.clone().into_iter().collect()),
        cap_drop: some(options.cap_drop.clone()),
        cap_add: some(options.cap_add.clone()),
        security_opt: options.no_new_privileges.then(|| vec!["no-new-privileges:true".to_owned()]),
        // Unset leaves it to the Engine's own default.
        init: options.init.then_some(true),
        log_config: log,
        extra_hosts: some(options.extra_hosts.clone()),
        ..HostConfig::default()
    }
}

/// The Engine's word for every address is none; `::` would be those of IPv6 alone.
fn host_ip(ip: IpAddr) -> String {
    if ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) { String::new() } else { ip.to_string() }
}

/// How a container is on one network.
pub(super) fn endpoint(wanted: &NetworkAttachment) -> EndpointSettings {
    EndpointSettings {
        ipam_config: wanted.ip.map(|ip| EndpointIpamConfig {
            ipv4_address: Some(ip.to_string()),
            ..EndpointIpamConfig::default()
        }),
        aliases: some(wanted.aliases.clone()),
        ..EndpointSettings::default()
    }
}

/// Whole seconds, which is all the Engine takes, never less than asked for.
pub(super) fn whole_seconds(duration: Duration) -> i32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

fn labels(spec: &InstanceSpec) -> HashMap<String, String> {
    let ours = [
        (label::APP, spec.app.to_string()),
        (label::COLOR, spec.slot.color.to_string()),
        (label::DEPLOYMENT, spec.deployment.to_string()),
        (label::DIGEST, spec.image.digest().to_string()),
        (label::FINGERPRINT, spec.fingerprint().to_string()),
        (label::VERSION, env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut labels: HashMap<_, _> = spec.options.labels.clone().into_iter().collect();
    labels.extend(ours.map(|(label, value)| (label.to_owned(), value)));
    labels
}

/// By `Mounts` and not by `Binds`: a bind's source that is missing is then an error and not a new directory that
/// belongs to root.
fn mount(mount: &Mount) -> EngineMount {
    EngineMount {
        source: Some(mount.source.clone()),
        target: Some(mount.target.clone()),
        typ: Some(if mount.is_bind() { MountType::BIND } else { MountType::VOLUME }),
        read_only: mount.read_only.then_some(true),
        ..EngineMount::default()
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The environment, one `NAME=value` each. On the host's network both colours would listen on the same port, so each
/// is told its own.
fn environment(spec: &InstanceSpec) -> Vec<String> {
    let given = spec.options.env.iter().map(|(name, value)| format!("{name}={}", value.expose()));
    let told = spec.options.host_network && !spec.options.env.contains_key("PORT");
    given.chain(told.then(|| format!("PORT={}", spec.slot.port))).collect()
}

#[cfg(test)]
#[path = "create_tests.rs"]
pub(super) mod tests;
