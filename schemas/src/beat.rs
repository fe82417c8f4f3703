//! The beat: an agent's sign of life, once a second, which renews its leases.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, StudyId, TrialId};

/// One beat. The subject says which agent and pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "beat")]
pub struct Beat {
    /// Trials the agent can run at once; 0 while it drains.
    pub lanes: u32,
    /// The attempts it holds.
    pub leases: Vec<Held>,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Whether it takes no more trials and goes when its lanes are empty.
    #[serde(default)]
    pub draining: bool,
    /// The agent's version.
    #[serde(default)]
    pub version: String,
    /// Load of its machine: runnable processes per core over the last minute, where it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// What keeps it from working as it should, and what mends that, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// An attempt that an agent holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    pub study: StudyId,
    pub trial: TrialId,
    pub attempt: Attempt,
}
