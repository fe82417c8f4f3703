//! The log: what agents reported and what the coordinator decided, in one order.
//!
//! Agents write `accepted`, `measured`, `checkpointed`, `finished`, `failed` and `released`; the
//! coordinator writes the rest. The subject says study and trial, so the message does not.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, Attempt, PoolId, Sequence, StudyId, Term, TrialId};
use crate::params::Params;
use crate::reasons::{AskFailure, FailCause, OfferReason, Outcome, ReleaseReason, StopReason, StudyEnd};
use crate::study::StudyFile;

/// The kinds of records that agents write.
pub const AGENT_KINDS: [&str; 6] = ["accepted", "measured", "checkpointed", "finished", "failed", "released"];

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    StudyCreated(StudyCreated),
    StudyPaused(ByWhom),
    StudyResumed(ByWhom),
    StudyConcluded(StudyConcluded),
    /// The study is forgotten: of its log, only this record stays.
    StudyDeleted(ByWhom),
    Proposed(Proposed),
    Offered(Offered),
    Accepted(Accepted),
    Measured(Measured),
    Checkpointed(Checkpointed),
    Finished(Finished),
    Failed(Failed),
    Released(Released),
    Stopped(Stopped),
    Paused(Paused),
    Concluded(Concluded),
    /// A record that this version does not know; it is kept in the log and changes nothing.
    #[serde(other)]
    Unknown,
}

/// The study exists from here on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyCreated {
    pub study: Box<StudyFile>,
}

/// Somebody paused, resumed or deleted the study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByWhom {
    pub by: String,
}

/// The study has ended; nothing is proposed any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyConcluded {
    pub reason: StudyEnd,
    /// The trial with the best objective value, where any trial measured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

/// The best value of a study and who reached it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Best {
    pub trial: TrialId,
    pub value: f64,
}

/// The trial exists from here on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Proposed {
    pub params: Params,
    pub lineage: Lineage,
    /// Drives everything random in the trial: initial weights, order of data, dropout.
    pub seed: u64,
    /// Higher goes first among trials that wait; 0 where nobody asked.
    #[serde(default)]
    pub priority: i32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Where a trial comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Lineage {
    /// The `index`-th configuration of the study's sampler.
    Sampled {
        index: u64,
        /// Why it is the fallback's; absent: it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<AskFailure>,
    },
    /// Sent by somebody through the api.
    Submitted { by: String },
    /// A trial of an ablation without these components, in the order of their names.
    Ablated {
        #[serde(default)]
        without: Vec<String>,
        /// All trials of one repeat have one seed.
        repeat: u32,
    },
    /// Population-based training: another trial's configuration with changed values, which goes on from that trial's
    /// checkpoint.
    Inherited {
        parent: TrialId,
        checkpoint: Checkpoint,
        /// The trial whose place it takes, and why that one ends.
        replaced: TrialId,
        reason: StopReason,
    },
    /// A lineage that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Lineage {
    /// Where the trial begins; None: at the beginning.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Self::Inherited { checkpoint, .. } => Some(checkpoint),
            Self::Sampled { .. } | Self::Submitted { .. } | Self::Ablated { .. } | Self::Unknown => None,
        }
    }
}

/// The trial was put before a pool of agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Offered {
    pub attempt: Attempt,
    #[serde(default, skip_serializing_if = "Term::is_unknown")]
    pub term: Term,
    pub pool: PoolId,
    pub reason: OfferReason,
    /// Where the attempt goes on from; absent: from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Checkpoint>,
    /// Epochs done at which the attempt ends and the trial is set aside; absent: it trains to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u32>,
    /// Who has the attempt from here on; absent: it lies in the pool's queue until an agent takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
}

/// Somebody who trains an attempt in a loop of their own, and reports it through the api.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Caller {
    /// In whose name the attempt's records are written.
    pub agent: AgentId,
    /// Seconds of silence after which the attempt is lost.
    pub lease_s: u32,
}

/// A checkpoint in the object store, named by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpoint {
    /// The object's name: the SHA-256 of its bytes, in hexadecimal.
    pub object: String,
    pub bytes: u64,
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs done.
    pub resource: u32,
    /// Milliseconds of training done.
    #[serde(default)]
    pub elapsed_ms: u64,
}

/// An agent holds the attempt from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    pub attempt: Attempt,
    /// As in the offer.
    #[serde(default, skip_serializing_if = "Term::is_unknown")]
    pub term: Term,
    pub sequence: Sequence,
    pub agent: AgentId,
    pub lane: u32,
}

/// New points of the trial's metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    pub attempt: Attempt,
    /// As in the offer.
    #[serde(default, skip_serializing_if = "Term::is_unknown")]
    pub term: Term,
    pub sequence: Sequence,
    pub agent: AgentId,
    pub points: Vec<Point>,
}

/// A report: what was measured at one moment of the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// Optimizer steps done since the trial began, earlier attempts included.
    pub step: u64,
    /// Whole epochs done.
    pub resource: u32,
    /// Seconds of training since the trial began, earlier attempts included.
    pub elapsed_s: f64,
    #[serde(with = "crate::wire::metrics")]
    #[schemars(with = "BTreeMap<String, MetricValue>")]
    pub metrics: BTreeMap<String, f64>,
}

/// How a metric's value is written: a number, or the name of what JSON has no number for.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the wire to the JSON Schema; the values themselves are f64")]
pub(crate) enum MetricValue {
    Number(f64),
    Text(NotFinite),
    Null(()),
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "describes the wire to the JSON Schema")]
pub(crate) enum NotFinite {
    #[serde(rename = "nan")]
    Nan,
    #[serde(rename = "inf")]
    Inf,
    #[serde(rename = "-inf")]
    MinusInf,
}

/// A checkpoint lies whole in the object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpointed {
    pub attempt: Attempt,
    /// As in the offer.
    #[serde(default, skip_serializing_if = "Term::is_unknown")]
    pub term: Term,
    pub sequence: Sequence,
    pub agent: AgentId,
    pub checkpoint: Checkpoint,
}

/// The trial spent its whole resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finished {
    pub attempt: Attempt,
    /// As in the offer.
    #[serde(default, skip_serializing_if = "Term::is_unknown")]
    pub term: Term,
    pub sequence: Sequence,
    pub agent: AgentId,
    /// Epochs done.
    pub resource: u32,
    /// Seconds of training, earlier attempts included.
    pub elapsed_s: f64,
}

/// The attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    pub attempt: Attempt,
    /// As in the offer.
    #[serde(default, skip_serializing_if = "Term::is_unknown")]
    pub term: Term,
    pub sequence: Sequence,
    pub agent: AgentId,
    pub cause: FailCause,
    /// One line for a person.
    pub detail: String,
}

/// The agent gave the trial back; its lane is free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    pub attempt: Attempt,
    /// As in the offer.
    #[serde(default, skip_serializing_if = "Term::is_unknown")]
    pub term: Term,
    pub sequence: Sequence,
    pub agent: AgentId,
    pub reason: ReleaseReason,
    /// Epochs done.
    pub resource: u32,
}

/// The coordinator ended the trial early.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stopped {
    pub reason: StopReason,
    /// Its agent is asked for a checkpoint, which counts when it comes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
}

/// The coordinator set the trial aside at a rung; it may go on later from its checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Paused {
    pub resource: u32,
}

/// The coordinator closed a trial that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Concluded {
    pub outcome: Outcome,
    /// The cause, where the outcome is a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<FailCause>,
    /// One line for a person.
    #[serde(default)]
    pub detail: String,
}

/// Which of all records of agents one is: the same record sent twice has the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportKey<'a> {
    pub attempt: Attempt,
    pub term: Term,
    pub sequence: Sequence,
    pub agent: &'a AgentId,
}

/// Which log a record belongs to: a trial's, or its study's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub study: StudyId,
    /// None: the record is the study's.
    pub trial: Option<TrialId>,
}

impl Place {
    pub fn study(study: StudyId) -> Self {
        Self { study, trial: None }
    }

    pub fn trial(study: StudyId, trial: TrialId) -> Self {
        Self { study, trial: Some(trial) }
    }
}

impl Record {
    /// The last token of the record's subject; the same word as its `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::StudyCreated(_) => "study_created",
            Self::StudyPaused(_) => "study_paused",
            Self::StudyResumed(_) => "study_resumed",
            Self::StudyConcluded(_) => "study_concluded",
            Self::StudyDeleted(_) => "study_deleted",
            Self::Proposed(_) => "proposed",
            Self::Offered(_) => "offered",
            Self::Accepted(_) => "accepted",
            Self::Measured(_) => "measured",
            Self::Checkpointed(_) => "checkpointed",
            Self::Finished(_) => "finished",
            Self::Failed(_) => "failed",
            Self::Released(_) => "released",
            Self::Stopped(_) => "stopped",
            Self::Paused(_) => "paused",
            Self::Concluded(_) => "concluded",
            Self::Unknown => "unknown",
        }
    }

    /// The key of a record that an agent wrote.
    pub fn key(&self) -> Option<ReportKey<'_>> {
        macro_rules! key {
            ($record:expr) => {{
                let record = $record;
                Some(ReportKey {
                    attempt: record.attempt,
                    term: record.term,
                    sequence: record.sequence,
                    agent: &record.agent,
                })
            }};
        }
        match self {
            Self::Accepted(r) => key!(r),
            Self::Measured(r) => key!(r),
            Self::Checkpointed(r) => key!(r),
            Self::Finished(r) => key!(r),
            Self::Failed(r) => key!(r),
            Self::Released(r) => key!(r),
            Self::StudyCreated(_)
            | Self::StudyPaused(_)
            | Self::StudyResumed(_)
            | Self::StudyConcluded(_)
            | Self::StudyDeleted(_)
            | Self::Proposed(_)
            | Self::Offered(_)
            | Self::Stopped(_)
            | Self::Paused(_)
            | Self::Concluded(_)
            | Self::Unknown => None,
        }
    }

    /// The `Nats-Msg-Id` of a record that an agent wrote: the same message sent twice is stored once.
    pub fn message_id(&self, place: &Place) -> Option<String> {
        let ReportKey { attempt, term, sequence, agent } = self.key()?;
        let trial = place.trial?;
        let id = format!("{}.{trial}.{attempt}.{sequence}.{agent}", place.study);
        Some(if term.is_unknown() { id } else { format!("{id}.{term}") })
    }
}
