use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::model::Secret;
use crate::port::{BoxError, Credentials, RegistryError};

/// How long a credential helper may take: it may have to ask a cloud.
const HELPER_WITHIN: Duration = Duration::from_secs(20);

/// The key under which `docker login` keeps the Hub's credentials since its first days.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The credentials that `docker login` left in a Docker config file: plain ones, and those of helper programs.
///
/// The file is read when it is asked, and is as Docker's client takes it: an empty one and members that are `null` say
/// nothing, and what is behind its first value is not looked at.
///
/// The crate `docker_credential` does the same and is not used: it waits for a helper without a deadline and on
/// the executor's thread, repeats a helper's output in its errors, asks for the Hub's helper by one name only, and
/// does not tell "I have no credentials" from a failure.
#[derive(Clone, Default)]
pub struct DockerConfig {
    path: Option<PathBuf>,
    helpers_in: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: Option<HashMap<String, Option<Auth>>>,
    creds_store: Option<String>,
    cred_helpers: Option<HashMap<String, Option<String>>>,
    current_context: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    #[serde(rename = "auth")]
    encoded: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// What a helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerConfig")
            .field("path", &self.path)
            .field("helpers_in", &self.helpers_in)
            .finish_non_exhaustive()
    }
}

impl DockerConfig {
    /// The file at `path`, usually `~/.docker/config.json`. Without a file there are no credentials.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), helpers_in: None }
    }

    fn read(&self) -> Result<File, RegistryError> {
        let Some(path) = &self.path else { return Ok(File::default()) };
        let shown = path.display();
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
            Err(error) => return Err(other(format!("{shown} cannot be read: {error}"))),
        };
        let mut values = serde_json::Deserializer::from_slice(&text).into_iter::<Option<File>>();
        match values.next() {
            None => Ok(File::default()),
            Some(Ok(file)) => Ok(file.unwrap_or_default()),
            // Serde's own words may repeat a value, and the values here are passwords.
            Some(Err(error)) => Err(other(format!(
                "{shown} is not a Docker config file (line {}, column {})",
                error.line(),
                error.column()
            ))),
        }
    }

    /// The context that Docker's client uses when nothing else names one. Of a file that cannot be read it knows none,
    /// and neither does this.
    pub fn current_context(&self) -> Option<String> {
        self.read().ok()?.current_context.filter(|name| !name.is_empty())
    }

    /// Looks for credential helpers in `directory` and not along the `PATH`, which is short where services and
    /// CodeDeploy hooks run.
    #[must_use]
    pub fn helpers_in(mut self, directory: impl Into<PathBuf>) -> Self {
        self.helpers_in = Some(directory.into());
        self
    }

    /// The credentials for a registry's host name; `None` when there are none.
    ///
    /// A helper for this registry comes before the general one, and that before the file, as in the docker
    /// command. A helper that has nothing leaves it to the file.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NoCredentials`] when a helper is missing, fails or does not end, [`RegistryError::Other`] when
    /// the file or what is stored in it is not readable.
    pub async fn credentials(&self, registry: &str) -> Result<Option<Credentials>, RegistryError> {
        let file = self.read()?;
        let keys = keys(registry);
        let helpers = file.cred_helpers.unwrap_or_default();
        let own = keys.iter().find_map(|key| Some((key, helpers.get(key)?.as_ref()?)));
        let general = file.creds_store.as_ref().and_then(|store| Some((keys.first()?, store)));
        if let Some((key, helper)) = own.or(general).filter(|(_, helper)| !helper.is_empty())
            && let Some(found) = self.ask(helper, key, registry).await?
        {
            return Ok(Some(found));
        }
        let auths = file.auths.unwrap_or_default();
        let exact = keys.iter().find_map(|key| auths.get(key));
        let auth = exact.or_else(|| {
            auths.iter().find(|(key, _)| keys.iter().any(|wanted| host(key) == wanted)).map(|(_, auth)| auth)
        });
        auth.and_then(Option::as_ref).map_or(Ok(None), |auth| stored(auth, registry))
    }

    async fn ask(
        &self,
        helper: &str,
        key: &str,
        registry: &str,
    ) -> Result<Option<Credentials>, RegistryError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !helper.chars().all(plain) {
            return Err(other(format!("{helper:?} is not the name of a credential helper")));
        }
        let program = format!("docker-credential-{helper}");
        let path = self.helpers_in.as_ref().map_or_else(|| PathBuf::from(&program), |dir| dir.join(&program));
        let failed = |what: String| RegistryError::NoCredentials {
            registry: registry.to_owned(),
            source: format!("credential helper {program} {what}").into(),
        };
        let run = async {
            let mut child = Command::new(&path)
                .arg("get")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| failed(format!("cannot be started: {error}")))?;
            if let Some(mut stdin) = child.stdin.take() {
                // A helper that does not read its input has closed it, and its exit code tells the rest.
                stdin.write_all(format!("{key}\n").as_bytes()).await.ok();
            }
            child.wait_with_output().await.map_err(|error| failed(format!("cannot be waited for: {error}")))
        };
        let output = tokio::time::timeout(HELPER_WITHIN, run)
            .await
            .map_err(|_| failed(format!("gave no answer within {} s", HELPER_WITHIN.as_secs())))??;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stdout);
            if words.contains("credentials not found") {
                return Ok(None);
            }
            // By the protocol these are its words about the failure; some only complain to the terminal. Should it
            // have printed credentials and failed then, they are JSON.
            let errors = String::from_utf8_lossy(&output.stderr);
            let mut lines = words.lines().chain(errors.lines()).map(str::trim);
            let words =
                lines.find(|line| !line.is_empty() && !line.contains('{')).unwrap_or("it does not say why");
            let words: String = words.chars().take(200).collect();
            return Err(failed(format!("failed ({}): {words}", output.status)));
        }
        let answer: HelperAnswer = serde_json::from_slice(&output.stdout)
            .map_err(|_| failed("gave an answer that is not understood".to_owned()))?;
        let secret = Secret::new(answer.secret);
        Ok(Some(if answer.username == "<token>" {
            Credentials::token(registry, secret)
        } else {
            Credentials::password(registry, answer.username, secret)
        }))
    }
}

/// The names under which a registry's credentials may be kept, the usual one first.
fn keys(registry: &str) -> Vec<String> {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            [HUB_KEY, "index.docker.io", "docker.io", "registry-1.docker.io"].map(str::to_owned).to_vec()
        }
        _ => vec![registry.to_owned(), format!("https://{registry}"), format!("http://{registry}")],
    }
}

/// The host name of a key that may be a whole address.
fn host(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

fn stored(auth: &Auth, registry: &str) -> Result<Option<Credentials>, RegistryError> {
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(token) = filled(&auth.identitytoken) {
        return Ok(Some(Credentials::token(registry, Secret::new(token))));
    }
    if let (Some(username), Some(password)) = (filled(&auth.username), filled(&auth.password)) {
        return Ok(Some(Credentials::password(registry, username, Secret::new(password))));
    }
    let Some(encoded) = filled(&auth.encoded) else { return Ok(None) };
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = GeneralPurpose::new(&STANDARD, config).decode(encoded.trim()).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    match pair {
        // Some programs fill a password up with NULs.
        Some((username, password)) => {
            let password = Secret::new(password.trim_end_matches('\0'));
            Ok(Some(Credentials::password(registry, username, password)))
        }
        None => Err(other(format!(
            "what the Docker config file has for {registry} is not `user:password` in base64"
        ))),
    }
}

fn other(source: impl Into<BoxError>) -> RegistryError {
    RegistryError::Other { operation: "looking for the registry's credentials", source: source.into() }
}

#[cfg(test)]
#[path = "config_file_tests.rs"]
mod tests;
