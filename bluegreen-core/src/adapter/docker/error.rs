//! From bollard's errors to the port's. Bollard's own `Display` repeats its sources, names its types and may one
//! day hold a payload, so none of its errors is passed on: only the Engine's words and the system's errors are.

use std::io;

use bollard::errors::Error as ClientError;

use super::answer::{self, EngineMessage, PullMeaning, RunMeaning};
use crate::model::{InstanceSpec, PinnedImage};
use crate::port::{BoxError, RegistryError, RuntimeError};

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The Engine did not answer, or not to the end.
    Unreachable { denied: bool, source: BoxError },
    /// It answered with an error.
    EngineMessage(EngineMessage),
    /// It answered with something that is not understood.
    Unreadable(BoxError),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::DockerResponseServerError { status_code, message } => {
                Self::EngineMessage(EngineMessage {
                    status: Some(status_code),
                    message: message.trim().to_owned(),
                })
            }
            ClientError::DockerStreamError { error } => {
                Self::EngineMessage(EngineMessage { status: None, message: error.trim().to_owned() })
            }
            ClientError::RequestTimeoutError => Self::unreachable("the Engine did not answer in time"),
            ClientError::SocketNotFoundError(path) => {
                Self::unreachable(format!("there is no socket at {path}; is Docker running?"))
            }
            ClientError::HyperLegacyError { err } => Self::from_transport(&err),
            ClientError::HyperResponseError { err } => Self::from_transport(&err),
            ClientError::IOError { err } => Self::from_transport(&err),
            // Serde repeats the value that it did not like, and a container's environment is among the values.
            ClientError::JsonDataError { column, .. } => {
                Self::Unreadable(format!("its answer is not understood (column {column})").into())
            }
            ClientError::JsonSerdeError { err } => Self::Unreadable(
                format!("its answer is not understood (line {}, column {})", err.line(), err.column()).into(),
            ),
            other => Self::Unreadable(other.to_string().into()),
        }
    }
}

impl Failure {
    pub(super) fn unreachable(reason: impl Into<BoxError>) -> Self {
        Self::Unreachable { denied: false, source: reason.into() }
    }

    /// Looks for the system's error under hyper's layers: it alone says what is wrong.
    fn from_transport(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        let mut words = error.to_string();
        while let Some(error) = cause {
            words = error.to_string();
            if let Some(error) = error.downcast_ref::<io::Error>() {
                if error.raw_os_error().is_some() {
                    let denied = error.kind() == io::ErrorKind::PermissionDenied;
                    return Self::Unreachable { denied, source: words.into() };
                }
                cause = error.get_ref().map(|error| error as &(dyn std::error::Error + 'static));
            } else {
                cause = error.source();
            }
        }
        Self::unreachable(words)
    }

    /// What was said, if it was.
    pub(super) fn said(&self) -> Option<&EngineMessage> {
        match self {
            Self::EngineMessage(said) => Some(said),
            _ => None,
        }
    }

    /// Whether the thing that was asked about is not there.
    pub(super) fn is_not_found(&self) -> bool {
        self.said().is_some_and(EngineMessage::is_not_found)
    }

    fn into_source(self) -> BoxError {
        match self {
            Self::Unreachable { source, .. } | Self::Unreadable(source) => source,
            Self::EngineMessage(said) => Box::new(said),
        }
    }

    /// The error of a call that has no special cases.
    pub(super) fn other(self, operation: &'static str, address: &str) -> RuntimeError {
        match self {
            Self::Unreachable { denied, source } => {
                RuntimeError::Unreachable { address: address.to_owned(), denied, source }
            }
            Self::EngineMessage(said) if said.is_disk_full() => {
                RuntimeError::DiskFull { source: Box::new(said) }
            }
            Self::EngineMessage(said) if said.is_log_unreadable() => {
                RuntimeError::LogUnreadable { source: Box::new(said) }
            }
            failure => RuntimeError::Other { operation, source: failure.into_source() },
        }
    }

    /// The error of a pull.
    pub(super) fn pull(self, image: &PinnedImage, address: &str) -> RuntimeError {
        const OPERATION: &str = "pulling the image";
        let Self::EngineMessage(said) = self else { return self.other(OPERATION, address) };
        let (image, registry) = (image.to_string(), image.image().registry().to_owned());
        match answer::of_pull(&said) {
            PullMeaning::NotFound => RuntimeError::ImageNotFound { image, source: Box::new(said) },
            PullMeaning::Denied => RuntimeError::PullDenied { image, registry, source: Box::new(said) },
            PullMeaning::Untrusted => RuntimeError::RegistryUnreachable { image, source: untrusted(said) },
            PullMeaning::Unreachable => RuntimeError::RegistryUnreachable { image, source: Box::new(said) },
            PullMeaning::DiskFull => RuntimeError::DiskFull { source: Box::new(said) },
            PullMeaning::LayerMissing => {
                RuntimeError::Other { operation: OPERATION, source: layer_missing(said) }
            }
            PullMeaning::Other => RuntimeError::Other { operation: OPERATION, source: Box::new(said) },
        }
    }

    /// The error of making or starting the container of `spec`; `network` is the one that was being used.
    pub(super) fn run(
        self,
        operation: &'static str,
        spec: &InstanceSpec,
        network: &str,
        address: &str,
    ) -> RuntimeError {
        let Self::EngineMessage(said) = self else { return self.other(operation, address) };
        match answer::of_run(&said) {
            RunMeaning::ImageNotFound => {
                RuntimeError::ImageNotFound { image: spec.image.to_string(), source: Box::new(said) }
            }
            RunMeaning::DiskFull => RuntimeError::DiskFull { source: Box::new(said) },
            RunMeaning::PortTaken(port) => {
                let port = port
                    .or_else(|| spec.slot.publish.map(|publish| format!("{}:{}", publish.ip, publish.port)))
                    .unwrap_or_else(|| spec.slot.port.to_string());
                RuntimeError::PortTaken { port, source: Box::new(said) }
            }
            RunMeaning::NameTaken => RuntimeError::NameTaken { name: spec.slot.name.to_string() },
            RunMeaning::Network(reason) => RuntimeError::Network {
                name: network.to_owned(),
                reason: format!("{reason} (Engine: {said})"),
            },
            RunMeaning::Rejected => RuntimeError::Rejected { source: Box::new(said) },
            RunMeaning::Other => RuntimeError::Other { operation, source: Box::new(said) },
        }
    }

    /// The error of a question to a registry.
    pub(super) fn registry(self, image: &str, registry: &str, address: &str) -> RegistryError {
        const OPERATION: &str = "asking the registry";
        let (image, registry) = (image.to_owned(), registry.to_owned());
        let said = match self {
            Self::EngineMessage(said) => said,
            failure => {
                // The Engine in between is what cannot be reached, and the port has no word for that.
                return RegistryError::Other {
                    operation: OPERATION,
                    source: Box::new(failure.other(OPERATION, address)),
                };
            }
        };
        match answer::of_pull(&said) {
            PullMeaning::NotFound => RegistryError::ImageNotFound { image, source: Box::new(said) },
            PullMeaning::Denied => RegistryError::AccessDenied { registry, source: Box::new(said) },
            PullMeaning::Untrusted => RegistryError::Unreachable { registry, source: untrusted(said) },
            PullMeaning::Unreachable => RegistryError::Unreachable { registry, source: Box::new(said) },
            PullMeaning::DiskFull | PullMeaning::LayerMissing | PullMeaning::Other => {
                RegistryError::Other { operation: OPERATION, source: Box::new(said) }
            }
        }
    }
}

/// The Engine's words under words that say what they mean.
#[derive(Debug, thiserror::Error)]
#[error("{meaning}")]
struct Explained {
    meaning: &'static str,
    #[source]
    said: EngineMessage,
}

fn untrusted(said: EngineMessage) -> BoxError {
    let meaning = "the Engine does not trust the registry's certificate; its CA belongs in \
                   /etc/docker/certs.d/REGISTRY/ca.crt on this host";
    Box::new(Explained { meaning, said })
}

fn layer_missing(said: EngineMessage) -> BoxError {
    let meaning = "the registry has the image's manifest but lost one of its layers; push the image again";
    Box::new(Explained { meaning, said })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn said(status: u16, message: &str) -> Failure {
        Failure::from(ClientError::DockerResponseServerError {
            status_code: status,
            message: message.to_owned(),
        })
    }

    fn image() -> PinnedImage {
        let digest = format!("sha256:{}", "0".repeat(64));
        "r.io/a:1".parse::<crate::model::ImageRef>().unwrap().pin(crate::model::Digest::new(digest).unwrap())
    }

    #[test]
    fn a_pull_says_what_is_wrong_once() {
        let error = said(500, "Get \"https://r/v2/\": x509: certificate signed by unknown authority")
            .pull(&image(), "");
        assert!(matches!(error, RuntimeError::RegistryUnreachable { .. }));
        let cause = error.source().unwrap();
        assert!(!error.to_string().contains("x509") && !cause.to_string().contains("x509"));
        assert!(cause.source().unwrap().to_string().contains("x509"));

        let stream = ClientError::DockerStreamError { error: "unknown blob".to_owned() };
        let error = Failure::from(stream).pull(&image(), "");
        assert!(matches!(error, RuntimeError::Other { .. }));
        assert!(error.source().unwrap().to_string().contains("push the image again"));
    }

    #[test]
    fn a_value_in_an_answer_is_not_repeated() {
        let serde = serde_json::from_str::<u8>("\"hunter2\"").unwrap_err();
        assert!(serde.to_string().contains("hunter2"), "otherwise this test tests nothing");
        for error in [
            ClientError::JsonDataError { message: serde.to_string(), column: 3 },
            ClientError::JsonSerdeError { err: serde },
        ] {
            let error = Failure::from(error).other("looking", "unix:///x");
            assert!(!format!("{error:?} {error} {}", error.source().unwrap()).contains("hunter2"));
        }
    }

    #[test]
    fn a_registry_refusal_is_access_denied() {
        let error = said(401, "errors: denied").registry("r/a:1", "r", "");
        assert!(matches!(error, RegistryError::AccessDenied { .. }));
        let error = said(404, "manifest unknown: manifest unknown").registry("r/a:1", "r", "");
        assert!(matches!(error, RegistryError::ImageNotFound { .. }));
    }
}
