//! Asking nginx from outside, as a client would.

use std::error::Error;

use crate::adapter::http;
use crate::port::ProxyError;

use super::control::Control;
use super::dump::{Dump, Server};
use super::{PublicUrl, Site};

/// What a proof says where nothing could be asked.
pub(super) const NOT_ASKED: &str = "no plain HTTP listener was found to ask from outside; set a public URL";

/// One request over a new connection; gives its status.
///
/// # Errors
///
/// [`ProxyError::NotProven`] without an answer, and when nginx had none from the application.
pub(super) async fn ask(site: &Site, url: &PublicUrl) -> Result<u16, ProxyError> {
    let answer = http::get(&url.endpoint, &url.path, Some(&url.host_header()), site.request_timeout).await;
    match answer {
        Ok(answer) if matches!(answer.status, 502..=504) => {
            Err(ProxyError::NotProven { reason: format!("{url} answered {}", answer.status) })
        }
        Ok(answer) => Ok(answer.status),
        Err(error) => Err(ProxyError::NotProven { reason: format!("{url}: {}", chain(&error)) }),
    }
}

/// Where one of these servers can be asked, if any can.
pub(super) fn choose(control: &Control<'_>, servers: &[Server]) -> Option<PublicUrl> {
    servers.iter().find_map(|server| {
        let endpoint = server.listens.iter().find_map(|(ip, port)| control.reach(*ip, *port))?;
        let mut url = PublicUrl::new(endpoint);
        url.path = server.path.clone().unwrap_or(url.path);
        // Without a name any will do: what has none is the default server of its address.
        url.host = Some(server.name.clone().unwrap_or_else(|| "localhost".to_owned()));
        Some(url)
    })
}

/// Finds where the servers with a directive that `wanted` says yes to can be asked.
pub(super) fn find(
    control: &Control<'_>,
    dump: &Dump,
    wanted: &dyn Fn(&super::syntax::Directive, &str) -> bool,
) -> Option<PublicUrl> {
    choose(control, &dump.servers(wanted))
}

/// An error with its causes, for a reason that has no source of its own.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
