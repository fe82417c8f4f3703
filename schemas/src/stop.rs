//! The stop: the coordinator's word that an attempt must end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, Attempt, Term};
use crate::reasons::StopReason;

/// Ends every attempt of the subject's trial up to and including `attempt`, between two training steps.
/// On the subject of a whole study it ends all attempts of all its trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "stop")]
pub struct Stop {
    /// Absent: every attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// Only this agent is meant; absent: whoever holds the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Only an attempt that was offered in this term is meant; absent: in any.
    #[serde(default, skip_serializing_if = "Term::is_unknown")]
    pub term: Term,
    /// A checkpoint is made first, where the recipe wants one at the end: these weights are among those to be had later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    pub reason: StopReason,
}

impl Stop {
    /// Turns this agent away from an attempt that is not, or no longer, its own.
    pub fn superseded(agent: AgentId, attempt: Attempt, term: Term) -> Self {
        Self { attempt: Some(attempt), agent: Some(agent), term, keep: false, reason: StopReason::Superseded }
    }

    /// Whether an agent that holds this attempt is meant.
    pub fn is_for(&self, agent: &AgentId, attempt: Attempt, term: Term) -> bool {
        self.attempt.is_none_or(|last| attempt <= last)
            && self.agent.as_ref().is_none_or(|only| only == agent)
            && self.term.may_be(term)
    }
}
