//! A line that breaks: a relay that lets so many bytes of answers through and then cuts every connection, or stands still.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::Result;

/// A relay on loopback; it ends with this value.
#[derive(Debug)]
pub struct CuttingRelay {
    address: SocketAddr,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    to: SocketAddr,
    /// Bytes of answers until the cut; the largest number means that there is none.
    left: AtomicU64,
    /// After a cut nobody gets through any more.
    stays_cut: AtomicBool,
    /// A cut is a silence: what is open stays open.
    stands_still: AtomicBool,
    cuts: AtomicU64,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

const NEVER: u64 = u64::MAX;

impl CuttingRelay {
    /// Starts one that leads to `to` and does not cut yet.
    pub fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let line = Arc::new(Line {
            to,
            left: NEVER.into(),
            stays_cut: false.into(),
            stands_still: false.into(),
            cuts: 0.into(),
            ended: false.into(),
            open: Mutex::default(),
        });
        let of_listener = Arc::clone(&line);
        drop(std::thread::spawn(move || {
            for client in listener.incoming().map_while(std::io::Result::ok) {
                if of_listener.ended.load(Ordering::SeqCst) {
                    return;
                }
                of_listener.carry(client);
            }
        }));
        Ok(Self { address, line })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the line once, when so many bytes of answers have gone through from now on.
    pub fn cut_after(&self, bytes: u64) {
        self.line.left.store(bytes, Ordering::SeqCst);
    }

    /// The same, and nobody gets through after it until [`CuttingRelay::mend`].
    pub fn cut_for_good_after(&self, bytes: u64) {
        self.line.stays_cut.store(true, Ordering::SeqCst);
        self.cut_after(bytes);
    }

    /// The same, but nobody is told: connections stay open, and nothing comes over them any more.
    pub fn stand_still_after(&self, bytes: u64) {
        self.line.stands_still.store(true, Ordering::SeqCst);
        self.cut_for_good_after(bytes);
    }

    /// The line is whole again, for new connections.
    pub fn mend(&self) {
        self.line.stands_still.store(false, Ordering::SeqCst);
        self.line.left.store(NEVER, Ordering::SeqCst);
        self.line.stays_cut.store(false, Ordering::SeqCst);
    }

    /// How often it was cut.
    pub fn cuts(&self) -> u64 {
        self.line.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for CuttingRelay {
    fn drop(&mut self) {
        self.line.ended.store(true, Ordering::SeqCst);
        self.line.hang_up();
        // So that the listener sees it.
        drop(TcpStream::connect(self.address));
    }
}

impl Line {
    fn carry(self: &Arc<Self>, client: TcpStream) {
        if self.left.load(Ordering::SeqCst) == 0 {
            return;
        }
        let Ok(server) = TcpStream::connect(self.to) else { return };
        let (Ok(to_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { return };
        let both = [&server, &client].map(|stream| stream.try_clone().expect("a descriptor"));
        self.open.lock().expect("no panic").extend(both);
        drop(std::thread::spawn(move || {
            let (mut from, mut to) = (client, to_server);
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        }));
        let line = Arc::clone(self);
        drop(std::thread::spawn(move || line.answers(server, to_client)));
    }

    fn answers(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 1 << 12];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let spend = |left: u64| (left != NEVER).then(|| left.saturating_sub(n as u64));
            let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).unwrap_or(NEVER);
            if before <= n as u64 {
                if before > 0 {
                    self.cut();
                }
                return;
            }
            if to.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
        if !self.stands_still.load(Ordering::SeqCst) {
            self.hang_up();
        }
        if !self.stays_cut.load(Ordering::SeqCst) {
            self.left.store(NEVER, Ordering::SeqCst);
        }
    }

    fn hang_up(&self) {
        for stream in self.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_cuts_or_stands_still_after_so_many_bytes_and_lets_through_again_when_it_is_mended() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let relay = CuttingRelay::start(server.local_addr().expect("bound")).expect("a relay");
        drop(std::thread::spawn(move || {
            for mut client in server.incoming().map_while(std::io::Result::ok) {
                let _ = client.write_all(&[7; 100_000]);
            }
        }));
        let received = || {
            let mut bytes = Vec::new();
            let mut client = TcpStream::connect(relay.address()).expect("the relay");
            let _ = client.read_to_end(&mut bytes);
            bytes.len()
        };
        assert_eq!(received(), 100_000);
        relay.cut_for_good_after(50_000);
        let some = received();
        assert!((40_000..50_000).contains(&some), "{some}");
        assert_eq!((received(), relay.cuts()), (0, 1));
        relay.mend();
        assert_eq!(received(), 100_000);
        relay.cut_after(10_000);
        assert!(received() < 10_000);
        assert_eq!((received(), relay.cuts()), (100_000, 2));

        relay.stand_still_after(50_000);
        let mut client = TcpStream::connect(relay.address()).expect("the relay");
        client.set_read_timeout(Some(std::time::Duration::from_millis(500))).expect("a limit");
        let mut bytes = Vec::new();
        let silence = client.read_to_end(&mut bytes).expect_err("no end is told");
        assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock, "{silence}");
        assert!((40_000..50_000).contains(&bytes.len()), "{}", bytes.len());
        relay.mend();
        assert_eq!((received(), relay.cuts()), (100_000, 3));
    }
}
