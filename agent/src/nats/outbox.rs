//! Publishes what the [`Spool`] holds, again and again until the server has it.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::jetstream::message::{Acker, PublishMessage};
use regatta_broker::{BrokerError, Link, async_nats};
use regatta_schemas::beat::Held;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::spool::Spool;

/// After a failure, before the next try.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The same, where the server has no room.
const RETRY_WITHOUT_ROOM_AFTER: Duration = Duration::from_secs(1);

pub type Parcel = crate::spool::Parcel<Acker>;

/// The server's answer to a message that is to be stored.
type Answer = <PublishAckFuture as IntoFuture>::IntoFuture;

/// The spool and its way to the server.
pub struct Outbox {
    link: Link,
    spool: Spool<Acker>,
    ending: watch::Sender<Vec<Held>>,
    refusal: watch::Sender<Option<String>>,
}

impl Outbox {
    /// While the server is away at most so many bytes of points and lines wait.
    pub fn new(link: Link, spool_bytes_max: usize) -> Self {
        let (ending, refusal) = (watch::Sender::default(), watch::Sender::default());
        Self { link, spool: Spool::new(spool_bytes_max), ending, refusal }
    }

    /// Tells which attempts have ended with a record that is not stored yet.
    pub fn ending(&self) -> watch::Receiver<Vec<Held>> {
        self.ending.subscribe()
    }

    /// Tells why records wait although the server is there, while they do.
    pub fn refusal(&self) -> watch::Receiver<Option<String>> {
        self.refusal.subscribe()
    }

    /// Publishes what comes, until the channel is closed and all of it is stored.
    pub async fn run(mut self, mut parcels: mpsc::Receiver<Parcel>) {
        let mut connections = self.link.connections.clone();
        connections.mark_unchanged();
        let mut flying: VecDeque<(Parcel, Answer)> = VecDeque::new();
        let mut is_open = true;
        let mut retry_at: Option<Instant> = None;
        loop {
            while retry_at.is_none() {
                if !self.link.is_connected() {
                    retry_at = (!self.spool.is_empty()).then(|| Instant::now() + RETRY_AFTER);
                    break;
                }
                let Some(parcel) = self.spool.take() else { break };
                match send(&self.link, &parcel).await {
                    Ok(ack) => flying.push_back((parcel, ack.into_future())),
                    Err(error) => retry_at = Some(self.put_back(parcel, error)),
                }
            }
            tokio::select! {
                parcel = parcels.recv(), if is_open => match parcel {
                    Some(parcel) => self.queue(parcel),
                    None => is_open = false,
                },
                // No answer comes any more to what was sent before: it goes again, and is stored once.
                Ok(()) = connections.changed() => for (parcel, _) in flying.drain(..) {
                    self.spool.put_back(parcel);
                },
                Some(outcome) = first_answer(&mut flying) => {
                    let Some((parcel, _)) = flying.pop_front() else { continue };
                    if let Err(error) = outcome {
                        retry_at = Some(self.put_back(parcel, error));
                    } else {
                        if self.refusal.send_replace(None).is_some() {
                            tracing::info!("NATS stores again; what waited goes on its way");
                        }
                        self.spool.stored(&parcel);
                        self.tell_ending();
                        if let Some(acker) = parcel.then_ack {
                            acknowledge(&acker).await;
                        }
                    }
                }
                () = sleep_until(retry_at), if retry_at.is_some() => retry_at = None,
            }
            if !is_open && self.spool.is_empty() {
                return;
            }
        }
    }

    fn tell_ending(&self) {
        let ending: Vec<Held> = self.spool.ending().cloned().collect();
        self.ending.send_if_modified(|told| {
            let is_new = *told != ending;
            *told = ending;
            is_new
        });
    }

    fn put_back(&mut self, parcel: Parcel, error: PublishError) -> Instant {
        let error = BrokerError::unstored("storing a record")(error);
        tracing::debug!(%error, subject = parcel.subject, "not stored; sending it again");
        self.spool.put_back(parcel);
        if !matches!(error, BrokerError::NoRoom { .. }) {
            return Instant::now() + RETRY_AFTER;
        }
        if self.refusal.send_replace(Some(error.to_string())).is_none() {
            tracing::warn!(%error, "records wait here, training goes on");
        }
        Instant::now() + RETRY_WITHOUT_ROOM_AFTER
    }

    fn queue(&mut self, parcel: Parcel) {
        let dropped = self.spool.push(parcel);
        self.tell_ending();
        if dropped > 0 {
            let all = self.spool.dropped();
            tracing::warn!(
                dropped,
                all,
                "NATS has been away or full for long; points and lines in between are dropped"
            );
        }
    }
}

async fn send(link: &Link, parcel: &Parcel) -> Result<PublishAckFuture, PublishError> {
    let mut message = PublishMessage::build().payload(parcel.payload.clone());
    if let Some(id) = &parcel.message_id {
        message = message.message_id(id);
    }
    link.jetstream.send_publish(parcel.subject.clone(), message).await
}

/// The answer to what was sent first; None while nothing is on its way. May be dropped and asked again.
async fn first_answer(flying: &mut VecDeque<(Parcel, Answer)>) -> Option<Result<(), PublishError>> {
    match flying.front_mut() {
        Some((_, answer)) => Some(answer.await.map(drop)),
        None => None,
    }
}

async fn acknowledge(acker: &Acker) {
    if let Err(error) = acker.ack().await {
        tracing::debug!(%error, "the offer was not acknowledged; whoever gets it again is told to stop");
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
