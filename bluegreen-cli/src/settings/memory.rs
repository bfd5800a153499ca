//! What an application was deployed with, kept beside its journal: at 3 a.m. the file may be broken, moved, or there may
//! never have been one, and `rollback`, `status` and the like must work all the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bluegreen_core::adapter::file::FileJournal;
use bluegreen_core::event::{Event, Observer, Silent};
use bluegreen_core::model::AppName;
use bluegreen_core::port::JournalError;
use serde::{Deserialize, Serialize};

use super::Target;

/// The version of the form in which it is kept. It changes when a reader would misread.
const VERSION: u32 = 1;

/// Where a target's settings are from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// A configuration file, with its text.
    Config { path: PathBuf, text: String },
    /// The shell script's inputs: nginx's own file.
    Script { nginx_conf: PathBuf },
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    #[serde(flatten)]
    origin: Origin,
}

impl Origin {
    /// What was kept for an application; nothing where there is none, or none that this version understands.
    pub(super) fn recall(state_dir: &Path, app: &AppName) -> Result<Option<Self>, JournalError> {
        let kept = FileJournal::new(state_dir).recall(app)?;
        let kept = kept.and_then(|text| serde_json::from_str::<Kept>(&text).ok());
        Ok(kept.filter(|kept| kept.version == VERSION).map(|kept| kept.origin))
    }

    /// Keeps it for the time when it is not at hand.
    pub(crate) fn remember(&self, state_dir: &Path, app: &AppName) -> Result<(), JournalError> {
        let kept = Kept { version: VERSION, origin: self.clone() };
        let text = serde_json::to_string(&kept).unwrap_or_default();
        FileJournal::new(state_dir).remember(app, &text)
    }
}

/// Keeps what an application is deployed with as its very first run begins: whatever becomes of that run, `status` and
/// `recover` must find it. What a later run is made with counts once it is committed.
#[derive(Debug)]
pub(crate) struct FirstRun {
    origin: Origin,
    state_dir: PathBuf,
    app: AppName,
    /// Who is told of all events.
    told: Arc<dyn Observer>,
}

impl FirstRun {
    pub(crate) fn of(target: &Target, told: Arc<dyn Observer>) -> Self {
        let (origin, state_dir) = (target.origin.clone(), target.state_dir());
        Self { origin, state_dir, app: target.app.spec.name.clone(), told }
    }

    fn keep(&self) {
        if matches!(Origin::recall(&self.state_dir, &self.app), Ok(None)) {
            // Where it cannot be, that is said at the end, when it is kept again.
            drop(self.origin.remember(&self.state_dir, &self.app));
        }
    }
}

impl Observer for FirstRun {
    fn on_event(&self, event: &Event) {
        if let Event::Begun { .. } = event {
            let (origin, state_dir) = (self.origin.clone(), self.state_dir.clone());
            let this = Self { origin, state_dir, app: self.app.clone(), told: Arc::new(Silent) };
            // A run waits for no disk but its journal's.
            drop(std::thread::spawn(move || this.keep()));
        }
        self.told.on_event(event);
    }
}
