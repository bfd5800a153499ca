use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_ecr::config::http::HttpResponse;
use aws_sdk_ecr::config::{Config, Region};
use aws_sdk_ecr::operation::batch_get_image::BatchGetImageOutput;
use aws_sdk_ecr::operation::get_authorization_token::GetAuthorizationTokenOutput;
use aws_sdk_ecr::primitives::DateTime;
use aws_sdk_ecr::types::{AuthorizationData, Image, ImageFailure, ImageFailureCode};
use aws_smithy_mocks::{MockResponseInterceptor, Rule, RuleMode, create_mock_http_client, mock};

use super::*;

const IMAGE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop/web:42";
const TOKEN: &str = "eyJwYXlsb2FkIjoiVE9QLVNFQ1JFVCJ9";

fn image() -> ImageRef {
    IMAGE.parse().unwrap()
}

fn digest(c: char) -> Digest {
    Digest::new(format!("sha256:{}", c.to_string().repeat(64))).unwrap()
}

/// An adapter whose every call is answered by the one rule.
fn ecr(rule: &Rule) -> Ecr {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-west-1"))
        .credentials_provider(AwsCredentials::new("AKIATEST", "aws-secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(create_mock_http_client())
        .interceptor(MockResponseInterceptor::new().rule_mode(RuleMode::MatchAny).with_rule(rule));
    Ecr::from_client(Client::from_conf(config.build()))
}

/// The answer to a call as it would come over the wire.
fn refusal(status: u16, body: &'static str) -> impl Fn() -> HttpResponse + Send + Sync + 'static {
    move || HttpResponse::new(status.try_into().unwrap(), body.into())
}

async fn resolve_error(status: u16, body: &'static str) -> RegistryError {
    let rule = mock!(Client::batch_get_image).then_http_response(refusal(status, body));
    ecr(&rule).resolve(&image()).await.unwrap_err()
}

/// The whole chain in one line, as a person sees it.
fn chain(error: &dyn Error) -> String {
    let source = error.source().map(|source| format!("\n<- {}", chain(source))).unwrap_or_default();
    format!("{error}{source}")
}

#[tokio::test]
async fn a_tag_is_asked_for_with_its_account_and_every_kind_of_manifest() {
    let rule = mock!(Client::batch_get_image)
        .match_requests(|request| {
            let ids = request.image_ids();
            request.registry_id() == Some("123456789012")
                && request.repository_name() == Some("shop/web")
                && ids.len() == 1
                && ids[0].image_tag() == Some("42")
                && ids[0].image_digest().is_none()
                && request.accepted_media_types() == MEDIA_TYPES
        })
        .then_output(|| {
            let id = ImageIdentifier::builder().image_tag("42").image_digest(digest('a').as_str()).build();
            BatchGetImageOutput::builder().images(Image::builder().image_id(id).build()).build()
        });
    let pinned = ecr(&rule).resolve(&image()).await.unwrap();
    assert_eq!(pinned, image().pin(digest('a')));
    assert_eq!(rule.num_calls(), 1);
}

#[tokio::test]
async fn a_digest_is_looked_up_without_the_tag_beside_it() {
    let rule = mock!(Client::batch_get_image)
        .match_requests(|request| {
            let id = &request.image_ids()[0];
            id.image_digest() == Some(digest('b').as_str()) && id.image_tag().is_none()
        })
        .then_output(|| {
            // One entry for each tag of the digest, which is how ECR answers.
            let entry = |tag: &str| {
                let id = ImageIdentifier::builder().image_tag(tag).image_digest(digest('b').as_str());
                Image::builder().image_id(id.build()).build()
            };
            BatchGetImageOutput::builder().images(entry("41")).images(entry("latest")).build()
        });
    let image: ImageRef = format!("{IMAGE}@{}", digest('b')).parse().unwrap();
    assert_eq!(ecr(&rule).resolve(&image).await.unwrap().digest(), &digest('b'));
}

#[tokio::test]
async fn a_failure_inside_a_good_answer_is_classified() {
    async fn failed(code: ImageFailureCode) -> RegistryError {
        let rule = mock!(Client::batch_get_image).then_output(move || {
            let failure = ImageFailure::builder()
                .failure_code(code.clone())
                .failure_reason("Requested image not found")
                .build();
            BatchGetImageOutput::builder().failures(failure).build()
        });
        ecr(&rule).resolve(&image()).await.unwrap_err()
    }
    let missing = failed(ImageFailureCode::ImageNotFound).await;
    assert_eq!(
        chain(&missing),
        "image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop/web:42 does not exist in its registry\n\
         <- tag 42 of repository shop/web is not in account 123456789012, region eu-west-1\n\
         <- ImageNotFound: Requested image not found"
    );
    assert!(matches!(missing, RegistryError::ImageNotFound { .. }));
    assert!(matches!(
        failed(ImageFailureCode::UpstreamAccessDenied).await,
        RegistryError::AccessDenied { .. }
    ));
    assert!(failed(ImageFailureCode::UpstreamUnavailable).await.is_transient());
    assert!(failed(ImageFailureCode::UpstreamTooManyRequests).await.is_transient());
    assert!(matches!(failed(ImageFailureCode::KmsError).await, RegistryError::Other { .. }));
}

#[tokio::test]
async fn an_answer_that_says_nothing_is_an_error() {
    let rule = mock!(Client::batch_get_image).then_output(|| BatchGetImageOutput::builder().build());
    assert!(matches!(ecr(&rule).resolve(&image()).await, Err(RegistryError::Other { .. })));
    let rule = mock!(Client::batch_get_image).then_output(|| {
        let id = ImageIdentifier::builder().image_digest("sha256:short").build();
        BatchGetImageOutput::builder().images(Image::builder().image_id(id).build()).build()
    });
    assert!(matches!(ecr(&rule).resolve(&image()).await, Err(RegistryError::Other { .. })));
}

#[tokio::test]
async fn a_missing_repository_is_named_with_its_account_and_region() {
    let error = resolve_error(
        400,
        r#"{"__type":"RepositoryNotFoundException","message":"The repository with name 'shop/web' does not exist in the registry with id '123456789012'"}"#,
    )
    .await;
    assert!(matches!(error, RegistryError::ImageNotFound { .. }), "{error:?}");
    let text = chain(&error);
    for part in
        ["shop/web", "tag 42", "account 123456789012", "region eu-west-1", "RepositoryNotFoundException"]
    {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    for (body, hint) in [
        (
            r#"{"__type":"AccessDeniedException","Message":"User: arn:aws:sts::1:assumed-role/x is not authorized to perform: ecr:BatchGetImage"}"#,
            "does not allow ecr:BatchGetImage on tag 42 of repository shop/web",
        ),
        (
            r#"{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}"#,
            "AWS does not know the credentials for ecr:BatchGetImage",
        ),
        (
            r#"{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}"#,
            "no longer valid",
        ),
        (r#"{"__type":"InvalidSignatureException","message":"Signature expired"}"#, "wrong clock"),
        ("<html>Forbidden by the proxy</html>", "HTTP status 403"),
    ] {
        let error = resolve_error(403, body).await;
        assert!(matches!(error, RegistryError::AccessDenied { .. }), "{body}: {error:?}");
        assert!(chain(&error).contains(hint), "{}", chain(&error));
    }
}

#[tokio::test]
async fn the_login_names_its_own_action() {
    let rule = mock!(Client::get_authorization_token)
        .then_http_response(refusal(400, r#"{"__type":"AccessDeniedException","Message":"no"}"#));
    let error = ecr(&rule).credentials(&image().pin(digest('a'))).await.unwrap_err();
    assert!(chain(&error).contains("ecr:GetAuthorizationToken on resource *"), "{}", chain(&error));
}

#[tokio::test]
async fn a_bad_day_at_aws_is_transient() {
    for (status, body) in [
        (500, r#"{"__type":"ServerException","message":"internal"}"#),
        (400, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#),
        (503, "<html>Service Unavailable</html>"),
        (200, "<html>Welcome to the hotel</html>"),
    ] {
        let error = resolve_error(status, body).await;
        assert!(error.is_transient(), "{status} {body}: {error:?}");
    }
    let error = resolve_error(400, r#"{"__type":"InvalidParameterException","message":"bad"}"#).await;
    assert!(matches!(error, RegistryError::Other { .. }));
    assert!(chain(&error).ends_with("InvalidParameterException: bad"));
}

#[tokio::test]
async fn what_aws_quotes_of_the_request_is_not_repeated() {
    const BODY: &str = concat!(
        r#"{"__type":"InvalidSignatureException","message":"The request signature we calculated does not match. "#,
        r#"The Canonical String was 'POST x-amz-security-token:eyJwYXlsb2FkIjoiVE9QLVNFQ1JFVCJ9'"}"#
    );
    let error = resolve_error(403, BODY).await;
    assert!(!format!("{error:?} {}", chain(&error)).contains(TOKEN));
    assert!(chain(&error).ends_with("InvalidSignatureException"));
    // Any other code: one line, and not all of a long one.
    let error =
        resolve_error(403, r#"{"__type":"AccessDeniedException","message":"first\nsecond eyJwYX"}"#).await;
    assert!(chain(&error).ends_with("AccessDeniedException: first"), "{}", chain(&error));
}

fn token_rule(token: String) -> Rule {
    mock!(Client::get_authorization_token)
        .match_requests(|request| {
            #[expect(deprecated, reason = "to show that it is not used")]
            request.registry_ids().is_empty()
        })
        .then_output(move || {
            let data = AuthorizationData::builder()
                .authorization_token(token.clone())
                .proxy_endpoint("https://999999999999.dkr.ecr.eu-west-1.amazonaws.com")
                .expires_at(DateTime::from_secs(1_420_070_400));
            GetAuthorizationTokenOutput::builder().authorization_data(data.build()).build()
        })
}

#[tokio::test]
async fn each_login_is_a_new_one_and_shows_nothing() {
    let rule = token_rule(STANDARD.encode(format!("AWS:{TOKEN}")));
    let ecr = ecr(&rule);
    for calls in 1..=2 {
        let credentials = ecr.credentials(&image().pin(digest('a'))).await.unwrap().unwrap();
        assert_eq!(credentials.registry, "123456789012.dkr.ecr.eu-west-1.amazonaws.com");
        assert_eq!((credentials.username.as_str(), credentials.secret.expose()), ("AWS", TOKEN));
        assert!(!credentials.identity_token);
        assert_eq!(rule.num_calls(), calls);
        assert!(!format!("{credentials:?} {ecr:?}").contains(TOKEN));
    }
}

#[tokio::test]
async fn an_unusable_token_is_not_quoted() {
    for raw in [
        "%%%TOP-SECRET".to_owned(),
        STANDARD.encode("TOP-SECRET"),
        STANDARD.encode("AWS:"),
        STANDARD.encode([0xff]),
    ] {
        let rule = token_rule(raw.clone());
        let error = ecr(&rule).credentials(&image().pin(digest('a'))).await.unwrap_err();
        assert!(matches!(error, RegistryError::Other { .. }));
        let text = format!("{error:?} {}", chain(&error));
        assert!(!text.contains(&raw) && !text.contains("TOP-SECRET"), "{text}");
    }
}

#[tokio::test]
async fn what_is_no_business_of_ecrs_is_left_alone() {
    let rule = mock!(Client::batch_get_image).then_output(|| unreachable!("nothing is asked"));
    let ecr = ecr(&rule);
    assert_eq!(ecr.credentials(&image().pin_local(digest('a'))).await.unwrap(), None);
    let error = ecr.resolve(&"nginx:1".parse().unwrap()).await.unwrap_err();
    assert!(chain(&error).contains("docker.io is not a registry of Amazon ECR"));
    assert_eq!(rule.num_calls(), 0);
}

/// What a provider of credentials does, and how often it was asked.
#[derive(Debug, Clone)]
struct Provider {
    answer: fn() -> Result<AwsCredentials, CredentialsError>,
    hangs: bool,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    fn new(answer: fn() -> Result<AwsCredentials, CredentialsError>) -> Self {
        Self { answer, hangs: false, asked: Arc::default() }
    }

    /// An adapter with these credentials whose calls are answered by nobody: port 9 of this host is closed.
    fn ecr(&self) -> Ecr {
        Ecr::from_sdk_config(
            SdkConfig::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .credentials_provider(SharedCredentialsProvider::new(self.clone()))
                .endpoint_url("http://127.0.0.1:9")
                .build(),
        )
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.hangs {
                std::future::pending::<()>().await;
            }
            (self.answer)()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_that_never_load_are_given_up_on() {
    let provider = Provider { hangs: true, ..Provider::new(|| unreachable!("it hangs")) };
    let started = tokio::time::Instant::now();
    let error = provider.ecr().resolve(&image()).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoCredentials { .. }), "{error:?}");
    assert!(chain(&error).contains("did not load in time for ecr:BatchGetImage"), "{}", chain(&error));
    assert!(started.elapsed() < session::CREDENTIALS_WITHIN + Duration::from_secs(1));
    assert_eq!(provider.asked(), 1, "once is enough");
}

#[tokio::test]
async fn a_missing_provider_and_missing_credentials_are_refusals() {
    let error = Provider::new(|| Err(CredentialsError::not_loaded("no instance role")))
        .ecr()
        .credentials(&image().pin(digest('a')))
        .await
        .unwrap_err();
    assert_eq!(
        chain(&error),
        "there are no credentials for 123456789012.dkr.ecr.eu-west-1.amazonaws.com\n\
         <- no AWS credentials were found for ecr:GetAuthorizationToken; looked in: the provider that this \
         program was given\n<- no instance role"
    );
    let bare = SdkConfig::builder().behavior_version(BehaviorVersion::v2026_01_12()).build();
    let error = Ecr::from_sdk_config(bare).resolve(&image()).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoCredentials { .. }), "{}", chain(&error));
}

#[tokio::test(start_paused = true)]
async fn a_closed_port_is_unreachable_and_credentials_are_kept() {
    let provider =
        Provider::new(|| Ok(AwsCredentials::new("AKIATEST", "aws-secret", Some(TOKEN.into()), None, "test")));
    let ecr = provider.ecr();
    for _ in 0..2 {
        let error = ecr.resolve(&image()).await.unwrap_err();
        assert!(error.is_transient(), "{}", chain(&error));
        let text = format!("{error:?} {} {ecr:?}", chain(&error));
        assert!(text.contains("BatchGetImage of the ECR API in eu-west-1"), "{text}");
        assert!(!text.contains(TOKEN) && !text.contains("aws-secret"), "{text}");
    }
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_no_bad_connection() {
    let provider = Provider::new(|| Ok(AwsCredentials::new("AKIATEST", "aws-secret", None, None, "test")));
    let fips = "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com/web:1".parse().unwrap();
    let error = provider.ecr().resolve(&fips).await.unwrap_err();
    assert!(matches!(error, RegistryError::Other { .. }), "{}", chain(&error));
    assert!(chain(&error).contains("FIPS and custom endpoint are not supported"), "{}", chain(&error));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_end_soon_are_loaded_again() {
    fn ending_in(minutes: u64) -> AwsCredentials {
        let end = std::time::SystemTime::now() + Duration::from_secs(60 * minutes);
        AwsCredentials::new("AKIATEST", "aws-secret", None, Some(end), "test")
    }
    let host = ecr_host(&image()).unwrap();
    for (provider, loads) in
        [(Provider::new(|| Ok(ending_in(60))), 1), (Provider::new(|| Ok(ending_in(4))), 2)]
    {
        let ecr = provider.ecr();
        assert!(ecr.session(&ecr.call(&host, &image(), "BatchGetImage", "asking")).await.is_ok());
        assert!(ecr.session(&ecr.call(&host, &image(), "BatchGetImage", "asking")).await.is_ok());
        assert_eq!(provider.asked(), loads);
    }
}
