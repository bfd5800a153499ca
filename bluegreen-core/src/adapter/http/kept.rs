//! One connection, for one request after the other.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{BODY_LIMIT, HttpError};
use crate::model::Endpoint;

/// A connection that is kept between requests.
///
/// Nobody looks after it in between: that the peer has closed it is seen by the next request, which fails.
#[derive(Debug)]
pub(crate) struct Kept {
    sender: http1::SendRequest<Empty<Bytes>>,
    connection: http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>,
}

impl Kept {
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, HttpError> {
        let stream =
            TcpStream::connect((endpoint.host(), endpoint.port())).await.map_err(HttpError::Connect)?;
        // Small requests must not wait for the acknowledgement of the one before.
        stream.set_nodelay(true).map_err(HttpError::Connect)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(HttpError::Broken)?;
        Ok(Self { sender, connection })
    }

    /// GETs `path`; gives the status, and the connection when it can be used again.
    pub(crate) async fn get(self, path: &str, host: &str) -> Result<(u16, Option<Self>), HttpError> {
        let request = hyper::Request::get(path)
            .header(HOST, host)
            .header(USER_AGENT, concat!("bluegreen/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(HttpError::Unsendable)?;
        let Self { mut sender, mut connection } = self;
        let exchange = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let (head, mut body) = response.into_parts();
            let announced = head.headers.get_all(CONNECTION).iter().any(|value| {
                value
                    .to_str()
                    .is_ok_and(|words| words.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")))
            });
            let mut read = 0;
            while let Some(frame) = body.frame().await {
                read += frame?.data_ref().map_or(0, Bytes::len);
                if read > BODY_LIMIT {
                    break;
                }
            }
            let open = !announced && head.version == hyper::Version::HTTP_11 && read <= BODY_LIMIT;
            Ok((head.status.as_u16(), open))
        };
        let (answer, connection) = {
            tokio::pin!(exchange);
            let end = tokio::select! {
                biased;
                answer = &mut exchange => Ok(answer),
                end = &mut connection => Err(end),
            };
            match end {
                Ok(answer) => (answer, Some(connection)),
                Err(Err(error)) => (Err(error), None),
                Err(Ok(())) => {
                    // What it has delivered is with the exchange already; without it, it waits for nothing more.
                    drop(connection);
                    (exchange.await, None)
                }
            }
        };
        let (status, open) = answer.map_err(HttpError::Broken)?;
        let kept = connection.filter(|_| open).map(|connection| Self { sender, connection });
        Ok((status, kept))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::RequestError;

    const CLOSES_AFTER: std::time::Duration = std::time::Duration::from_millis(50);

    /// Answers `answers` on one connection, one for each request, and closes it.
    async fn peer(answers: &'static [&'static str]) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port()).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let read = stream.read(&mut [0; 4096]).await.unwrap();
                assert!(read > 0, "the connection was given up");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            // So that the end does not arrive together with the last answer.
            tokio::time::sleep(CLOSES_AFTER).await;
        });
        endpoint
    }

    #[tokio::test]
    async fn requests_follow_each_other_until_the_peer_closes_and_the_next_one_fails() {
        const ANSWER: &str = "HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nhi";
        let mut kept = Kept::open(&peer(&[ANSWER, ANSWER]).await).await.unwrap();
        for _ in 0..2 {
            let (status, open) = kept.get("/", "a").await.unwrap();
            assert_eq!(status, 200);
            kept = open.expect("it is open");
        }
        tokio::time::sleep(2 * CLOSES_AFTER).await;
        assert_eq!(kept.get("/", "a").await.unwrap_err().miss(), RequestError::Eof);
    }

    #[tokio::test]
    async fn an_announced_end_is_heeded() {
        for (answer, open) in [
            ("HTTP/1.1 200 x\r\nContent-Length: 0\r\nConnection: keep-alive, Close\r\n\r\n", false),
            ("HTTP/1.0 404 x\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", true),
        ] {
            let answers: &'static [&'static str] = vec![answer].leak();
            let kept = Kept::open(&peer(answers).await).await.unwrap();
            assert_eq!(kept.get("/", "a").await.unwrap().1.is_some(), open, "{answer}");
        }
    }

    #[tokio::test]
    async fn half_an_answer_is_none() {
        let kept = Kept::open(&peer(&["HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nhi"]).await).await.unwrap();
        assert_eq!(kept.get("/", "a").await.unwrap_err().miss(), RequestError::Eof);
    }
}
