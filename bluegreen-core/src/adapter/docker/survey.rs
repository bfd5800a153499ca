//! Everything that an Engine has, ours or not, for who sets bluegreen up on a host that is there already. Read-only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bollard::models::{ContainerInspectResponse, ImageInspect, MountPoint, RestartPolicyNameEnum};
use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions};

use super::Docker;
use crate::port::RuntimeError;

/// A container, as a person made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenContainer {
    /// Its name.
    pub name: String,
    /// The image, as it was named.
    pub image: String,
    /// Whether its image is on this host only: it came from no registry.
    pub local_image: bool,
    /// Its first process; none when it does not run.
    pub pid: Option<u32>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The networks that it is on, by name, the one that it was made on first.
    pub networks: Vec<SeenEndpoint>,
    /// What is published: the port inside, the host's address and the host's port.
    pub ports: Vec<(u16, IpAddr, u16)>,
    /// The ports that its image says it listens on.
    pub exposed: BTreeSet<u16>,
    /// What is mounted, as `SOURCE:TARGET` or `SOURCE:TARGET:ro`.
    pub mounts: Vec<String>,
    /// The names of the variables that it was given beside its image's own. No values: they may be secrets.
    pub env: BTreeSet<String>,
    /// `always`, `unless-stopped` or `on-failure`; none when it is not started again.
    pub restart: Option<String>,
    /// Its limit of memory, in bytes.
    pub memory: Option<u64>,
    /// Its command, where it is not its image's own.
    pub command: Vec<String>,
    /// Its user, where it is not its image's own.
    pub user: Option<String>,
    /// Whether it has a HEALTHCHECK.
    pub healthcheck: bool,
}

/// A container on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenEndpoint {
    /// The network.
    pub network: String,
    /// Its address there.
    pub ip: Option<IpAddr>,
    /// Whether somebody chose that address. Only then does the network surely take addresses that are chosen.
    pub chosen: bool,
    /// The names by which the others on it know it.
    pub aliases: BTreeSet<String>,
}

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenNetwork {
    /// Its name.
    pub name: String,
    /// Its ranges of addresses, as `172.18.0.0/16`.
    pub subnets: Vec<String>,
}

impl Docker {
    /// All containers, by name.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    pub async fn seen_containers(&self) -> Result<Vec<SeenContainer>, RuntimeError> {
        let options = ListContainersOptions { all: true, ..Default::default() };
        let listed = self.engine().await?.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| self.other("listing containers", error))?;
        let mut seen = Vec::new();
        for id in listed.into_iter().filter_map(|summary| summary.id) {
            // One that is gone by now is no matter.
            let Some(found) = self.inspect(&id).await? else { continue };
            let image = match &found.image {
                // Its image may be gone: then all that it has counts as its own.
                Some(image) => self.engine().await?.inspect_image(image).await.ok(),
                None => None,
            };
            seen.push(container(&found, image.as_ref()));
        }
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(seen)
    }

    /// All networks, by name.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    pub async fn seen_networks(&self) -> Result<Vec<SeenNetwork>, RuntimeError> {
        let listed = self.engine().await?.list_networks(None::<ListNetworksOptions>).await;
        let listed = listed.map_err(|error| self.other("listing networks", error))?;
        let one = |network: bollard::models::Network| {
            let ranges = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
            Some(SeenNetwork {
                name: network.name?,
                subnets: ranges.into_iter().filter_map(|range| range.subnet).collect(),
            })
        };
        let mut seen: Vec<_> = listed.into_iter().filter_map(one).collect();
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(seen)
    }
}

fn container(found: &ContainerInspectResponse, image: Option<&ImageInspect>) -> SeenContainer {
    let config = found.config.clone().unwrap_or_default();
    let own = image.and_then(|image| image.config.clone()).unwrap_or_default();
    let host = found.host_config.clone().unwrap_or_default();
    let state = found.state.clone().unwrap_or_default();
    let name = |pair: &String| pair.split('=').next().unwrap_or_default().to_owned();
    let of_image: BTreeSet<&String> = own.env.iter().flatten().collect();
    let given = config.env.iter().flatten().filter(|pair| !of_image.contains(pair));
    let restart = host.restart_policy.and_then(|policy| policy.name);
    let restart =
        restart.filter(|name| !matches!(name, RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO));
    SeenContainer {
        name: found.name.clone().unwrap_or_default().trim_start_matches('/').to_owned(),
        image: config.image.clone().unwrap_or_default(),
        local_image: image.is_some_and(|image| image.repo_digests.iter().flatten().next().is_none()),
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        networks: endpoints(found, host.network_mode.as_deref().unwrap_or_default()),
        ports: published(host.port_bindings.unwrap_or_default()),
        exposed: own.exposed_ports.iter().flatten().filter_map(|port| inside(port)).collect(),
        mounts: found.mounts.iter().flatten().filter_map(mount).collect(),
        env: given.map(name).collect(),
        restart: restart.map(|name| name.to_string()),
        memory: host.memory.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0),
        command: if config.cmd == own.cmd { Vec::new() } else { config.cmd.unwrap_or_default() },
        user: config.user.filter(|user| !user.is_empty() && Some(user) != own.user.as_ref()),
        healthcheck: config
            .healthcheck
            .and_then(|check| check.test)
            .is_some_and(|test| test.first().is_some_and(|word| word != "NONE")),
    }
}

/// `3000/tcp`.
fn inside(port: &str) -> Option<u16> {
    port.strip_suffix("/tcp").unwrap_or(port).parse().ok()
}

fn published(bindings: bollard::models::PortMap) -> Vec<(u16, IpAddr, u16)> {
    let one = |port: &str, binding: bollard::models::PortBinding| {
        let ip = binding.host_ip.filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
        Some((inside(port)?, ip.parse().ok()?, binding.host_port?.parse().ok()?))
    };
    let mut all: Vec<_> = bindings
        .into_iter()
        .flat_map(|(port, bindings)| {
            bindings.unwrap_or_default().into_iter().filter_map(move |binding| one(&port, binding))
        })
        .collect();
    all.sort_unstable();
    all
}

fn endpoints(found: &ContainerInspectResponse, mode: &str) -> Vec<SeenEndpoint> {
    let networks = found.network_settings.as_ref().and_then(|settings| settings.networks.clone());
    let mut all: Vec<(bool, SeenEndpoint)> = networks
        .unwrap_or_default()
        .into_iter()
        .map(|(network, endpoint)| {
            let first = network == mode
                || endpoint.network_id.as_deref() == Some(mode)
                || (mode == "default" && network == "bridge");
            let chosen = endpoint.ipam_config.and_then(|config| config.ipv4_address);
            let seen = SeenEndpoint {
                network,
                ip: endpoint.ip_address.and_then(|ip| ip.parse().ok()),
                chosen: chosen.is_some_and(|ip| !ip.is_empty()),
                aliases: endpoint.aliases.unwrap_or_default().into_iter().collect(),
            };
            (!first, seen)
        })
        .collect();
    all.sort_by(|a, b| (a.0, &a.1.network).cmp(&(b.0, &b.1.network)));
    all.into_iter().map(|(_, seen)| seen).collect()
}

fn mount(mount: &MountPoint) -> Option<String> {
    let source = mount.name.clone().or_else(|| mount.source.clone()).filter(|source| !source.is_empty())?;
    let read_only = if mount.rw == Some(false) { ":ro" } else { "" };
    Some(format!("{source}:{}{read_only}", mount.destination.as_deref()?))
}
