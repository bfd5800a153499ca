//! The contexts of Docker's own client: names for Engines, kept beside its configuration.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::port::RuntimeError;

/// The context that is none: the usual socket.
const DEFAULT: &str = "default";
/// The name of Docker's endpoint in a context; there are others, for other programs.
const DOCKER: &str = "docker";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    #[serde(default)]
    endpoints: HashMap<String, Endpoint>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Endpoint {
    host: Option<String>,
    #[serde(rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

/// The Engine's address in the context `name` of the client whose configuration is in `directory`, usually
/// `~/.docker`. `None` is the usual socket.
///
/// # Errors
///
/// [`RuntimeError::NoWay`] when there is no such context, or when it is one that asks for TLS.
pub fn context_address(directory: &Path, name: &str) -> Result<Option<String>, RuntimeError> {
    if name == DEFAULT {
        return Ok(None);
    }
    let refused = |reason: String| RuntimeError::NoWay {
        address: format!("Docker's context {name}"),
        source: reason.into(),
    };
    // Docker's client names a context's directory so.
    let id =
        Sha256::digest(name.as_bytes()).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let contexts = directory.join("contexts");
    let path = contexts.join("meta").join(&id).join("meta.json");
    let text = std::fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            refused(format!("there is no such context in {} (docker context ls)", contexts.display()))
        }
        _ => refused(format!("{} cannot be read: {error}", path.display())),
    })?;
    let metadata: Metadata = serde_json::from_slice(&text)
        .map_err(|error| refused(format!("{} is not a context: {error}", path.display())))?;
    let endpoint = metadata.endpoints.get(DOCKER);
    let host = endpoint.and_then(|endpoint| endpoint.host.as_deref()).filter(|host| !host.is_empty());
    let (Some(endpoint), Some(host)) = (endpoint, host) else { return Ok(None) };
    let keys = contexts.join("tls").join(&id).join(DOCKER);
    // A socket needs no keys, whatever the context has; Docker's client looks at them for nothing else, too.
    if !host.starts_with("unix://") && (endpoint.skip_tls_verify || keys.exists()) {
        let reason =
            format!("it reaches {host} by TLS, which is not supported: forward the Engine's socket instead");
        return Err(refused(reason));
    }
    Ok(Some(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::io::Write as _;
    use std::path::PathBuf;

    use super::*;

    /// The SHA-256 of `far`.
    const FAR: &str = "512eea46ceb3921dff4363c7069d89d4964d1d9fccaa0f411851a7aa60a5c868";

    /// The directory of a client with one context `far`, as `docker context create` leaves it.
    fn client(metadata: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let meta = dir.path().join("contexts/meta").join(FAR);
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::File::create(meta.join("meta.json")).unwrap().write_all(metadata.as_bytes()).unwrap();
        let keys = dir.path().join("contexts/tls").join(FAR).join("docker");
        (dir, keys)
    }

    fn far(host: &str) -> String {
        let endpoint = format!(r#"{{"Host":"{host}","SkipTLSVerify":false}}"#);
        format!(r#"{{"Name":"far","Metadata":{{}},"Endpoints":{{"docker":{endpoint}}}}}"#)
    }

    fn reason(error: &RuntimeError) -> String {
        error.source().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn a_context_leads_to_its_engine() {
        for host in ["unix:///run/user/1000/docker.sock", "tcp://10.0.0.1:2375", "ssh://me@host"] {
            let (dir, _) = client(&far(host));
            assert_eq!(context_address(dir.path(), "far").unwrap().as_deref(), Some(host));
        }
        let (dir, _) = client(r#"{"Name":"far","Metadata":{},"Endpoints":{"other":{"Host":"x"}}}"#);
        assert_eq!(context_address(dir.path(), "far").unwrap(), None);
        assert_eq!(context_address(Path::new("/nowhere"), "default").unwrap(), None);
    }

    #[test]
    fn what_it_cannot_lead_to_is_said_by_its_name() {
        let (dir, keys) = client(&far("tcp://10.0.0.1:2376"));
        std::fs::create_dir_all(&keys).unwrap();
        let error = context_address(dir.path(), "far").unwrap_err();
        assert!(reason(&error).contains("reaches tcp://10.0.0.1:2376 by TLS"), "{error} {}", reason(&error));
        assert!(error.to_string().contains("context far"), "{error}");
        let (dir, keys) = client(&far("unix:///x.sock"));
        std::fs::create_dir_all(&keys).unwrap();
        assert_eq!(context_address(dir.path(), "far").unwrap().as_deref(), Some("unix:///x.sock"));
        let error = context_address(dir.path(), "gone").unwrap_err();
        assert!(reason(&error).contains("no such context"), "{}", reason(&error));
        let (dir, _) = client("no JSON");
        assert!(reason(&context_address(dir.path(), "far").unwrap_err()).contains("is not a context"));
    }
}
