//! What went wrong, rebuilt from codes and messages.
//!
//! An SDK error is never kept and never printed with `{:?}`: it holds the raw response, and in it tokens. What
//! is kept is a chain of plain texts.

use std::error::Error;
use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::types::{ImageFailure, ImageFailureCode};

use crate::model::EcrHost;
use crate::port::RegistryError;

/// One call of the API, for the texts about it.
pub(super) struct Call<'a> {
    /// Its name, which is also that of the IAM action without `ecr:`.
    pub(super) action: &'static str,
    /// What it is for, as [`RegistryError::Other`] words it.
    pub(super) operation: &'static str,
    /// The registry.
    pub(super) host: &'a EcrHost,
    /// The image as it was asked for.
    pub(super) image: String,
    /// The same without the registry: `tag 42 of repository shop/web`.
    pub(super) subject: String,
    /// Where credentials are looked for.
    pub(super) providers: &'static str,
}

impl Call<'_> {
    /// The port's error for a failed call.
    pub(super) fn failed<E>(&self, error: &SdkError<E>) -> RegistryError
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        let within = || format!("{} of the ECR API in {}", self.action, self.host.region());
        match error {
            SdkError::ServiceError(context) => {
                self.answered(context.raw().status().as_u16(), context.err().code(), context.err().message())
            }
            // No request was made at all: no endpoint for these settings, nothing to sign with.
            SdkError::DispatchFailure(failure)
                if (failure.is_user() || (failure.is_other() && failure.as_other().is_none()))
                    && find_credentials_error(error).is_none() =>
            {
                self.other(Cause::new(within()).because(error.source()))
            }
            SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
                match find_credentials_error(error) {
                    Some(credentials) => self.no_credentials(credentials),
                    None => self.unreachable(Cause::new(within()).because(error.source())),
                }
            }
            _ => self.other(Cause::new(within()).because(Some(error))),
        }
    }

    /// The port's error for credentials that did not load.
    pub(super) fn no_credentials(&self, error: &CredentialsError) -> RegistryError {
        let what = match error {
            CredentialsError::CredentialsNotLoaded(_) => "no AWS credentials were found",
            CredentialsError::ProviderTimedOut(_) => "AWS credentials did not load in time",
            _ => "AWS credentials could not be loaded",
        };
        let Self { action, providers, .. } = self;
        let cause = Cause::new(format!("{what} for ecr:{action}; looked in: {providers}"));
        let cause = match (error, error.source()) {
            // A list over many lines of who was asked and what each said; all of it matters here.
            (CredentialsError::CredentialsNotLoaded(_), Some(list)) => {
                let list: Vec<String> = list
                    .to_string()
                    .lines()
                    .filter(|line| !line.trim_end().ends_with(':'))
                    .map(|line| clean(&line.replace(": the credential provider was not enabled", "")))
                    .collect();
                cause.over(Cause::new(list.join("; ")))
            }
            (_, source) => cause.because(source),
        };
        RegistryError::NoCredentials { registry: self.host.as_str().to_owned(), source: cause.into() }
    }

    /// The port's error for an answer that says that something is wrong.
    fn answered(&self, status: u16, code: Option<&str>, message: Option<&str>) -> RegistryError {
        let Self { action, host, subject, .. } = self;
        let (account, region) = (host.account(), host.region());
        let said = || {
            let code = code.map_or_else(|| format!("HTTP status {status}"), clean);
            message.filter(|_| !quotes_the_request(&code)).map_or_else(
                || Cause::new(code.clone()),
                |message| Cause::new(format!("{code}: {}", clean(message))),
            )
        };
        match code.unwrap_or_default() {
            "RepositoryNotFoundException" | "ImageNotFoundException" => self.not_found(
                Cause::new(format!("{subject} is not in account {account}, region {region}")).over(said()),
            ),
            "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => self.denied(
                Cause::new(format!("the AWS credentials for ecr:{action} are no longer valid")).over(said()),
            ),
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "MissingAuthenticationTokenException" => self.denied(
                Cause::new(format!("AWS does not know the credentials for ecr:{action}")).over(said()),
            ),
            code if quotes_the_request(code) => self.denied(
                Cause::new(
                    "the signature was refused: a wrong secret access key, or a wrong clock on this host",
                )
                .over(said()),
            ),
            "AccessDeniedException" | "AccessDenied" | "OptInRequired" => self.not_allowed(said()),
            "" if matches!(status, 401 | 403) => self.not_allowed(said()),
            // A login page of the network, a proxy's own page: whoever answers, it is not ECR.
            "" if status < 400 => {
                self.unreachable(Cause::new("something that is not ECR answered: a proxy?").over(said()))
            }
            // Tried three times by now; still, the next minute may be better.
            "ThrottlingException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "ServerException" => self.unreachable(said()),
            _ if status >= 500 || status == 429 => self.unreachable(said()),
            _ => self.other(said()),
        }
    }

    /// The port's error for an image that an otherwise good answer lists as failed.
    pub(super) fn image_failed(&self, failure: &ImageFailure) -> RegistryError {
        let (account, region) = (self.host.account(), self.host.region());
        let code = failure.failure_code().map_or("no failure code", ImageFailureCode::as_str);
        let said = Cause::new(match failure.failure_reason() {
            Some(reason) => format!("{}: {}", clean(code), clean(reason)),
            None => clean(code),
        });
        match failure.failure_code() {
            Some(ImageFailureCode::ImageNotFound) => self.not_found(
                Cause::new(format!("{} is not in account {account}, region {region}", self.subject))
                    .over(said),
            ),
            Some(ImageFailureCode::UpstreamAccessDenied) => self.denied(said),
            Some(ImageFailureCode::UpstreamTooManyRequests | ImageFailureCode::UpstreamUnavailable) => {
                self.unreachable(said)
            }
            _ => self.other(said),
        }
    }

    fn not_found(&self, cause: Cause) -> RegistryError {
        RegistryError::ImageNotFound { image: self.image.clone(), source: cause.into() }
    }

    fn not_allowed(&self, said: Cause) -> RegistryError {
        let text = match self.action {
            // The one action that is granted on `*` only, which is easily missed.
            "GetAuthorizationToken" => {
                "the policy does not allow ecr:GetAuthorizationToken on resource *".into()
            }
            action => format!("the policy does not allow ecr:{action} on {}", self.subject),
        };
        self.denied(Cause::new(text).over(said))
    }

    fn denied(&self, cause: Cause) -> RegistryError {
        RegistryError::AccessDenied { registry: self.host.as_str().to_owned(), source: cause.into() }
    }

    fn unreachable(&self, cause: Cause) -> RegistryError {
        RegistryError::Unreachable { registry: self.host.as_str().to_owned(), source: cause.into() }
    }

    /// The port's error for what has no name.
    pub(super) fn other(&self, cause: Cause) -> RegistryError {
        RegistryError::Other { operation: self.operation, source: cause.into() }
    }
}

/// AWS answers a signature that does not match with what it should have been computed from: all headers, the
/// session token among them. Of these answers only the code is kept.
fn quotes_the_request(code: &str) -> bool {
    code.contains("Signature") || code.contains("MissingAuthenticationToken")
}

/// One line of at most 300 characters.
fn clean(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let mut line: String = line.chars().filter(|c| !c.is_control()).collect();
    if let Some((end, _)) = line.char_indices().nth(300) {
        line.truncate(end);
        line.push_str(" ...");
    }
    line
}

fn find_credentials_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CredentialsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// A link in a chain of plain texts.
#[derive(Debug)]
pub(super) struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl Cause {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), source: None }
    }

    /// This, caused by that.
    fn over(mut self, source: Self) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// This, caused by another crate's error: the `Display` of each of its links, and of nothing below them.
    fn because(mut self, error: Option<&(dyn Error + 'static)>) -> Self {
        let mut texts: Vec<String> = Vec::new();
        let mut next = error;
        while let Some(error) = next.filter(|_| texts.len() < 8) {
            let text = clean(&error.to_string());
            // Some of the SDK's errors repeat their source.
            if let Some(last) = texts.last_mut()
                && let Some(own) = last.strip_suffix(&text)
            {
                *last = own.trim_end_matches([':', ' ']).to_owned();
            }
            if !text.is_empty() {
                texts.push(text);
            }
            next = error.source();
        }
        self.source = texts
            .into_iter()
            .filter(|text| !text.is_empty())
            .rev()
            .fold(None, |source, text| Some(Box::new(Self { text, source })));
        self
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
