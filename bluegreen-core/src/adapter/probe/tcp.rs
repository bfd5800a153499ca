//! Is the port open?

use std::time::Duration;

use tokio::net::TcpStream;

use crate::model::Endpoint;
use crate::port::Health;

/// One connection, closed again at once.
pub(super) async fn probe(endpoint: &Endpoint, within: Duration) -> Health {
    match tokio::time::timeout(within, TcpStream::connect((endpoint.host(), endpoint.port()))).await {
        Ok(Ok(_)) => Health::Healthy,
        Ok(Err(error)) => Health::unhealthy(super::connection_reason(&error)),
        Err(_) => Health::unhealthy(format!("no connection within {}", super::span(within))),
    }
}
