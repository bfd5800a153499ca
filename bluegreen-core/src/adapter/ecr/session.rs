//! A client for one region, and the AWS credentials that it signs with.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_ecr::Client;
use aws_sdk_ecr::config::IdentityCache;
use tokio::sync::Mutex;

use super::https;
use crate::model::EcrHost;

/// How long AWS credentials may take to load. Measured: 0.2 s from instance metadata, 4.2 s until the SDK gives
/// up on instance metadata that never answers. Single sign-on and programs that fetch credentials take longer.
pub(super) const CREDENTIALS_WITHIN: Duration = Duration::from_secs(10);

/// How long one call of the ECR API may take, its retries included.
pub(super) const OPERATION_WITHIN: Duration = Duration::from_secs(15);

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const ATTEMPT_WITHIN: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;

/// Credentials that end sooner than this are loaded again.
const EXPIRY_MARGIN: Duration = Duration::from_mins(5);

/// Where clients come from.
#[derive(Clone)]
pub(super) enum Origin {
    /// The SDK's default chain of providers.
    DefaultChain,
    /// A configuration that the embedder made.
    Config(Box<SdkConfig>),
    /// One client for everything.
    Client(Client),
}

impl Origin {
    /// Where credentials are looked for, for a person who has to find out why there are none.
    pub(super) fn providers(&self) -> &'static str {
        match self {
            Self::DefaultChain => {
                "the environment, the shared config and credentials files, a web identity token, the container \
                 credentials endpoint, the EC2 instance role"
            }
            Self::Config(_) | Self::Client(_) => "the provider that this program was given",
        }
    }
}

/// A client and its credentials.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) client: Client,
    signer: Signer,
}

/// Who signs.
#[derive(Clone)]
enum Signer {
    /// The client, with credentials that it looks after itself.
    Client,
    /// Credentials that are loaded here.
    Identity(Identity),
    /// Nobody: the embedder's configuration has no provider.
    Nobody,
}

impl Session {
    /// Builds a client for the host's region. This reads files at most; the network is not touched.
    pub(super) async fn open(origin: &Origin, host: &EcrHost) -> Self {
        let region = Region::new(host.region().to_owned());
        let config = match origin {
            Origin::Client(client) => {
                return Self { client: client.clone(), signer: Signer::Client };
            }
            Origin::DefaultChain => {
                // The newest known behaviour by name and not `latest()`: an update of the SDK must not change
                // retries or timeouts. With the region given, instance metadata is not asked for one (3 s where
                // it does not answer).
                let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
                    .region(region)
                    .http_client(https::client());
                // Only ever switched on: the user may have asked for both in the environment.
                if host.is_fips() {
                    loader = loader.use_fips(true);
                }
                if host.is_dual_stack() {
                    loader = loader.use_dual_stack(true);
                }
                loader.load().await
            }
            Origin::Config(config) => {
                let mut builder = config.to_builder().region(region);
                if config.http_client().is_none() {
                    builder.set_http_client(Some(https::client()));
                }
                if host.is_fips() {
                    builder.set_use_fips(Some(true));
                }
                if host.is_dual_stack() {
                    builder.set_use_dual_stack(Some(true));
                }
                builder.build()
            }
        };
        let identity = config.credentials_provider().map(Identity::new);
        let mut conf = aws_sdk_ecr::config::Builder::from(&config)
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_WITHIN)
                    .operation_attempt_timeout(ATTEMPT_WITHIN)
                    .operation_timeout(OPERATION_WITHIN)
                    .build(),
            )
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .identity_cache(IdentityCache::no_cache());
        conf.set_credentials_provider(identity.clone().map(SharedCredentialsProvider::new));
        let signer = identity.map_or(Signer::Nobody, Signer::Identity);
        Self { client: Client::from_conf(conf.build()), signer }
    }

    /// Loads the credentials now, if they are not here.
    ///
    /// The SDK would load them inside the first attempt of a call, where a provider that hangs is stopped by
    /// the attempt's timeout, tried three times and in the end looks like a registry that does not answer.
    pub(super) async fn ensure_credentials(&self) -> Result<(), CredentialsError> {
        let identity = match &self.signer {
            Signer::Client => return Ok(()),
            Signer::Nobody => return Err(CredentialsError::not_loaded("the configuration has no provider")),
            Signer::Identity(identity) => identity,
        };
        match tokio::time::timeout(CREDENTIALS_WITHIN, identity.load()).await {
            Ok(loaded) => loaded.map(drop),
            Err(_) => Err(CredentialsError::provider_timed_out(CREDENTIALS_WITHIN)),
        }
    }
}

/// The only cache of AWS credentials here; it goes away with its session.
#[derive(Clone)]
struct Identity {
    provider: SharedCredentialsProvider,
    last: Arc<Mutex<Option<Credentials>>>,
}

impl Identity {
    fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, last: Arc::default() }
    }

    async fn load(&self) -> Result<Credentials, CredentialsError> {
        let mut last = self.last.lock().await;
        if let Some(credentials) = last.as_ref().filter(|credentials| is_fresh(credentials)) {
            return Ok(credentials.clone());
        }
        let credentials = self.provider.provide_credentials().await?;
        Ok(last.insert(credentials).clone())
    }
}

fn is_fresh(credentials: &Credentials) -> bool {
    credentials.expiry().is_none_or(|expiry| expiry > SystemTime::now() + EXPIRY_MARGIN)
}

impl ProvideCredentials for Identity {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

// By hand: the provider and what it gave are nobody's business.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}
