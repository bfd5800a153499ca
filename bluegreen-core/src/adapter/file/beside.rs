//! What lies beside an application's journal: what it was deployed with. A text of whoever embeds this; nothing here
//! depends on it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::share::{Share, refused};
use super::{FileJournal, MAKING, failed, sync_directory};
use crate::model::AppName;
use crate::port::JournalError;

const NAME: &str = "deployed";
/// More than that was not written here.
const MOST: u64 = 4 * 1024 * 1024;

impl FileJournal {
    /// Keeps a text for the application, in place of the one that was kept before. It may hold secrets: it is readable to
    /// whom the journal is.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the earlier one is kept then.
    pub fn remember(&self, app: &AppName, text: &str) -> Result<(), JournalError> {
        let share = Share::of(&self.directory).map_err(refused(&self.directory, MAKING))?;
        let directory = self.directory.join(app.as_str());
        share.directory(&directory).map_err(refused(&self.directory, MAKING))?;
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".deployed-").tempfile_in(&directory)?;
            share.file(file.as_file())?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            let path = directory.join(NAME);
            file.persist(&path).map_err(|error| error.error)?;
            sync_directory(&path)
        };
        write().map_err(refused(&self.directory, "keeping what it is deployed with"))
    }

    /// The text that was kept for the application, if one was.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn recall(&self, app: &AppName) -> Result<Option<String>, JournalError> {
        let path = self.directory.join(app.as_str()).join(NAME);
        read(&path).map_err(refused(&self.directory, "reading what it was deployed with"))
    }

    /// The applications that something is on record of, in their order.
    ///
    /// # Errors
    ///
    /// When the state directory cannot be read.
    pub fn on_record(&self) -> Result<Vec<AppName>, JournalError> {
        const LISTING: &str = "listing the state directory";
        let listed = match std::fs::read_dir(&self.directory) {
            Ok(listed) => listed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(refused(&self.directory, LISTING)(error)),
        };
        let mut apps = Vec::new();
        for entry in listed {
            let entry = entry.map_err(failed(LISTING))?;
            // Whatever else lies there is no application's.
            let name = entry.file_name().into_string().ok().and_then(|name| AppName::new(name).ok());
            let Some(name) = name else { continue };
            if self.path(&name).try_exists().map_err(refused(&self.directory, LISTING))? {
                apps.push(name);
            }
        }
        apps.sort();
        Ok(apps)
    }
}

fn read(path: &Path) -> std::io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(MOST).read_to_string(&mut text).map(|_| Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_it_was_deployed_with_is_the_last_that_was_kept_and_the_owners_or_the_groups() {
        let directory = tempfile::tempdir().unwrap();
        let app = AppName::new("web").unwrap();
        for (mode, of_directory, of_file) in [(0o700, 0o700, 0o600), (0o2770, 0o2770, 0o660)] {
            let state = directory.path().join(format!("{mode:o}"));
            std::fs::create_dir(&state).unwrap();
            std::fs::set_permissions(&state, std::fs::Permissions::from_mode(mode)).unwrap();
            let journal = FileJournal::new(&state);
            assert_eq!(journal.recall(&app).unwrap(), None);
            for text in ["one", "two"] {
                journal.remember(&app, text).unwrap();
                assert_eq!(journal.recall(&app).unwrap().as_deref(), Some(text));
            }
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode(&state.join("web")), of_directory);
            assert_eq!(mode(&state.join("web/deployed")), of_file);
            // It is no journal.
            assert!(journal.on_record().unwrap().is_empty());
        }
    }
}
