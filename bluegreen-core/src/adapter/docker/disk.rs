use std::path::PathBuf;

use super::Docker;
use crate::port::RuntimeError;

/// Where the Engine keeps its images, and how much room is left there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskSpace {
    /// The Engine's root directory.
    pub root: PathBuf,
    /// The bytes that are free there.
    pub free: u64,
}

impl Docker {
    /// The room that is left for images; `None` when the Engine is not on this host, or its directory cannot be
    /// looked at from here.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    pub async fn disk_space(&self) -> Result<Option<DiskSpace>, RuntimeError> {
        if !self.address().starts_with("unix://") {
            return Ok(None);
        }
        let info = self
            .engine()
            .await?
            .info()
            .await
            .map_err(|error| self.other("asking for its directory", error))?;
        let Some(root) = info.docker_root_dir.map(PathBuf::from) else { return Ok(None) };
        Ok(rustix::fs::statvfs(&root)
            .ok()
            .map(|disk| DiskSpace { root, free: disk.f_bavail * disk.f_frsize }))
    }
}
