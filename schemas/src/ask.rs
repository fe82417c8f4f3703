//! What a study asks of an external sampler, and the answer: a request and its reply.
//!
//! The sampler is told what it does not know yet, so that it may keep what it was told, or keep nothing and be told all
//! again. What it was told counts by changes of trials, in the order of the log: the same numbers whichever coordinator
//! asks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{StudyId, TrialId};
use crate::log::Point;
use crate::params::Params;
use crate::reasons::Outcome;
use crate::study::{Budget, Constraint, Earlier, Objective, Parameter};

/// One configuration is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "ask")]
pub struct Ask {
    pub study: StudyId,
    /// The configuration's number among those of the study's sampler, from 0, its `initial` ones included.
    pub index: u64,
    pub objective: Objective,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_objectives: Vec<Objective>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    pub space: BTreeMap<String, Parameter>,
    pub budget: Budget,
    pub seed: u64,
    /// What earlier trials measured, as the study file has it: with each question whose `since` is 0, and with no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Earlier>,
    /// How many changes of trials the sampler was told before, or says that it knows.
    pub since: u64,
    /// How many it knows with these.
    pub until: u64,
    /// The trials that changed, each as it is now, in the order of their last change. What was told of them before is
    /// out of date.
    pub trials: Vec<TrialSoFar>,
    /// Whether there is more to tell: an answer without a configuration has it told.
    #[serde(default)]
    pub more: bool,
    /// Configurations that were proposed and are no trials yet.
    #[serde(default)]
    pub pending: Vec<Pending>,
}

/// A configuration that is on its way to become a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pending {
    pub index: u64,
    pub params: Params,
}

/// A trial as a sampler sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialSoFar {
    pub trial: TrialId,
    /// As which configuration of the sampler's it was proposed; absent: somebody else sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    pub params: Params,
    /// The last ones, by ascending step, with the metrics that the study's objectives and constraints name.
    pub points: Vec<Point>,
    /// Absent: it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// A sampler's answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Suggestion {
    /// A configuration of the space. Without one, the question is put again with more of what there is to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// How many changes the sampler knows, where that is not the question's `until`: 0 has it told everything again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}
