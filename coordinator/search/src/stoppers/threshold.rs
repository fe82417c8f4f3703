//! Bounds: a trial stops when a value of it is outside of them (as Optuna's threshold pruner).

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};

use super::Stopper;
use crate::news::Measurement;

#[derive(Debug)]
pub struct Threshold {
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    /// Epochs that a trial is left alone.
    pub grace: u32,
}

impl Stopper for Threshold {
    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { resource, value, .. } = measurement;
        if resource < self.grace {
            return None;
        }
        let below = self.lower.filter(|lower| value < *lower);
        let threshold = below.or(self.upper.filter(|upper| value > *upper))?;
        Some(StopReason::Threshold { resource, value, threshold })
    }

    fn ended(&mut self, _trial: TrialId, _outcome: Outcome) {}
}
