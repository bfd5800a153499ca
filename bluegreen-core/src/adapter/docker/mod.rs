//! Docker Engine as the container runtime, and the registries that it can reach.
//!
//! Everything here was checked against Engine 20.10 (API 1.41), the oldest that is supported, and asks for nothing
//! newer: that Engine ignores fields that it does not know without a word.
//!
//! Two things to know about the client library (bollard 0.21):
//!
//! - It never sends an API version; the Engine answers in its own newest one. The version is negotiated all the
//!   same, at the first call: that makes a hung Engine known within seconds, and stays right when the library
//!   begins to send it.
//! - At level `debug` it logs request and response bodies through the `log` crate, environments of containers
//!   included. An embedder that installs a logger must leave the target `bollard` above `debug`.

mod answer;
mod config_file;
mod context;
mod create;
mod describe;
mod disk;
mod error;
mod exec;
mod foresee;
mod image;
mod listen;
mod log;
mod network;
mod observe;
mod pull;
mod registry;
mod run;
mod survey;
mod uncarried;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::{API_DEFAULT_VERSION, BollardRequest};
use tokio::sync::OnceCell;

pub use config_file::DockerConfig;
pub use context::context_address;
pub use disk::DiskSpace;
pub use registry::{DockerRegistry, LocalImages};
pub use survey::{SeenContainer, SeenEndpoint, SeenNetwork};

use self::error::Failure;
use crate::model::{AppName, InstanceName, InstanceSpec, PinnedImage, RunOptions, Slot};
use crate::port::{
    ContainerRuntime, Credentials, Described, ExecOutput, ExecUser, Foreseen, Instance, InstanceId,
    LineStream, PullObserver, RuntimeError,
};

/// Where the Engine is when nobody says otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// How long the Engine may take to begin its answer to an ordinary call. A stop gets its grace on top.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);

/// How long the Engine may take to answer the very first call, which costs it nothing.
const GREETING_WITHIN: Duration = Duration::from_secs(5);

/// A Docker Engine.
///
/// Cheap to clone; clones share the connection.
///
/// # Guarantees
///
/// - Only containers and networks that carry the label `bluegreen.app` are ever changed, apart from containers
///   that [`InstanceSpec::adopt`] names. A container of another application is never touched, `adopt` or not.
/// - No value of an environment and no credential is in an error, in `Debug` or in an argument of a process.
#[derive(Clone)]
pub struct Docker {
    shared: Arc<Shared>,
    /// The place of the journal, as what is made is marked with it.
    state: Option<Arc<str>>,
}

struct Shared {
    client: bollard::Docker,
    address: String,
    greeted: OnceCell<()>,
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Docker").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl Docker {
    /// The Engine at `address`, as `DOCKER_HOST` has it: `unix:///path`, `/path`, `tcp://host:port` or
    /// `http://host:port`; the usual socket when `None`. The environment is not looked at.
    ///
    /// Nothing is sent yet, so this neither waits nor needs permission; [`greet`](Self::greet) does.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Unreachable`] when there is no such socket, [`RuntimeError::NoWay`] for an address of another kind.
    pub fn connect(address: Option<&str>) -> Result<Self, RuntimeError> {
        let given = address.filter(|address| !address.is_empty()).unwrap_or(DEFAULT_SOCKET);
        let timeout = ANSWER_WITHIN.as_secs();
        let (shown, client) = match Address::parse(given) {
            Some(Address::Unix(path)) => {
                let shown = format!("unix://{path}");
                // Bollard looks whether it *exists*, which is also false when we may not look.
                let client = match Path::new(path).symlink_metadata() {
                    Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                        return Err(RuntimeError::Unreachable {
                            address: shown,
                            denied: true,
                            source: Box::new(error),
                        });
                    }
                    _ => bollard::Docker::connect_with_unix(path, timeout, API_DEFAULT_VERSION),
                };
                (shown, client)
            }
            Some(Address::Tcp(host)) => (
                format!("tcp://{host}"),
                bollard::Docker::connect_with_http(&format!("tcp://{host}"), timeout, API_DEFAULT_VERSION),
            ),
            None => {
                let source = "not an address of the form unix:///PATH, tcp://HOST:PORT or http://HOST:PORT \
                              (TLS and ssh are not supported: forward the socket instead)";
                return Err(RuntimeError::NoWay { address: given.to_owned(), source: source.into() });
            }
        };
        let client = client.map_err(|error| Failure::from(error).other("connecting", &shown))?;
        Ok(Self::new(client.with_request_modifier(url_safe_auth), shown))
    }

    /// An Engine behind a client of one's own.
    ///
    /// Its time-out must be longer than any start takes; stops get their grace on top. It should send
    /// `X-Registry-Auth` in the URL-safe alphabet, which bollard 0.21 by itself does not: a password with `?`,
    /// `>` or `~` in it may otherwise be ignored by the Engine without a word.
    pub fn from_client(client: bollard::Docker) -> Self {
        Self::new(client, "a client of the embedder's".to_owned())
    }

    fn new(client: bollard::Docker, address: String) -> Self {
        Self { shared: Arc::new(Shared { client, address, greeted: OnceCell::new() }), state: None }
    }

    /// Marks each container that it makes with the place of the journal that has it on record, so that another journal
    /// on this host is told of it.
    #[must_use]
    pub fn recorded_in(mut self, place: &str) -> Self {
        self.state = Some(place.into());
        self
    }

    /// Where this Engine is.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Whether the Engine is there and lets us in. Asked once, by whatever call is first; later calls are free.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Unreachable`], after 5 s at most.
    pub async fn greet(&self) -> Result<(), RuntimeError> {
        self.shared
            .greeted
            .get_or_try_init(|| async {
                let greeting = self.shared.client.clone().negotiate_version();
                match tokio::time::timeout(GREETING_WITHIN, greeting).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(self.other("greeting the Engine", error)),
                    Err(_) => Err(Failure::unreachable("it accepts the connection and does not answer")
                        .other("greeting the Engine", self.address())),
                }
            })
            .await
            .copied()
    }

    /// Which Engine this is, in words: `Docker 20.10.24, API 1.41`.
    ///
    /// # Errors
    ///
    /// As [`greet`](Self::greet).
    pub async fn version(&self) -> Result<String, RuntimeError> {
        let said = self.engine().await?.version().await;
        let said = said.map_err(|error| self.other("asking for the Engine's version", error))?;
        let or_unknown = |part: Option<String>| part.unwrap_or_else(|| "of unknown version".to_owned());
        Ok(format!("Docker {}, API {}", or_unknown(said.version), or_unknown(said.api_version)))
    }

    /// The client, once the Engine is known to answer.
    async fn engine(&self) -> Result<&bollard::Docker, RuntimeError> {
        self.greet().await?;
        Ok(&self.shared.client)
    }

    fn other(&self, operation: &'static str, error: bollard::errors::Error) -> RuntimeError {
        Failure::from(error).other(operation, self.address())
    }
}

/// A parsed `DOCKER_HOST`.
#[derive(Debug, PartialEq)]
enum Address<'a> {
    Unix(&'a str),
    Tcp(String),
}

impl<'a> Address<'a> {
    fn parse(given: &'a str) -> Option<Self> {
        let path = given.strip_prefix("unix://").unwrap_or(given);
        if path.starts_with('/') {
            return Some(Self::Unix(path));
        }
        let host = given.strip_prefix("tcp://").or_else(|| given.strip_prefix("http://"))?;
        let host = host.strip_suffix('/').unwrap_or(host);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if host.is_empty() || host.starts_with(':') || !host.chars().all(plain) {
            return None;
        }
        // Docker's own port for plain HTTP, when none is given. A colon before `]` belongs to an address.
        let has_port = host.rsplit(']').next().unwrap_or(host).contains(':');
        Some(Self::Tcp(if has_port { host.to_owned() } else { format!("{host}:2375") }))
    }
}

/// The Engine reads `X-Registry-Auth` in the URL-safe alphabet and takes what it cannot read for "no credentials"
/// (seen on 20.10); bollard 0.21 writes the standard alphabet.
fn url_safe_auth(mut request: BollardRequest) -> BollardRequest {
    const HEADER: &str = "x-registry-auth";
    if let Some(value) = request.headers_mut().get_mut(HEADER) {
        let safe = value.to_str().map(|text| text.replace('+', "-").replace('/', "_"));
        if let Some(safe) = safe.ok().and_then(|safe| safe.parse().ok()) {
            *value = safe;
        }
        value.set_sensitive(true);
    }
    request
}

#[async_trait]
impl ContainerRuntime for Docker {
    async fn ensure_image(
        &self,
        image: &PinnedImage,
        auth: Option<Credentials>,
        progress: PullObserver,
    ) -> Result<(), RuntimeError> {
        self.pull_unless_here(image, auth, progress).await
    }

    async fn has_image(&self, image: &PinnedImage) -> Result<bool, RuntimeError> {
        self.is_here(image).await
    }

    async fn foresee(
        &self,
        image: &PinnedImage,
        options: &RunOptions,
    ) -> Result<Option<Foreseen>, RuntimeError> {
        self.foreseen(image, options).await
    }

    async fn free_space(&self) -> Result<Option<u64>, RuntimeError> {
        Ok(self.disk_space().await?.map(|disk| disk.free))
    }

    async fn ensure_running(&self, spec: &InstanceSpec) -> Result<Instance, RuntimeError> {
        self.run(spec).await
    }

    async fn list(&self, app: &AppName) -> Result<Vec<Instance>, RuntimeError> {
        self.list_app(app).await
    }

    async fn find(&self, name: &InstanceName) -> Result<Option<Instance>, RuntimeError> {
        let mut found = self.inspect_name(name).await?.as_ref().and_then(observe::instance);
        if let Some(instance) =
            found.as_mut().filter(|instance| instance.is_running() && instance.restarts > 0)
        {
            instance.last_exit = self.last_exit(instance.id.as_str()).await;
        }
        Ok(found)
    }

    async fn describe(&self, id: &InstanceId, slot: &Slot) -> Result<Option<Described>, RuntimeError> {
        self.description(id.as_str(), slot).await
    }

    async fn listens_on(&self, instance: &Instance) -> Result<Vec<SocketAddr>, RuntimeError> {
        Ok(self.listeners(instance))
    }

    async fn ensure_stopped(&self, id: &InstanceId, grace: Option<Duration>) -> Result<(), RuntimeError> {
        self.stop(id.as_str(), grace).await
    }

    async fn ensure_removed(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.remove(id.as_str()).await
    }

    async fn ensure_image_removed(&self, image: &PinnedImage) -> Result<(), RuntimeError> {
        self.remove_image(image).await
    }

    async fn log_tail(&self, id: &InstanceId, lines: u16) -> Result<Vec<String>, RuntimeError> {
        self.last_lines(id.as_str(), lines).await
    }

    async fn follow_log(&self, id: &InstanceId) -> Result<LineStream, RuntimeError> {
        self.follow(id.as_str()).await
    }

    async fn exec(
        &self,
        id: &InstanceId,
        command: &[String],
        user: Option<ExecUser>,
    ) -> Result<ExecOutput, RuntimeError> {
        self.run_inside(id.as_str(), command, user).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let tcp = |host: &str| Some(Address::Tcp(host.to_owned()));
        for (given, address) in [
            ("unix:///run/user/1000/docker.sock", Some(Address::Unix("/run/user/1000/docker.sock"))),
            ("/x.sock", Some(Address::Unix("/x.sock"))),
            ("tcp://10.0.0.1:2375", tcp("10.0.0.1:2375")),
            ("http://host/", tcp("host:2375")),
            ("tcp://[::1]:99", tcp("[::1]:99")),
            ("tcp://[::1]", tcp("[::1]:2375")),
            ("tcp://user:pass@host:1", None),
            ("ssh://host", None),
            ("https://host:2376", None),
            ("x.sock", None),
            ("tcp://", None),
        ] {
            assert_eq!(Address::parse(given), address, "{given}");
        }
    }
}
