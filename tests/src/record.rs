//! A study's log as a test reads it, and what must hold of every one.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use regatta_broker::Link;
use regatta_broker::async_nats::jetstream::consumer::pull;
use regatta_broker::async_nats::jetstream::stream::LastRawMessageErrorKind;
use regatta_schemas::log::{Accepted, Offered, Point, Proposed, Record};
use regatta_schemas::reasons::OfferReason;
use regatta_schemas::{AgentId, Attempt, StudyId, TrialId, decode, streams, subjects};

/// One record and where it belongs; a trial of None is the study's own log.
#[derive(Debug, Clone)]
pub struct Entry {
    pub trial: Option<TrialId>,
    pub record: Record,
    /// When the server stored it, in microseconds since 1970.
    pub at_us: u64,
}

/// All records of one study, in the order of the log.
#[derive(Debug, Clone, Default)]
pub struct History(pub Vec<Entry>);

impl History {
    pub async fn read(link: &Link, study: &StudyId) -> Self {
        let Ok(stream) = link.jetstream.get_stream(streams::LOG.name).await else { return Self::default() };
        let filter = subjects::log_of_study(study);
        let last = match stream.get_last_raw_message_by_subject(&filter).await {
            Ok(message) => message.sequence,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Self::default(),
            // The server is away: there is nothing to see now.
            Err(_) => return Self::default(),
        };
        let config = pull::OrderedConfig { filter_subject: filter, ..Default::default() };
        let Ok(consumer) = stream.create_consumer(config).await else { return Self::default() };
        let Ok(mut messages) = consumer.messages().await else { return Self::default() };
        let mut entries = Vec::new();
        while let Some(Ok(message)) = messages.next().await {
            let info = message.info().expect("a message of a stream has a number");
            let sequence = info.stream_sequence;
            let at_us = u64::try_from(info.published.unix_timestamp_nanos() / 1_000).expect("the clock is right");
            let place = subjects::read_log(&message.subject);
            if let (Some(place), Ok(record)) = (place, decode::<Record>(&message.payload)) {
                entries.push(Entry { trial: place.trial, record, at_us });
            }
            if sequence >= last {
                break;
            }
        }
        Self(entries)
    }

    pub fn is_concluded(&self) -> bool {
        self.0.iter().any(|entry| matches!(entry.record, Record::StudyConcluded(_)))
    }

    pub fn count(&self, kind: &str) -> usize {
        self.0.iter().filter(|entry| entry.record.kind() == kind).count()
    }

    pub fn of_trial(&self, trial: TrialId) -> impl Iterator<Item = &Record> {
        self.0.iter().filter(move |entry| entry.trial == Some(trial)).map(|entry| &entry.record)
    }

    pub fn proposed(&self) -> BTreeMap<TrialId, &Proposed> {
        let proposed = self.0.iter().filter_map(|entry| match &entry.record {
            Record::Proposed(proposed) => Some((entry.trial.expect("a trial was proposed"), proposed)),
            _ => None,
        });
        proposed.collect()
    }

    pub fn offers(&self, trial: TrialId) -> Vec<&Offered> {
        let offers = self.of_trial(trial).filter_map(|record| match record {
            Record::Offered(offered) => Some(offered),
            _ => None,
        });
        offers.collect()
    }

    pub fn accepted(&self) -> impl Iterator<Item = (TrialId, &Accepted)> {
        self.0.iter().filter_map(|entry| match (&entry.trial, &entry.record) {
            (Some(trial), Record::Accepted(accepted)) => Some((*trial, accepted)),
            _ => None,
        })
    }

    /// The points that the holder of the attempt measured.
    pub fn points(&self, trial: TrialId, attempt: Attempt) -> Vec<&Point> {
        let points = self.of_trial(trial).filter_map(|record| match record {
            Record::Measured(measured) if measured.attempt == attempt => Some(&measured.points),
            _ => None,
        });
        points.flatten().collect()
    }

    /// The trial that this agent holds last of all, and which of its attempts.
    pub fn held_by(&self, agent: &AgentId) -> Option<(TrialId, Attempt)> {
        let held = self.accepted().filter(|(_, accepted)| accepted.agent == *agent);
        held.last().map(|(trial, accepted)| (trial, accepted.attempt))
    }
}

/// What must hold of the log of every study that has concluded. (A trial's end may cross a stop, or the end of
/// its lease, on their way into the log; the first counts. What an old attempt says counts for nothing.)
///
/// # Panics
/// When it does not hold.
pub fn check_history(history: &History) {
    let proposed = history.proposed();
    assert_eq!(proposed.len(), history.count("proposed"), "a trial was proposed twice");
    assert_eq!(history.count("study_concluded"), 1, "a study concludes once");
    for trial in proposed.keys() {
        let mut has_ended = false;
        let mut attempts = Vec::new();
        for record in history.of_trial(*trial) {
            match record {
                Record::Stopped(_) | Record::Concluded(_) => has_ended = true,
                Record::Finished(finished) => has_ended |= attempts.last() == Some(&finished.attempt),
                Record::Offered(offered) => {
                    let may_cross = matches!(offered.reason, OfferReason::LeaseLost { .. });
                    assert!(!has_ended || may_cross, "trial {trial} was offered after its end: {offered:?}");
                    attempts.push(offered.attempt);
                }
                _ => {}
            }
        }
        assert!(has_ended, "trial {trial} has no end");
        assert!(attempts.is_sorted_by(|a, b| a < b), "the attempts of trial {trial} grow: {attempts:?}");
    }
}
