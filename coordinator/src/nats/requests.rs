//! The api service, seen from both sides.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{SelectAll, select_all};
use regatta_broker::async_nats::service::{self, ServiceExt};
use regatta_broker::{BrokerError, Link, async_nats};
use regatta_schemas::api::{
    API_DESCRIPTION, Endpoint, Rejection, RejectionCode, Reply, Request, SERVICE_NAME, SERVICE_VERSION,
};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::streams::LEADER_LEASE;
use regatta_schemas::{decode, encode, subjects};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, oneshot};

/// How long a client waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a client waits for a coordinator to answer it: longer than it takes one to take over from another.
const COORDINATOR_WITHIN: Duration = LEADER_LEASE.saturating_mul(2);
/// Before a client looks for a coordinator again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A request that waits for its answer.
pub struct Asked {
    pub request: Request,
    /// Takes the encoded reply.
    pub answer: oneshot::Sender<Vec<u8>>,
}

impl Asked {
    /// Answers that it cannot be done now.
    pub fn turn_away(self, message: String) {
        // Whoever asked may have gone.
        drop(self.answer.send(rejected(RejectionCode::NotReady, message)));
    }
}

/// Serves the api: hands every request that can be read to `to`, and sends the answers back, until `to` is closed.
///
/// # Errors
/// `Away` when the server is.
pub async fn serve_requests(link: Link, to: mpsc::Sender<Asked>) -> Result<(), BrokerError> {
    const WHAT: &str = "starting the api service";
    let service = link
        .client
        .service_builder()
        .description(API_DESCRIPTION)
        .start(SERVICE_NAME, SERVICE_VERSION)
        .await
        .map_err(BrokerError::away(WHAT))?;
    let mut endpoints = Vec::new();
    for endpoint in Endpoint::ALL {
        let requests = service
            .endpoint_builder()
            .name(endpoint.name().replace('.', "-"))
            .add(subjects::api(endpoint))
            .await
            .map_err(BrokerError::away(WHAT))?;
        endpoints.push(requests.map(move |request| (endpoint, request)));
    }
    answer_all(select_all(endpoints), to).await;
    service.stop().await.map_err(BrokerError::away(WHAT))
}

async fn answer_all<S>(mut requests: SelectAll<S>, to: mpsc::Sender<Asked>)
where
    S: futures_util::Stream<Item = (Endpoint, service::Request)> + Unpin,
{
    let mut answering = tokio::task::JoinSet::new();
    loop {
        let (endpoint, message) = tokio::select! {
            next = requests.next() => match next {
                Some(next) => next,
                None => break,
            },
            () = to.closed() => break,
        };
        let to = to.clone();
        answering.spawn(async move {
            let reply = answer(endpoint, &message.message.payload, to).await;
            if let Err(error) = message.respond(Ok(reply.into())).await {
                tracing::warn!(%error, endpoint = endpoint.name(), "an answer was not sent");
            }
        });
        while answering.try_join_next().is_some() {}
    }
    answering.shutdown().await;
}

async fn answer(endpoint: Endpoint, payload: &[u8], to: mpsc::Sender<Asked>) -> Vec<u8> {
    let request = match Request::read(endpoint, payload) {
        Ok(request) => request,
        Err(error) => {
            return rejected(
                RejectionCode::Malformed,
                format!("{} cannot read this request: {error}", endpoint.name()),
            );
        }
    };
    let (answer, answered) = oneshot::channel();
    let handed_over = to.send(Asked { request, answer }).await.is_ok();
    match answered.await {
        Ok(reply) if handed_over && reply.len() <= LIMITS.message_bytes_max => reply,
        Ok(reply) if handed_over => rejected(
            RejectionCode::Invalid,
            format!("the answer has {} bytes, more than a message may have; read the study's log instead", reply.len()),
        ),
        Ok(_) | Err(_) => rejected(RejectionCode::NotReady, "the coordinator is shutting down; ask again".to_owned()),
    }
}

fn rejected(code: RejectionCode, message: String) -> Vec<u8> {
    encode(&Reply::<()>::Rejected(Rejection { code, message, faults: Vec::new() }))
}

/// Why a question got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody serves the api on this NATS server.
    #[error("no coordinator answers on this NATS server; is `regatta serve` running?")]
    NoCoordinator,
    #[error("the coordinator does not answer: {0}")]
    Away(async_nats::RequestError),
    #[error("the coordinator's answer cannot be read: {0}")]
    Unreadable(#[from] regatta_schemas::DecodeError),
    #[error("{0}")]
    Rejected(Rejection),
}

/// Asks a coordinator.
#[derive(Clone)]
pub struct Client {
    client: async_nats::Client,
}

impl Client {
    pub fn new(client: async_nats::Client) -> Self {
        Self { client }
    }

    /// One question, one answer. While no coordinator leads, it waits for one.
    ///
    /// # Errors
    /// When nobody answers, or with the coordinator's rejection.
    pub async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        question: &Q,
    ) -> Result<A, AskError> {
        let payload: bytes::Bytes = encode(question).into();
        let patience = tokio::time::Instant::now() + COORDINATOR_WITHIN;
        loop {
            let request = async_nats::Request::new().payload(payload.clone()).timeout(Some(ANSWER_WITHIN));
            match self.client.send_request(subjects::api(endpoint), request).await {
                Ok(answer) => return decode::<Reply<A>>(&answer.payload)?.into_result().map_err(AskError::Rejected),
                Err(error) if error.kind() == async_nats::RequestErrorKind::NoResponders => {
                    if tokio::time::Instant::now() >= patience {
                        return Err(AskError::NoCoordinator);
                    }
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Err(error) => return Err(AskError::Away(error)),
            }
        }
    }
}
