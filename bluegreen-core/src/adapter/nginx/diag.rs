//! Counting connections by asking the kernel for open ones only (`sock_diag`).
//!
//! `/proc/net/tcp` lists the closed ones of the last minute too: a busy nginx has tens of thousands of them, and
//! reading them took 100 ms of a core, at each look of a drain.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const TCP: u8 = 6;
/// `TCP_ESTABLISHED` and `TCP_SYN_SENT`.
const STATES: u32 = 1 << 1 | 1 << 2;
const HEADER: usize = 16;

/// How many connections a process's network has open, or is opening, to any of `targets`.
///
/// # Errors
///
/// Also where the kernel has no such interface, or this user may not look into another network.
pub(super) fn connections(pid: u32, targets: &[(IpAddr, u16)]) -> io::Result<u32> {
    let theirs = format!("/proc/{pid}/ns/net");
    if fs::read_link(&theirs)? == fs::read_link("/proc/self/ns/net")? {
        return count(targets);
    }
    let network = File::open(theirs)?;
    let targets = targets.to_vec();
    // A thread of its own, because it stays in the network that it enters.
    let look = std::thread::Builder::new().name("nginx-sockets".to_owned()).spawn(move || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        count(&targets)
    })?;
    look.join().map_err(|_| io::Error::other("the look into another network panicked"))?
}

fn count(targets: &[(IpAddr, u16)]) -> io::Result<u32> {
    let mut ports: Vec<u16> = targets.iter().map(|(_, port)| *port).collect();
    ports.sort_unstable();
    ports.dedup();
    let mut open = 0;
    for port in ports {
        // A socket of the newer family may speak the older protocol.
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            open += ask(family, port, targets)?;
        }
    }
    Ok(open)
}

fn ask(family: AddressFamily, port: u16, targets: &[(IpAddr, u16)]) -> io::Result<u32> {
    let protocol = Some(rustix::net::netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, protocol)?;
    send(&socket, &request(family, port), SendFlags::empty())?;
    let (mut open, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        let (read, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::Error::other("the kernel's answer has no end"));
        }
        while let Some((kind, message, after)) = split(rest) {
            match kind {
                NLMSG_DONE => return Ok(open),
                NLMSG_ERROR => {
                    let code =
                        message.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    return Err(io::Error::from_raw_os_error(-code));
                }
                _ => open += u32::from(remote(message).is_some_and(|remote| targets.contains(&remote))),
            }
            rest = after;
        }
    }
}

/// `nlmsghdr` and `inet_diag_req_v2`, with only states and the far port to choose by.
fn request(family: AddressFamily, port: u16) -> Vec<u8> {
    let mut message = Vec::with_capacity(72);
    message.extend(72_u32.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST_DUMP.to_ne_bytes());
    message.extend([0; 8]);
    // Families are small numbers.
    message.extend([u8::try_from(family.as_raw()).unwrap_or_default(), TCP, 0, 0]);
    message.extend(STATES.to_ne_bytes());
    message.extend([0; 2]);
    message.extend(port.to_be_bytes());
    message.resize(72, 0);
    message
}

/// The kind and content of the first message, and what comes after it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let message = bytes.get(HEADER..length)?;
    Some((kind, message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The far end in an `inet_diag_msg`.
fn remote(message: &[u8]) -> Option<(IpAddr, u16)> {
    let port = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
    let address: [u8; 16] = message.get(24..40)?.try_into().ok()?;
    let [a, b, c, d, ..] = address;
    let older = AddressFamily::INET.as_raw();
    let address = if u16::from(*message.first()?) == older {
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        Ipv6Addr::from(address).to_canonical()
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn open_connections_are_counted_and_others_are_not() {
        let me = std::process::id();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let targets = [(IpAddr::V4(Ipv4Addr::LOCALHOST), port), (IpAddr::V4(Ipv4Addr::BROADCAST), 9)];
        assert_eq!(connections(me, &targets).unwrap(), 0);
        let near = [(); 3].map(|()| TcpStream::connect(("127.0.0.1", port)).unwrap());
        assert_eq!(connections(me, &targets).unwrap(), 3);
        assert_eq!(connections(me, &targets[1..]).unwrap(), 0);
        drop(near);
        assert_eq!(connections(me, &targets).unwrap(), 0);
    }

    #[test]
    fn a_cut_answer_is_no_message() {
        assert!(split(&[]).is_none());
        assert!(split(&100_u32.to_ne_bytes()).is_none());
        assert!(split(&[0; 20]).is_none());
        assert!(remote(&[2; 30]).is_none());
    }
}
