//! Asking nginx from outside, as a client would.

use std::error::Error;

use crate::adapter::http;
use crate::port::{Location, ProxyError};

use super::control::Control;
use super::dump::{Dump, Server};
use super::live::Live;
use super::{PublicUrl, Site};

/// What a maintenance page comes with, and what nginx says where it turns a request away. That it could not ask is 502
/// or 504.
const UNAVAILABLE: u16 = 503;

/// What a proof says where nothing could be asked.
pub(super) const NOT_ASKED: &str = "no plain HTTP listener was found to ask from outside; set a public URL";

/// One request over a new connection; gives its status.
///
/// # Errors
///
/// [`ProxyError::NotProven`] without an answer, and when nginx had none from the application.
pub(super) async fn ask(site: &Site, url: &PublicUrl) -> Result<u16, ProxyError> {
    match status(site, url).await? {
        status @ 502..=504 => Err(ProxyError::NotProven { reason: format!("{url} answered {status}") }),
        status => Ok(status),
    }
}

/// The same, whatever the status is.
async fn status(site: &Site, url: &PublicUrl) -> Result<u16, ProxyError> {
    match http::get(&url.endpoint, &url.path, Some(&url.host_header()), site.request_timeout).await {
        Ok(answer) => Ok(answer.status),
        Err(error) => Err(ProxyError::NotProven { reason: format!("{url}: {}", chain(&error)) }),
    }
}

impl Live<'_> {
    /// The same where the application has just answered that very request, asked past the user's server.
    ///
    /// # Errors
    ///
    /// [`ProxyError::AnswersItself`] when nginx does not ask it, otherwise as above.
    pub(super) async fn ask_as_client(&self, url: &PublicUrl) -> Result<u16, ProxyError> {
        match status(self.site, url).await? {
            UNAVAILABLE => {
                let at = self.configuration().await.ok().and_then(|dump| self.says(&dump, UNAVAILABLE));
                Err(ProxyError::AnswersItself { url: url.to_string(), status: UNAVAILABLE, at })
            }
            status @ 502..=504 => Err(ProxyError::NotProven { reason: format!("{url} answered {status}") }),
            status => Ok(status),
        }
    }

    /// The line in front of the live switch that has nginx answer so: a `return`, else a limit that turns requests
    /// away.
    fn says(&self, dump: &Dump, status: u16) -> Option<Location> {
        let (mut says, mut limits, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        dump.visit(&mut |directive, stack| {
            let Some(server) = stack.iter().find(|block| block.name == "server").copied() else { return };
            match directive.name.as_str() {
                "return" if directive.arg(0) == Some(&status.to_string()) => says.push((directive, server)),
                "limit_req" | "limit_conn" => limits.push((directive, server)),
                _ if self.is_ours(dump, directive) => ours.push(server),
                _ => {}
            }
        });
        let (line, _) = says.into_iter().chain(limits).find(|(line, server)| {
            ours.iter().any(|ours| std::ptr::eq(*ours, *server))
                && dump.file_of(line).is_some_and(|(path, _)| !self.is_own(path))
        })?;
        let (path, _) = dump.file_of(line)?;
        Some(self.control.location(path, Some(line.line)))
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
