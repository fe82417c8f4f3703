//! The one room of the coordinator that knows NATS: the log read and appended, offers and stops sent,
//! beats heard, requests served and asked.

mod leader;
mod reader;
mod requests;
mod samplers;
pub mod snapshots;

use std::future::pending;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{Stream, StreamExt};
use regatta_broker::async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use regatta_broker::async_nats::jetstream::message::PublishMessage;
use regatta_broker::{BrokerError, Link, Objects, async_nats};
use regatta_schemas::ask::{Ask, Suggestion};
use regatta_schemas::beat::Beat;
use regatta_schemas::log::{Place, Record};
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::AskFailure;
use regatta_schemas::stop::Stop;
use regatta_schemas::{AgentId, PoolId, SamplerId, StudyId, TrialId, decode, encode, streams, subjects};
use regatta_search::office::{Receipt, Receipts, Standing};
use tokio::sync::watch;

use crate::clock;

pub use leader::Candidate;
pub use reader::{Entry, LogReader, OutputReader, Read, Until};
pub use requests::{AskError, Asked, Client, serve_requests};

/// Before a publish that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The same, where the server has no room.
const RETRY_WITHOUT_ROOM_AFTER: Duration = Duration::from_secs(1);

/// Names the subject whose last message a message rests on.
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// The coordinator's side of NATS.
#[derive(Clone)]
pub struct Wire {
    link: Link,
    mandate: Option<Mandate>,
    /// Why the server stores no decision, while it does not.
    refusal: watch::Sender<Option<String>>,
}

/// What a coordinator that leads rests its decisions on.
#[derive(Clone)]
struct Mandate {
    /// The number of its `elected`: what it decides is refused once there is a later one.
    fence: u64,
    standing: watch::Receiver<Standing>,
}

/// Another coordinator leads: what this one decides is not stored any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another coordinator leads")]
pub struct Deposed;

/// Something to publish into a stream, and the id that makes a second try harmless.
pub struct Letter {
    subject: String,
    payload: bytes::Bytes,
    message_id: String,
    /// Whether it is stored only as long as its sender leads.
    is_fenced: bool,
}

impl Letter {
    /// A decision for the log. `unique` differs from one decision to the next.
    pub fn record(place: &Place, record: &Record, unique: &str) -> Self {
        Self {
            subject: subjects::log(place, record),
            payload: encode(record).into(),
            message_id: format!("coordinator.{unique}"),
            is_fenced: true,
        }
    }

    pub fn offer(pool: &PoolId, offer: &Offer) -> Self {
        Self {
            subject: subjects::offers(pool),
            payload: encode(offer).into(),
            message_id: format!("{}.{}.{}.{}", offer.study, offer.trial, offer.attempt, offer.term),
            is_fenced: false,
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
            is_fenced: false,
        }
    }
}

impl Wire {
    pub fn new(link: Link) -> Self {
        Self { link, mandate: None, refusal: watch::Sender::default() }
    }

    /// For a coordinator whose `elected` has this number.
    pub fn in_office(self, fence: u64, standing: watch::Receiver<Standing>) -> Self {
        Self { mandate: Some(Mandate { fence, standing }), ..self }
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

    /// All buckets of objects.
    pub fn buckets(&self) -> [Objects; 4] {
        streams::BUCKETS.map(|bucket| Objects::new(&self.link, bucket))
    }

    pub fn client(&self) -> Client {
        Client::new(self.link.client.clone())
    }

    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Tells why the server stores no decision, while it does not: for lack of room.
    pub fn refusal(&self) -> watch::Receiver<Option<String>> {
        self.refusal.subscribe()
    }

    /// Publishes all letters, in order, and returns when every one is stored; tries for as long as it takes.
    ///
    /// # Errors
    /// `Deposed` when another coordinator leads, or this one by a later election.
    pub async fn publish(&self, letters: &[Letter]) -> Result<Vec<Receipt>, Deposed> {
        tokio::select! {
            stored = self.publish_all(letters) => stored,
            deposed = self.hear_of_another_election() => Err(deposed),
        }
    }

    /// Ends when the candidacy has found another election than the one that is decided by: answers that are lost may be
    /// waited for for long.
    async fn hear_of_another_election(&self) -> Deposed {
        let Some(Mandate { fence, standing }) = &self.mandate else { return pending().await };
        let has_heard = standing.clone().wait_for(|standing| standing.is_by_another_than(*fence)).await.is_ok();
        // Else the candidacy is over, and with it soon the term.
        if has_heard { Deposed } else { pending().await }
    }

    async fn publish_all(&self, letters: &[Letter]) -> Result<Vec<Receipt>, Deposed> {
        if letters.iter().any(|letter| !letter.is_fenced) {
            self.make_sure().await?;
        }
        let mut receipts = Vec::with_capacity(letters.len());
        let mut unsent: Vec<&Letter> = letters.iter().collect();
        let mut window = unsent.len().max(1);
        loop {
            let mut refused = Vec::new();
            for letters in unsent.chunks(window) {
                receipts.append(&mut self.publish_once(letters, &mut refused).await?);
            }
            unsent = refused;
            if unsent.is_empty() {
                if self.refusal.send_replace(None).is_some() {
                    tracing::info!("NATS stores again");
                }
                return Ok(receipts);
            }
            // A cluster refuses a fenced message while another is under way.
            window = 1;
            let has_room = self.refusal.borrow().is_none();
            tokio::time::sleep(if has_room { RETRY_AFTER } else { RETRY_WITHOUT_ROOM_AFTER }).await;
        }
    }

    /// One try of letters that are under way together.
    async fn publish_once<'a>(
        &self,
        letters: &[&'a Letter],
        unsent: &mut Vec<&'a Letter>,
    ) -> Result<Vec<Receipt>, Deposed> {
        let connection = self.connection();
        let mut receipts = Vec::with_capacity(letters.len());
        let mut sent = Vec::with_capacity(letters.len());
        for letter in letters {
            sent.push((*letter, self.send(letter).await));
        }
        // Together: where a server went away with a thousand answers, they are waited for once, not a thousand times.
        let answers = sent.into_iter().map(|(letter, outcome)| async move {
            match outcome {
                Ok(ack) => (letter, ack.await),
                Err(error) => (letter, Err(error)),
            }
        });
        for (letter, stored) in join_all(answers).await {
            match stored {
                Ok(ack) => {
                    let (number, message_id) = (ack.sequence, letter.message_id.clone());
                    receipts.push(Receipt { number, message_id, connection });
                }
                Err(error) => {
                    if error.kind() == PublishErrorKind::WrongLastSequence {
                        self.check_office().await?;
                    }
                    self.note_refusal(BrokerError::unstored("storing a decision")(error), letter);
                    unsent.push(letter);
                }
            }
        }
        Ok(receipts)
    }

    fn connection(&self) -> u64 {
        *self.link.connections.borrow()
    }

    /// Whether the log has what was sent on the connections before this one; where that cannot be known, it has not.
    pub async fn still_has(&self, receipts: &Receipts) -> bool {
        let Some(Receipt { number, message_id, .. }) = receipts.to_look_for(self.connection()) else { return true };
        match reader::holds_decision(&self.link, *number, message_id).await {
            Ok(is_there) => is_there,
            Err(error) => {
                tracing::warn!(%error, "whether the last decisions are still stored cannot be known");
                false
            }
        }
    }

    fn note_refusal(&self, error: BrokerError, letter: &Letter) {
        let subject = &letter.subject;
        if !matches!(error, BrokerError::NoRoom { .. }) {
            tracing::warn!(%error, subject, "not stored; sending it again");
        } else if self.refusal.send_replace(Some(error.to_string())).is_none() {
            tracing::error!(%error, subject, "decisions wait until there is room; agents train on");
        }
    }

    /// Before what the server does not fence: a coordinator that slept may have been replaced meanwhile.
    async fn make_sure(&self) -> Result<(), Deposed> {
        match &self.mandate {
            Some(Mandate { fence, standing }) if !standing.borrow().is_sure_of(*fence, clock::steady()) => {
                self.check_office().await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Asks the log whether this coordinator still leads, for as long as it takes.
    async fn check_office(&self) -> Result<(), Deposed> {
        let fence = self.mandate.as_ref().map_or(0, |mandate| mandate.fence);
        loop {
            match leader::last_elected(&self.link).await {
                Ok(last) if last == fence => return Ok(()),
                Ok(_) => return Err(Deposed),
                Err(error) => tracing::warn!(%error, "trying again"),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn send(&self, letter: &Letter) -> Result<PublishAckFuture, PublishError> {
        let mut message = PublishMessage::build().payload(letter.payload.clone()).message_id(&letter.message_id);
        if let (true, Some(mandate)) = (letter.is_fenced, &self.mandate) {
            message = message.expected_last_subject_sequence(mandate.fence).header(EXPECTED_SUBJECT, subjects::LEADER);
        }
        self.link.jetstream.send_publish(letter.subject.clone(), message).await
    }

    /// Asks an external sampler.
    ///
    /// # Errors
    /// Why there is no answer that can be read.
    pub async fn ask(&self, service: &SamplerId, timeout: Duration, ask: &Ask) -> Result<Suggestion, AskFailure> {
        samplers::ask(&self.link, service, timeout, ask).await
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

    /// Removes every trace of a study but its checkpoints and the record that it was deleted; tries for as long as it
    /// takes.
    pub async fn delete_study(&self, study: &StudyId) {
        let traces = [
            (streams::OUTPUT.name, subjects::output_of_study(study)),
            (streams::STOPS.name, subjects::stops_of_study(study)),
            (streams::LOG.name, subjects::log_of_study(study)),
        ];
        for (stream, subject) in &traces {
            while let Err(error) = self.purge(stream, subject, study).await {
                tracing::warn!(%error, %study, stream, "not deleted; trying again");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    async fn purge(&self, name: &str, subject: &str, study: &StudyId) -> Result<(), BrokerError> {
        const WHAT: &str = "deleting a study";
        let stream = self.link.jetstream.get_stream_no_info(name).await.map_err(BrokerError::away(WHAT))?;
        let purge = stream.purge().filter(subject);
        if name == streams::LOG.name {
            let deletion = stream.get_last_raw_message_by_subject(&subjects::log_of_deletion(study)).await;
            let deletion = deletion.map_err(BrokerError::away(WHAT))?;
            purge.sequence(deletion.sequence).await.map_err(BrokerError::away(WHAT))?;
        } else {
            purge.await.map_err(BrokerError::away(WHAT))?;
        }
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
