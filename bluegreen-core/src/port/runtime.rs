use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{BoxError, Credentials, Described, Foreseen, Instance, InstanceId};
use crate::model::{AppName, InstanceName, InstanceSpec, PinnedImage, RunOptions, Slot};

/// Runs instances on this host.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait ContainerRuntime: fmt::Debug + Send + Sync + 'static {
    /// Makes sure that the image is on this host, pulling it by its digest when it is not. A local image
    /// ([`ImageSource::Local`](crate::model::ImageSource)) is only looked for.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`]. A pull that fails in its middle is an error although its HTTP status was 200.
    async fn ensure_image(
        &self,
        image: &PinnedImage,
        auth: Option<Credentials>,
        progress: PullObserver,
    ) -> Result<(), RuntimeError>;

    /// Whether exactly this image is on this host already. What is here needs no registry: a rollback works
    /// while the registry is down.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn has_image(&self, image: &PinnedImage) -> Result<bool, RuntimeError>;

    /// What can be known of an instance of this image before it is made; `None` while the image is not on this host.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn foresee(
        &self,
        image: &PinnedImage,
        options: &RunOptions,
    ) -> Result<Option<Foreseen>, RuntimeError>;

    /// How many bytes are free where images are kept; `None` when that cannot be known from here.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn free_space(&self) -> Result<Option<u64>, RuntimeError>;

    /// Makes sure that exactly one instance with this description runs under its name, and returns it.
    ///
    /// One that is there with the same fingerprint, or is the very one of `spec.made_elsewhere`, is started, or left
    /// running. One of ours with another
    /// fingerprint is replaced. One that is not ours is replaced only when `spec.adopt` is set, and is otherwise
    /// [`RuntimeError::NameTaken`]. When the start fails, what was created may be left for
    /// [`ensure_removed`](Self::ensure_removed).
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn ensure_running(&self, spec: &InstanceSpec) -> Result<Instance, RuntimeError>;

    /// All instances that carry our label for this application, running or not.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn list(&self, app: &AppName) -> Result<Vec<Instance>, RuntimeError>;

    /// The instance of that name, ours or not; `None` when there is none.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn find(&self, name: &InstanceName) -> Result<Option<Instance>, RuntimeError>;

    /// How an instance runs that bluegreen did not create, as far as our options can express it: what it takes to create it
    /// again, and what that would lack. `None` when it is gone.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn describe(&self, id: &InstanceId, slot: &Slot) -> Result<Option<Described>, RuntimeError>;

    /// The addresses inside it at which it accepts TCP connections; none where that cannot be seen from here, as when it
    /// runs on another host or as somebody else.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn listens_on(&self, instance: &Instance) -> Result<Vec<SocketAddr>, RuntimeError>;

    /// Sends the stop signal and waits until it has stopped, killing it after `grace` (the instance's own
    /// setting when `None`). Stopped already or gone is success.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn ensure_stopped(&self, id: &InstanceId, grace: Option<Duration>) -> Result<(), RuntimeError>;

    /// Removes it, by force when it runs. Gone already is success.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn ensure_removed(&self, id: &InstanceId) -> Result<(), RuntimeError>;

    /// Removes an image that no instance uses. In use or gone already is success.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn ensure_image_removed(&self, image: &PinnedImage) -> Result<(), RuntimeError>;

    /// The last lines of its log, oldest first.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn log_tail(&self, id: &InstanceId, lines: u16) -> Result<Vec<String>, RuntimeError>;

    /// Its log from its present start on, every line once, as it appears. The stream ends when the instance does.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    async fn follow_log(&self, id: &InstanceId) -> Result<LineStream, RuntimeError>;

    /// Runs a command inside it, without a shell, and waits for its end. `user`: unset, the instance's own.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`]. A command that exits with an error is no error here.
    async fn exec(
        &self,
        id: &InstanceId,
        command: &[String],
        user: Option<ExecUser>,
    ) -> Result<ExecOutput, RuntimeError>;
}

/// Whom a command is run as inside of an instance, in its own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecUser {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl ExecUser {
    /// A user and a group.
    pub const fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid }
    }
}

/// The lines of a log as they appear.
pub type LineStream = BoxStream<'static, Result<String, RuntimeError>>;

/// Receives the progress of a pull. Called often; must not block.
pub type PullObserver = std::sync::Arc<dyn Fn(PullProgress) + Send + Sync>;

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PullProgress {
    /// Layers that are completely here.
    pub layers_done: usize,
    /// Layers that are known of.
    pub layers: usize,
    /// Bytes downloaded.
    pub bytes: u64,
    /// Bytes that are known to be needed.
    pub total_bytes: u64,
}

impl PullProgress {
    /// A snapshot.
    pub const fn new(layers_done: usize, layers: usize, bytes: u64, total_bytes: u64) -> Self {
        Self { layers_done, layers, bytes, total_bytes }
    }
}

/// What a command inside an instance did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ExecOutput {
    /// Its exit code; 126 and 127 also mean that it could not be started.
    pub exit_code: i64,
    /// What it printed, both streams together.
    pub output: String,
    /// What of it went to standard output; all of it where the runtime cannot tell the streams apart. In `output` a
    /// line of the other stream may stand in the middle of one of these.
    pub stdout: String,
}

impl ExecOutput {
    /// An exit code and what was printed, as if all of it had gone to standard output.
    pub fn new(exit_code: i64, output: impl Into<String>) -> Self {
        let output = output.into();
        Self { exit_code, stdout: output.clone(), output }
    }

    /// The same, of which only `stdout` went to standard output.
    #[must_use]
    pub fn with_stdout(mut self, stdout: impl Into<String>) -> Self {
        self.stdout = stdout.into();
        self
    }

    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.exit_code == 0
    }
}

/// Why the runtime did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The runtime itself cannot be reached: not running, or its socket is not permitted.
    #[error("the container runtime cannot be reached at {address}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// Whether it is there and only our permission is missing.
        denied: bool,
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// Where the runtime is said to be is nowhere that this program can reach: an address of another kind, or a name
    /// that leads to none.
    #[error("{address} is not a way to the container runtime")]
    NoWay {
        /// The address, or what should have led to one.
        address: String,
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// The image is not there, here or in its registry.
    #[error("image {image} was not found")]
    ImageNotFound {
        /// The image.
        image: String,
        /// What the runtime said.
        #[source]
        source: BoxError,
    },
    /// The registry refused the credentials of a pull: none, wrong or expired.
    #[error("the registry refused the pull of {image}")]
    PullDenied {
        /// The image.
        image: String,
        /// The registry's host name.
        registry: String,
        /// What it said.
        #[source]
        source: BoxError,
    },
    /// The registry could not be reached, or the connection broke in the middle.
    #[error("the registry of {image} cannot be reached")]
    RegistryUnreachable {
        /// The image.
        image: String,
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// The instance's log goes where the runtime cannot read it back.
    #[error("the log cannot be read")]
    LogUnreadable {
        /// What the runtime said.
        #[source]
        source: BoxError,
    },
    /// No room for an image or a container.
    #[error("no space left on the runtime's disk")]
    DiskFull {
        /// What the runtime said.
        #[source]
        source: BoxError,
    },
    /// A host port that the instance needs is in use.
    #[error("host port {port} is in use by something else")]
    PortTaken {
        /// The port, as the runtime names it.
        port: String,
        /// What the runtime said.
        #[source]
        source: BoxError,
    },
    /// A container of that name is there and is not this application's.
    #[error("a container named {name} exists and does not belong to this application")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A network does not exist, or exists twice.
    #[error("network {name} cannot be used: {reason}")]
    Network {
        /// The network.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The runtime refuses the description: an option, a path, a command.
    #[error("the runtime refuses the container's settings")]
    Rejected {
        /// What it said.
        #[source]
        source: BoxError,
    },
    /// Anything else.
    #[error("{operation} failed")]
    Other {
        /// What was being done.
        operation: &'static str,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
}

impl RuntimeError {
    /// Whether the same call may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::RegistryUnreachable { .. } | Self::Unreachable { denied: false, .. })
    }
}
