//! Live mode: whether all is in place.

use std::path::Path;

use crate::port::ProxyError;

use super::control::{Version, unrecognized};
use super::dump::Dump;
use super::live::Live;
use super::syntax::Directive;
use super::{PublicUrl, adopt, public, render};

/// The oldest nginx that this was tried with.
pub(super) const OLDEST: Version = Version(1, 18, 0);

impl Live<'_> {
    /// Whether all is in place; gives where to ask from outside.
    pub(super) async fn check(&self) -> Result<Option<PublicUrl>, ProxyError> {
        let master = self.control.master().await?;
        if let Some(dump) = self.loaded(master)
            && self.check_with(&dump).await.is_ok()
        {
            return Ok(self.public(&dump));
        }
        // Whatever is not in order is for nginx itself to say.
        let (dump, version) = self.control.dump().await?;
        if version < OLDEST {
            return Err(unrecognized(&self.dir, format!("nginx is {version}"), format!("{OLDEST} or newer")));
        }
        self.check_with(&dump).await?;
        Ok(self.public(&dump))
    }

    fn loaded(&self, master: u32) -> Option<Dump> {
        self.control.loaded(master)
    }

    async fn check_with(&self, dump: &Dump) -> Result<(), ProxyError> {
        self.check_slots()?;
        let rendered = self.rendered()?;
        if let Some(change) = self.changes(&rendered)?.first() {
            let found = format!("the live switch is not installed: an install would {}", change.summary);
            return Err(unrecognized(&self.dir, found, "its files as this version writes them"));
        }
        let upstreams = render::upstreams_file(self.app);
        if dump.ending(&upstreams).next().is_none() {
            let line = format!("include {}/*.conf;", self.inside.display());
            let expected = format!("inside http {{ }}: {line}");
            return Err(self.missing(dump, format!("nginx does not read {upstreams}"), expected));
        }
        let generation = self.ask("generation").await?;
        if generation != rendered.generation {
            let found = format!("nginx runs with generation {generation} of these files");
            let expected = format!("{}, which is on disk: nginx was not reloaded", rendered.generation);
            return Err(unrecognized(&self.dir, found, expected));
        }
        self.check_location(dump)
    }

    /// Addresses that nginx cannot reach.
    pub(super) fn check_slots(&self) -> Result<(), ProxyError> {
        let slots = &self.site.slots;
        let own = [&slots.blue, &slots.green].into_iter().find(|slot| {
            self.control.own_address().is_some() && slot.endpoint.ip().is_some_and(|ip| ip.is_loopback())
        });
        own.map_or(Ok(()), |slot| {
            let found =
                format!("{} is at {}, which is nginx's own container there", slot.color, slot.endpoint);
            Err(unrecognized(&self.dir, found, "an address on a network that both are on"))
        })
    }

    pub(super) fn is_ours(&self, dump: &Dump, directive: &Directive) -> bool {
        let ours = format!("/{}", render::folder_file(self.app, "location"));
        directive.name == "include"
            && directive
                .arg(0)
                .is_some_and(|pattern| dump.included(pattern).any(|path| path.ends_with(&ours)))
    }

    /// Whether a server of the user's includes the location file; our control server does too.
    pub(super) fn included(&self, dump: &Dump) -> bool {
        !self.locations(dump).is_empty()
    }

    /// The user's blocks that include it.
    pub(super) fn locations<'d>(&self, dump: &'d Dump) -> Vec<&'d Directive> {
        self.uses(dump).into_iter().map(|(_, block)| block).collect()
    }

    /// The user's lines that include it.
    pub(super) fn includes<'d>(&self, dump: &'d Dump) -> Vec<&'d Directive> {
        let mut found: Vec<&Directive> = Vec::new();
        for (line, _) in self.uses(dump) {
            // A file that several servers include is met several times.
            if !found.iter().any(|known| std::ptr::eq(*known, line)) {
                found.push(line);
            }
        }
        found
    }

    fn uses<'d>(&self, dump: &'d Dump) -> Vec<(&'d Directive, &'d Directive)> {
        let control = format!("/bluegreen/{}/probe/", self.app);
        let mut found = Vec::new();
        dump.visit(&mut |directive, stack| {
            if self.is_ours(dump, directive)
                && let Some(block) = stack.last()
                && block.arg(0) != Some(&control)
            {
                found.push((directive, *block));
            }
        });
        found
    }

    /// What was looked for and not found; what could not be read is not taken for empty.
    fn missing(&self, dump: &Dump, found: String, expected: String) -> ProxyError {
        match dump.unread().next() {
            Some((path, unread)) => self.control.unreadable(path, unread),
            None => unrecognized(Path::new(dump.main()), found, expected),
        }
    }

    pub(super) fn check_location(&self, dump: &Dump) -> Result<(), ProxyError> {
        let line = render::include_line(self.app, &self.inside);
        let main = Path::new(dump.main());
        let locations = self.locations(dump);
        if locations.is_empty() {
            let found = format!("no location includes the live switch of {}", self.app);
            let expected = format!("this line in its location, in place of proxy_pass: {line}");
            return Err(self.missing(dump, found, expected));
        }
        for location in locations {
            let at =
                location.children().iter().position(|child| self.is_ours(dump, child)).unwrap_or_default();
            let place = location.arg(0).unwrap_or_default();
            if let Some(trap) = adopt::trap(location, at) {
                let found = format!("location {place} (line {}) {trap}", location.line);
                return Err(unrecognized(main, found, format!("`{line}` where nginx always runs it")));
            }
        }
        Ok(())
    }

    pub(super) fn public(&self, dump: &Dump) -> Option<PublicUrl> {
        let control = format!("/bluegreen/{}/probe/", self.app);
        let mut servers = dump.servers(&|directive, _| self.is_ours(dump, directive));
        servers.retain(|server| server.path.as_ref() != Some(&control));
        public::choose(&self.control, &servers)
    }

    /// Where to ask from outside, when no check has found it before.
    pub(super) async fn discover(&self) -> Result<Option<PublicUrl>, ProxyError> {
        let loaded = self.loaded(self.control.master().await?).filter(|dump| self.included(dump));
        Ok(self.public(&match loaded {
            Some(dump) => dump,
            None => self.control.dump().await?.0,
        }))
    }
}
