//! Which coordinator leads: the candidacy's questions, put to NATS.
//!
//! Whoever holds the one key of a bucket campaigns: it appends `elected` to the log, fenced by the last such record.
//! The key dies with its holder; the record is what counts. See [`regatta_schemas::leader`].

use regatta_broker::async_nats::jetstream::context::PublishErrorKind;
use regatta_broker::async_nats::jetstream::kv::{CreateErrorKind, Store, UpdateErrorKind};
use regatta_broker::async_nats::jetstream::message::PublishMessage;
use regatta_broker::async_nats::jetstream::stream::LastRawMessageErrorKind;
use regatta_broker::{BrokerError, Link};
use regatta_schemas::encode;
use regatta_schemas::leader::Elected;
use regatta_schemas::streams::{LEADER_BUCKET, LEADER_KEY, LOG};
use regatta_schemas::subjects;
use regatta_search::office::{Candidacy, PACE, Standing, Step};
use tokio::sync::watch;

use crate::clock;

/// A coordinator that stands for office.
pub struct Candidate {
    link: Link,
    name: String,
    bucket: Store,
    candidacy: Candidacy,
    standing: watch::Sender<Standing>,
}

impl Candidate {
    /// One that holds nothing yet, and what tells how it stands.
    ///
    /// # Errors
    /// `Away` when the server is, or the bucket does not exist.
    pub async fn new(link: &Link, name: &str) -> Result<(Self, watch::Receiver<Standing>), BrokerError> {
        let bucket = link.jetstream.get_key_value(LEADER_BUCKET).await.map_err(BrokerError::away(LEADER_BUCKET))?;
        let (standing, told) = watch::channel(Standing::default());
        let candidacy = Candidacy::default();
        Ok((Self { link: link.clone(), name: name.to_owned(), bucket, candidacy, standing }, told))
    }

    /// Stands for office until `withdraw` turns true; then gives the key back, so that another takes over at once.
    pub async fn stand(mut self, mut withdraw: watch::Receiver<bool>) {
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut has_failed = false;
        loop {
            tokio::select! {
                _ = withdraw.wait_for(|is_over| *is_over) => break,
                _ = pace.tick() => {}
            }
            let outcome = self.campaign().await;
            if let Err(error) = &outcome {
                if has_failed {
                    tracing::debug!(%error, "still cannot stand for office");
                } else {
                    tracing::warn!(%error, "cannot stand for office; trying again");
                }
            }
            has_failed = outcome.is_err();
        }
        if let Some(revision) = self.candidacy.held()
            && let Err(error) = self.bucket.delete_expect_revision(LEADER_KEY, Some(revision)).await
            && error.kind() != UpdateErrorKind::WrongLastRevision
        {
            tracing::warn!(%error, "another coordinator takes over only when the lease has run out");
        }
    }

    /// One round of the candidacy.
    async fn campaign(&mut self) -> Result<(), BrokerError> {
        let mut next = Some(self.candidacy.begin(clock::steady()));
        while let Some(step) = next {
            let answer = self.put(step).await?;
            next = self.candidacy.hear(step, answer);
            let standing = self.candidacy.standing();
            self.standing.send_if_modified(|told| std::mem::replace(told, standing) != standing);
        }
        Ok(())
    }

    /// What the server says to a step; None where its condition does not hold.
    async fn put(&self, step: Step) -> Result<Option<u64>, BrokerError> {
        const WHAT: &str = "keeping the leader's key";
        let name = || self.name.clone().into_bytes().into();
        match step {
            Step::Take => match self.bucket.create(LEADER_KEY, name()).await {
                Ok(revision) => Ok(Some(revision)),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(None),
                Err(error) => Err(BrokerError::away(WHAT)(error)),
            },
            Step::Keep { revision } => match self.bucket.update(LEADER_KEY, name(), revision).await {
                Ok(revision) => Ok(Some(revision)),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(None),
                Err(error) => Err(BrokerError::away(WHAT)(error)),
            },
            Step::Look => last_elected(&self.link).await.map(Some),
            Step::Stand { last } => self.be_elected(last).await,
        }
    }

    /// Appends `elected`, unless another did since `last`; its number.
    async fn be_elected(&self, last: u64) -> Result<Option<u64>, BrokerError> {
        const WHAT: &str = "appending `elected`";
        let elected = Elected { coordinator: self.name.clone() };
        let message = PublishMessage::build().payload(encode(&elected).into()).expected_last_subject_sequence(last);
        let sent =
            self.link.jetstream.send_publish(subjects::LEADER, message).await.map_err(BrokerError::away(WHAT))?;
        match sent.await {
            Ok(ack) => Ok(Some(ack.sequence)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
            Err(error) => Err(BrokerError::away(WHAT)(error)),
        }
    }
}

/// The number of the last `elected` in the log; 0 where there is none.
///
/// # Errors
/// `Away` when the server is, or the log does not exist.
pub async fn last_elected(link: &Link) -> Result<u64, BrokerError> {
    const WHAT: &str = "looking who leads";
    let stream = link.jetstream.get_stream_no_info(LOG.name).await.map_err(BrokerError::away(WHAT))?;
    match stream.get_last_raw_message_by_subject(subjects::LEADER).await {
        Ok(message) => Ok(message.sequence),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
        Err(error) => Err(BrokerError::away(WHAT)(error)),
    }
}
