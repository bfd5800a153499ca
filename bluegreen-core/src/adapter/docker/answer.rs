//! What the Engine's answers mean. Its status codes do not tell: refused credentials, an unknown certificate, a
//! name that does not resolve and a taken port are all 500. So status *and* text are matched, here and nowhere
//! else, and every text has a fixture below that was seen on a real Engine (20.10.24) unless it says otherwise.

/// An error in the Engine's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct EngineMessage {
    /// Its HTTP status; none when it came in the middle of a stream, under 200.
    pub(super) status: Option<u16>,
    /// Its text.
    pub(super) message: String,
}

impl EngineMessage {
    fn has(&self, text: &str) -> bool {
        self.message.contains(text)
    }

    fn has_any(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.has(text))
    }

    /// There is no such container (or network, or image): the thing itself, named in the path of the request.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == Some(404)
    }

    /// It is being removed by somebody already.
    pub(super) fn is_removal_in_progress(&self) -> bool {
        self.status == Some(409) && self.has("is already in progress")
    }

    /// A short name that is the beginning of several container ids, and no container's name.
    pub(super) fn is_ambiguous_prefix(&self) -> bool {
        self.message.to_ascii_lowercase().contains("multiple ids found with provided prefix")
    }

    /// The container is on that network already.
    pub(super) fn is_attached_already(&self) -> bool {
        self.has("already exists in network")
    }

    /// It runs, and the Engine does not know: it was killed, or stopped, while it started the container.
    pub(super) fn is_out_of_sight(&self) -> bool {
        self.has("id already in use")
    }

    pub(super) fn is_disk_full(&self) -> bool {
        self.has("no space left on device")
    }

    /// The container's log goes where the Engine cannot read it back (501).
    pub(super) fn is_log_unreadable(&self) -> bool {
        self.has("logging driver does not support reading")
    }

    /// There are several networks of one name.
    pub(super) fn is_ambiguous_network(&self) -> bool {
        self.has("matches found on name")
    }

    /// An image that a container uses or that has further names.
    pub(super) fn is_image_in_use(&self) -> bool {
        self.status == Some(409)
    }
}

/// What an answer to a question about an image in a registry means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PullMeaning {
    NotFound,
    Denied,
    Untrusted,
    Unreachable,
    LayerMissing,
    DiskFull,
    Other,
}

pub(super) fn of_pull(said: &EngineMessage) -> PullMeaning {
    // Denied before not found: the Hub's "pull access denied … may require 'docker login'" comes with a 404.
    if said.is_disk_full() {
        PullMeaning::DiskFull
    } else if said.has_any(&["x509:", "certificate signed by unknown authority", "tls: "]) {
        PullMeaning::Untrusted
    } else if said.has_any(&["no basic auth credentials", "unauthorized", "denied", "toomanyrequests"])
        || matches!(said.status, Some(401 | 403))
    {
        PullMeaning::Denied
    } else if said.has_any(&["unknown blob", "blob unknown"]) {
        PullMeaning::LayerMissing
    } else if said.has_any(&[
        "manifest unknown",
        "name unknown",
        "no such manifest",
        "repository name not known to registry",
        "No such image",
    ]) {
        PullMeaning::NotFound
    } else if said.has_any(&[
        "dial tcp",
        "no such host",
        "connection refused",
        "connection reset by peer",
        "broken pipe",
        "use of closed network connection",
        // The Engine's HTTP client, about a connection that was cut while it was idle, or in the middle of an answer.
        "server closed idle connection",
        "transport connection broken",
        "client connection lost",
        "i/o timeout",
        "TLS handshake timeout",
        "timeout awaiting response headers",
        "Client.Timeout exceeded",
        "request canceled",
        "context deadline exceeded",
        "server gave HTTP response to HTTPS client",
        "received unexpected HTTP status: 5",
        "EOF",
    ]) {
        PullMeaning::Unreachable
    } else if said.is_not_found() {
        PullMeaning::NotFound
    } else {
        PullMeaning::Other
    }
}

/// What an answer to a create, a connect or a start means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunMeaning {
    ImageNotFound,
    DiskFull,
    /// The port as the Engine names it: `127.0.0.1:8080`.
    PortTaken(Option<String>),
    NameTaken,
    /// Why, and what can be done.
    Network(&'static str),
    Rejected,
    Other,
}

pub(super) fn of_run(said: &EngineMessage) -> RunMeaning {
    if let Some(reason) = network_reason(said) {
        return RunMeaning::Network(reason);
    }
    if said.is_disk_full() {
        RunMeaning::DiskFull
    } else if said.has_any(&["port is already allocated", "address already in use"]) {
        RunMeaning::PortTaken(port_in(&said.message))
    } else if said.status == Some(409) && said.has("is already in use by container") {
        RunMeaning::NameTaken
    } else if said.has("No such image") {
        RunMeaning::ImageNotFound
    } else if said.status == Some(400)
        || said.has_any(&[
            "executable file not found",
            "OCI runtime create failed",
            "failed to create shim",
            "bind source path does not exist",
            "invalid mount config",
        ])
    {
        RunMeaning::Rejected
    } else {
        RunMeaning::Other
    }
}

fn network_reason(said: &EngineMessage) -> Option<&'static str> {
    // The capital letter and the status tell a taken container address from a taken host port.
    let reason = if said.is_ambiguous_network() {
        "there are several networks of that name and the Engine cannot tell them apart; remove all but one \
         (`docker network ls`, `docker network rm ID`)"
    } else if said.status == Some(404) && said.has("network ") {
        "it does not exist any more"
    } else if said
        .has("user specified IP address is supported only when connecting to networks with user configured")
    {
        "a fixed address was asked for, but the network was made without a subnet of its own; make it again with \
         `docker network create --subnet …`, or let bluegreen make it"
    } else if said.has("user specified IP address is supported on user defined networks only") {
        "a fixed address was asked for, which the Engine's default bridge cannot give"
    } else if said.has("network-scoped alias is supported only for containers in user defined networks") {
        "aliases were asked for, which the Engine's default bridge cannot give"
    } else if said.has("Address already in use") {
        "the fixed address is in use there by another container"
    } else if said.has("does not belong to any of this network's subnets") {
        "the fixed address is outside of the network's subnets"
    } else if said.has("Pool overlaps with other one on this address space")
        || said.has("conflicts with existing subnet")
    {
        "the subnet around the fixed address overlaps with another network; choose another address"
    } else if said.has("non-overlapping IPv4 address pool") {
        "the Engine has no free subnet left; remove networks that are not used (`docker network prune`)"
    } else if said.has("no available IPv4 addresses on this network") {
        "it has no free address left"
    } else {
        return None;
    };
    Some(reason)
}

/// The `address:port` that a text about a taken port names: the last word that ends in a port.
fn port_in(message: &str) -> Option<String> {
    message
        .split(' ')
        .map(|word| word.trim_end_matches([':', ',', '.']))
        .map(|word| word.strip_suffix("/tcp").unwrap_or(word))
        .rfind(|word| {
            word.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, message: &str) -> EngineMessage {
        EngineMessage { status: Some(status), message: message.to_owned() }
    }

    fn in_stream(message: &str) -> EngineMessage {
        EngineMessage { status: None, message: message.to_owned() }
    }

    #[test]
    fn every_pull_text_that_was_seen() {
        use PullMeaning::{Denied, DiskFull, LayerMissing, NotFound, Other, Unreachable, Untrusted};
        for (answer, meaning) in [
            (said(404, "No such image: app:1"), NotFound),
            (
                said(404, "manifest for r.example:5000/app:9 not found: manifest unknown: manifest unknown"),
                NotFound,
            ),
            (said(500, "Head \"https://r.example/v2/app/manifests/1\": no basic auth credentials"), Denied),
            (
                said(
                    500,
                    "Head \"https://r.example/v2/app/manifests/1\": unauthorized: authentication required",
                ),
                Denied,
            ),
            (
                said(500, "Get \"https://r.example/v2/\": x509: certificate signed by unknown authority"),
                Untrusted,
            ),
            (
                said(
                    500,
                    "Get \"https://r.example/v2/\": dial tcp 127.0.0.1:443: connect: connection refused",
                ),
                Unreachable,
            ),
            (
                said(
                    500,
                    "Get \"https://r.example/v2/\": dial tcp: lookup r.example on 8.8.8.8:53: no such host",
                ),
                Unreachable,
            ),
            (in_stream("unknown blob"), LayerMissing),
            (in_stream("write /var/lib/docker/tmp/GetImageBlob1: no space left on device"), DiskFull),
            (in_stream("unexpected EOF"), Unreachable),
            (said(500, "Get \"https://r.example/v2/\": EOF"), Unreachable),
            (said(500, "Get \"http://r.example/v2/\": http: server closed idle connection"), Unreachable),
            (said(400, "invalid reference format"), Other),
            // From the Engine's source and the registries' documentation, not seen here.
            (
                said(
                    404,
                    "pull access denied for app, repository does not exist or may require 'docker login': denied: \
                     requested access to the resource is denied",
                ),
                Denied,
            ),
            (
                said(500, "denied: Your authorization token has expired. Reauthenticate and try again."),
                Denied,
            ),
            (said(500, "toomanyrequests: You have reached your pull rate limit."), Denied),
            (
                said(404, "repository r.example/app not found: name unknown: The repository does not exist"),
                NotFound,
            ),
            (said(500, "received unexpected HTTP status: 503 Service Unavailable"), Unreachable),
        ] {
            assert_eq!(of_pull(&answer), meaning, "{answer:?}");
        }
    }

    #[test]
    fn every_run_text_that_was_seen() {
        use RunMeaning::{DiskFull, ImageNotFound, NameTaken, Other, PortTaken, Rejected};
        let port = |port: &str| PortTaken(Some(port.to_owned()));
        for (answer, meaning) in [
            (
                said(
                    500,
                    "driver failed programming external connectivity on endpoint web-blue (12ab): Bind for \
                     127.0.0.1:18080 failed: port is already allocated",
                ),
                port("127.0.0.1:18080"),
            ),
            (
                said(
                    500,
                    "driver failed programming external connectivity on endpoint web-blue (12ab): Error starting \
                     userland proxy: listen tcp4 127.0.0.1:18080: bind: address already in use",
                ),
                port("127.0.0.1:18080"),
            ),
            // Engine 28, from its source.
            (
                said(500, "failed to bind host port 0.0.0.0:80/tcp: address already in use"),
                port("0.0.0.0:80"),
            ),
            (
                said(
                    409,
                    "Conflict. The container name \"/web\" is already in use by container \"12ab\". You have to \
                     remove (or rename) that container to be able to reuse that name.",
                ),
                NameTaken,
            ),
            (said(404, "No such image: app:1"), ImageNotFound),
            (
                said(
                    400,
                    "failed to create shim task: OCI runtime create failed: runc create failed: unable to start \
                     container process: exec: \"/nope\": stat /nope: no such file or directory: unknown",
                ),
                Rejected,
            ),
            (
                said(
                    400,
                    "OCI runtime create failed: container_linux.go:380: starting container process caused: exec: \
                     \"nope\": executable file not found in $PATH: unknown",
                ),
                Rejected,
            ),
            (
                said(400, "invalid mount config for type \"bind\": bind source path does not exist: /nope"),
                Rejected,
            ),
            (said(500, "mkdir /var/lib/docker/overlay2/x: no space left on device"), DiskFull),
            (said(500, "something new"), Other),
        ] {
            assert_eq!(of_run(&answer), meaning, "{answer:?}");
        }
    }

    #[test]
    fn every_network_text_that_was_seen() {
        for (answer, word) in [
            (said(400, "network web is ambiguous (2 matches found on name)"), "several"),
            (said(404, "network 5e7c not found"), "not exist"),
            (
                said(404, "could not find a network matching network mode 5e7c: network 5e7c not found"),
                "not exist",
            ),
            (
                said(
                    400,
                    "user specified IP address is supported only when connecting to networks with user configured \
                     subnets",
                ),
                "subnet of its own",
            ),
            (
                said(400, "user specified IP address is supported on user defined networks only"),
                "default bridge",
            ),
            (
                said(400, "network-scoped alias is supported only for containers in user defined networks"),
                "default bridge",
            ),
            (said(403, "Address already in use"), "in use there"),
            (
                said(400, "Invalid address 10.9.9.9: It does not belong to any of this network's subnets"),
                "outside",
            ),
            (said(403, "Pool overlaps with other one on this address space"), "overlaps"),
            (
                said(
                    500,
                    "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to \
                     the network",
                ),
                "no free subnet",
            ),
        ] {
            let RunMeaning::Network(reason) = of_run(&answer) else {
                panic!("{answer:?}: {:?}", of_run(&answer))
            };
            assert!(reason.contains(word), "{answer:?}: {reason}");
        }
    }

    #[test]
    fn the_rest() {
        assert!(said(409, "removal of container 12ab is already in progress").is_removal_in_progress());
        assert!(said(409, "id already in use").is_out_of_sight());
        assert!(said(500, "Multiple IDs found with provided prefix: ab").is_ambiguous_prefix());
        assert!(
            said(
                409,
                "conflict: unable to remove repository reference \"a\" (must force) - container 1 is using it"
            )
            .is_image_in_use()
        );
        assert!(said(404, "No such container: x").is_not_found());
        assert!(
            said(403, "endpoint with name shop-blue already exists in network front").is_attached_already()
        );
    }
}
