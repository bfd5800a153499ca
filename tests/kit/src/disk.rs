//! A small disk that can be full.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::docker::{self, Run};
use crate::process::{output, output_of};
use crate::{Result, fail};

/// A disk mounted over a directory, with what was in it. Dropped, the directory is as it was before.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

const PAGE: u64 = 4096;

impl Disk {
    /// Mounts one of this size, such as `64k`, which has room for so many files. Needs root.
    pub fn over(run: &Run, path: &Path, size: &str, files: u32) -> Result<Self> {
        let script = "set -e; copy=$(mktemp -d); cp -a \"$1/.\" \"$copy\"
            mount -t tmpfs -o \"$2\" \"$3\" \"$1\"; cp -a \"$copy/.\" \"$1\"; rm -r \"$copy\"";
        let options = format!("size={size},nr_inodes={files}");
        let mut mount = Command::new("sh");
        mount.args(["-c", script, "sh"]).arg(path).args([&options, &run.name("disk")]);
        output_of(&mut mount)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Fills it up, but for so many pages of 4 KiB.
    pub fn fill_but(&self, pages: u64) -> Result<()> {
        let file = self.path.join(".full");
        // The one that says that there is no room is what is wanted.
        let _ = output("dd", ["if=/dev/zero", &format!("of={}", file.display()), "bs=4k", "status=none"]);
        let filled = std::fs::OpenOptions::new().write(true).open(&file)?;
        let length = filled.metadata()?.len();
        let less = length.checked_sub(pages * PAGE).ok_or_else(|| fail("the disk is too small"))?;
        Ok(filled.set_len(less)?)
    }

    /// Takes the room for files: not even an empty one can be made.
    pub fn fill_files(&self) -> Result<()> {
        let dir = self.path.join(".files");
        // It may be the last that there is room for.
        let _ = std::fs::create_dir(&dir);
        for n in 0.. {
            if std::fs::File::create(dir.join(n.to_string())).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// There is room again.
    pub fn make_room(&self) -> Result<()> {
        let _ = std::fs::remove_file(self.path.join(".full"));
        let _ = std::fs::remove_dir_all(self.path.join(".files"));
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.path) {
            eprintln!("testkit: {error}");
        }
    }
}

fn unmount(path: &Path) -> Result<()> {
    output("umount", ["--lazy", &path.to_string_lossy()]).map(drop)
}

/// Unmounts what runs left whose process is gone.
pub fn sweep() -> Result<()> {
    for line in std::fs::read_to_string("/proc/self/mounts")?.lines() {
        let mut words = line.split(' ');
        let (Some(source), Some(path)) = (words.next(), words.next()) else { continue };
        let run = source.strip_prefix("bgt-").and_then(|rest| rest.strip_suffix("-disk"));
        if run.is_some_and(|run| docker::is_run(run) && !docker::owner_is_alive(run)) {
            unmount(Path::new(path))?;
        }
    }
    Ok(())
}
