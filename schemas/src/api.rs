//! Requests to the coordinator and its answers: a NATS micro service, one endpoint a request.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::ids::{AgentId, Attempt, PoolId, StudyId, Term, TrialId};
use crate::limits::LIMITS;
use crate::log::{Best, Checkpoint, Lineage, Point};
use crate::params::Params;
use crate::reasons::{FailCause, StopReason, StudyEnd};
use crate::study::{Objective, StudyFile};
use crate::wire::{DecodeError, decode};

pub const SERVICE_NAME: &str = "regatta";
pub const SERVICE_VERSION: &str = "1.0.0";
pub const API_DESCRIPTION: &str =
    "Studies and trials of Regatta: create, list, show, stop, pause, resume, delete, submit, suggest, observe";

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    StudyCreate,
    StudyList,
    StudyShow,
    StudyStop,
    StudyPause,
    StudyResume,
    StudyDelete,
    TrialSubmit,
    TrialList,
    TrialShow,
    TrialStop,
    TrialSuggest,
    TrialObserve,
    FleetShow,
}

impl Endpoint {
    pub const ALL: [Self; 14] = [
        Self::StudyCreate,
        Self::StudyList,
        Self::StudyShow,
        Self::StudyStop,
        Self::StudyPause,
        Self::StudyResume,
        Self::StudyDelete,
        Self::TrialSubmit,
        Self::TrialList,
        Self::TrialShow,
        Self::TrialStop,
        Self::TrialSuggest,
        Self::TrialObserve,
        Self::FleetShow,
    ];

    /// Its tokens after the api's prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::StudyCreate => "study.create",
            Self::StudyList => "study.list",
            Self::StudyShow => "study.show",
            Self::StudyStop => "study.stop",
            Self::StudyPause => "study.pause",
            Self::StudyResume => "study.resume",
            Self::StudyDelete => "study.delete",
            Self::TrialSubmit => "trial.submit",
            Self::TrialList => "trial.list",
            Self::TrialShow => "trial.show",
            Self::TrialStop => "trial.stop",
            Self::TrialSuggest => "trial.suggest",
            Self::TrialObserve => "trial.observe",
            Self::FleetShow => "fleet.show",
        }
    }

    /// Whether a request may change something.
    pub fn changes_something(self) -> bool {
        match self {
            Self::StudyList | Self::StudyShow | Self::TrialList | Self::TrialShow | Self::FleetShow => false,
            Self::StudyCreate
            | Self::StudyStop
            | Self::StudyPause
            | Self::StudyResume
            | Self::StudyDelete
            | Self::TrialSubmit
            | Self::TrialStop
            | Self::TrialSuggest
            | Self::TrialObserve => true,
        }
    }
}

/// One request. The subject says which it is; a `type` in the message is allowed and not needed.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    StudyCreate(StudyCreate),
    StudyList,
    StudyShow(StudyRequest),
    StudyStop(StudyRequest),
    StudyPause(StudyRequest),
    StudyResume(StudyRequest),
    StudyDelete(StudyRequest),
    TrialSubmit(TrialSubmit),
    TrialList(StudyRequest),
    TrialShow(TrialRequest),
    TrialStop(TrialRequest),
    TrialSuggest(TrialSuggest),
    TrialObserve(TrialObserve),
    FleetShow,
}

impl Request {
    /// Reads the request that came to an endpoint. An empty message is an empty object.
    ///
    /// # Errors
    /// When it is too large or not what the endpoint takes.
    pub fn read(endpoint: Endpoint, payload: &[u8]) -> Result<Self, DecodeError> {
        if payload.len() > LIMITS.request_bytes_max {
            return Err(DecodeError::TooLarge { bytes: payload.len(), max: LIMITS.request_bytes_max });
        }
        let payload: &[u8] = if payload.is_empty() { b"{}" } else { payload };
        Ok(match endpoint {
            Endpoint::StudyCreate => Self::StudyCreate(decode(payload)?),
            Endpoint::StudyList => Self::StudyList,
            Endpoint::StudyShow => Self::StudyShow(decode(payload)?),
            Endpoint::StudyStop => Self::StudyStop(decode(payload)?),
            Endpoint::StudyPause => Self::StudyPause(decode(payload)?),
            Endpoint::StudyResume => Self::StudyResume(decode(payload)?),
            Endpoint::StudyDelete => Self::StudyDelete(decode(payload)?),
            Endpoint::TrialSubmit => Self::TrialSubmit(decode(payload)?),
            Endpoint::TrialList => Self::TrialList(decode(payload)?),
            Endpoint::TrialShow => Self::TrialShow(decode(payload)?),
            Endpoint::TrialStop => Self::TrialStop(decode(payload)?),
            Endpoint::TrialSuggest => Self::TrialSuggest(decode(payload)?),
            Endpoint::TrialObserve => Self::TrialObserve(decode(payload)?),
            Endpoint::FleetShow => Self::FleetShow,
        })
    }
}

/// Starts a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyCreate {
    /// The study file as JSON; checked whole, all faults answered at once.
    pub study: Value,
    /// Who asks, for the log.
    #[serde(default = "anonymous")]
    pub by: String,
}

/// Names a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StudyRequest {
    pub study: StudyId,
    #[serde(default = "anonymous")]
    pub by: String,
}

/// Names a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialRequest {
    pub study: StudyId,
    pub trial: TrialId,
    #[serde(default = "anonymous")]
    pub by: String,
}

/// Sends a trial of one's own: into a study's space, or with a bare recipe as a study of one trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialSubmit {
    /// The study whose space `params` must fit. Exactly one of `study` and `recipe` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study: Option<StudyId>,
    /// A recipe with every value resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Value>,
    #[serde(default)]
    pub params: Value,
    /// Epochs; with a bare recipe only, where it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<u32>,
    /// The pool that trains it; with a bare recipe only.
    #[serde(default)]
    pub pool: PoolId,
    /// Higher goes first among trials that wait.
    #[serde(default)]
    pub priority: i32,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default = "anonymous")]
    pub by: String,
}

/// Asks for a trial to train in a loop of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialSuggest {
    pub study: StudyId,
    /// Seconds within which the caller will report again, each time; else somebody else gets the trial.
    #[serde(default = "default_lease")]
    pub lease_s: u32,
    #[serde(default = "anonymous")]
    pub by: String,
}

/// Reports a trial that `trial.suggest` gave. Without points or an end it renews the lease alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialObserve {
    pub study: StudyId,
    pub trial: TrialId,
    /// As `trial.suggest` answered it.
    pub attempt: Attempt,
    /// As `trial.suggest` answered it.
    #[serde(default, skip_serializing_if = "Term::is_unknown")]
    pub term: Term,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<OwnPoint>,
    /// Absent: the training goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<OwnEnd>,
    /// One line for a person; with a failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    #[serde(default = "anonymous")]
    pub by: String,
}

/// What was measured with so many epochs done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OwnPoint {
    pub resource: u32,
    /// Seconds of training so far.
    #[serde(default)]
    pub elapsed_s: f64,
    #[serde(with = "crate::wire::metrics")]
    #[schemars(with = "BTreeMap<String, crate::log::MetricValue>")]
    pub metrics: BTreeMap<String, f64>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnEnd {
    /// It trained as far as it was asked to.
    Done,
    /// It cannot be trained.
    Failed,
    /// The caller gives it back, for somebody else to train.
    Released,
}

/// Seconds between two reports, where nobody said.
pub fn default_lease() -> u32 {
    600
}

pub fn anonymous() -> String {
    "anonymous".to_owned()
}

/// An answer: what was asked for, or why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply<T> {
    Ok(T),
    Rejected(Rejection),
}

impl<T: DeserializeOwned> Reply<T> {
    /// The answer as a result.
    ///
    /// # Errors
    /// The rejection.
    pub fn into_result(self) -> Result<T, Rejection> {
        match self {
            Self::Ok(value) => Ok(value),
            Self::Rejected(rejection) => Err(rejection),
        }
    }
}

/// Why a request was refused, in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    pub code: RejectionCode,
    pub message: String,
    #[serde(default)]
    pub faults: Vec<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectionCode {
    /// The request cannot be read.
    Malformed,
    /// The request can be read and is wrong; `faults` says where.
    Invalid,
    /// There is no such study or trial.
    NotFound,
    /// It cannot be done in the state that the study or trial is in.
    Conflict,
    /// The coordinator is still replaying its log, or is overloaded; ask again.
    NotReady,
    #[serde(other)]
    Unknown,
}

/// One thing that is wrong with what somebody wrote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// Where: `space.learning_rate.low`, `recipe.model.hidden[1]`; empty for the whole.
    pub path: String,
    /// What is wrong there.
    pub problem: String,
    /// What would be right.
    #[serde(default)]
    pub help: String,
}

/// Answers `study.create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StudyStarted {
    pub study: StudyId,
}

/// Answers `study.stop`, `study.pause`, `study.resume`, `study.delete` and `trial.stop`: it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    pub study: StudyId,
}

/// Answers `trial.submit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialSubmitted {
    pub study: StudyId,
    pub trial: TrialId,
    /// Where its results arrive.
    pub log_subject: String,
}

/// Answers `trial.suggest`: the caller holds this attempt, and reports it by `trial.observe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialSuggested {
    pub study: StudyId,
    pub trial: TrialId,
    pub attempt: Attempt,
    #[serde(default, skip_serializing_if = "Term::is_unknown")]
    pub term: Term,
    pub params: Params,
    /// Drives everything random in the trial.
    pub seed: u64,
    /// Epochs done at which the attempt ends.
    pub resource: u32,
    /// Epochs that the trial was trained before: to go on from a checkpoint of the caller's, or to begin anew.
    pub trained: u32,
    pub lease_s: u32,
}

/// Answers `trial.observe`: it is in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialObserved {
    pub study: StudyId,
    pub trial: TrialId,
    /// Why the caller may stop training: it holds the attempt no more. What was decided by the points of this very report
    /// is told by the next answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopReason>,
}

/// Answers `study.list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyList {
    pub studies: Vec<StudySummary>,
}

/// Answers `study.show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyShown {
    #[serde(flatten)]
    pub summary: StudySummary,
    pub file: Box<StudyFile>,
}

/// A study in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudySummary {
    pub study: StudyId,
    pub name: String,
    pub status: StudyStatus,
    /// What it waits for, where it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// What hinders an agent that holds one of its trials, in words; the study goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    pub objective: Objective,
    pub trials: TrialCounts,
    /// Trials of the budget.
    pub trials_max: u32,
    /// Epochs trained by all trials.
    pub resource_spent: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// The trials that the best one goes on from, its parent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<Ancestor>,
    /// With several objectives: the trials that no other dominates, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub front: Vec<FrontMember>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<StudyEnd>,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// How well the lanes were used between the first and the last offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<LaneUse>,
}

/// A trial that another goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ancestor {
    pub trial: TrialId,
    /// Epochs that it had when it was copied.
    pub resource: u32,
}

/// Lane-seconds between the first offer and the last, over the lanes that the study used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaneUse {
    pub lanes: u32,
    pub busy_s: f64,
    pub idle_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StudyStatus {
    Running,
    Paused,
    Concluded,
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialCounts {
    pub waiting: u32,
    pub running: u32,
    /// Set aside at a rung.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub paused: u32,
    pub finished: u32,
    pub stopped: u32,
    pub failed: u32,
}

/// A trial that no other dominates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FrontMember {
    pub trial: TrialId,
    /// The objectives as it measured them last, by metric.
    pub values: BTreeMap<String, f64>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Answers `trial.list`; curves are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialList {
    pub trials: Vec<TrialSummary>,
}

/// Answers `trial.show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialShown {
    #[serde(flatten)]
    pub summary: TrialSummary,
    pub points: Vec<Point>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
}

/// A trial in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialSummary {
    pub trial: TrialId,
    pub status: TrialStatus,
    pub params: Params,
    pub lineage: Lineage,
    pub attempt: Attempt,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Epochs done.
    pub resource: u32,
    /// Seconds of training.
    pub elapsed_s: f64,
    /// The best objective value so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<f64>,
    /// The last point's metrics.
    #[serde(default, with = "crate::wire::metrics")]
    #[schemars(with = "BTreeMap<String, crate::log::MetricValue>")]
    pub metrics: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    pub cause: FailCause,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrialStatus {
    /// Offered, and no agent has it.
    Waiting,
    Running,
    /// Set aside at a rung; it may go on.
    Paused,
    Finished,
    Stopped,
    Failed,
    #[serde(other)]
    Unknown,
}

/// Answers `fleet.show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FleetShown {
    pub agents: Vec<AgentSummary>,
    /// The coordinator that decides for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leader {
    /// The name that it took when it started.
    pub coordinator: String,
    /// When it was elected, in milliseconds since 1970.
    pub since_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentSummary {
    pub agent: AgentId,
    pub pool: PoolId,
    pub lanes: u32,
    pub busy: u32,
    pub device: String,
    pub draining: bool,
    /// Milliseconds since its last beat.
    pub silent_ms: u64,
    /// What keeps it from working as it should, and what mends that, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Fault {
    pub fn new(path: impl Into<String>, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into(), help: help.into() }
    }
}
