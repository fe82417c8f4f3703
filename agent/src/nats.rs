//! The one room of the agent that knows NATS: offers in, records out, stops heard, beats sent.

mod outbox;

use std::time::Duration;

use async_nats::header::NATS_STREAM;
use async_nats::jetstream::{AckKind, consumer::PullConsumer};
use futures_util::StreamExt;
use futures_util::stream::PollNext;
use regatta_broker::{BrokerError, Link, Objects, async_nats, is_copy, offers_consumer};
use regatta_schemas::beat::{Beat, Held};
use regatta_schemas::offer::Offer;
use regatta_schemas::stop::Stop;
use regatta_schemas::{AgentId, PoolId, StudyId, TrialId, decode, encode, streams, subjects};
use tokio::sync::mpsc;

pub use async_nats::jetstream::message::Acker;
pub use outbox::{Outbox, Parcel};

/// The longest one pull waits; it is issued anew after that, and whenever the connection was made anew.
const PULL_EXPIRES: Duration = Duration::from_secs(5);
/// An offer that this version cannot read waits so long before it is put before an agent again.
const UNREADABLE_OFFER_WAITS: Duration = Duration::from_secs(10);
/// After a failure, before the next try.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// The agent's side of NATS.
#[derive(Clone)]
pub struct Wire {
    link: Link,
    pool: PoolId,
    agent: AgentId,
}

/// A stop as it was heard.
#[derive(Debug)]
pub struct HeardStop {
    pub study: StudyId,
    pub trial: Option<TrialId>,
    pub stop: Stop,
}

impl Wire {
    pub fn new(link: Link, pool: PoolId, agent: AgentId) -> Self {
        Self { link, pool, agent }
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

    pub fn outbox(&self, spool_bytes_max: usize) -> Outbox {
        Outbox::new(self.link.clone(), spool_bytes_max)
    }

    /// Waits until the coordinator has made the streams, and says so when it takes long.
    pub async fn wait_for_coordinator(&self) {
        let mut tries = 0_u32;
        while let Err(error) = offers_consumer(&self.link, &self.pool).await {
            if tries % 25 == 5 {
                tracing::info!(%error, "waiting for a coordinator (`regatta serve`) to set up this NATS server");
            }
            tries += 1;
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Gives an offer back to the queue, which waits so long before it puts it before an agent again.
    pub async fn give_back(&self, acker: Acker, wait: Duration) {
        let wait = Some(wait).filter(|wait| !wait.is_zero());
        if let Err(error) = acker.ack_with(AckKind::Nak(wait)).await {
            tracing::debug!(%error, "the offer goes back to the queue when its time is over");
        }
    }

    /// Sends the beat; a beat that is lost is made good by the next one.
    pub async fn beat(&self, beat: &Beat) {
        if !self.link.is_connected() {
            return;
        }
        let subject = subjects::beat(&self.pool, &self.agent);
        if let Err(error) = self.link.client.publish(subject, encode(beat).into()).await {
            tracing::debug!(%error, "a beat was not sent");
        }
    }

    /// Passes on every stop of the trial, live and kept, until `to` is closed or this future is dropped.
    pub async fn hear_stops(&self, study: StudyId, trial: TrialId, to: mpsc::Sender<HeardStop>) {
        let mut connections = self.link.connections.clone();
        loop {
            connections.mark_unchanged();
            if let Err(error) = self.hear_stops_of_connection(&study, trial, &to, &mut connections).await {
                tracing::debug!(%error, "stops cannot be heard; trying again");
                tokio::time::sleep(RETRY_AFTER).await;
            }
            if to.is_closed() {
                return;
            }
        }
    }

    /// Listens first, then reads what was kept, so that nothing falls between; ends when the connection was made anew.
    async fn hear_stops_of_connection(
        &self,
        study: &StudyId,
        trial: TrialId,
        to: &mpsc::Sender<HeardStop>,
        connections: &mut tokio::sync::watch::Receiver<u64>,
    ) -> Result<(), BrokerError> {
        let away = |error: async_nats::SubscribeError| BrokerError::away("listening for stops")(error);
        let names = [subjects::stop(study, trial), subjects::stop_study(study)];
        let one = self.link.client.subscribe(names[0].clone()).await.map_err(away)?;
        let all = self.link.client.subscribe(names[1].clone()).await.map_err(away)?;
        // Where both came, the trial's own was sent first, and may ask for a checkpoint.
        let mut live = futures_util::stream::select_with_strategy(one, all, |(): &mut ()| PollNext::Left);
        for name in &names {
            self.pass_on_kept(name, to).await?;
        }
        loop {
            tokio::select! {
                message = live.next() => match message {
                    Some(message) if is_copy(message.headers.as_ref()) => {
                        tracing::warn!(subject = %message.subject, "a copy of another message is no stop; left out");
                    }
                    Some(message) => pass_on(&message.subject, &message.payload, to).await,
                    None => return Ok(()),
                },
                _ = connections.changed() => return Ok(()),
                () = to.closed() => return Ok(()),
            }
        }
    }

    async fn pass_on_kept(&self, subject: &str, to: &mpsc::Sender<HeardStop>) -> Result<(), BrokerError> {
        use async_nats::jetstream::stream::DirectGetErrorKind;
        let stream = self
            .link
            .jetstream
            .get_stream_no_info(streams::STOPS.name)
            .await
            .map_err(BrokerError::away("reading kept stops"))?;
        match stream.direct_get_last_for_subject(subject).await {
            // It is marked by the server once for us; if it was stored as a copy, once more.
            Ok(message) if message.headers.get_all(NATS_STREAM).count() > 1 => Ok(()),
            Ok(message) => {
                pass_on(&message.subject, &message.payload, to).await;
                Ok(())
            }
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(()),
            Err(error) => Err(BrokerError::away("reading kept stops")(error)),
        }
    }
}

/// An offer with the means to answer it.
pub struct Pulled {
    pub offer: Box<Offer>,
    pub acker: Acker,
    /// How often it was put before an agent, this time included.
    pub deliveries: u64,
}

/// Asks for offers, one at a time.
pub struct Puller {
    wire: Wire,
    consumer: Option<PullConsumer>,
}

impl Puller {
    pub fn new(wire: Wire) -> Self {
        Self { wire, consumer: None }
    }

    /// One pull: an offer, or None where none came in time or the server is away.
    /// A message that is no offer is put aside for good, with a word in the log.
    pub async fn pull(&mut self) -> Option<Pulled> {
        let mut connections = self.wire.link.connections.clone();
        connections.mark_unchanged();
        let pulled = tokio::select! {
            pulled = self.pull_one() => pulled,
            // A pull that the server forgot while we were away would wait for nothing.
            _ = connections.changed() => return None,
        };
        match pulled {
            Ok(offer) => offer,
            Err(error) => {
                tracing::debug!(%error, "no offer could be asked for");
                self.consumer = None;
                tokio::time::sleep(RETRY_AFTER).await;
                None
            }
        }
    }

    async fn pull_one(&mut self) -> Result<Option<Pulled>, BrokerError> {
        let consumer = self.consumer().await?;
        let away = |error: Box<dyn std::error::Error + Send + Sync>| BrokerError::away("pulling an offer")(error);
        let mut batch = consumer
            .batch()
            .max_messages(1)
            .expires(PULL_EXPIRES)
            .messages()
            .await
            .map_err(|error| away(error.into()))?;
        while let Some(message) = batch.next().await {
            let message = message.map_err(away)?;
            let deliveries = message.info().map(|info| info.delivered).map_err(away)?.unsigned_abs();
            let (message, acker) = message.split();
            if is_copy(message.headers.as_ref()) {
                tracing::error!("a copy of another message is no offer; it is put aside");
                acker.ack_with(AckKind::Term).await.map_err(away)?;
                continue;
            }
            match decode::<Offer>(&message.payload) {
                Ok(offer) => return Ok(Some(Pulled { offer: Box::new(offer), acker, deliveries })),
                Err(error) => {
                    let kind = if decode::<Held>(&message.payload).is_ok() {
                        tracing::error!(%error, "an offer that this version cannot read goes back to the queue, for another agent");
                        AckKind::Nak(Some(UNREADABLE_OFFER_WAITS))
                    } else {
                        tracing::error!(%error, subject = %message.subject, "a message in the queue of offers is no offer; it is put aside");
                        AckKind::Term
                    };
                    acker.ack_with(kind).await.map_err(away)?;
                }
            }
        }
        Ok(None)
    }

    async fn consumer(&mut self) -> Result<PullConsumer, BrokerError> {
        if let Some(consumer) = &self.consumer {
            return Ok(consumer.clone());
        }
        let consumer = offers_consumer(&self.wire.link, &self.wire.pool).await?;
        self.consumer = Some(consumer.clone());
        Ok(consumer)
    }
}

async fn pass_on(subject: &str, payload: &[u8], to: &mpsc::Sender<HeardStop>) {
    let Some((study, trial)) = subjects::read_stop(subject) else { return };
    match decode::<Stop>(payload) {
        // A closed channel means that the lane is free already: nobody is left to stop.
        Ok(stop) => drop(to.send(HeardStop { study, trial, stop }).await),
        Err(error) => tracing::error!(%error, subject, "a message on a stop subject is no stop"),
    }
}
