//! Files that the configuration names and nginx opens when it loads it: without one, its test fails and a reload is
//! refused, whatever site names it.

use crate::port::{MissingFile, ProxyError};

use super::control::Control;
use super::dump::{Dump, absolute};
use super::live::Live;
use super::reload::{Rewrite, goes_to_any};
use super::rewrite::Named;
use super::syntax::Directive;
use super::{disk, takeover};

impl Control<'_> {
    /// Those that are not there. `ours` says of a directive that the application's requests come by way of it.
    fn missing(
        &self,
        master: Option<u32>,
        dump: &Dump,
        ours: &dyn Fn(&Directive, &str) -> bool,
    ) -> Vec<MissingFile> {
        let Some(master) = master else { return Vec::new() };
        let (mut named, mut own) = (Vec::new(), Vec::new());
        dump.visit(&mut |directive, stack| {
            let server = stack.iter().find(|block| block.name == "server").copied();
            if let Some(path) = opened(directive) {
                named.push((directive, absolute(dump.main(), path), server));
            }
            if ours(directive, stack.last().map_or("", |block| block.name.as_str())) {
                own.extend(server);
            }
        });
        let paths = named.iter().map(|(_, path, _)| path.clone()).collect();
        let absent = disk::absent(master, paths, !self.is_contained());
        named.retain(|(_, path, _)| absent.contains(path));
        named
            .into_iter()
            .map(|(directive, path, server)| {
                let file = dump.file_of(directive).map_or(dump.main(), |(path, _)| path);
                let at = self.location(file, Some(directive.line));
                // What stands outside of all servers counts for each.
                let ours = server.is_none_or(|server| own.iter().any(|own| std::ptr::eq(*own, server)));
                MissingFile::new(at, &directive.name, path, ours)
            })
            .collect()
    }
}

impl Live<'_> {
    /// What nginx's own test says against its configuration, and the files that are missing.
    pub(super) async fn broken(&self, dump: &Dump, output: String, switches: bool) -> ProxyError {
        let master = self.control.master().await.ok();
        let (slots, protocol) = (&self.site.slots, self.site.protocol);
        let leads =
            |directive: &Directive| !takeover::leads(dump, slots, protocol, directive).colors.is_empty();
        let ours = |directive: &Directive, _: &str| {
            self.is_ours(dump, directive) || directive.name == protocol.directive() && leads(directive)
        };
        let missing = self.control.missing(master, dump, &ours);
        ProxyError::Broken { output, missing, switches }
    }
}

impl Rewrite<'_> {
    /// The same. A switch reloads.
    pub(super) async fn broken(&self, dump: &Dump, named: &Named, output: String) -> ProxyError {
        let master = self.control.master().await.ok();
        let hosts = self.names(dump, named);
        let ours = |directive: &Directive, parent: &str| goes_to_any(&hosts, directive, parent);
        ProxyError::Broken { output, missing: self.control.missing(master, dump, &ours), switches: false }
    }
}

/// The file that a directive has opened when nginx loads it.
fn opened(directive: &Directive) -> Option<&str> {
    let name = directive.name.as_str();
    let name = ["proxy_", "grpc_", "uwsgi_"].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name);
    let is_file = matches!(
        name,
        "ssl_certificate"
            | "ssl_certificate_key"
            | "ssl_client_certificate"
            | "ssl_trusted_certificate"
            | "ssl_crl"
            | "ssl_dhparam"
            | "ssl_password_file"
            | "ssl_session_ticket_key"
            | "ssl_stapling_file"
    );
    // With a variable it is opened for each request, and `data:` and `engine:` are no files.
    let path = directive.arg(0).filter(|_| is_file && directive.block.is_none())?;
    (!path.contains('$') && !["data:", "engine:", "store:"].iter().any(|kind| path.starts_with(kind)))
        .then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::nginx::syntax::parse;

    #[test]
    fn what_is_opened_at_once_is_told_from_what_is_not() {
        for (line, expected) in [
            ("ssl_certificate /a.pem;", Some("/a.pem")),
            ("proxy_ssl_trusted_certificate a.pem;", Some("a.pem")),
            ("ssl_dhparam d;", Some("d")),
            ("ssl_certificate $ssl_server_name.pem;", None),
            ("ssl_certificate_key engine:x:y;", None),
            ("ssl_certificate \"data:$pem\";", None),
            ("auth_basic_user_file /users;", None),
            ("ssl_certificate;", None),
        ] {
            assert_eq!(opened(&parse(line).unwrap()[0]), expected, "{line}");
        }
    }
}
