//! Distance: a relay that holds back every byte in both directions, and the end of a connection too. Loopback
//! flatters a proxy that closes connections: the race between a request and the close is as long as the way.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::{Result, fail};

/// A relay; it ends with this value.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Relay {
    /// Starts one on loopback that leads to `to`, with this delay each way.
    pub fn start(to: SocketAddr, one_way: Duration) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let Ok(listener) = TcpListener::from_std(listener) else { return };
                    tokio::select! {
                        () = accept(listener, to, one_way) => {}
                        _ = stopped => {}
                    }
                });
            })
            .map_err(|e| fail(format!("no thread for a relay: {e}")))?;
        Ok(Self { address, _stop: stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as an address for the load client.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, one_way: Duration) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(async move {
            // A server that refuses is seen as a close; the relay cannot refuse what it has taken.
            let Ok(server) = TcpStream::connect(to).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::join!(carry(from_client, to_server, one_way), carry(from_server, to_client, one_way));
        });
    }
}

/// Carries bytes one way. What was read is never held up by what could not be written yet.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Bytes)>();
    let read = async move {
        let mut buffer = vec![0; 1 << 16];
        // A reset counts as an end: the client sees a close a little later, as it would from afar.
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            if sender.send((Instant::now() + delay, Bytes::copy_from_slice(&buffer[..n]))).is_err() {
                return;
            }
        }
        tokio::time::sleep(delay).await;
    };
    let write = async move {
        while let Some((due, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_round_trip_takes_both_ways_and_an_end_arrives() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let relay =
            Relay::start(server.local_addr().expect("bound"), Duration::from_millis(25)).expect("a relay");
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("a client");
            let mut byte = [0; 1];
            stream.read_exact(&mut byte).expect("a byte");
            stream.write_all(&byte).expect("the byte back");
        });
        let mut client = std::net::TcpStream::connect(relay.address()).expect("the relay");
        let sent = std::time::Instant::now();
        client.write_all(b"x").expect("sent");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("an end");
        assert_eq!(rest, b"x");
        assert!(sent.elapsed() >= Duration::from_millis(50));
        echo.join().expect("the echo");
    }
}
