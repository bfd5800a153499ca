use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    Color, Endpoint, InstanceName, InstanceSpec, Mount, NetworkAttachment, Publish, RestartPolicy,
    RunOptions, Secret, Slot,
};

/// What tells one container from another: its place, its image and its options, not its deployment. Two descriptions
/// of one fingerprint may share a container.
///
/// It is on containers that run for months, so it is a persisted format. Its rule is frozen: 16 hex digits of a hash
/// of what there was at the beginning, every field; and of what was added since, only where it is set. So a new option
/// changes no fingerprint of those who do not use it. Should the rule itself ever change, its values begin with another
/// version (`f2-`); this program takes such a label for another container's, and makes the container anew.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// That of an instance.
    pub(super) fn of(spec: &InstanceSpec) -> Self {
        // Whoever adds a field does not get past these two: it goes into `added` when it is not as it was without it.
        let Slot { color, name, port, publish, network, endpoint } = &spec.slot;
        let RunOptions {
            env,
            mounts,
            networks,
            host_network,
            extra_hosts,
            labels,
            restart,
            memory,
            milli_cpus,
            user,
            read_only,
            tmpfs,
            cap_drop,
            cap_add,
            no_new_privileges,
            init,
            log_driver,
            log_options,
            stop_signal,
            stop_timeout,
            command,
            entrypoint,
        } = &spec.options;
        let added: BTreeMap<&str, String> = BTreeMap::new();
        let place = KnownPlace { color, name, port, publish, network, endpoint };
        let options = KnownOptions {
            env,
            mounts,
            networks,
            host_network,
            extra_hosts,
            labels,
            restart,
            memory,
            milli_cpus,
            user,
            read_only,
            tmpfs,
            cap_drop,
            cap_add,
            no_new_privileges,
            init,
            log_driver,
            log_options,
            stop_signal,
            stop_timeout,
            command,
            entrypoint,
        };
        // As structs, in the order of their fields: the order of a `Value`'s keys depends on features that any crate of
        // the build may switch on.
        let known = (&place, spec.image.digest(), spec.image.source(), &options);
        let mut identity = serde_json::to_string(&known).unwrap_or_default();
        if !added.is_empty() {
            identity += &serde_json::to_string(&added).unwrap_or_default();
        }
        let hash = Sha256::digest(identity.as_bytes());
        Self(hash.iter().take(8).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")))
    }

    /// What a label says, whoever wrote it.
    pub fn from_label(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it is written in a label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

// What the hash has always been made of. Frozen: names, order and the way of writing count, also of the types within.

#[derive(Serialize)]
struct KnownPlace<'a> {
    color: &'a Color,
    name: &'a InstanceName,
    port: &'a u16,
    publish: &'a Option<Publish>,
    network: &'a Option<NetworkAttachment>,
    endpoint: &'a Endpoint,
}

#[derive(Serialize)]
struct KnownOptions<'a> {
    env: &'a BTreeMap<String, Secret>,
    mounts: &'a [Mount],
    networks: &'a [NetworkAttachment],
    host_network: &'a bool,
    extra_hosts: &'a [String],
    labels: &'a BTreeMap<String, String>,
    restart: &'a RestartPolicy,
    memory: &'a Option<u64>,
    milli_cpus: &'a Option<u32>,
    user: &'a Option<String>,
    read_only: &'a bool,
    tmpfs: &'a BTreeMap<String, String>,
    cap_drop: &'a [String],
    cap_add: &'a [String],
    no_new_privileges: &'a bool,
    init: &'a bool,
    log_driver: &'a Option<String>,
    log_options: &'a BTreeMap<String, Secret>,
    stop_signal: &'a Option<String>,
    stop_timeout: &'a Option<Duration>,
    command: &'a Option<Vec<String>>,
    entrypoint: &'a Option<Vec<String>>,
}

#[cfg(test)]
#[path = "fingerprint_tests.rs"]
mod tests;
