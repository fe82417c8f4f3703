//! The one room of the coordinator that knows NATS: the log read and appended, offers and stops sent,
//! beats heard, requests served and asked.

mod reader;
mod requests;

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use regatta_broker::async_nats::jetstream::context::{PublishAckFuture, PublishError};
use regatta_broker::async_nats::jetstream::message::PublishMessage;
use regatta_broker::{BrokerError, Link, Objects, async_nats};
use regatta_schemas::beat::Beat;
use regatta_schemas::log::{Place, Record};
use regatta_schemas::offer::Offer;
use regatta_schemas::stop::Stop;
use regatta_schemas::{AgentId, PoolId, StudyId, TrialId, decode, encode, streams, subjects};

pub use reader::{Entry, LogReader, OutputReader, Read, Until};
pub use requests::{AskError, Asked, Client, serve_requests};

/// Before a publish that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The coordinator's side of NATS.
#[derive(Clone)]
pub struct Wire {
    link: Link,
}

/// Something to publish into a stream, and the id that makes a second try harmless.
pub struct Letter {
    subject: String,
    payload: bytes::Bytes,
    message_id: String,
}

impl Letter {
    /// A decision for the log. `unique` differs from one decision to the next.
    pub fn record(place: &Place, record: &Record, unique: &str) -> Self {
        Self {
            subject: subjects::log(place, record),
            payload: encode(record).into(),
            message_id: format!("coordinator.{unique}"),
        }
    }

    pub fn offer(pool: &PoolId, offer: &Offer) -> Self {
        Self {
            subject: subjects::offers(pool),
            payload: encode(offer).into(),
            message_id: format!("{}.{}.{}", offer.study, offer.trial, offer.attempt),
        }
    }

    /// A stop goes out at once to whoever listens, and is kept for whoever is away.
    pub fn stop(study: &StudyId, trial: Option<TrialId>, stop: &Stop, unique: &str) -> Self {
        Self {
            subject: match trial {
                Some(trial) => subjects::stop(study, trial),
                None => subjects::stop_study(study),
            },
            payload: encode(stop).into(),
            message_id: format!("stop.{unique}"),
        }
    }
}

impl Wire {
    pub fn new(link: Link) -> Self {
        Self { link }
    }

    pub fn data(&self) -> Objects {
        Objects::new(&self.link, streams::DATA_BUCKET)
    }

    pub fn models(&self) -> Objects {
        Objects::new(&self.link, streams::MODELS_BUCKET)
    }

    pub fn checkpoints(&self) -> Objects {
        Objects::new(&self.link, streams::CHECKPOINTS_BUCKET)
    }

    pub fn client(&self) -> Client {
        Client::new(self.link.client.clone())
    }

    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Publishes all letters, in order, and returns when every one is stored; tries for as long as it takes.
    /// The answer is the number, in its stream, of the last one.
    pub async fn publish(&self, letters: &[Letter]) -> u64 {
        let mut last_sequence = 0;
        let mut unsent: Vec<&Letter> = letters.iter().collect();
        loop {
            let mut sent = Vec::with_capacity(unsent.len());
            for letter in &unsent {
                sent.push((*letter, self.send(letter).await));
            }
            unsent.clear();
            for (letter, outcome) in sent {
                let stored = match outcome {
                    Ok(ack) => ack.await,
                    Err(error) => Err(error),
                };
                match stored {
                    Ok(ack) => last_sequence = last_sequence.max(ack.sequence),
                    Err(error) => {
                        tracing::warn!(%error, subject = letter.subject, "not stored; sending it again");
                        unsent.push(letter);
                    }
                }
            }
            if unsent.is_empty() {
                return last_sequence;
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn send(&self, letter: &Letter) -> Result<PublishAckFuture, PublishError> {
        let message = PublishMessage::build().payload(letter.payload.clone()).message_id(&letter.message_id);
        self.link.jetstream.send_publish(letter.subject.clone(), message).await
    }

    /// Every beat of every agent, from now on. What is no beat is left out, with a word in the log.
    ///
    /// # Errors
    /// `Away` when the server is.
    pub async fn beats(&self) -> Result<impl Stream<Item = (PoolId, AgentId, Beat)> + use<>, BrokerError> {
        let messages =
            self.link.client.subscribe(subjects::BEATS_ALL).await.map_err(BrokerError::away("listening for beats"))?;
        Ok(messages.filter_map(|message| std::future::ready(read_beat(&message))))
    }

    /// Removes every trace of a study but its checkpoints, its log last; tries for as long as it takes.
    pub async fn delete_study(&self, study: &StudyId) {
        let traces = [
            (streams::OUTPUT.name, subjects::output_of_study(study)),
            (streams::STOPS.name, subjects::stops_of_study(study)),
            (streams::LOG.name, subjects::log_of_study(study)),
        ];
        for (stream, subject) in &traces {
            while let Err(error) = self.purge(stream, subject).await {
                tracing::warn!(%error, %study, stream, "not deleted; trying again");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    async fn purge(&self, stream: &str, subject: &str) -> Result<(), BrokerError> {
        const WHAT: &str = "deleting a study";
        let stream = self.link.jetstream.get_stream_no_info(stream).await.map_err(BrokerError::away(WHAT))?;
        stream.purge().filter(subject).await.map_err(BrokerError::away(WHAT))?;
        Ok(())
    }
}

fn read_beat(message: &async_nats::Message) -> Option<(PoolId, AgentId, Beat)> {
    let (pool, agent) = subjects::read_beat(&message.subject)?;
    match decode::<Beat>(&message.payload) {
        Ok(beat) => Some((pool, agent, beat)),
        Err(error) => {
            tracing::warn!(%error, %agent, "a message on a beat subject is no beat");
            None
        }
    }
}
