//! A client of the application, which asks where users ask.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::adapter::http;
use crate::model::RequestError;
use crate::port::{Asking, Client, Connection, ProxyError};

use super::{PublicUrl, public};

/// A client at the public listener.
#[derive(Debug)]
pub(super) struct Visitor {
    url: PublicUrl,
    within: Duration,
    remedy: Option<String>,
    per_minute: Option<u32>,
    kept: Mutex<Option<http::Kept>>,
}

impl Visitor {
    /// A client of `url`, where there is one.
    ///
    /// # Errors
    ///
    /// [`ProxyError::NoWayIn`] where there is none, or where it cannot be asked as it is to be asked.
    pub(super) fn new(
        url: Option<PublicUrl>,
        asking: &Asking,
        remedy: Option<String>,
        per_minute: Option<u32>,
    ) -> Result<Self, ProxyError> {
        let no_way_in = |reason: String| ProxyError::NoWayIn { reason };
        let mut url = url.ok_or_else(|| no_way_in(public::NOT_ASKED.to_owned()))?;
        if let Some(path) = &asking.path {
            url = url.with_path(path.clone()).map_err(|error| no_way_in(error.to_string()))?;
        }
        if let Some(host) = &asking.host {
            url = url.with_host(host.clone()).map_err(|error| no_way_in(error.to_string()))?;
        }
        Ok(Self { url, within: asking.within, remedy, per_minute, kept: Mutex::default() })
    }

    async fn over_kept(&self) -> Result<u16, http::HttpError> {
        let mut place = self.kept.lock().await;
        let kept = match place.take() {
            Some(kept) => kept,
            None => http::Kept::open(&self.url.endpoint).await?,
        };
        let (status, kept) = kept.get(&self.url.path, &self.url.host_header()).await?;
        *place = kept;
        Ok(status)
    }
}

#[async_trait]
impl Client for Visitor {
    fn target(&self) -> String {
        self.url.to_string()
    }

    fn remedy(&self) -> Option<String> {
        self.remedy.clone()
    }

    fn per_minute(&self) -> Option<u32> {
        self.per_minute
    }

    async fn ask(&self, over: Connection) -> Result<u16, RequestError> {
        let answered = match over {
            Connection::Fresh => {
                let host = self.url.host_header();
                let answer = http::get(&self.url.endpoint, &self.url.path, Some(&host), self.within);
                answer.await.map(|answer| answer.status)
            }
            Connection::Kept => tokio::time::timeout(self.within, self.over_kept())
                .await
                .unwrap_or(Err(http::HttpError::Timeout(self.within))),
        };
        answered.map_err(|error| error.miss())
    }
}
