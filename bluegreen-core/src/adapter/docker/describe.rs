//! From a container that somebody else made to our own description of it: what it takes to make it again.
//!
//! What we have no word for (devices, other published ports, a working directory) is only named (`uncarried`). As long as
//! the container itself is there it is started again as it is, and nothing is lost.

use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, EndpointSettings, HostConfig, ImageConfig, MountPoint, RestartPolicyNameEnum,
};

use super::{Docker, uncarried};
use crate::model::{
    Digest, ImageRef, Mount, NetworkAttachment, PinnedImage, RestartPolicy, RunOptions, Secret, Slot,
};
use crate::port::{Described, RuntimeError};

impl Docker {
    pub(super) async fn description(&self, id: &str, slot: &Slot) -> Result<Option<Described>, RuntimeError> {
        let Some(found) = self.inspect(id).await? else { return Ok(None) };
        let engine_id = found.image.clone().unwrap_or_default();
        let image = self.inspect_image(&engine_id).await?.unwrap_or_default();
        let name = found.config.as_ref().and_then(|config| config.image.as_deref()).unwrap_or_default();
        let tags = image.repo_tags.iter().flatten().map(String::as_str);
        let named = std::iter::once(name).chain(tags).find_map(|name| name.parse::<ImageRef>().ok());
        // It may have lost its name since: then its id is all the name that it has.
        let fallback = || engine_id.strip_prefix("sha256:").and_then(|hex| hex.get(..12)?.parse().ok());
        let unreadable = |source: &str| RuntimeError::Other {
            operation: "reading what the container runs",
            source: source.into(),
        };
        let named =
            named.or_else(fallback).ok_or_else(|| unreadable("the Engine does not say which image"))?;
        let pinned = if let Some(digest) = registry_digest(&named, image.repo_digests.iter().flatten()) {
            named.pin(digest)
        } else {
            let id = Digest::new(engine_id.as_str());
            named.pin_local(id.map_err(|error| unreadable(&error.to_string()))?)
        };
        let mut described = describe(&found, image.config.as_ref(), pinned);
        described.uncarried = uncarried::options(&found, image.config.as_ref(), slot);
        Ok(Some(described))
    }
}

/// The digest under which the image's registry knows it, so that it can be had again when it is gone from here.
fn registry_digest<'a>(image: &ImageRef, mut known: impl Iterator<Item = &'a String>) -> Option<Digest> {
    known.find_map(|known| {
        let known: ImageRef = known.parse().ok()?;
        known.digest().filter(|_| known.name() == image.name()).cloned()
    })
}

fn describe(found: &ContainerInspectResponse, image: Option<&ImageConfig>, pinned: PinnedImage) -> Described {
    let mut options = RunOptions::default();
    if let Some(host) = &found.host_config {
        host_options(&mut options, host);
    }
    options.mounts = found.mounts.iter().flatten().filter_map(mount).collect();
    let mode = found.host_config.as_ref().and_then(|host| host.network_mode.as_deref()).unwrap_or_default();
    let attached = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    if !options.host_network {
        let own = own_names(found);
        let mut networks: Vec<_> =
            attached.into_iter().flatten().filter(|(name, _)| *name != "bridge").collect();
        networks.sort_by_key(|(name, at)| {
            (name.as_str() != mode && at.network_id.as_deref() != Some(mode), (*name).clone())
        });
        options.networks = networks.into_iter().map(|(name, at)| attachment(name, at, &own)).collect();
    }
    if let Some(config) = &found.config {
        let of_image =
            |list: fn(&ImageConfig) -> &Option<Vec<String>>| image.and_then(|image| list(image).clone());
        let images = of_image(|image| &image.env).unwrap_or_default();
        let own = config.env.iter().flatten().filter(|line| !images.contains(line));
        options.env = own
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), Secret::new(value)))
            .collect();
        options.command = config.cmd.clone().filter(|cmd| Some(cmd) != of_image(|image| &image.cmd).as_ref());
        let entrypoint = of_image(|image| &image.entrypoint);
        options.entrypoint = config.entrypoint.clone().filter(|own| Some(own) != entrypoint.as_ref());
        let user = image.and_then(|image| image.user.clone()).unwrap_or_default();
        options.user = config.user.clone().filter(|own| !own.is_empty() && *own != user);
        let signal = image.and_then(|image| image.stop_signal.clone());
        options.stop_signal = config.stop_signal.clone().filter(|own| Some(own) != signal.as_ref());
        options.stop_timeout =
            config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        let images = image.and_then(|image| image.labels.clone()).unwrap_or_default();
        let own = config.labels.iter().flatten().filter(|(name, value)| images.get(*name) != Some(value));
        options.labels = own.map(|(name, value)| (name.clone(), value.clone())).collect();
    }
    Described::new(pinned, options)
}

/// Names that the Engine gives it by itself wherever it is.
fn own_names(found: &ContainerInspectResponse) -> Vec<String> {
    let short = found.id.as_deref().and_then(|id| id.get(..12)).unwrap_or_default();
    let name = found.name.as_deref().unwrap_or_default().trim_start_matches('/');
    vec![short.to_owned(), name.to_owned()]
}

fn host_options(options: &mut RunOptions, host: &HostConfig) {
    let positive =
        |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    options.host_network = host.network_mode.as_deref() == Some("host");
    options.extra_hosts = host.extra_hosts.clone().unwrap_or_default();
    options.restart = match host.restart_policy.as_ref().and_then(|policy| policy.name) {
        Some(RestartPolicyNameEnum::ALWAYS) => RestartPolicy::Always,
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => RestartPolicy::UnlessStopped,
        Some(RestartPolicyNameEnum::ON_FAILURE) => RestartPolicy::OnFailure,
        _ => RestartPolicy::No,
    };
    options.memory = positive(host.memory);
    options.milli_cpus = positive(host.nano_cpus).and_then(|nano| u32::try_from(nano / 1_000_000).ok());
    options.read_only = host.readonly_rootfs.unwrap_or_default();
    options.tmpfs = host.tmpfs.clone().unwrap_or_default().into_iter().collect();
    options.cap_drop = host.cap_drop.clone().unwrap_or_default();
    options.cap_add = host.cap_add.clone().unwrap_or_default();
    let security = host.security_opt.iter().flatten();
    options.no_new_privileges = security.into_iter().any(|option| option.starts_with("no-new-privileges"));
    options.init = host.init.unwrap_or_default();
    if let Some(log) = &host.log_config {
        options.log_driver.clone_from(&log.typ);
        let given = log.config.iter().flatten();
        options.log_options =
            given.map(|(name, value)| (name.clone(), Secret::new(value.as_str()))).collect();
    }
}

fn mount(mount: &MountPoint) -> Option<Mount> {
    let source = match mount.typ.as_deref() {
        Some("volume") => mount.name.as_deref()?,
        Some("bind") => mount.source.as_deref()?,
        _ => return None,
    };
    let mode = if mount.rw == Some(false) { ":ro" } else { "" };
    format!("{source}:{}{mode}", mount.destination.as_deref()?).parse().ok()
}

fn attachment(name: &str, at: &EndpointSettings, own: &[String]) -> NetworkAttachment {
    let ip = at.ipam_config.as_ref().and_then(|ipam| ipam.ipv4_address.as_deref());
    let ip: Option<Ipv4Addr> = ip.and_then(|ip| ip.parse().ok());
    let aliases = at.aliases.iter().flatten().filter(|alias| !own.contains(alias)).cloned().collect();
    let attachment = NetworkAttachment::new(name).with_aliases(aliases);
    match ip {
        Some(ip) => attachment.with_ip(ip),
        None => attachment,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_the_image_says_by_itself_is_not_said_again() {
        let found = serde_json::from_value(serde_json::json!({
            "Id": "0123456789abcdef", "Name": "/web-3000", "Image": "sha256:1",
            "Config": {
                "Image": "shop/web:1", "Env": ["PATH=/bin", "TOKEN=hunter2", "EMPTY="], "Cmd": ["serve"],
                "User": "app", "Labels": {"a": "b", "from": "image"}, "StopTimeout": 30,
            },
            "HostConfig": {
                "NetworkMode": "dev", "RestartPolicy": {"Name": "always"}, "Memory": 1000, "NanoCpus": 500_000_000_u64,
                "SecurityOpt": ["no-new-privileges:true"], "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            },
            "Mounts": [
                {"Type": "bind", "Source": "/srv/data", "Destination": "/data", "RW": false},
                {"Type": "volume", "Name": "uploads", "Source": "/var/lib/x", "Destination": "/uploads", "RW": true},
            ],
            "NetworkSettings": {"Networks": {
                "aaa": {"Aliases": ["0123456789ab"]},
                "dev": {"Aliases": ["web-3000", "0123456789ab", "api"], "IPAMConfig": {"IPv4Address": "10.1.0.4"}},
            }},
        }))
        .unwrap();
        let image = serde_json::from_value(serde_json::json!({
            "Env": ["PATH=/bin"], "Cmd": ["serve"], "Labels": {"from": "image"},
        }))
        .unwrap();
        let pinned = "shop/web:1".parse::<ImageRef>().unwrap();
        let pinned = pinned.pin_local(Digest::new(format!("sha256:{}", "1".repeat(64))).unwrap());
        let Described { options, .. } = describe(&found, Some(&image), pinned);
        let env: BTreeMap<_, _> =
            options.env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(env, BTreeMap::from([("TOKEN", "hunter2"), ("EMPTY", "")]));
        assert_eq!((options.command, options.user.as_deref()), (None, Some("app")));
        assert_eq!(options.labels, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert_eq!(
            (options.restart, options.memory, options.milli_cpus),
            (RestartPolicy::Always, Some(1000), Some(500))
        );
        assert_eq!(options.stop_timeout, Some(Duration::from_secs(30)));
        assert!(options.no_new_privileges);
        let mounts: Vec<String> = options.mounts.into_iter().map(Into::into).collect();
        assert_eq!(mounts, ["/srv/data:/data:ro", "uploads:/uploads"]);
        let networks: Vec<_> = options.networks.iter().map(|network| network.name.as_str()).collect();
        assert_eq!(networks, ["dev", "aaa"]);
        assert_eq!(options.networks[0].ip, Some("10.1.0.4".parse().unwrap()));
        assert_eq!(options.networks[0].aliases, ["api"]);
    }

    #[test]
    fn an_image_of_a_registry_can_be_had_again() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let known = [format!("other/x@{digest}"), format!("r.io/shop/web@{digest}")];
        let found = |image: &str| registry_digest(&image.parse().unwrap(), known.iter());
        assert_eq!(found("r.io/shop/web:1").map(|digest| digest.to_string()), Some(digest.clone()));
        assert_eq!(found("r.io/shop/api:1"), None);
    }
}
