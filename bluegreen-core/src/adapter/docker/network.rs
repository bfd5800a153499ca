//! Networks: found by exact name, made when they are missing. The Engine lets two networks have one name (seen on 20.10)
//! and then refuses every start that names it: so do we, before anything is made.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::models::{Ipam, IpamConfig, Network, NetworkConnectRequest, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptions;
use tokio::time::sleep;

use super::Docker;
use super::answer::EngineMessage;
use super::create::{endpoint, label};
use super::error::Failure;
use crate::model::{InstanceSpec, NetworkAttachment};
use crate::port::RuntimeError;

/// A network that is there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attached {
    /// How the container is on it.
    pub(super) wanted: NetworkAttachment,
    /// What the Engine is told: the id, which is unlike a name unique.
    pub(super) id: String,
}

/// Two runs that create one network at the same moment leave two for an instant. Two of one name count as such only after
/// this long.
const SETTLE: Duration = Duration::from_millis(50);
const SETTLES: u32 = 10;

/// Makes a call again while the Engine, which looks for a container's first network by its name, finds two of it:
/// another run that made the same one has not taken its own away yet.
pub(super) async fn settled<T, F>(call: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, bollard::errors::Error>>,
{
    for _ in 0..SETTLES {
        match call().await.map_err(Failure::from) {
            Err(failure) if failure.said().is_some_and(EngineMessage::is_ambiguous_network) => {
                sleep(SETTLE).await;
            }
            outcome => return outcome,
        }
    }
    call().await.map_err(Failure::from)
}

/// The Engine's default bridge; it knows neither aliases nor fixed addresses, and goes by its name.
const DEFAULT_BRIDGE: &str = "bridge";

impl Attached {
    pub(super) fn is_default_bridge(&self) -> bool {
        self.id == DEFAULT_BRIDGE
    }
}

/// The networks of an instance, each once: the slot's own first, then the options'.
pub(super) fn wanted(spec: &InstanceSpec) -> Vec<NetworkAttachment> {
    if spec.options.host_network {
        return Vec::new();
    }
    let mut wanted: Vec<NetworkAttachment> = Vec::new();
    for attachment in spec.slot.network.iter().chain(&spec.options.networks) {
        match wanted.iter_mut().find(|known| known.name == attachment.name) {
            None => wanted.push(attachment.clone()),
            Some(known) => {
                known.ip = known.ip.or(attachment.ip);
                let new = |alias: &&String| !known.aliases.contains(alias);
                let new: Vec<_> = attachment.aliases.iter().filter(new).cloned().collect();
                known.aliases.extend(new);
            }
        }
    }
    wanted
}

/// The subnet for a network that gives `ip`: the /24 around it, with a gateway out of its way, and with dynamic
/// addresses from that half only which `ip` is not in. So no container without a fixed address can ever take it.
fn subnet(ip: Ipv4Addr) -> Option<IpamConfig> {
    let [a, b, c, host] = ip.octets();
    if matches!(host, 0 | 255) || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() {
        return None;
    }
    let dynamic = if host < 128 { 128 } else { 0 };
    let gateway = if host == 1 { 254 } else { 1 };
    Some(IpamConfig {
        subnet: Some(format!("{a}.{b}.{c}.0/24")),
        ip_range: Some(format!("{a}.{b}.{c}.{dynamic}/25")),
        gateway: Some(format!("{a}.{b}.{c}.{gateway}")),
        auxiliary_addresses: None,
    })
}

fn unusable(name: &str, reason: impl Into<String>) -> RuntimeError {
    RuntimeError::Network { name: name.to_owned(), reason: reason.into() }
}

fn ambiguous(name: &str, found: &[Network]) -> RuntimeError {
    let ids: Vec<_> = found.iter().filter_map(|network| network.id.as_deref()?.get(..12)).collect();
    let ids = ids.join(", ");
    unusable(
        name,
        format!("there are {} networks of that name ({ids}); remove all but one by its id", found.len()),
    )
}

impl Docker {
    /// The networks of `spec`, made where they are missing.
    pub(super) async fn networks(&self, spec: &InstanceSpec) -> Result<Vec<Attached>, RuntimeError> {
        let wanted = wanted(spec);
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<_> = wanted.iter().map(|wanted| wanted.name.clone()).collect();
        let mut known = self.list_networks(names.clone()).await?;
        for _ in 0..SETTLES {
            let count =
                |name: &String| known.iter().filter(|network| network.name.as_ref() == Some(name)).count();
            if names.iter().all(|name| count(name) < 2) {
                break;
            }
            sleep(SETTLE).await;
            known = self.list_networks(names.clone()).await?;
        }
        let mut attached = Vec::new();
        for wanted in wanted {
            let id = match wanted.name.as_str() {
                DEFAULT_BRIDGE if wanted.ip.is_none() && wanted.aliases.is_empty() => {
                    DEFAULT_BRIDGE.to_owned()
                }
                DEFAULT_BRIDGE => {
                    return Err(unusable(
                        DEFAULT_BRIDGE,
                        "the Engine's default bridge has no aliases or fixed addresses",
                    ));
                }
                "host" | "none" => {
                    return Err(unusable(
                        &wanted.name,
                        "it is not a network to attach to; see `host_network`",
                    ));
                }
                name => {
                    let is_it = |network: &&Network| network.name.as_deref() == Some(name);
                    let found: Vec<_> = known.iter().filter(is_it).cloned().collect();
                    match found.as_slice() {
                        [] => self.create_network(spec, &wanted).await?,
                        [network] => network.id.clone().unwrap_or_default(),
                        _ => return Err(ambiguous(name, &found)),
                    }
                }
            };
            attached.push(Attached { wanted, id });
        }
        Ok(attached)
    }

    /// Attaches a container to a further network.
    pub(super) async fn attach(
        &self,
        spec: &InstanceSpec,
        id: &str,
        to: &Attached,
    ) -> Result<(), RuntimeError> {
        let request =
            NetworkConnectRequest { container: id.to_owned(), endpoint_config: Some(endpoint(&to.wanted)) };
        match self.engine().await?.connect_network(&to.id, request).await.map_err(Failure::from) {
            Ok(()) => Ok(()),
            // Attached already: half of this was done before.
            Err(failure) if failure.said().is_some_and(EngineMessage::is_attached_already) => Ok(()),
            Err(failure) => Err(failure.run(
                "attaching the container to a network",
                spec,
                &to.wanted.name,
                self.address(),
            )),
        }
    }

    async fn create_network(
        &self,
        spec: &InstanceSpec,
        wanted: &NetworkAttachment,
    ) -> Result<String, RuntimeError> {
        let name = &wanted.name;
        let ipam = match wanted.ip {
            None => None,
            Some(ip) => {
                let config = subnet(ip).ok_or_else(|| {
                    unusable(name, format!("{ip} is not an address that a container can have in a /24"))
                })?;
                Some(Ipam { config: Some(vec![config]), ..Ipam::default() })
            }
        };
        let request = NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".to_owned()),
            ipam,
            labels: Some(HashMap::from([(label::APP.to_owned(), spec.app.to_string())])),
            ..NetworkCreateRequest::default()
        };
        let made =
            self.engine().await?.create_network(request).await.map_err(|error| {
                Failure::from(error).run("making the network", spec, name, self.address())
            })?;
        // Our lock is one application's. Another's first deploy may have made the same network at this moment:
        // the older one stays, which both see in the same way.
        let mut named = self.list_networks(vec![name.clone()]).await?;
        named.retain(|network| network.name.as_ref() == Some(name));
        named.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
        let oldest = named.first().and_then(|network| network.id.clone());
        match oldest {
            Some(oldest) if oldest != made.id => {
                let removal = self.engine().await?.remove_network(&made.id).await;
                removal.map_err(|error| self.other("removing a second network of the same name", error))?;
                Ok(oldest)
            }
            _ => Ok(made.id),
        }
    }

    async fn list_networks(&self, names: Vec<String>) -> Result<Vec<Network>, RuntimeError> {
        // The filter takes parts of names too; callers compare.
        let options = ListNetworksOptions { filters: Some(HashMap::from([("name".to_owned(), names)])) };
        let networks = self.engine().await?.list_networks(Some(options)).await;
        networks.map_err(|error| self.other("listing networks", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_addresses_stay_out_of_the_fixed_ones_half() {
        for (ip, subnet_, range, gateway) in [
            ([172, 30, 5, 10], "172.30.5.0/24", "172.30.5.128/25", "172.30.5.1"),
            ([172, 30, 5, 1], "172.30.5.0/24", "172.30.5.128/25", "172.30.5.254"),
            ([10, 0, 0, 200], "10.0.0.0/24", "10.0.0.0/25", "10.0.0.1"),
        ] {
            let config = subnet(ip.into()).unwrap();
            assert_eq!(config.subnet.as_deref(), Some(subnet_));
            assert_eq!(config.ip_range.as_deref(), Some(range));
            assert_eq!(config.gateway.as_deref(), Some(gateway));
        }
        for bad in [[10, 0, 0, 0], [10, 0, 0, 255], [127, 0, 0, 5], [224, 0, 0, 5]] {
            assert!(subnet(bad.into()).is_none());
        }
    }
}
