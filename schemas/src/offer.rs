//! The offer: one trial, put before a pool of agents.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, StudyId, Term, TrialId};
use crate::log::Checkpoint;
use crate::params::Params;
use crate::recipe::Recipe;
use crate::study::Objective;

/// All that an agent needs to train one attempt of one trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "offer")]
pub struct Offer {
    pub study: StudyId,
    pub trial: TrialId,
    pub attempt: Attempt,
    /// To be repeated in all records of the attempt.
    #[serde(default, skip_serializing_if = "Term::is_unknown")]
    pub term: Term,
    /// The trial's parameters, for the log and the screen; the recipe has them filled in.
    pub params: Params,
    /// Every value resolved.
    pub recipe: Recipe,
    /// Epochs to train in all, those of earlier attempts included.
    pub resource: u32,
    /// Epochs done at which the trial is set aside: the agent leaves a checkpoint and gives it back, `paused`. Absent:
    /// it trains to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u32>,
    /// Drives everything random in the trial.
    pub seed: u64,
    /// Where to go on from; absent: from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Checkpoint>,
    /// What the study seeks first; absent: not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}
