//! Amazon ECR as a registry.
//!
//! # Guarantees
//!
//! - Nothing is contacted before the first question, and every question is answered within 25 seconds: 10 for
//!   loading AWS credentials, 15 for the API call with its retries.
//! - Region and account come from the host name in the image reference, never from the environment.
//! - No token and no key is in an error, a log or a `Debug`.
//!
//! # Permissions
//!
//! `ecr:BatchGetImage` for [`resolve`](Registry::resolve), which a pull needs anyway, and
//! `ecr:GetAuthorizationToken` for [`credentials`](Registry::credentials). Nothing else.

mod error;
mod https;
mod session;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::ImageIdentifier;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Mutex;

use self::error::{Call, Cause};
use self::session::{Origin, Session};
use crate::model::{Digest, EcrHost, ImageRef, ImageSource, PinnedImage, Secret};
use crate::port::{Credentials, Registry, RegistryError};

/// The kinds of manifest that we take. Without this list ECR may convert what it answers with; with it, a tag of
/// a multi-architecture image gives the index that the tag names and not one of its members.
const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Amazon ECR.
///
/// One value serves all accounts and regions; it holds a client for each region that was asked. AWS credentials
/// are remembered until five minutes before they end, or until AWS refuses them. Registry passwords are not
/// remembered at all: [`credentials`](Registry::credentials) asks each time, so that a second call after a
/// refused pull never gets the refused password again. A deployment pulls once; there is nothing to save.
pub struct Ecr {
    origin: Origin,
    sessions: Mutex<HashMap<SessionKey, Session>>,
}

/// What makes two clients differ: region, FIPS, dual stack.
type SessionKey = (String, bool, bool);

impl Ecr {
    /// With the credentials that the AWS SDK finds by its default chain: environment, shared files, web identity,
    /// container endpoint, instance role. The SDK reads `AWS_*` variables for this.
    pub fn new() -> Self {
        Self::from_origin(Origin::DefaultChain)
    }

    /// With a configuration of the embedder's: its credentials, endpoint and HTTP client. Region, retries and
    /// timeouts are set here all the same.
    pub fn from_sdk_config(config: SdkConfig) -> Self {
        Self::from_origin(Origin::Config(Box::new(config)))
    }

    /// With one client for everything, used exactly as it is, for tests and for those who know better. Its
    /// region and its timeouts are its own, and so are its credentials.
    pub fn from_client(client: Client) -> Self {
        Self::from_origin(Origin::Client(client))
    }

    fn from_origin(origin: Origin) -> Self {
        Self { origin, sessions: Mutex::default() }
    }

    /// A client with its credentials loaded.
    async fn session(&self, call: &Call<'_>) -> Result<Session, RegistryError> {
        let session = {
            let mut sessions = self.sessions.lock().await;
            let key = session_key(call.host);
            match sessions.get(&key) {
                Some(session) => session.clone(),
                None => sessions
                    .entry(key)
                    .insert_entry(Session::open(&self.origin, call.host).await)
                    .get()
                    .clone(),
            }
        };
        session.ensure_credentials().await.map_err(|error| call.no_credentials(&error))?;
        Ok(session)
    }

    /// Passes a result on. After a refusal the session is forgotten, so that the next call loads AWS credentials
    /// anew: they may have been rotated while we held them.
    async fn forget_if_refused<T>(
        &self,
        host: &EcrHost,
        result: Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        if matches!(result, Err(RegistryError::AccessDenied { .. } | RegistryError::NoCredentials { .. })) {
            self.sessions.lock().await.remove(&session_key(host));
        }
        result
    }

    async fn find(&self, image: &ImageRef, call: &Call<'_>) -> Result<Digest, RegistryError> {
        let wanted = match image.digest() {
            // The Engine ignores a tag beside a digest, so we do: it may have moved on since.
            Some(digest) => ImageIdentifier::builder().image_digest(digest.as_str()),
            None => ImageIdentifier::builder().image_tag(tag(image)),
        };
        // BatchGetImage and not DescribeImages: both name the top-level manifest, but only this one is part of
        // the permissions that a pull needs anyway (AmazonEC2ContainerRegistryPullOnly has no DescribeImages).
        let answer = self
            .session(call)
            .await?
            .client
            .batch_get_image()
            .registry_id(call.host.account())
            .repository_name(image.repository())
            .image_ids(wanted.build())
            .set_accepted_media_types(Some(MEDIA_TYPES.map(str::to_owned).to_vec()))
            .send()
            .await
            .map_err(|error| call.failed(&error))?;
        // A digest that has several tags is answered with one entry for each; they agree in what counts.
        let digest = answer.images().iter().find_map(|found| found.image_id()?.image_digest());
        match (digest, answer.failures()) {
            (Some(digest), _) => {
                Digest::new(digest).map_err(|_| call.other(Cause::new("the answer has a malformed digest")))
            }
            (None, [failure, ..]) => Err(call.image_failed(failure)),
            (None, []) => Err(call.other(Cause::new("the answer names neither an image nor a failure"))),
        }
    }

    async fn login(&self, call: &Call<'_>) -> Result<Credentials, RegistryError> {
        // No registry ids: the parameter is deprecated, a token is good for every registry that its owner may use.
        let answer = self
            .session(call)
            .await?
            .client
            .get_authorization_token()
            .send()
            .await
            .map_err(|error| call.failed(&error))?;
        // Its end is not looked at: it is fetched for the pull that follows at once, and is good for 12 hours.
        let token = answer.authorization_data().first().and_then(|data| data.authorization_token());
        let (username, password) = token
            .and_then(decode_token)
            .ok_or_else(|| call.other(Cause::new("the answer has no usable authorization token")))?;
        Ok(Credentials::password(call.host.as_str(), username, password))
    }

    fn call<'a>(
        &self,
        host: &'a EcrHost,
        image: &ImageRef,
        action: &'static str,
        operation: &'static str,
    ) -> Call<'a> {
        let repository = image.repository();
        let subject = match image.digest() {
            Some(digest) => format!("{digest} of repository {repository}"),
            None => format!("tag {} of repository {repository}", tag(image)),
        };
        Call {
            action,
            operation,
            host,
            image: image.to_string(),
            subject,
            providers: self.origin.providers(),
        }
    }
}

impl Default for Ecr {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Ecr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ecr").finish_non_exhaustive()
    }
}

#[async_trait]
impl Registry for Ecr {
    async fn resolve(&self, image: &ImageRef) -> Result<PinnedImage, RegistryError> {
        let host = ecr_host(image)?;
        let call = self.call(&host, image, "BatchGetImage", "asking ECR for the image");
        let digest = self.forget_if_refused(&host, self.find(image, &call).await).await?;
        Ok(image.pin(digest))
    }

    async fn credentials(&self, image: &PinnedImage) -> Result<Option<Credentials>, RegistryError> {
        if image.source() == ImageSource::Local {
            return Ok(None);
        }
        let host = ecr_host(image.image())?;
        let call =
            self.call(&host, image.image(), "GetAuthorizationToken", "asking ECR for a registry password");
        self.forget_if_refused(&host, self.login(&call).await).await.map(Some)
    }
}

/// The tag of a reference that has no digest; it always has one.
fn tag(image: &ImageRef) -> &str {
    image.tag().unwrap_or("latest")
}

fn session_key(host: &EcrHost) -> SessionKey {
    (host.region().to_owned(), host.is_fips(), host.is_dual_stack())
}

fn ecr_host(image: &ImageRef) -> Result<EcrHost, RegistryError> {
    EcrHost::parse(image.registry()).ok_or_else(|| RegistryError::Other {
        operation: "reading the registry's host name",
        source: Cause::new(format!("{} is not a registry of Amazon ECR", image.registry())).into(),
    })
}

/// User name and password from base64 of `USER:PASSWORD`. Says nothing about what is wrong with a bad one: any
/// detail would quote it.
fn decode_token(token: &str) -> Option<(String, Secret)> {
    let text = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    (!username.is_empty() && !password.is_empty()).then(|| (username.to_owned(), Secret::new(password)))
}
