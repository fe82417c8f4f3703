//! Why something happened: typed, so that a decision explains itself on the wire and on the screen.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::AgentId;

/// Why a trial was told to stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum StopReason {
    /// ASHA: at this rung the value was worse than the threshold, which `competitors` values set.
    Rung { resource: u32, value: f64, threshold: f64, competitors: u32 },
    /// Several objectives: at this rung the trial stood behind the best `going_on` of `competitors`, in this front.
    Front { resource: u32, front: u32, rank: u32, going_on: u32, competitors: u32 },
    /// Ranked where so many came, the trial breaks its constraints.
    Constraint {
        resource: u32,
        /// By so much of their bounds, in sum; absent: a metric that they bound was not measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        violation: Option<f64>,
        competitors: u32,
    },
    /// Median rule: the trial's best value was worse than the median of the finished trials' running averages.
    Median { resource: u32, value: f64, threshold: f64, competitors: u32 },
    /// The trial's best value was worse than the best `percentile` percent of the finished trials' running averages.
    Percentile { percentile: f64, resource: u32, value: f64, threshold: f64, competitors: u32 },
    /// The value was outside of the bounds that the study file gives.
    Threshold { resource: u32, value: f64, threshold: f64 },
    /// The trial's best value did not improve by more than `min_delta` in so many epochs.
    Plateau { resource: u32, value: f64, epochs: u32, min_delta: f64 },
    /// Extrapolated to its end, the trial will be better than the best finished one with this probability only.
    Curve { resource: u32, predicted: f64, best: f64, probability: f64 },
    /// Somebody asked for it.
    Requested { by: String },
    /// The trial failed by what it reported; its agent need not go on.
    Failed { cause: FailCause },
    /// The study ended.
    StudyEnded { reason: StudyEnd },
    /// The attempt is no longer the trial's: its lease ended, or another agent holds it.
    Superseded,
    /// A reason that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Why a study ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum StudyEnd {
    /// Every trial of the budget has ended.
    BudgetSpent { trials: u32 },
    /// The space holds no configuration that was not tried.
    SpaceExhausted { trials: u32 },
    /// The wall time of the budget is over.
    WallTime { wall_time_s: f64 },
    /// A trial reached the target value.
    TargetReached { target: f64, value: f64 },
    /// The best value did not improve by more than `min_delta`, or the metric's noise, in so many trials.
    Converged { best: f64, min_delta: f64, trials: u32 },
    /// More trials failed than its budget allows.
    Failures { failed: u32 },
    /// So many trials came to nothing before any gave a value of the objective.
    NoValue { trials: u32 },
    /// Somebody asked for it.
    Requested { by: String },
    /// An end that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Why a trial failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailCause {
    /// A metric or the loss became infinite or not a number.
    Diverged,
    /// The recipe cannot be trained as it is.
    Configuration,
    /// The data is missing, corrupt or does not fit the recipe.
    Data,
    /// Host or device memory did not suffice.
    OutOfMemory,
    /// The recipe's time limit passed.
    TimeLimit,
    /// The device or its runtime failed.
    Device,
    /// A checkpoint could not be read or written.
    Checkpoint,
    /// The program of a command failed, or did not keep to the protocol.
    Program,
    /// The agent fell silent, too often.
    AgentLost,
    /// A bug of the agent's.
    Internal,
    /// A cause that this version does not know.
    #[serde(other)]
    Unknown,
}

impl FailCause {
    /// Whether trying the same configuration again, perhaps elsewhere, can mend it.
    pub fn can_be_mended_by_a_retry(self) -> bool {
        match self {
            Self::Device | Self::Checkpoint | Self::AgentLost | Self::Internal | Self::Unknown => true,
            Self::Diverged | Self::Configuration | Self::Data | Self::OutOfMemory | Self::TimeLimit | Self::Program => {
                false
            }
        }
    }
}

/// Why an agent gave a trial back without an end of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseReason {
    /// It obeyed a stop.
    Stopped,
    /// It is shutting down; the trial goes on elsewhere from its last checkpoint.
    Draining,
    /// It reached the rung until which it was offered; the trial may go on later from its checkpoint.
    Paused,
    /// A reason that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Why a trial was offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum OfferReason {
    First,
    /// Its agent fell silent.
    LeaseLost {
        agent: AgentId,
        silent_ms: u64,
    },
    /// Its agent gave it back.
    Released {
        agent: AgentId,
    },
    /// It failed for a cause that a retry can mend.
    Retry {
        failure: FailCause,
    },
    /// It was set aside at this rung and is among the best there.
    Promoted {
        resource: u32,
    },
    /// A reason that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Why an external sampler did not propose a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum AskFailure {
    /// Nobody serves under its name.
    Absent,
    /// It gave no answer in this time, or not long ago gave none.
    TimedOut { timeout_s: u32 },
    /// What there was to ask does not fit into a message.
    AskTooLarge { bytes: usize },
    /// Its answer has more bytes than are read.
    AnswerTooLarge { bytes: usize },
    /// Its answer is no such message.
    Unreadable { detail: String },
    /// Its answer held no configuration though all was told.
    Empty,
    /// Its configuration does not fit the space.
    Unfit { detail: String },
    /// The question could not be sent.
    NotSent { detail: String },
    /// A simulation asks nobody.
    Simulated,
    /// A failure that this version does not know.
    #[serde(other)]
    Unknown,
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It spent its whole resource.
    Finished,
    /// It was stopped.
    Stopped,
    /// It failed, and is not retried.
    Failed,
    /// An outcome that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A measured value as people read it: four decimals where these say enough of it, else four significant digits.
pub fn number(value: f64) -> String {
    rounded(value, 4)
}

/// The same, with so many decimals or digits.
pub fn rounded(value: f64, digits: usize) -> String {
    let size = value.abs();
    if size == 0.0 || !value.is_finite() || (1e-3..=1e4).contains(&size) {
        format!("{value:.digits$}")
    } else {
        format!("{value:.*e}", digits.saturating_sub(1))
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rung { resource, value, threshold, competitors } => {
                let (value, threshold) = (number(*value), number(*threshold));
                write!(f, "rung {resource}: {value} is worse than {threshold}, the bar that {competitors} trials set")
            }
            Self::Constraint { resource, violation: None, competitors } => write!(
                f,
                "at {resource}: a constrained metric was not measured, as it was in better ones of {competitors} trials"
            ),
            Self::Constraint { resource, violation: Some(violation), competitors } => write!(
                f,
                "at {resource}: it breaks its constraints by {} of their bounds, and stands behind better ones of \
                 {competitors} trials",
                number(*violation)
            ),
            Self::Median { resource, value, threshold, competitors } => {
                let (value, threshold) = (number(*value), number(*threshold));
                write!(
                    f,
                    "median rule at {resource}: {value} is worse than {threshold}, the median of {competitors} trials"
                )
            }
            Self::Front { resource, front, rank, going_on, competitors } => {
                let (front, rank) = (front + 1, rank + 1);
                write!(f, "rung {resource}: front {front}, place {rank} of {competitors}, of which {going_on} go on")
            }
            Self::Percentile { percentile, resource, value, threshold, competitors } => {
                let (value, threshold) = (number(*value), number(*threshold));
                write!(
                    f,
                    "at {resource}: {value} is worse than {threshold}, the best {percentile} % of {competitors} trials"
                )
            }
            Self::Threshold { resource, value, threshold } => {
                write!(f, "at {resource}: {} is beyond the bound {}", number(*value), number(*threshold))
            }
            Self::Plateau { resource, value, epochs, min_delta } => {
                let value = number(*value);
                write!(f, "plateau at {resource}: in {epochs} epochs, {value} did not improve by more than {min_delta}")
            }
            Self::Curve { resource, predicted, best, probability } => write!(
                f,
                "learning curve at {resource}: {} at its end, better than {} with a probability of {probability:.3}",
                number(*predicted),
                number(*best)
            ),
            Self::Requested { by } => write!(f, "requested by {by}"),
            Self::Failed { cause } => write!(f, "the trial failed: {cause}"),
            Self::StudyEnded { reason } => write!(f, "the study ended: {reason}"),
            Self::Superseded => f.write_str("another attempt took its place"),
            Self::Unknown => f.write_str("for a reason this version does not know"),
        }
    }
}

impl fmt::Display for StudyEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BudgetSpent { trials } => {
                write!(f, "all {trials} trials of the budget have ended")
            }
            Self::SpaceExhausted { trials } => {
                write!(f, "the space holds no further configuration after {trials} trials")
            }
            Self::WallTime { wall_time_s } => write!(f, "its wall time of {wall_time_s} s is over"),
            Self::TargetReached { target, value } => {
                write!(f, "the target {target} was reached with {value}")
            }
            Self::Converged { best, min_delta, trials } => {
                let best = number(*best);
                write!(f, "{trials} trials in a row did not improve {best} by more than {min_delta:.2e}")
            }
            Self::Failures { failed } => write!(f, "{failed} trials have failed, more than `budget.failures` allows"),
            Self::NoValue { trials } => {
                write!(f, "{trials} trials have ended without a value of the objective, and none with one")
            }
            Self::Requested { by } => write!(f, "requested by {by}"),
            Self::Unknown => f.write_str("for a reason this version does not know"),
        }
    }
}

impl fmt::Display for AskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nobody serves under its name"),
            Self::TimedOut { timeout_s } => write!(f, "no answer in {timeout_s} s"),
            Self::AskTooLarge { bytes } => write!(f, "the question has {bytes} bytes, more than a message may have"),
            Self::AnswerTooLarge { bytes } => write!(f, "the answer has {bytes} bytes, more than are read"),
            Self::Unreadable { detail } => write!(f, "the answer cannot be read: {detail}"),
            Self::Empty => f.write_str("the answer holds no configuration"),
            Self::Unfit { detail } => write!(f, "the configuration does not fit the space: {detail}"),
            Self::NotSent { detail } => write!(f, "the question was not sent: {detail}"),
            Self::Simulated => f.write_str("a simulation asks nobody"),
            Self::Unknown => f.write_str("for a reason this version does not know"),
        }
    }
}

impl fmt::Display for FailCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Diverged => "diverged",
            Self::Configuration => "configuration",
            Self::Data => "data",
            Self::OutOfMemory => "out of memory",
            Self::TimeLimit => "time limit",
            Self::Device => "device",
            Self::Checkpoint => "checkpoint",
            Self::Program => "program",
            Self::AgentLost => "agent lost",
            Self::Internal => "internal",
            Self::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn values_of_any_size_are_told_apart() {
        for (value, expected) in [
            (0.0, "0.0000"),
            (0.97604, "0.9760"),
            (-0.001, "-0.0010"),
            (10_000.0, "10000.0000"),
            (2.0131e-7, "2.013e-7"),
            (-0.00099, "-9.900e-4"),
            (10_842_153_650.0, "1.084e10"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
