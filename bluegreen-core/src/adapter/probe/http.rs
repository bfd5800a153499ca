//! Is the answer to an HTTP request as expected?

use std::error::Error as _;
use std::io;
use std::time::Duration;

use hyper::header::LOCATION;

use super::pattern::Pattern;
use crate::adapter::http::{self, HttpError};
use crate::model::{Endpoint, HttpCheck};
use crate::port::{Health, ProbeError};

/// One GET over a new connection. Redirects are not followed: where they lead is not this instance.
pub(super) async fn probe(
    check: &HttpCheck,
    endpoint: &Endpoint,
    within: Duration,
) -> Result<Health, ProbeError> {
    let body = check.body.as_ref().map(Pattern::new).transpose()?;
    let answer = match http::get(endpoint, &check.path, check.host.as_deref(), within).await {
        Ok(answer) => answer,
        Err(error @ HttpError::Unsendable(_)) => {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            return Err(ProbeError::Impossible { reason: format!("{error}: {source}") });
        }
        Err(error) => return Ok(Health::unhealthy(reason(&error))),
    };
    if !check.accepts(answer.status) {
        let status = answer.status;
        return Ok(Health::unhealthy(match answer.headers.get(LOCATION) {
            Some(location) => {
                format!(
                    "status {status}, Location {}",
                    super::clip(&String::from_utf8_lossy(location.as_bytes()))
                )
            }
            None => format!("status {status}"),
        }));
    }
    match body {
        Some(pattern) if !pattern.is_in(&String::from_utf8_lossy(&answer.body)) => {
            let (status, length) = (answer.status, answer.body.len());
            Ok(Health::unhealthy(format!(
                "status {status}, but {pattern} is not in the {length} bytes of its body"
            )))
        }
        _ => Ok(Health::Healthy),
    }
}

fn reason(error: &HttpError) -> String {
    match error {
        _ if error.is_refused() => "connection refused".to_owned(),
        HttpError::Connect(error) => super::connection_reason(error),
        HttpError::Timeout(within) => format!("no complete answer within {}", super::span(*within)),
        HttpError::Broken(broken) => match io_error(broken) {
            Some(error) => super::connection_reason(error),
            None if broken.is_incomplete_message() => "connection closed before a complete answer".to_owned(),
            None => format!("invalid HTTP answer: {broken}"),
        },
        HttpError::Unsendable(_) => error.to_string(),
    }
}

fn io_error(error: &hyper::Error) -> Option<&io::Error> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        next = error.source();
    }
    None
}
