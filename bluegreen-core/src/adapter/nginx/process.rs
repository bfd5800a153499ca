//! nginx's processes and sockets as the kernel shows them. A container's processes are there too: the host's process
//! namespace contains theirs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::port::ExecUser;

use super::command::{self, Identity};

/// Ticks of `/proc/<pid>/stat` a second (`USER_HZ`): 100 on every Linux that nginx is packaged for.
const TICKS: u64 = 100;

/// How far a process's start, computed from ticks, may be off: a tick for the start, a tick for the uptime.
pub(super) const START_ERROR: Duration = Duration::from_millis(20);

/// A worker of nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Worker {
    /// Its process id.
    pub(super) pid: u32,
    /// When it started, in ticks since boot: with the id, its identity.
    pub(super) start: u64,
    /// Whether it only finishes what it has.
    pub(super) retiring: bool,
}

impl Worker {
    /// Whether it is the same process.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.pid, self.start) == (other.pid, other.start)
    }

    /// When it started, give or take [`START_ERROR`].
    pub(super) fn started(&self) -> io::Result<SystemTime> {
        let uptime = fs::read_to_string("/proc/uptime")?;
        let uptime: f64 = uptime
            .split_whitespace()
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .ok_or_else(|| io::Error::other("/proc/uptime is not as expected"))?;
        let boot = SystemTime::now()
            .checked_sub(Duration::from_secs_f64(uptime))
            .ok_or_else(|| io::Error::other("the clock is before the start of time"))?;
        Ok(boot + Duration::from_millis(self.start * (1000 / TICKS)))
    }
}

fn proc(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

/// What a process calls itself; empty when it is gone.
fn title(pid: u32) -> String {
    let line = fs::read(proc(pid, "cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_owned()
}

/// Whether it is a master of nginx.
pub(super) fn is_master(pid: u32) -> bool {
    title(pid).starts_with("nginx: master process")
}

/// The arguments that a master was started with, see [`command::arguments`].
pub(super) fn arguments(master: u32) -> Vec<(char, String)> {
    command::arguments(&title(master))
}

/// Who a process is.
pub(super) fn identity(pid: u32) -> Option<Identity> {
    Identity::read(&fs::read_to_string(proc(pid, "status")).ok()?)
}

/// Who a process is in the numbers of its own container.
pub(super) fn identity_inside(pid: u32) -> Option<ExecUser> {
    let map = |file| fs::read_to_string(proc(pid, file)).ok();
    identity(pid)?.inside(&map("uid_map")?, &map("gid_map")?)
}

/// When it started, in ticks since boot, and its parent.
fn stat(pid: u32) -> Option<(u64, u32)> {
    let stat = fs::read_to_string(proc(pid, "stat")).ok()?;
    // The second field is a name in parentheses and may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((fields.nth(17)?.parse().ok()?, parent))
}

/// When a process started, in ticks since boot.
pub(super) fn start(pid: u32) -> Option<u64> {
    stat(pid).map(|(start, _)| start)
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn children(pid: u32) -> Vec<u32> {
    // The file needs CONFIG_PROC_CHILDREN; where it is missing every process is asked for its parent.
    match fs::read_to_string(proc(pid, &format!("task/{pid}/children"))) {
        Ok(list) => list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        Err(_) => all().into_iter().filter(|child| stat(*child).is_some_and(|(_, up)| up == pid)).collect(),
    }
}

/// The workers of a master.
pub(super) fn workers(master: u32) -> Vec<Worker> {
    let one = |pid| {
        let title = title(pid);
        let state = title.strip_prefix("nginx: worker process")?;
        let (start, _) = stat(pid)?;
        Some(Worker { pid, start, retiring: state.contains("shutting down") })
    };
    children(master).into_iter().filter_map(one).collect()
}

/// The master at or below a process: a container's first process may be an init or a shell.
pub(super) fn master_below(first: u32) -> Option<u32> {
    let (mut level, mut seen) = (vec![first], BTreeSet::new());
    while !level.is_empty() {
        if let Some(master) = level.iter().find(|pid| is_master(**pid)) {
            return Some(*master);
        }
        level = level.into_iter().filter(|pid| seen.insert(*pid)).flat_map(children).collect();
    }
    None
}

/// The masters that run the program of this file name and are in no container.
pub(super) fn masters(program: &str) -> Vec<u32> {
    let runs = |pid: u32| {
        // Unreadable for another user's process; then the title has to do.
        fs::read_link(proc(pid, "exe")).map_or(true, |exe| {
            let name = exe.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.trim_end_matches(" (deleted)") == program
        })
    };
    all_masters().into_iter().filter(|pid| runs(*pid)).collect()
}

/// The masters that are in no container.
pub(super) fn all_masters() -> Vec<u32> {
    // A process has one number in each namespace between it and us.
    let ours = |pid: u32| {
        fs::read_to_string(proc(pid, "status")).is_ok_and(|status| {
            status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .is_none_or(|numbers| numbers.split_whitespace().count() == 1)
        })
    };
    all().into_iter().filter(|pid| is_master(*pid) && ours(*pid)).collect()
}

/// Whether a process has a network of its own. `None` when that may not be seen.
pub(super) fn has_own_network(pid: u32) -> Option<bool> {
    let theirs = fs::read_link(proc(pid, "ns/net")).ok()?;
    fs::read_link("/proc/self/ns/net").ok().map(|ours| ours != theirs)
}

/// How many connections were ever accepted in a process's network.
pub(super) fn accepted(pid: u32) -> Option<u64> {
    let table = fs::read_to_string(proc(pid, "net/snmp")).ok()?;
    let mut tcp = table.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next()?, tcp.next()?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(name, _)| *name == "PassiveOpens").and_then(|(_, value)| value.parse().ok())
}

/// How many connections a process's network has open, or is opening, to any of `targets`.
pub(super) fn connections(pid: u32, targets: &[(IpAddr, u16)]) -> io::Result<u32> {
    super::diag::connections(pid, targets).or_else(|_| listed(pid, targets))
}

/// The same by the kernel's list, which is slower and always there.
fn listed(pid: u32, targets: &[(IpAddr, u16)]) -> io::Result<u32> {
    let mut table = fs::read_to_string(proc(pid, "net/tcp"))?;
    // Missing where IPv6 is off.
    table.push_str(&fs::read_to_string(proc(pid, "net/tcp6")).unwrap_or_default());
    let open = table.lines().filter_map(remote).filter(|remote| targets.contains(remote)).count();
    Ok(u32::try_from(open).unwrap_or(u32::MAX))
}

/// The far end of a line of `/proc/net/tcp`, when that connection is open or being opened.
fn remote(line: &str) -> Option<(IpAddr, u16)> {
    let mut fields = line.split_whitespace().skip(2);
    let (remote, state) = (fields.next()?, fields.next()?);
    if !matches!(state, "01" | "02") {
        return None;
    }
    let (address, port) = remote.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each group of eight digits is a word in this machine's byte order.
    let word = |index: usize| -> Option<[u8; 4]> {
        Some(u32::from_str_radix(address.get(index * 8..index * 8 + 8)?, 16).ok()?.to_ne_bytes())
    };
    let address = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let mut bytes = [0; 16];
        for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
            chunk.copy_from_slice(&word(index)?);
        }
        Ipv6Addr::from(bytes).to_canonical()
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_far_end_of_an_open_connection_is_read() {
        let line = |remote: &str, state: &str| {
            format!("   0: 0100007F:0BB8 {remote} {state} 00000000:00000000 00:00000000 00000000     0 0 1")
        };
        if cfg!(target_endian = "little") {
            let seen = (IpAddr::from([127, 0, 0, 1]), 3000);
            assert_eq!(remote(&line("0100007F:0BB8", "01")), Some(seen));
            assert_eq!(remote(&line("0000000000000000FFFF00000100007F:0BB8", "02")), Some(seen));
            assert_eq!(remote(&line("0100007F:0BB8", "06")), None, "TIME_WAIT is over");
        }
        assert_eq!(remote("  sl  local_address rem_address   st"), None);
        assert_eq!(remote(""), None);
    }

    #[test]
    fn this_process_is_seen() {
        let me = std::process::id();
        let worker = Worker { pid: me, start: stat(me).unwrap().0, retiring: false };
        let age = SystemTime::now().duration_since(worker.started().unwrap() - START_ERROR).unwrap();
        assert!(age < Duration::from_mins(10), "{age:?}");
        assert_eq!((is_master(me), master_below(me), has_own_network(me)), (false, None, Some(false)));
        assert!(workers(me).is_empty());
    }

    #[test]
    fn connections_and_accepts_are_counted() {
        let me = std::process::id();
        let before = accepted(me).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let targets = [(IpAddr::V4(Ipv4Addr::LOCALHOST), port)];
        assert_eq!(connections(me, &targets).unwrap(), 0);
        let near = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!((connections(me, &targets).unwrap(), listed(me, &targets).unwrap()), (1, 1));
        assert!(accepted(me).unwrap() > before);
        drop(near);
        assert_eq!(connections(me, &targets).unwrap(), 0);
    }
}
