//! What bluegreen's scenario tests, benchmarks and demo stand on, all of it real: a sample application in a
//! scratch image, a load client that never retries, nginx of several versions in containers and on the host,
//! and an Amazon ECR without Amazon.
//!
//! Whatever is made carries the id of the run that made it, goes when its guard is dropped, and can be swept
//! later when the run was killed before that.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules of the product: a test kit reads the environment, writes scratch files and times things"
)]

mod app;
pub mod cut;
pub mod disk;
pub mod docker;
pub mod engine;
pub mod fake_ecr;
pub mod fake_imds;
pub mod load;
pub mod nginx;
pub mod process;
pub mod relay;
pub mod ws;

pub use app::{cache_dir, static_app, workspace_root};

/// What went wrong, in words for the person who reads the failed test.
#[derive(Debug)]
pub struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The result of everything in this kit.
pub type Result<T> = std::result::Result<T, Error>;

/// An [`Error`] of these words.
pub(crate) fn fail(words: impl Into<String>) -> Error {
    Error(words.into())
}

/// Removes what runs left whose process is gone: containers, networks, images, host nginx processes, fake
/// ECRs, Engines, disks. What live runs use stays, and so do the shared images.
pub fn sweep() -> Result<()> {
    // All of them, even when one fails; disks first, as they are in directories of the others.
    let (disk, engine, docker) = (disk::sweep(), engine::sweep(), docker::sweep());
    let (nginx, ecr) = (nginx::sweep(), fake_ecr::sweep());
    disk.and(engine).and(docker).and(nginx).and(ecr)
}
