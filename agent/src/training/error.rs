//! Why a training ended, split by what the agent reports and whether another attempt can help.

use regatta_autodiff::step::StepError;

use crate::model::ModelError;
use crate::runtime::RuntimeError;

#[derive(Debug, Clone, thiserror::Error)]
pub enum TrainingError {
    /// The loss is no longer a number: the trial's own fault.
    #[error("the loss became {loss} in step {step}")]
    Diverged { step: u64, loss: f32 },
    /// The plan cannot be trained: no attempt will ever succeed.
    #[error("the plan cannot be trained: {reason}")]
    Configuration { reason: String },
    #[error("the data cannot be trained on: {reason}")]
    Data { reason: String },
    #[error("the checkpoint cannot be resumed: {reason}")]
    Checkpoint { reason: String },
    /// The runtime or its device failed: another agent may succeed.
    #[error("the device failed: {0}")]
    Device(#[source] RuntimeError),
    #[error("out of memory: {reason}")]
    OutOfMemory { reason: String },
    #[error("the training was interrupted")]
    Interrupted,
}

impl From<RuntimeError> for TrainingError {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Interrupted => Self::Interrupted,
            RuntimeError::OutOfMemory { reason } => Self::OutOfMemory { reason },
            RuntimeError::Graph { reason } => Self::Configuration { reason },
            RuntimeError::Library { .. }
            | RuntimeError::OtherLibrary { .. }
            | RuntimeError::DeviceUnavailable { .. }
            | RuntimeError::Failed { .. } => Self::Device(error),
        }
    }
}

impl From<StepError> for TrainingError {
    fn from(error: StepError) -> Self {
        Self::Configuration { reason: error.to_string() }
    }
}

impl From<ModelError> for TrainingError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Import(error) => Self::Configuration { reason: error.to_string() },
            ModelError::Runtime(error) => error.into(),
            ModelError::Batch { .. } => Self::Configuration { reason: error.to_string() },
        }
    }
}
