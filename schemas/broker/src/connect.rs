//! One connection a program, which comes back by itself and says when it did.

use std::time::Duration;

use async_nats::{AuthError, ConnectOptions, Event, jetstream};
use tokio::sync::watch;

use crate::credentials::Credentials;
use crate::{BrokerError, Server};

/// A connection to be made.
#[derive(Debug, Clone)]
pub struct Connection {
    pub server: Server,
    /// What the server calls this connection.
    pub name: String,
    /// Whether to keep trying when the server is not there yet.
    pub wait_for_server: bool,
}

/// A live connection.
#[derive(Clone)]
pub struct Link {
    pub client: async_nats::Client,
    pub jetstream: jetstream::Context,
    /// Counts the connections made: a change means that messages may have been missed.
    pub connections: watch::Receiver<u64>,
}

impl Link {
    /// Whether the server can be reached now. What is published meanwhile would only wait, out of sight.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}

/// How long a publish waits for its acknowledgement before it is sent again.
const ACK_TIMEOUT: Duration = Duration::from_secs(3);

/// Connects.
///
/// # Errors
/// `Setting` when the URL or the credentials cannot be used, `Away` when nobody answers there.
pub async fn connect(connection: &Connection) -> Result<Link, BrokerError> {
    let (made, connections) = watch::channel(0_u64);
    let addresses = connection.server.urls.addresses()?;
    let mut options = identity(&connection.server)
        .await?
        .name(&connection.name)
        .reconnect_delay_callback(|attempts| Duration::from_millis(50 * (attempts as u64).clamp(1, 20)))
        .event_callback(move |event| {
            match event {
                Event::Connected => {
                    tracing::info!("connected to NATS");
                    made.send_modify(|count| *count += 1);
                }
                Event::Disconnected => tracing::warn!("lost the connection to NATS; trying again"),
                Event::LameDuckMode => tracing::warn!("the NATS server is shutting down"),
                Event::SlowConsumer(subscription) => {
                    tracing::warn!(subscription, "NATS sends faster than we read; messages were dropped");
                }
                Event::ServerError(error) => tracing::error!(%error, "NATS server"),
                Event::ClientError(error) => tracing::debug!(%error, "NATS client"),
                Event::Draining | Event::Closed => {}
            }
            std::future::ready(())
        });
    if connection.wait_for_server {
        options = options.retry_on_initial_connect();
    }
    let client = options.connect(addresses).await.map_err(BrokerError::away("connecting"))?;
    let jetstream =
        jetstream::ContextBuilder::new().timeout(ACK_TIMEOUT).backpressure_on_inflight(true).build(client.clone());
    Ok(Link { client, jetstream, connections })
}

/// As whom to connect, and how to be sure of the server.
async fn identity(server: &Server) -> Result<ConnectOptions, BrokerError> {
    let mut options = ConnectOptions::new();
    if let Some(path) = &server.credentials {
        let role = Credentials::read(path).await?.role;
        let path = path.clone();
        options = ConnectOptions::with_auth_callback(move |nonce| {
            let path = path.clone();
            async move {
                let credentials = Credentials::read(&path).await.map_err(AuthError::new)?;
                credentials.sign(&nonce).map_err(AuthError::new)
            }
        });
        if let Some(role) = role {
            options = options.custom_inbox_prefix(role.inbox());
        }
    }
    if let Some(authority) = &server.tls_ca {
        options = options.add_root_certificates(authority.clone()).require_tls(true);
    }
    if let (Some(certificate), Some(key)) = (&server.tls_cert, &server.tls_key) {
        options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
    }
    Ok(options)
}
