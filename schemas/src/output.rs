//! The output: lines that a trial prints, for people.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, Attempt};

/// One line. The subject says which study and trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "output")]
pub struct Output {
    pub attempt: Attempt,
    pub agent: AgentId,
    pub line: String,
}
