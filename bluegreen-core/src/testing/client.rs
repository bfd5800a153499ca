//! What clients of the World get. Not counted among the calls: they come when they like, and change nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::world::{Inner, World};
use crate::model::{Digest, RequestError};
use crate::port::{Client, Connection};

/// How the World treats clients, apart from what its containers do.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Why there is no way in for them.
    pub(super) shut_out: Option<String>,
    /// What the containers of an image answer instead of 200.
    answers: BTreeMap<Digest, Result<u16, RequestError>>,
    /// Nobody gets through until then.
    outage: Option<Instant>,
    /// Whether a switch closes the connections that clients keep.
    reloads: bool,
    /// How often it did.
    pub(super) closed: u64,
    /// How many requests there were.
    asked: u64,
}

impl Clients {
    pub(super) fn switched(&mut self) {
        self.closed += u64::from(self.reloads);
    }
}

impl World {
    /// There is no way in for clients from now on.
    pub fn shut_clients_out(&self, reason: &str) {
        self.lock().clients.shut_out = Some(reason.to_owned());
    }

    /// What containers of a published image answer clients with, healthy or not. [`RequestError::Timeout`] never answers.
    ///
    /// # Panics
    ///
    /// When it was not published.
    pub fn answers(&self, reference: &str, answer: Result<u16, RequestError>) {
        let mut inner = self.lock();
        let digest = inner.registry[reference].clone();
        inner.clients.answers.insert(digest, answer);
    }

    /// Nobody gets through to the proxy for that long.
    pub fn outage(&self, lasting: Duration) {
        self.lock().clients.outage = Some(Instant::now() + lasting);
    }

    /// From now on a switch closes the connections that clients keep, as a reload does.
    pub fn switch_by_reload(&self) {
        self.lock().clients.reloads = true;
    }

    /// How many requests clients have sent.
    pub fn asked(&self) -> u64 {
        self.lock().clients.asked
    }
}

impl Inner {
    fn answer(&self) -> Result<u16, RequestError> {
        if self.clients.outage.is_some_and(|until| Instant::now() < until) {
            return Err(RequestError::Refused);
        }
        let Some(color) = self.proxy else { return Ok(503) };
        let Some((_, container)) = self.at(color).filter(|(_, container)| self.is_healthy(container)) else {
            return Ok(502);
        };
        let digest = container.spec.as_ref().map(|spec| spec.image.digest());
        digest.and_then(|digest| self.clients.answers.get(digest)).copied().unwrap_or(Ok(200))
    }
}

/// A client of a [`World`].
#[derive(Debug)]
pub(super) struct FakeClient {
    world: World,
    /// How often the kept connection had been closed when it was last seen open.
    open_since: std::sync::Mutex<u64>,
}

impl FakeClient {
    pub(super) fn new(world: World) -> Self {
        let closed = world.lock().clients.closed;
        Self { world, open_since: closed.into() }
    }
}

#[async_trait]
impl Client for FakeClient {
    fn target(&self) -> String {
        "the World".to_owned()
    }

    fn remedy(&self) -> Option<String> {
        self.world.lock().clients.reloads.then(|| "the live switch".to_owned())
    }

    fn per_minute(&self) -> Option<u32> {
        None
    }

    async fn ask(&self, over: Connection) -> Result<u16, RequestError> {
        let answer = {
            let mut inner = self.world.lock();
            inner.clients.asked += 1;
            let closed = inner.clients.closed;
            let mut open_since = self.open_since.lock().expect("nobody panics with it");
            if over == Connection::Kept && std::mem::replace(&mut *open_since, closed) != closed {
                return Err(RequestError::Eof);
            }
            inner.answer()
        };
        if answer == Err(RequestError::Timeout) {
            std::future::pending::<()>().await;
        }
        answer
    }
}
