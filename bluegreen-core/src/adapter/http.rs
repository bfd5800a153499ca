//! One small HTTP request at a time, each over a connection of its own.
//!
//! Adapters ask local things short questions and must see what a *new* client would see, so there is no pool, no
//! redirect, no retry and no TLS.

#[cfg(feature = "nginx")]
mod kept;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

#[cfg(feature = "nginx")]
pub(crate) use self::kept::Kept;
use crate::model::Endpoint;

/// As much of a body as is read; the rest is dropped with the connection.
const BODY_LIMIT: usize = 64 * 1024;

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    /// Its status.
    pub(crate) status: u16,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// The beginning of its body, up to 64 KiB.
    pub(crate) body: Bytes,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The path or the host header cannot be sent.
    #[error("a request cannot be made of this path and host")]
    Unsendable(#[source] hyper::http::Error),
    /// The connection was refused.
    #[error("the connection was not accepted")]
    Connect(#[source] std::io::Error),
    /// It ended before a complete answer.
    #[error("the connection ended without a complete answer")]
    Broken(#[source] hyper::Error),
    /// It took too long.
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
}

impl HttpError {
    /// Whether the port was closed.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Connect(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
    }

    /// What a client would call it.
    #[cfg(feature = "nginx")]
    pub(crate) fn miss(&self) -> crate::model::RequestError {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};

        use crate::model::RequestError;

        let by_kind = |error: &std::io::Error| match error.kind() {
            // Writing into a connection that the peer has closed.
            ConnectionReset | BrokenPipe => RequestError::Reset,
            UnexpectedEof => RequestError::Eof,
            std::io::ErrorKind::TimedOut => RequestError::Timeout,
            _ => RequestError::Other,
        };
        match self {
            Self::Unsendable(_) => RequestError::Other,
            Self::Connect(_) if self.is_refused() => RequestError::Refused,
            Self::Connect(error) => by_kind(error),
            Self::Timeout(_) => RequestError::Timeout,
            // A request that the end of its connection overtook is `canceled` or `closed`.
            Self::Broken(error)
                if error.is_incomplete_message() || error.is_canceled() || error.is_closed() =>
            {
                RequestError::Eof
            }
            Self::Broken(error) => std::error::Error::source(error)
                .and_then(|source| source.downcast_ref::<std::io::Error>())
                .map_or(RequestError::Other, by_kind),
        }
    }
}

/// GETs `path` from `endpoint` over a new connection. `host` is the Host header; the endpoint itself when unset.
pub(crate) async fn get(
    endpoint: &Endpoint,
    path: &str,
    host: Option<&str>,
    within: Duration,
) -> Result<Response, HttpError> {
    let attempt = attempt(endpoint, path, host);
    tokio::time::timeout(within, attempt).await.unwrap_or(Err(HttpError::Timeout(within)))
}

async fn attempt(endpoint: &Endpoint, path: &str, host: Option<&str>) -> Result<Response, HttpError> {
    let host = host.map_or_else(|| endpoint.to_string(), str::to_owned);
    let request = hyper::Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("bluegreen/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::<Bytes>::new())
        .map_err(HttpError::Unsendable)?;
    let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await.map_err(HttpError::Connect)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(HttpError::Broken)?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let (head, mut body) = response.into_parts();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                read.extend_from_slice(&data);
            }
            if read.len() >= BODY_LIMIT {
                read.truncate(BODY_LIMIT);
                break;
            }
        }
        Ok(Response { status: head.status.as_u16(), headers: head.headers, body: read.into() })
    };
    // The connection is driven here and not in a task of its own: dropping this future then closes it, and
    // nothing outlives the deadline.
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        end = connection => match end {
            // The peer closed in order; what it sent is with the exchange already.
            Ok(()) => exchange.await,
            Err(error) => Err(error),
        },
    }
    .map_err(HttpError::Broken)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Answers one connection with `answer` and closes it; gives back what was asked.
    async fn once(answer: Vec<u8>) -> (Endpoint, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap();
            // The client may have read enough and be gone.
            stream.write_all(&answer).await.ok();
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        (Endpoint::from_ip(IpAddr::V4(Ipv4Addr::LOCALHOST), port), task)
    }

    #[tokio::test]
    async fn status_headers_and_body_are_read() {
        let (endpoint, asked) =
            once(b"HTTP/1.1 503 x\r\nX-A: b\r\nContent-Length: 2\r\n\r\nhi".to_vec()).await;
        let answer = get(&endpoint, "/a?b", Some("shop.example"), SECOND).await.unwrap();
        assert_eq!((answer.status, answer.body.as_ref()), (503, b"hi".as_ref()));
        assert_eq!(answer.headers["x-a"], "b");
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("GET /a?b HTTP/1.1\r\nhost: shop.example\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_limit_and_no_further() {
        let mut answer = b"HTTP/1.1 200 x\r\n\r\n".to_vec();
        answer.resize(1_000_000, b'x');
        let (endpoint, _task) = once(answer).await;
        assert_eq!(get(&endpoint, "/", None, SECOND).await.unwrap().body.len(), BODY_LIMIT);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        let (endpoint, _task) = once(b"HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nhi".to_vec()).await;
        assert!(matches!(get(&endpoint, "/", None, SECOND).await, Err(HttpError::Broken(_))));
        let (endpoint, _task) = once(Vec::new()).await;
        assert!(matches!(get(&endpoint, "/", None, SECOND).await, Err(HttpError::Broken(_))));
        assert!(get(&endpoint, "/", None, SECOND).await.unwrap_err().is_refused());
        assert!(matches!(get(&endpoint, "/a b", None, SECOND).await, Err(HttpError::Unsendable(_))));
        assert!(matches!(get(&endpoint, "/", Some("a\nb"), SECOND).await, Err(HttpError::Unsendable(_))));
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port()).unwrap();
        let within = Duration::from_millis(30);
        assert!(matches!(get(&endpoint, "/", None, within).await, Err(HttpError::Timeout(_))));
    }
}
