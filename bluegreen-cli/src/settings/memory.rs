//! What an application was deployed with, kept beside its journal: at 3 a.m. the file may be broken, moved, or there may
//! never have been one, and `rollback`, `status` and the like must work all the same.

use std::path::{Path, PathBuf};

use bluegreen_core::adapter::file::FileJournal;
use bluegreen_core::model::AppName;
use bluegreen_core::port::JournalError;
use serde::{Deserialize, Serialize};

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
