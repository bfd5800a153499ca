//! nginx's own command, run as what its master is: the same user, groups and arguments.
//!
//! `nginx -t` opens what the configuration names and, as root, gives temporary directories to the user that *it* would
//! work as. Run by root where the master is a plain user, it takes them from that user (nginx/nginx#1388).

use std::io;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::port::{ExecOutput, ExecUser};

/// Who a process is, in this host's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

impl Identity {
    /// Reads `/proc/<pid>/status`. The effective ones: they are what files are opened with.
    pub(super) fn read(status: &str) -> Option<Self> {
        let numbers = |name: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().map(|number| number.parse().ok()).collect()
        };
        let effective = |name: &str| numbers(name)?.get(1).copied();
        Some(Self { uid: effective("Uid:")?, gid: effective("Gid:")?, groups: numbers("Groups:")? })
    }

    /// The same in the numbers of a container, by its `uid_map` and `gid_map`.
    pub(super) fn inside(&self, uids: &str, gids: &str) -> Option<ExecUser> {
        Some(ExecUser { uid: mapped(uids, self.uid)?, gid: mapped(gids, self.gid)? })
    }

    /// Makes this thread, and what is started from it, this identity. Only root can, and only root does harm.
    fn become_it(&self) -> io::Result<()> {
        if !geteuid().is_root() || self.uid == 0 {
            return Ok(());
        }
        let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        set_thread_groups(&groups)?;
        let (gid, uid) = (Gid::from_raw(self.gid), Uid::from_raw(self.uid));
        set_thread_res_gid(gid, gid, gid)?;
        Ok(set_thread_res_uid(uid, uid, uid)?)
    }
}

/// What a number of this host is in a user namespace with this map.
fn mapped(map: &str, outside: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let (inside, first, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = outside.checked_sub(first)?;
        (offset < count).then(|| inside + offset)
    })
}

/// The arguments of a master by its title, which is its command line with single spaces between the words. Only those
/// that say which nginx it is: `-c`, `-p`, `-e`, `-g`.
pub(super) fn arguments(title: &str) -> Vec<(char, String)> {
    let Some(line) = title.strip_prefix("nginx: master process ") else { return Vec::new() };
    let mut found: Vec<(char, String)> = Vec::new();
    let mut takes = false;
    for word in line.split(' ').skip(1) {
        let mut letters = word.chars();
        match (letters.next(), letters.next()) {
            (Some('-'), Some(letter @ ('c' | 'p' | 'e' | 'g'))) => {
                found.push((letter, letters.as_str().to_owned()));
                takes = true;
            }
            (Some('-'), Some('s' | 't' | 'T' | 'q' | 'v' | 'V' | 'h' | '?')) => takes = false,
            // A value may have spaces itself.
            _ => {
                if let Some((_, value)) = found.last_mut().filter(|_| takes) {
                    if !value.is_empty() {
                        value.push(' ');
                    }
                    value.push_str(word);
                }
            }
        }
    }
    found
}

/// Runs a program without a shell and waits for its end. Dropped, it is killed.
pub(super) async fn run(
    program: &Path,
    args: &[String],
    directory: Option<&Path>,
    identity: Option<&Identity>,
) -> io::Result<ExecOutput> {
    let mut command = tokio::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    directory.map(|directory| command.current_dir(directory));
    let (identity, runtime) = (identity.cloned(), tokio::runtime::Handle::current());
    // A thread of its own, because it stays what it becomes; it is gone when the program has started.
    let start = std::thread::Builder::new().name("nginx-command".to_owned()).spawn(move || {
        identity.as_ref().map_or(Ok(()), Identity::become_it)?;
        let _inside = runtime.enter();
        command.spawn()
    })?;
    let child = start.join().map_err(|_| io::Error::other("the start of nginx's command panicked"))??;
    let ran = child.wait_with_output().await?;
    let [stdout, stderr] = [&ran.stdout, &ran.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    Ok(ExecOutput::new(ran.status.code().unwrap_or(-1).into(), format!("{stdout}{stderr}"))
        .with_stdout(stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_arguments_are_read_from_its_title() {
        for (line, expected) in [
            ("nginx", ""),
            ("/usr/sbin/nginx -g daemon on; master_process on;", "g=daemon on; master_process on;"),
            ("nginx -c /my site/n.conf -p /p -q -g daemon off;", "c=/my site/n.conf p=/p g=daemon off;"),
            ("nginx -c/n.conf -e stderr", "c=/n.conf e=stderr"),
        ] {
            let found = arguments(&format!("nginx: master process {line}"));
            let found: Vec<_> = found.iter().map(|(letter, value)| format!("{letter}={value}")).collect();
            assert_eq!(found.join(" "), expected);
        }
        assert!(arguments("nginx: worker process -c x").is_empty());
    }

    #[test]
    fn an_identity_is_read_and_mapped() {
        let status =
            "Name:\tnginx\nUid:\t0\t101\t0\t101\nGid:\t101\t102\t101\t101\nGroups:\t101 4 \nVmPeak: 1\n";
        let identity = Identity::read(status).unwrap();
        assert_eq!(identity, Identity { uid: 101, gid: 102, groups: vec![101, 4] });
        let all = "         0          0 4294967295\n";
        assert_eq!(identity.inside(all, all), Some(ExecUser { uid: 101, gid: 102 }));
        let remapped = "0 100 10\n10 5000 1\n";
        assert_eq!(identity.inside(remapped, remapped), Some(ExecUser { uid: 1, gid: 2 }));
        assert_eq!(identity.inside("0 5000 10\n", all), None);
        assert_eq!(Identity::read("Uid:\tx"), None);
    }

    #[tokio::test]
    async fn a_program_is_run_as_somebody_else_and_this_process_stays_what_it_is() {
        let before = Identity::read(&std::fs::read_to_string("/proc/self/status").unwrap()).unwrap();
        let other = Identity { uid: 65534, gid: 65533, groups: vec![65532, 65533] };
        let args = ["-c".to_owned(), "cat /proc/self/status; echo x >&2; exit 3".to_owned()];
        let ran = run(Path::new("sh"), &args, None, Some(&other)).await.unwrap();
        assert_eq!(
            (ran.exit_code, ran.output.ends_with("x\n"), ran.stdout.ends_with("x\n")),
            (3, true, false)
        );
        let expected = if geteuid().is_root() { other } else { before.clone() };
        assert_eq!(Identity::read(&ran.stdout).unwrap(), expected);
        assert_eq!(Identity::read(&std::fs::read_to_string("/proc/self/status").unwrap()).unwrap(), before);
    }
}
