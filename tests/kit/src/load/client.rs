//! One HTTP/1.1 connection, in the clear or over TLS. One attempt, no retry, nothing hidden.

use std::io::Error;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::transport::Transport;
use super::{FailureKind, Target};

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) kind: FailureKind,
    pub(super) version: Option<String>,
    pub(super) detail: String,
}

impl Bad {
    pub(super) fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, version: None, detail: detail.into() }
    }
}

/// A complete answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) version: Option<String>,
    pub(super) body: Vec<u8>,
    /// The connection can carry another request.
    pub(super) keep: bool,
}

pub(super) struct Connection {
    stream: Transport,
    buffer: Vec<u8>,
    /// A byte of the answer has arrived.
    begun: bool,
}

impl Connection {
    pub(super) async fn open(target: &Target) -> Result<Self, Bad> {
        let stream = Transport::open(target, b"http/1.1").await?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), begun: false })
    }

    /// Whether the server closed it or sent something unasked. It asks the kernel, and not tokio, whose memory
    /// of what is readable lags behind.
    pub(super) fn is_stale(&self) -> bool {
        let mut byte = [0; 1];
        !matches!(
            recv(self.stream.socket(), &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT),
            Err(Errno::AGAIN)
        )
    }

    /// Sends a request and reads its answer. With a pause, the last half of the request's bytes waits for it.
    pub(super) async fn exchange(&mut self, request: &[u8], pause: Option<Duration>) -> Result<Answer, Bad> {
        self.buffer.clear();
        self.begun = false;
        if let Err(error) = self.send(request, pause).await {
            return Err(self.broken(&error, None));
        }
        loop {
            let head_end = loop {
                if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                    break end + 4;
                }
                self.more(None).await?;
            };
            let head = Head::parse(&self.buffer[..head_end])?;
            self.buffer.drain(..head_end);
            if head.status == 101 {
                return Ok(Answer { status: 101, version: head.version, body: Vec::new(), keep: false });
            }
            if head.status < 200 {
                continue; // an interim answer; the real one follows
            }
            let version = head.version.clone();
            let (body, mut keep) = match head.framing() {
                Framing::Length(length) => {
                    while self.buffer.len() < length {
                        self.more(version.as_deref()).await?;
                    }
                    (self.buffer.drain(..length).collect(), head.keep)
                }
                Framing::Chunked => (self.chunks(version.as_deref()).await?, head.keep),
                Framing::UntilClose => {
                    while self.read(version.as_deref()).await? > 0 {}
                    (std::mem::take(&mut self.buffer), false)
                }
            };
            // Bytes behind the end belong to nothing that was asked.
            keep &= self.buffer.is_empty();
            return Ok(Answer { status: head.status, version, body, keep });
        }
    }

    async fn send(&mut self, request: &[u8], pause: Option<Duration>) -> std::io::Result<()> {
        let (now, later) = request.split_at(pause.map_or(request.len(), |_| request.len() / 2));
        self.stream.write_all(now).await?;
        self.stream.flush().await?;
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
            self.stream.write_all(later).await?;
            self.stream.flush().await?;
        }
        Ok(())
    }

    /// Gives the stream up for another protocol, with what was read beyond the answer.
    pub(super) fn into_stream(self) -> (Vec<u8>, Transport) {
        (self.buffer, self.stream)
    }

    /// Waits for the server's close after the last answer, so that the server's end, and not ours, keeps the
    /// closed connection's ports for a minute.
    pub(super) async fn close(mut self) {
        let mut rest = [0; 64];
        let wait = async { while matches!(self.stream.read(&mut rest).await, Ok(n) if n > 0) {} };
        let _ = tokio::time::timeout(std::time::Duration::from_millis(200), wait).await;
    }

    async fn chunks(&mut self, version: Option<&str>) -> Result<Vec<u8>, Bad> {
        let mut body = Vec::new();
        loop {
            let size_line = self.line(version).await?;
            let size = size_line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| Bad::new(FailureKind::Wrong, format!("chunk size {size_line:?}")))?;
            if size == 0 {
                // Trailers, up to an empty line.
                while !self.line(version).await?.is_empty() {}
                return Ok(body);
            }
            while self.buffer.len() < size + 2 {
                self.more(version).await?;
            }
            body.extend_from_slice(&self.buffer[..size]);
            self.buffer.drain(..size + 2);
        }
    }

    async fn line(&mut self, version: Option<&str>) -> Result<String, Bad> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            self.more(version).await?;
        }
    }

    /// Reads more of an answer that is not complete: the end of the connection is a failure.
    async fn more(&mut self, version: Option<&str>) -> Result<(), Bad> {
        if self.read(version).await? > 0 {
            return Ok(());
        }
        let kind = if self.begun { FailureKind::Truncated } else { FailureKind::EofWithoutAByte };
        let mut bad = Bad::new(kind, format!("closed with {} bytes pending", self.buffer.len()));
        bad.version = version.map(str::to_owned);
        Err(bad)
    }

    async fn read(&mut self, version: Option<&str>) -> Result<usize, Bad> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(n) => {
                self.begun |= n > 0;
                Ok(n)
            }
            Err(error) => Err(self.broken(&error, version)),
        }
    }

    fn broken(&self, error: &Error, version: Option<&str>) -> Bad {
        let kind = if self.begun { FailureKind::Truncated } else { FailureKind::Reset };
        Bad { kind, version: version.map(str::to_owned), detail: error.to_string() }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

struct Head {
    status: u16,
    keep: bool,
    length: Option<usize>,
    chunked: bool,
    version: Option<String>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, Bad> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let malformed = || Bad::new(FailureKind::Wrong, format!("status line {first:?}"));
        let (protocol, rest) = first.split_once(' ').ok_or_else(malformed)?;
        if !protocol.starts_with("HTTP/1.") {
            return Err(malformed());
        }
        let status = rest.get(..3).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
        let keep = protocol != "HTTP/1.0";
        let mut head = Self { status, keep, length: None, chunked: false, version: None };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.parse().ok(),
                "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
                "connection" => {
                    head.keep = value.eq_ignore_ascii_case("keep-alive")
                        || (head.keep && !value.eq_ignore_ascii_case("close"))
                }
                "x-version" => head.version = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(head)
    }

    fn framing(&self) -> Framing {
        match (self.status, self.chunked, self.length) {
            (204 | 304, ..) => Framing::Length(0),
            (_, true, _) => Framing::Chunked,
            (_, false, Some(length)) => Framing::Length(length),
            (_, false, None) => Framing::UntilClose,
        }
    }
}
