//! Which coordinator leads: one at a time, and only as long as it lives.
//!
//! Whoever holds the one key of a bucket campaigns: it appends `elected` to the log, fenced by the last such record.
//! The key dies with its holder; the record is what counts. See [`regatta_schemas::leader`].

use std::time::Duration;

use regatta_broker::async_nats::jetstream::context::PublishErrorKind;
use regatta_broker::async_nats::jetstream::kv::{CreateErrorKind, Store, UpdateErrorKind};
use regatta_broker::async_nats::jetstream::message::PublishMessage;
use regatta_broker::async_nats::jetstream::stream::LastRawMessageErrorKind;
use regatta_broker::{BrokerError, Link};
use regatta_schemas::encode;
use regatta_schemas::leader::Elected;
use regatta_schemas::streams::{LEADER_BUCKET, LEADER_KEY, LEADER_LEASE, LOG};
use regatta_schemas::subjects;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often the key is written again, and how often another looks whether it is free.
const PACE: Duration = LEADER_LEASE.checked_div(6).expect("six is not zero");

/// How a coordinator stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The number of its last `elected`; there may be a later one of another.
    pub elected: Option<u64>,
    /// Until then nobody else can have been elected.
    pub sure_until: Option<Instant>,
}

impl Standing {
    pub fn is_sure(&self) -> bool {
        self.sure_until.is_some_and(|until| Instant::now() < until)
    }
}

/// A coordinator that stands for office.
pub struct Candidate {
    link: Link,
    name: String,
    bucket: Store,
    /// The key's revision, while it is ours.
    held: Option<u64>,
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
        Ok((Self { link: link.clone(), name: name.to_owned(), bucket, held: None, standing }, told))
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
        if let Some(revision) = self.held
            && let Err(error) = self.bucket.delete_expect_revision(LEADER_KEY, Some(revision)).await
            && error.kind() != UpdateErrorKind::WrongLastRevision
        {
            tracing::warn!(%error, "another coordinator takes over only when the lease has run out");
        }
    }

    /// Keeps the key, or takes it where it is free; and sees to it that the last `elected` is ours while we hold it.
    async fn campaign(&mut self) -> Result<(), BrokerError> {
        const WHAT: &str = "keeping the leader's key";
        let name = self.name.clone().into_bytes();
        // The server's lease begins later than this.
        let sure_until = Some(Instant::now() + LEADER_LEASE);
        if let Some(revision) = self.held {
            match self.bucket.update(LEADER_KEY, name.into(), revision).await {
                Ok(revision) => {
                    self.held = Some(revision);
                    self.standing.send_modify(|standing| standing.sure_until = sure_until);
                }
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => self.held = None,
                Err(error) => return Err(BrokerError::away(WHAT)(error)),
            }
            return Ok(());
        }
        match self.bucket.create(LEADER_KEY, name.into()).await {
            Ok(revision) => self.held = Some(revision),
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(BrokerError::away(WHAT)(error)),
        }
        let last = last_elected(&self.link).await?;
        let mut elected = Some(last);
        if self.standing.borrow().elected != elected {
            let won = self.be_elected(last).await;
            if won.is_err() {
                // Without the record the key is worth nothing: the next round begins anew.
                self.held = None;
            }
            elected = won?;
        }
        self.standing.send_replace(Standing { elected, sure_until });
        Ok(())
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
