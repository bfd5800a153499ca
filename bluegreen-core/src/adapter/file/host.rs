//! What is one for the whole host, whatever the state directory: two journals of one application would each take the
//! other's containers for leftovers.
//!
//! The lock in a state directory is only that directory's. So there is another one that has no place among the files: a
//! socket's name, which the kernel lets one process have and takes back at its end, and which needs no rights.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use super::failed;
use crate::model::AppName;
use crate::port::JournalError;

/// Takes the lock of this application at that runtime.
pub(super) fn take(runtime: &str, app: &AppName) -> Result<UnixListener, JournalError> {
    let bound =
        SocketAddr::from_abstract_name(name(runtime, app)).and_then(|name| UnixListener::bind_addr(&name));
    bound.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => JournalError::Held { holder: None },
        _ => failed("taking the host's lock")(error),
    })
}

/// Such a name has room for 107 bytes; an address may be longer, its end tells it from others.
fn name(runtime: &str, app: &AppName) -> String {
    const ROOM: usize = 107;
    let mut name = format!("bluegreen/{app}/");
    let left = ROOM.saturating_sub(name.len());
    let tail: Vec<char> = runtime.chars().rev().filter(char::is_ascii).take(left).collect();
    name.extend(tail.iter().rev());
    name.truncate(ROOM);
    name
}

/// Whether `other` is another directory than `own` that has a journal of the application. One that may not be looked into
/// is believed to.
pub(super) fn is_elsewhere(own: &Path, other: &Path, app: &AppName) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
    let has = other.join(app.as_str()).join("journal").try_exists().unwrap_or_else(denied);
    has && real(own) != real(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_lock_of_an_application_at_a_runtime() {
        let runtime = format!("unix:///run/{}/docker.sock", std::process::id());
        let [web, api] = ["web", "api"].map(|name| name.parse::<AppName>().unwrap());
        let held = take(&runtime, &web).unwrap();
        assert!(matches!(take(&runtime, &web), Err(JournalError::Held { holder: None })));
        drop(take(&runtime, &api).unwrap());
        drop(take(&format!("{runtime}2"), &web).unwrap());
        drop(held);
        drop(take(&runtime, &web).unwrap());
        let long = "x".repeat(300);
        assert_ne!(name(&format!("{long}1"), &web), name(&format!("{long}2"), &web));
        drop(take(&long, &web).unwrap());
    }

    #[test]
    fn another_directory_counts_while_it_has_something_of_the_application() {
        let place = tempfile::tempdir().unwrap();
        let (own, other) = (place.path().join("own"), place.path().join("other"));
        let [web, api] = ["web", "api"].map(|name| name.parse::<AppName>().unwrap());
        for directory in [&own, &other] {
            std::fs::create_dir_all(directory.join("web")).unwrap();
            drop(std::fs::File::create(directory.join("web/journal")).unwrap());
        }
        std::os::unix::fs::symlink(&own, place.path().join("link")).unwrap();
        assert!(is_elsewhere(&own, &other, &web));
        assert!(!is_elsewhere(&own, &other, &api));
        assert!(!is_elsewhere(&own, &own, &web));
        assert!(!is_elsewhere(&own, &place.path().join("link"), &web));
        std::fs::remove_file(other.join("web/journal")).unwrap();
        assert!(!is_elsewhere(&own, &other, &web), "it was moved away");
    }
}
