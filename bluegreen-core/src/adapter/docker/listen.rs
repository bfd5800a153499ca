//! Where a container's processes listen, as the kernel has it: what is in `/proc/PID/net` is the whole network of the
//! container, and needs neither a shell nor a tool inside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Docker;
use crate::port::Instance;

/// The kernel's number for a socket that listens.
const LISTENS: &str = "0A";

impl Docker {
    /// None where it runs on another host, or where we may not look.
    pub(super) fn listeners(&self, instance: &Instance) -> Vec<SocketAddr> {
        let Some(pid) = instance.pid.filter(|_| self.address().starts_with("unix://")) else {
            return Vec::new();
        };
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        // Through a forwarded socket the Engine may be elsewhere, and the number is another process's here.
        if !read("cgroup").contains(instance.id.as_str()) {
            return Vec::new();
        }
        let mut found: Vec<SocketAddr> =
            [read("net/tcp"), read("net/tcp6")].iter().flat_map(|table| parse(table)).collect();
        // It may have ended in between, and another have its number.
        if !read("cgroup").contains(instance.id.as_str()) {
            found.clear();
        }
        found
    }
}

/// What listens, of a table of the kernel's.
fn parse(table: &str) -> impl Iterator<Item = SocketAddr> {
    table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        if state != LISTENS {
            return None;
        }
        let (address, port) = local.split_once(':')?;
        Some(SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?))
    })
}

/// An address as the kernel prints it: 32 bits at a time, each as a number of this machine.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_mut(4).enumerate() {
                part.copy_from_slice(&word(index * 8)?);
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn what_listens_is_read_and_nothing_else() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
             0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n   \
             1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n   \
             2: 0200A8C0:0050 0300A8C0:C350 01 00000000:00000000 00:00000000 00000000     0\n";
        let table6 = "  sl  local_address                         remote_address                        st\n   \
             0: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A\n   \
             1: 0000000000000000FFFF00000100007F:0BB9 00000000000000000000000000000000:0000 0A\n";
        let found: Vec<String> = parse(table).chain(parse(table6)).map(|at| at.to_string()).collect();
        assert_eq!(found, ["127.0.0.1:3000", "0.0.0.0:8080", "[::1]:3000", "127.0.0.1:3001"]);
        assert_eq!(parse("").count() + parse("x\n1: nonsense").count(), 0);
    }
}
