//! Live mode: putting its files into nginx's directory, taking them out, and looking whether all is in place.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::adapter::atomic;
use crate::port::{FileChange, ProxyError};

use super::control::{Version, other, unrecognized};
use super::dump::Dump;
use super::live::Live;
use super::process::{self, Worker};
use super::render::{self, Rendered};
use super::syntax::Directive;
use super::{PublicUrl, public, unified};

/// The oldest nginx that this was tried with.
const OLDEST: Version = Version(1, 18, 0);

/// How live mode is installed in an nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installation {
    /// What an install would change on disk; empty when the files are as they should be.
    pub changes: Vec<FileChange>,
    /// Whether nginx has loaded the files as they should be.
    pub loaded: bool,
    /// Whether a virtual server includes the application's location file.
    pub included: bool,
    /// The line that does, to be put in place of `proxy_pass`.
    pub include_line: String,
    /// nginx's version.
    pub version: String,
}

/// Files as they were: what a failed change puts back.
#[derive(Debug)]
struct Before(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Before {
    fn remember(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        paths
            .into_iter()
            .map(|path| Ok((path.clone(), atomic::read(&path)?)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    fn put_back(&self) -> io::Result<()> {
        for (path, bytes) in &self.0 {
            match bytes {
                Some(bytes) => atomic::replace(path, bytes, fs::metadata(path).ok().as_ref())?,
                None => {
                    atomic::remove(path)?;
                }
            }
        }
        Ok(())
    }
}

impl Live<'_> {
    fn paths(&self, rendered: &Rendered) -> Vec<PathBuf> {
        rendered.files.iter().map(|(name, _)| self.dir.join(name)).collect()
    }

    /// What differs on disk from what should be there.
    fn changes(&self, rendered: &Rendered) -> Result<Vec<FileChange>, ProxyError> {
        let mut changes = Vec::new();
        for (name, new) in &rendered.files {
            let path = self.dir.join(name);
            let old = atomic::read(&path).map_err(other("read nginx's files"))?;
            if old.as_deref() != Some(new.as_bytes()) {
                let verb = if old.is_some() { "change" } else { "add" };
                let old = String::from_utf8_lossy(&old.unwrap_or_default()).into_owned();
                let path = path.display().to_string();
                changes.push(FileChange::new(&path, format!("{verb} {path}"), unified(&path, &old, new)));
            }
        }
        Ok(changes)
    }

    /// The generation that nginx says, `None` when it says none.
    async fn generation(&self) -> Option<String> {
        self.ask("generation").await.ok()
    }

    pub(super) async fn installation(&self) -> Result<Installation, ProxyError> {
        let rendered = self.rendered()?;
        let (dump, version) = self.control.dump().await?;
        Ok(Installation {
            changes: self.changes(&rendered)?,
            loaded: self.generation().await.as_ref() == Some(&rendered.generation),
            included: self.included(&dump),
            include_line: render::include_line(self.app, &self.inside),
            version: version.to_string(),
        })
    }

    pub(super) async fn install(&self) -> Result<Vec<FileChange>, ProxyError> {
        let rendered = self.rendered()?;
        self.check_slots()?;
        let master = self.control.master().await?;
        let changes = self.changes(&rendered)?;
        let served = self.generation().await;
        if changes.is_empty() && served.as_ref() == Some(&rendered.generation) {
            return Ok(changes);
        }
        if let Err(output) = self.control.test().await? {
            return Err(ProxyError::Broken { output });
        }
        let mut paths = self.paths(&rendered);
        let location = self.flag("location");
        // With no flag at all the first colour would be served, which is not there yet.
        let first = !location.try_exists().map_err(other("read nginx's files"))?;
        paths.extend(first.then(|| self.flag("none")));
        let before = Before::remember(paths).map_err(other("read nginx's files"))?;
        let written = self.write(&rendered, first).map_err(other("write nginx's files"));
        self.settle(master, &before, written, served, Some(&rendered.generation)).await.map(|()| changes)
    }

    fn write(&self, rendered: &Rendered, first: bool) -> io::Result<()> {
        let folder = self.dir.join(render::FOLDER);
        match fs::create_dir(&folder) {
            Ok(()) => {
                // Whatever the umask says: nginx's workers must see the flags.
                fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
                atomic::sync_dir(&self.dir)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if first {
            atomic::create_flag(&self.flag("none"))?;
        }
        for (name, text) in &rendered.files {
            atomic::replace(&self.dir.join(name), text.as_bytes(), None)?;
        }
        Ok(())
    }

    pub(super) async fn remove(&self) -> Result<Vec<FileChange>, ProxyError> {
        let master = self.control.master().await?;
        let mut paths: Vec<PathBuf> = vec![
            self.flag("location"),
            self.flag("control"),
            self.dir.join(render::upstreams_file(self.app)),
        ];
        let own = self.flag("control");
        let folder = self.dir.join(render::FOLDER);
        let last = fs::read_dir(&folder).map_or(true, |entries| {
            entries.flatten().map(|entry| entry.path()).all(|path| path == own || !ends(&path, "control"))
        });
        paths.extend(last.then(|| self.dir.join(render::CONTROL)));
        let before = Before::remember(paths).map_err(other("read nginx's files"))?;
        let changes: Vec<FileChange> = before
            .0
            .iter()
            .filter_map(|(path, bytes)| Some((path.display().to_string(), bytes.as_ref()?)))
            .map(|(path, bytes)| {
                let diff = unified(&path, &String::from_utf8_lossy(bytes), "");
                FileChange::new(&path, format!("remove {path}"), diff)
            })
            .collect();
        if !changes.is_empty() {
            let served = self.generation().await;
            let removed = before.0.iter().try_for_each(|(path, _)| atomic::remove(path).map(drop));
            let removed = removed.map_err(other("remove nginx's files"));
            self.settle(master, &before, removed, served, None).await?;
        }
        // Nothing looks at the flags any more.
        let tidy = ["green", "none"].iter().try_for_each(|kind| atomic::remove(&self.flag(kind)).map(drop));
        tidy.map_err(other("remove a flag"))?;
        if last {
            // Not empty when the user keeps something there.
            fs::remove_dir(&folder).ok();
        }
        Ok(changes)
    }

    /// After files were changed: tests, reloads and waits until nginx says `wanted`; on any failure puts
    /// everything back and waits until it says `served` again.
    async fn settle(
        &self,
        master: u32,
        before: &Before,
        changed: Result<(), ProxyError>,
        served: Option<String>,
        wanted: Option<&String>,
    ) -> Result<(), ProxyError> {
        let mut signalled = false;
        let failure = match changed {
            Ok(()) => match self.load(master, wanted, &mut signalled).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        let not_restored = |why: String| ProxyError::NotRestored { reason: format!("{failure}; then {why}") };
        before
            .put_back()
            .map_err(|error| not_restored(format!("the files in {}: {error}", self.dir.display())))?;
        let folder = self.dir.join(render::FOLDER);
        if before.0.iter().all(|(path, bytes)| !path.starts_with(&folder) || bytes.is_none()) {
            // Only when it is empty: then it was made for this.
            fs::remove_dir(&folder).ok();
        }
        if signalled {
            let mut again = false;
            self.load(master, served.as_ref(), &mut again)
                .await
                .map_err(|error| not_restored(error.to_string()))?;
        }
        Err(failure)
    }

    async fn load(
        &self,
        master: u32,
        wanted: Option<&String>,
        signalled: &mut bool,
    ) -> Result<(), ProxyError> {
        let refused = |reason| ProxyError::Refused { reason };
        self.control.test().await?.map_err(refused)?;
        let workers = process::workers(master);
        // Set before: a call that fails may have had its effect.
        *signalled = true;
        if let Err(output) = self.control.reload().await? {
            *signalled = false;
            return Err(refused(output));
        }
        let deadline = Instant::now() + self.site.reload_timeout;
        while self.generation().await.as_ref() != wanted {
            if Instant::now() > deadline {
                return Err(refused(format!(
                    "nginx took the reload and does not say the new generation after {:?}; its error log tells why: \
                     a port in use, or {} not included",
                    self.site.reload_timeout,
                    self.dir.display()
                )));
            }
            sleep(Duration::from_millis(5)).await;
        }
        // For about 100 ms the earlier workers still take connections and would say what was.
        let earlier = |worker: &Worker| !worker.retiring && workers.iter().any(|known| known.is(worker));
        while process::workers(master).iter().any(earlier) && Instant::now() < deadline {
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Whether all is in place; gives where to ask from outside.
    pub(super) async fn check(&self) -> Result<Option<PublicUrl>, ProxyError> {
        self.control.master().await?;
        let (dump, version) = self.control.dump().await?;
        if version < OLDEST {
            let reason = format!("nginx is {version}; expected {OLDEST} or newer");
            return Err(unrecognized(&self.dir, reason));
        }
        self.check_slots()?;
        let rendered = self.rendered()?;
        if let Some(change) = self.changes(&rendered)?.first() {
            let reason = format!(
                "the live switch is not installed as it should be: an install would {}",
                change.summary
            );
            return Err(unrecognized(&self.dir, reason));
        }
        let upstreams = render::upstreams_file(self.app);
        if dump.ending(&upstreams).next().is_none() {
            let line = format!("include {}/*.conf;", self.inside.display());
            let reason = format!("nginx does not read {upstreams}; expected inside http {{ }}: {line}");
            return Err(unrecognized(Path::new(dump.main()), reason));
        }
        let generation = self.ask("generation").await?;
        if generation != rendered.generation {
            let reason = format!(
                "nginx runs with generation {generation} of these files and {} is on disk; it was not reloaded",
                rendered.generation
            );
            return Err(unrecognized(&self.dir, reason));
        }
        self.check_location(&dump)?;
        Ok(self.public(&dump))
    }

    /// Addresses that nginx cannot reach.
    fn check_slots(&self) -> Result<(), ProxyError> {
        let slots = &self.site.slots;
        let own = [&slots.blue, &slots.green].into_iter().find(|slot| {
            self.control.own_address().is_some() && slot.endpoint.ip().is_some_and(|ip| ip.is_loopback())
        });
        own.map_or(Ok(()), |slot| {
            let reason = format!(
                "{} is at {}, which is nginx's own container there; expected an address on a network that both are on",
                slot.color, slot.endpoint
            );
            Err(unrecognized(&self.dir, reason))
        })
    }

    fn is_ours(&self, dump: &Dump, directive: &Directive) -> bool {
        let ours = format!("/{}", render::folder_file(self.app, "location"));
        directive.name == "include"
            && directive
                .arg(0)
                .is_some_and(|pattern| dump.included(pattern).any(|path| path.ends_with(&ours)))
    }

    /// Whether a server of the user's includes the location file; our control server does too.
    fn included(&self, dump: &Dump) -> bool {
        !self.locations(dump).is_empty()
    }

    /// The user's blocks that include it.
    fn locations<'d>(&self, dump: &'d Dump) -> Vec<&'d Directive> {
        let control = format!("/bluegreen/{}/probe/", self.app);
        let mut found = Vec::new();
        dump.visit(&mut |directive, stack| {
            if self.is_ours(dump, directive)
                && let Some(block) = stack.last()
                && block.arg(0) != Some(&control)
            {
                found.push(*block);
            }
        });
        found
    }

    fn check_location(&self, dump: &Dump) -> Result<(), ProxyError> {
        let line = render::include_line(self.app, &self.inside);
        let main = Path::new(dump.main());
        let locations = self.locations(dump);
        if locations.is_empty() {
            let reason = format!(
                "no location includes the live switch of {}; expected this line in its location, in place of \
                 proxy_pass: {line}",
                self.app
            );
            return Err(unrecognized(main, reason));
        }
        for location in locations {
            let at =
                location.children().iter().position(|child| self.is_ours(dump, child)).unwrap_or_default();
            let ends = |directive: &Directive| {
                directive.name == "break"
                    || directive.name == "rewrite"
                        && directive
                            .args
                            .last()
                            .is_some_and(|flag| matches!(flag.value.as_str(), "break" | "last"))
            };
            let place = location.arg(0).unwrap_or_default();
            if location.children().iter().take(at).any(ends) {
                let reason = format!(
                    "location {place} (line {}) ends its rewriting before the colour is chosen; expected `{line}` \
                     above the rewrite",
                    location.line
                );
                return Err(unrecognized(main, reason));
            }
            if location.children().iter().any(|directive| directive.name == "try_files") {
                let reason = format!(
                    "location {place} (line {}) has try_files, which nginx leaves out when one of the conditions in \
                     the included file holds; expected `{line}` in a location of its own, named by try_files",
                    location.line
                );
                return Err(unrecognized(main, reason));
            }
        }
        Ok(())
    }

    fn public(&self, dump: &Dump) -> Option<PublicUrl> {
        let control = format!("/bluegreen/{}/probe/", self.app);
        let mut servers = dump.servers(&|directive, _| self.is_ours(dump, directive));
        servers.retain(|server| server.path.as_ref() != Some(&control));
        public::choose(&self.control, &servers)
    }

    /// Where to ask from outside, when no check has found it before.
    pub(super) async fn discover(&self) -> Result<Option<PublicUrl>, ProxyError> {
        Ok(self.public(&self.control.dump().await?.0))
    }
}

fn ends(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
