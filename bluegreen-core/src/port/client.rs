use std::fmt;

use async_trait::async_trait;

use crate::model::RequestError;

/// A client of an application, made by [`Proxy::client`](super::Proxy::client): to see what clients see.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Client: fmt::Debug + Send + Sync + 'static {
    /// Where it asks, for a person.
    fn target(&self) -> String;

    /// What would help when its requests fail although the application is well; `None` when nothing more can be
    /// done on the proxy's side.
    fn remedy(&self) -> Option<String>;

    /// How many requests a minute are let through where it asks, all clients' together; `None` where nothing is known to
    /// limit them.
    fn per_minute(&self) -> Option<u32>;

    /// Sends one request and waits for the whole answer; gives its status. Never sends it twice.
    ///
    /// # Errors
    ///
    /// When there is no complete answer: [`RequestError::Refused`], [`RequestError::Reset`], [`RequestError::Eof`],
    /// [`RequestError::Timeout`] or [`RequestError::Other`]. What a status means is the caller's matter.
    async fn ask(&self, over: Connection) -> Result<u16, RequestError>;
}

/// Over which connection a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a connection is new or it is not")]
pub enum Connection {
    /// One of its own.
    Fresh,
    /// The one that the client keeps, opened anew only after it failed or the peer announced its end. The client
    /// does not look before whether it is still open: many do not. One request at a time.
    Kept,
}
