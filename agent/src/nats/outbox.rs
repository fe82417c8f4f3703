//! Publishes in order, with a window of acknowledgements, again and again until the server has it.
//!
//! While the server is away parcels wait here; beyond a bound points and lines of output are dropped,
//! the oldest first, but never the record of something that happened to a trial.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::jetstream::message::{Acker, PublishMessage};
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};
use regatta_broker::{Link, async_nats};
use regatta_schemas::log::{Place, Record};
use regatta_schemas::output::Output;
use regatta_schemas::{encode, subjects};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Messages on their way without an acknowledgement, at most.
const WINDOW: usize = 256;
/// After a failure, before the next try.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Something to publish.
pub struct Parcel {
    subject: String,
    payload: Bytes,
    message_id: Option<String>,
    kind: Kind,
    then_ack: Option<Acker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Goes only after everything before it is stored; never dropped.
    Lifecycle,
    Points,
    Line,
}

impl Parcel {
    /// A record; once it is stored, `then_ack` is acknowledged.
    pub fn record(place: &Place, record: &Record, then_ack: Option<Acker>) -> Self {
        Self {
            subject: subjects::log(place, record),
            payload: encode(record).into(),
            message_id: record.message_id(place),
            kind: if matches!(record, Record::Measured(_)) { Kind::Points } else { Kind::Lifecycle },
            then_ack,
        }
    }

    /// A line that a trial printed; its id differs from that of every other line.
    pub fn line(subject: String, output: &Output, message_id: String) -> Self {
        Self { subject, payload: encode(output).into(), message_id: Some(message_id), kind: Kind::Line, then_ack: None }
    }
}

/// The queue and what is on its way.
pub struct Outbox {
    link: Link,
    waiting: VecDeque<Parcel>,
    /// Sent and not stored; they wait until nothing is on its way any more.
    returned: Vec<Parcel>,
    /// How many droppable parcels may wait.
    droppable_max: usize,
    droppable: usize,
    dropped: u64,
}

impl Outbox {
    pub fn new(link: Link, droppable_max: usize) -> Self {
        Self { link, waiting: VecDeque::new(), returned: Vec::new(), droppable_max, droppable: 0, dropped: 0 }
    }

    /// Publishes what comes, until the channel is closed and all of it is stored.
    pub async fn run(mut self, mut parcels: mpsc::Receiver<Parcel>) {
        let mut flying = FuturesOrdered::new();
        let mut is_open = true;
        let mut retry_at: Option<Instant> = None;
        loop {
            if flying.is_empty() {
                self.queue_again();
            }
            while retry_at.is_none() && self.returned.is_empty() && flying.len() < WINDOW && !self.waiting.is_empty() {
                if !self.link.is_connected() {
                    retry_at = Some(Instant::now() + RETRY_AFTER);
                    break;
                }
                let Some(parcel) = self.next_parcel(flying.is_empty()) else { break };
                match send(&self.link, &parcel).await {
                    Ok(ack) => flying.push_back(async move { (parcel, ack.await.map(drop)) }),
                    Err(error) => retry_at = Some(self.put_back(parcel, &error)),
                }
            }
            tokio::select! {
                parcel = parcels.recv(), if is_open => match parcel {
                    Some(parcel) => self.queue(parcel),
                    None => is_open = false,
                },
                Some((parcel, outcome)) = flying.next(), if !flying.is_empty() => {
                    if let Err(error) = outcome {
                        retry_at = Some(self.put_back(parcel, &error));
                    } else if let Some(acker) = parcel.then_ack {
                        acknowledge(&acker).await;
                    }
                }
                () = sleep_until(retry_at), if retry_at.is_some() => retry_at = None,
            }
            if !is_open && flying.is_empty() && self.returned.is_empty() && self.waiting.is_empty() {
                return;
            }
        }
    }

    fn next_parcel(&mut self, nothing_is_flying: bool) -> Option<Parcel> {
        let kind = self.waiting.front()?.kind;
        if kind == Kind::Lifecycle && !nothing_is_flying {
            return None;
        }
        self.count(kind, -1);
        self.waiting.pop_front()
    }

    fn put_back(&mut self, parcel: Parcel, error: &PublishError) -> Instant {
        tracing::debug!(%error, subject = parcel.subject, "not stored; sending it again");
        self.returned.push(parcel);
        Instant::now() + RETRY_AFTER
    }

    /// What was not stored goes again before everything else, in its old order.
    fn queue_again(&mut self) {
        for parcel in std::mem::take(&mut self.returned).into_iter().rev() {
            self.count(parcel.kind, 1);
            self.waiting.push_front(parcel);
        }
    }

    fn queue(&mut self, parcel: Parcel) {
        self.count(parcel.kind, 1);
        self.waiting.push_back(parcel);
        if self.droppable > self.droppable_max
            && let Some(oldest) = self.waiting.iter().position(|parcel| parcel.kind != Kind::Lifecycle)
        {
            self.waiting.remove(oldest);
            self.droppable -= 1;
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                tracing::warn!(dropped = self.dropped, "NATS is away for long; points and lines are dropped");
            }
        }
    }

    fn count(&mut self, kind: Kind, change: isize) {
        if kind != Kind::Lifecycle {
            self.droppable = self.droppable.saturating_add_signed(change);
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
