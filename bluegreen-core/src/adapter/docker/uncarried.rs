//! What `docker run` can set and we have no word for: a container that is made again from what is recorded of it is
//! without that, and a person must know.

use bollard::models::{ContainerConfig, ContainerInspectResponse, HostConfig, ImageConfig, MountPoint};

use crate::model::Slot;

/// Docker's own size of `/dev/shm`.
const SHM: i64 = 64 << 20;

/// The options of `docker run` that would be lost, in their order.
pub(super) fn options(
    found: &ContainerInspectResponse,
    image: Option<&ImageConfig>,
    slot: &Slot,
) -> Vec<String> {
    let mut lost: Vec<String> = Vec::new();
    if let Some(host) = &found.host_config {
        lost.extend(of_host(host).map(str::to_owned));
        lost.extend(published(host, slot));
    }
    if let Some(config) = &found.config {
        let id = found.id.as_deref().unwrap_or_default();
        lost.extend(of_container(config, image, id, found.host_config.as_ref()).map(str::to_owned));
    }
    if found.mounts.iter().flatten().any(|mount| !is_carried(mount)) {
        lost.push("--mount".to_owned());
    }
    lost.sort();
    lost.dedup();
    lost
}

/// What is recorded of a mount is its source, its target and whether it can be written to.
fn is_carried(mount: &MountPoint) -> bool {
    matches!(mount.typ.as_deref(), Some("bind" | "volume"))
        && mount.propagation.as_deref().is_none_or(|how| ["", "rprivate"].contains(&how))
}

fn of_host(host: &HostConfig) -> impl Iterator<Item = &'static str> {
    let some = |value: Option<i64>| value.is_some_and(|value| value != 0);
    let text = |value: &Option<String>, usual: &[&str]| {
        value.as_deref().is_some_and(|value| !value.is_empty() && !usual.contains(&value))
    };
    let limits_swap = host.memory_swap.filter(|swap| *swap != 0);
    let usual_swap = host.memory.map(|memory| memory * 2);
    let other_security =
        host.security_opt.iter().flatten().any(|option| !option.starts_with("no-new-privileges"));
    [
        ("--blkio-weight", host.blkio_weight.is_some_and(|weight| weight != 0)),
        ("--cgroup-parent", text(&host.cgroup_parent, &[])),
        ("--cgroupns", text(&host.cgroupns_mode.map(|mode| mode.to_string()), &["host", "private"])),
        ("--cpu-period", some(host.cpu_period)),
        ("--cpu-quota", some(host.cpu_quota)),
        ("--cpu-shares", some(host.cpu_shares)),
        ("--cpuset-cpus", text(&host.cpuset_cpus, &[])),
        ("--cpuset-mems", text(&host.cpuset_mems, &[])),
        ("--device", host.devices.iter().flatten().next().is_some()),
        ("--device-cgroup-rule", host.device_cgroup_rules.iter().flatten().next().is_some()),
        ("--dns", host.dns.iter().flatten().next().is_some()),
        ("--dns-option", host.dns_options.iter().flatten().next().is_some()),
        ("--dns-search", host.dns_search.iter().flatten().next().is_some()),
        ("--gpus", host.device_requests.iter().flatten().next().is_some()),
        ("--group-add", host.group_add.iter().flatten().next().is_some()),
        ("--ipc", text(&host.ipc_mode, &["private", "shareable"])),
        ("--isolation", text(&host.isolation.map(|kind| kind.to_string()), &["default"])),
        ("--link", host.links.iter().flatten().next().is_some()),
        ("--memory-reservation", some(host.memory_reservation)),
        ("--memory-swap", limits_swap.is_some() && limits_swap != usual_swap),
        ("--memory-swappiness", host.memory_swappiness.is_some_and(|value| value >= 0)),
        ("--oom-kill-disable", host.oom_kill_disable == Some(true)),
        ("--oom-score-adj", some(host.oom_score_adj)),
        ("--pid", text(&host.pid_mode, &[])),
        ("--pids-limit", host.pids_limit.is_some_and(|limit| limit > 0)),
        ("--privileged", host.privileged == Some(true)),
        ("--publish-all", host.publish_all_ports == Some(true)),
        ("--restart on-failure:N", retries(host)),
        ("--rm", host.auto_remove == Some(true)),
        ("--runtime", text(&host.runtime, &["runc", "io.containerd.runc.v2"])),
        ("--security-opt", other_security),
        ("--shm-size", host.shm_size.is_some_and(|size| size != SHM && size != 0)),
        ("--storage-opt", host.storage_opt.iter().flatten().next().is_some()),
        ("--sysctl", host.sysctls.iter().flatten().next().is_some()),
        ("--ulimit", host.ulimits.iter().flatten().next().is_some()),
        ("--userns", text(&host.userns_mode, &[])),
        ("--uts", text(&host.uts_mode, &[])),
        ("--volume-driver", text(&host.volume_driver, &[])),
        ("--volumes-from", host.volumes_from.iter().flatten().next().is_some()),
    ]
    .into_iter()
    .filter_map(|(option, is_set)| is_set.then_some(option))
}

fn retries(host: &HostConfig) -> bool {
    host.restart_policy.as_ref().and_then(|policy| policy.maximum_retry_count).is_some_and(|count| count > 0)
}

fn of_container(
    config: &ContainerConfig,
    image: Option<&ImageConfig>,
    id: &str,
    host: Option<&HostConfig>,
) -> impl Iterator<Item = &'static str> {
    let of_image = |text: fn(&ImageConfig) -> &Option<String>| {
        image.and_then(|image| text(image).clone()).unwrap_or_default()
    };
    let own = |text: &Option<String>| text.clone().unwrap_or_default();
    // With the host's own network it has the host's name.
    let on_host = host.and_then(|host| host.network_mode.as_deref()) == Some("host");
    let named = own(&config.hostname);
    let exposed_by_image = image.and_then(|image| image.exposed_ports.clone()).unwrap_or_default();
    let published = host.and_then(|host| host.port_bindings.clone()).unwrap_or_default();
    let exposed = config.exposed_ports.iter().flatten();
    let mut exposed = exposed.filter(|port| !published.contains_key(*port));
    [
        ("--domainname", !own(&config.domainname).is_empty()),
        ("--expose", exposed.any(|port| !exposed_by_image.contains(port))),
        ("--health-cmd", config.healthcheck != image.and_then(|image| image.healthcheck.clone())),
        ("--hostname", !on_host && !named.is_empty() && !id.starts_with(&named)),
        ("--interactive", config.open_stdin == Some(true)),
        ("--tty", config.tty == Some(true)),
        ("--workdir", own(&config.working_dir) != of_image(|image| &image.working_dir)),
    ]
    .into_iter()
    .filter_map(|(option, is_set)| is_set.then_some(option))
}

/// Each port that is published beside the one of the place.
fn published(host: &HostConfig, slot: &Slot) -> Vec<String> {
    let own = format!("{}/tcp", slot.port);
    let others = host.port_bindings.iter().flatten().filter(|(port, _)| **port != own);
    let bindings = others.flat_map(|(port, bindings)| {
        bindings.iter().flatten().map(move |binding| (port, binding.host_port.clone().unwrap_or_default()))
    });
    bindings.map(|(port, outside)| format!("--publish {outside}:{}", port.trim_end_matches("/tcp"))).collect()
}
