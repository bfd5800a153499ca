//! Processes: run, look at, end. Always by id, never by name: other programs run on this machine.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Result, fail};

/// Runs a program to its end and gives its output; what it said on stderr when it fails.
pub fn output<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    output_of(&mut command)
}

/// The same for a prepared command.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| fail(format!("cannot run {}: {e}", command.get_program().to_string_lossy())))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    Err(fail(format!(
        "{} {}: {}: {}",
        command.get_program().to_string_lossy(),
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// When a process started, in the kernel's ticks: with its pid this names one process for ever, while a pid
/// alone is given again. None when there is no such process, or only its remains.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses can hold anything, so count from behind it.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(fields.first(), Some(&("Z" | "X"))) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// Whether that process runs.
pub fn is_alive(pid: u32) -> bool {
    start_time(pid).is_some()
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// The processes of a program whose arguments name something in this directory.
pub(crate) fn within(dir: &Path, program: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let dir = format!("{}/", dir.display());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let first = line.split('\0').next().unwrap_or_default();
        first.rsplit('/').next() == Some(program) && line.contains(&dir)
    })
    .collect()
}

/// Sends a signal, such as `TERM`; nothing when the process is gone.
pub fn signal(pid: u32, name: &str) {
    let _ = output("kill", ["-s", name, &pid.to_string()]);
}

/// Ends a process: SIGTERM, and SIGKILL when that does not help within `patience`.
pub fn end(pid: u32, patience: Duration) {
    signal(pid, "TERM");
    if !wait_until(patience, || !is_alive(pid)) {
        signal(pid, "KILL");
        wait_until(Duration::from_secs(2), || !is_alive(pid));
    }
}

/// Asks every 10 ms until the answer is yes; false when `limit` passes first.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where a program is, also in the directories that only root's search path has.
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"])
        .map(|dir| Path::new(dir).join(name))
        .find(|file| file.is_file())
}
