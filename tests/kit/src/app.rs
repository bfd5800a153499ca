//! The sample application, built statically so that it runs in an image with nothing else in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::{Result, fail};

/// The root of the workspace this kit was built in.
pub fn workspace_root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().nth(2).expect("the kit is two directories below the root").to_owned()
    })
}

/// Where the kit keeps what is expensive to make twice: downloads, roots, a Python environment.
pub fn cache_dir() -> Result<PathBuf> {
    let dir = workspace_root().join("target/testkit");
    std::fs::create_dir_all(&dir).map_err(|e| fail(format!("cannot create {}: {e}", dir.display())))?;
    Ok(dir)
}

/// The static sample application; built on the first call in a process, which takes a second when nothing
/// changed. `BLUEGREEN_SAMPLE_APP` names a ready one instead.
pub fn static_app() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|e| e.to_string())).clone().map_err(fail)
}

fn build() -> Result<PathBuf> {
    if let Some(ready) = std::env::var_os("BLUEGREEN_SAMPLE_APP") {
        return Ok(PathBuf::from(ready));
    }
    // A target directory of its own: other flags in the main one would throw its cache away at each turn.
    let target_dir = workspace_root().join("target/static");
    let triple = host_triple()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let output = Command::new(cargo)
        .current_dir(workspace_root())
        .args(["build", "--quiet", "--release", "--package", "bluegreen-testkit", "--bin", "sample-app"])
        .arg("--no-default-features")
        .args(["--target", &triple, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // Coverage and other wrappers of the test run are not for an image without a file system.
        .env_remove("LLVM_PROFILE_FILE")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        // A test binary has no use for the minutes that link-time optimization takes.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| fail(format!("cannot run cargo: {e}")))?;
    if !output.status.success() {
        return Err(fail(format!(
            "the static sample-app does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(target_dir.join(triple).join("release/sample-app"))
}

/// The triple of the compiler's own host, such as `x86_64-unknown-linux-gnu`.
fn host_triple() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output =
        Command::new(rustc).arg("-vV").output().map_err(|e| fail(format!("cannot run rustc: {e}")))?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .ok_or_else(|| fail("rustc -vV names no host"))
}
