//! Live mode: putting its files into nginx's directory and taking them out. `check` says whether all is in place.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::adapter::atomic;
use crate::model::Color;
use crate::port::{FileChange, ProxyError};

use super::control::{Seen, other, unrecognized};
use super::dump::Dump;
use super::edit::Edit;
use super::live::{Flag, Live};
use super::process::{self, Worker};
use super::render::{self, Rendered};
use super::syntax::Directive;
use super::userline::UserLine;
use super::{PublicUrl, public, unified};

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
    /// Where that line stands, or is to stand.
    pub user_line: UserLine,
    /// nginx's version.
    pub version: String,
}

/// What was there: what a failed change puts back.
#[derive(Debug)]
struct Before {
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
    flags: Vec<Flag>,
}

impl Before {
    fn put_back(&self) -> io::Result<()> {
        for (path, bytes) in &self.files {
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

/// What must be so before a change counts.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    /// The generation that nginx says.
    generation: Option<&'a String>,
    /// The colour that answers through it, when one did before.
    serves: Option<Color>,
    /// What a client's request must have an answer from.
    answers: Option<&'a PublicUrl>,
}

impl Live<'_> {
    fn paths(&self, rendered: &Rendered) -> Vec<PathBuf> {
        rendered.files.iter().map(|(name, _)| self.dir.join(name)).collect()
    }

    /// What differs on disk from what should be there.
    pub(super) fn changes(&self, rendered: &Rendered) -> Result<Vec<FileChange>, ProxyError> {
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
    pub(super) async fn generation(&self) -> Option<String> {
        self.ask("generation").await.ok()
    }

    fn remember(&self, paths: impl IntoIterator<Item = PathBuf>) -> Result<Before, ProxyError> {
        let read = |path: PathBuf| Ok((path.clone(), atomic::read(&path)?));
        let files: io::Result<_> = paths.into_iter().map(read).collect();
        let flags = ["green", "none"].into_iter().map(|kind| Ok(Flag { kind, there: self.has(kind)? }));
        Ok(Before {
            files: files.map_err(other("read nginx's files"))?,
            flags: flags.collect::<Result<_, ProxyError>>()?,
        })
    }

    pub(super) async fn installation(&self) -> Result<Installation, ProxyError> {
        // What lies there may be broken: what an install would make of it is tested.
        let Seen { dump, version, .. } = self.control.read().await?;
        let takeover = self.takeover_anew(&dump).await?;
        let rendered = self.rendered_with(&takeover.taken)?;
        self.try_install(&dump, &rendered, &takeover.edits).await?;
        let mut changes = self.changes(&rendered)?;
        changes.extend(takeover.edits.iter().map(Edit::change));
        Ok(Installation {
            changes,
            loaded: self.generation().await.as_ref() == Some(&rendered.generation),
            included: takeover.line == UserLine::InPlace,
            include_line: render::include_line(self.app, &self.inside),
            user_line: takeover.line,
            version: version.to_string(),
        })
    }

    pub(super) async fn install(&self) -> Result<Vec<FileChange>, ProxyError> {
        self.check_slots()?;
        let master = self.control.master().await?;
        let dump = self.control.read().await?.dump;
        let takeover = self.takeover_anew(&dump).await?;
        let rendered = self.rendered_with(&takeover.taken)?;
        self.try_install(&dump, &rendered, &takeover.edits).await?;
        let mut changes = self.changes(&rendered)?;
        changes.extend(takeover.edits.iter().map(Edit::change));
        let earlier = self.generation().await;
        if changes.is_empty() && earlier.as_ref() == Some(&rendered.generation) {
            return Ok(changes);
        }
        let first = !self.has("location")?;
        let edits = &takeover.edits;
        let paths = self.paths(&rendered).into_iter().chain(edits.iter().map(|edit| edit.path.clone()));
        let before = self.remember(paths)?;
        // Before anything is loaded that looks at them: with no flag at all the first colour would be served, and the
        // lines of the user's that are exchanged must go on to where they go now.
        let begins = takeover.begins.filter(|_| first || !edits.is_empty());
        let flags = begins.map_or(Ok(Vec::new()), |begins| self.steps(begins.color))?;
        // What answers a client before must do so after; what does not need not.
        let public = if edits.is_empty() { None } else { self.answering(&dump, &takeover.line).await };
        let written = self.write(&rendered, &flags, edits).map_err(other("write nginx's files"));
        let serves = begins.and_then(|begins| begins.color).filter(|_| !edits.is_empty());
        let wanted = Wanted { generation: Some(&rendered.generation), serves, answers: public.as_ref() };
        self.load_or_put_back(master, &before, written, earlier, wanted).await.map(|()| changes)
    }

    /// Where a client has an answer now, of the servers in which these lines stand.
    async fn answering(&self, dump: &Dump, line: &UserLine) -> Option<PublicUrl> {
        let UserLine::Known(lines) = line else { return None };
        let url = if let Some(url) = &self.site.public {
            url.clone()
        } else {
            let ours = |directive: &Directive, _: &str| {
                directive.name == self.site.protocol.directive()
                    && lines.iter().any(|line| {
                        line.line == directive.line
                            && dump
                                .file_of(directive)
                                .is_some_and(|(path, _)| self.outside(path) == line.path)
                    })
            };
            public::find(&self.control, dump, &ours)?
        };
        public::ask(self.site, &url).await.ok().map(|_| url)
    }

    fn write(&self, rendered: &Rendered, flags: &[Flag], edits: &[Edit]) -> io::Result<()> {
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
        for flag in flags {
            self.apply(*flag)?;
        }
        for (name, text) in &rendered.files {
            atomic::replace(&self.dir.join(name), text.as_bytes(), None)?;
        }
        edits.iter().try_for_each(Edit::write)
    }

    /// Has nginx test what an install would write, where that is more than what it runs with.
    async fn try_install(&self, dump: &Dump, rendered: &Rendered, edits: &[Edit]) -> Result<(), ProxyError> {
        let folder = self.inside.join(render::FOLDER);
        if let Some((include, pattern)) = dump.taking(&folder.display().to_string()) {
            let (path, _) = dump.file_of(include).unwrap_or_default();
            let at = format!("{}:{}", self.outside(path), include.line);
            let found =
                format!("`include {pattern};` would take our directory {} for a file", folder.display());
            let expected = format!("{}/*.conf there", self.inside.display());
            return Err(unrecognized(Path::new(&at), found, expected));
        }
        if edits.is_empty() && self.changes(rendered)?.is_empty() {
            return Ok(());
        }
        let ours = rendered
            .files
            .iter()
            .map(|(name, text)| (self.inside.join(name).display().to_string(), text.clone().into_bytes()));
        let tried = self.control.try_out(dump, ours.collect(), edits, &[]).await?;
        let Err(reason) = tried else { return Ok(()) };
        // Broken before we came, or by what we would write?
        match self.control.test().await? {
            Ok(()) => Err(ProxyError::Refused { reason }),
            Err(output) => Err(self.broken(dump, output, false).await),
        }
    }

    /// What a removal would change: the user's files, and ours that go.
    async fn removal(&self) -> Result<(Vec<Edit>, Vec<PathBuf>), ProxyError> {
        let seen = self.control.read().await?;
        self.tested(&seen).await?;
        let dump = seen.dump;
        let serves = match self.color().await {
            Ok(served) => served,
            // Not loaded; then the flags are all that there is.
            Err(ProxyError::Unrecognized { .. }) => self.flagged()?,
            Err(error) => return Err(error),
        };
        let edits = self.plain(&dump, serves).await?;
        let mut paths: Vec<PathBuf> = vec![
            self.flag("location"),
            self.flag("color"),
            self.flag("lines"),
            self.flag("control"),
            self.dir.join(render::upstreams_file(self.app)),
        ];
        paths.extend(self.taken()?.lines.iter().map(|line| self.flag(&render::line_kind(line.number))));
        paths.extend(self.is_last().then(|| self.dir.join(render::CONTROL)));
        let gone: Vec<String> = paths
            .iter()
            .filter_map(|path| {
                Some(self.inside.join(path.strip_prefix(&self.dir).ok()?).display().to_string())
            })
            .collect();
        let tried = self.control.try_out(&dump, BTreeMap::new(), &edits, &gone).await?;
        // A line of ours that we do not see stays, and names what would be gone.
        tried.map_err(|reason| match dump.unread().next() {
            Some((path, unread)) => self.control.unreadable(path, unread),
            None => ProxyError::Refused { reason },
        })?;
        Ok((edits, paths))
    }

    /// Whether no other application is installed in this directory.
    fn is_last(&self) -> bool {
        let own = self.flag("control");
        fs::read_dir(self.dir.join(render::FOLDER)).map_or(true, |entries| {
            entries.flatten().map(|entry| entry.path()).all(|path| path == own || !ends(&path, "control"))
        })
    }

    fn removed(edits: &[Edit], before: &Before) -> Vec<FileChange> {
        let gone = before.files.iter().filter(|(path, _)| edits.iter().all(|edit| edit.path != *path));
        let gone = gone.filter_map(|(path, bytes)| Some((path.display().to_string(), bytes.as_ref()?)));
        let gone = gone.map(|(path, bytes)| {
            let diff = unified(&path, &String::from_utf8_lossy(bytes), "");
            FileChange::new(&path, format!("remove {path}"), diff)
        });
        edits.iter().map(Edit::change).chain(gone).collect()
    }

    pub(super) async fn preview_removal(&self) -> Result<Vec<FileChange>, ProxyError> {
        let (edits, paths) = self.removal().await?;
        Ok(Self::removed(&edits, &self.remember(paths)?))
    }

    pub(super) async fn remove(&self) -> Result<Vec<FileChange>, ProxyError> {
        let master = self.control.master().await?;
        let (edits, paths) = self.removal().await?;
        let last = self.is_last();
        let before =
            self.remember(paths.iter().cloned().chain(edits.iter().map(|edit| edit.path.clone())))?;
        let changes = Self::removed(&edits, &before);
        if !changes.is_empty() {
            let earlier = self.generation().await;
            // Looked for while the include still tells where. What does not answer before need not after.
            let mut public = match &self.site.public {
                Some(url) => Some(url.clone()),
                None if !edits.is_empty() => self.discover().await?,
                None => None,
            };
            if let Some(url) = &public
                && public::ask(self.site, url).await.is_err()
            {
                public = None;
            }
            let removed = edits
                .iter()
                .try_for_each(Edit::write)
                .and_then(|()| paths.iter().try_for_each(|path| atomic::remove(path).map(drop)));
            let removed = removed.map_err(other("remove nginx's files"));
            let wanted = Wanted { generation: None, serves: None, answers: public.as_ref() };
            self.load_or_put_back(master, &before, removed, earlier, wanted).await?;
        }
        // Nothing looks at the flags any more.
        let tidy = ["green", "none"].iter().try_for_each(|kind| atomic::remove(&self.flag(kind)).map(drop));
        tidy.map_err(other("remove a flag"))?;
        if last {
            // Not empty when the user keeps something there.
            fs::remove_dir(self.dir.join(render::FOLDER)).ok();
        }
        Ok(changes)
    }

    /// After files were changed: tests, reloads and waits until nginx does what is wanted; on any failure puts
    /// everything back and waits until it says `served` again.
    async fn load_or_put_back(
        &self,
        master: u32,
        before: &Before,
        changed: Result<(), ProxyError>,
        served: Option<String>,
        wanted: Wanted<'_>,
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
        if signalled {
            let mut again = false;
            let wanted = Wanted { generation: served.as_ref(), serves: None, answers: None };
            self.load(master, wanted, &mut again).await.map_err(|error| not_restored(error.to_string()))?;
        }
        // Only now: until the reload above, nginx may have looked at them for each request.
        for flag in &before.flags {
            self.apply(*flag).map_err(|error| not_restored(format!("a flag: {error}")))?;
        }
        let folder = self.dir.join(render::FOLDER);
        if before.files.iter().all(|(path, bytes)| !path.starts_with(&folder) || bytes.is_none()) {
            // Only when it is empty: then it was made for this.
            fs::remove_dir(&folder).ok();
        }
        Err(failure)
    }

    async fn load(&self, master: u32, wanted: Wanted<'_>, signalled: &mut bool) -> Result<(), ProxyError> {
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
        while self.generation().await.as_ref() != wanted.generation {
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
        if let Some(color) = wanted.serves {
            let public = match &self.site.public {
                Some(url) => Some(url.clone()),
                None => self.discover().await?,
            };
            self.verify(&self.site.slots.of(color).backend(), public).await?;
        }
        if let Some(url) = wanted.answers {
            public::ask(self.site, url).await?;
        }
        Ok(())
    }
}

fn ends(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
