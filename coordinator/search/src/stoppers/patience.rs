//! Patience: a trial stops when its best value has not improved by more than `min_delta` for so many epochs (Prechelt,
//! "Early Stopping - But When?", 1998; as Keras has it). It looks at the trial's own curve and at nothing else.

use std::collections::BTreeMap;

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::Goal;

use super::Stopper;
use crate::news::Measurement;

#[derive(Debug)]
pub struct Patience {
    goal: Goal,
    epochs: u32,
    min_delta: f64,
    best_by_trial: BTreeMap<TrialId, Best>,
}

#[derive(Debug, Clone, Copy)]
struct Best {
    value: f64,
    resource: u32,
}

impl Patience {
    pub fn new(goal: Goal, epochs: u32, min_delta: f64) -> Self {
        Self { goal, epochs, min_delta, best_by_trial: BTreeMap::new() }
    }
}

impl Stopper for Patience {
    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { trial, resource, value, .. } = measurement;
        let (goal, epochs, min_delta) = (self.goal, self.epochs, self.min_delta);
        let best = self.best_by_trial.entry(trial).or_insert(Best { value, resource });
        if goal.is_better_by(value, best.value, min_delta) {
            *best = Best { value, resource: best.resource.max(resource) };
        }
        let is_plateau = resource.saturating_sub(best.resource) >= epochs;
        is_plateau.then_some(StopReason::Plateau { resource, value: best.value, epochs, min_delta })
    }

    fn ended(&mut self, trial: TrialId, _outcome: Outcome) {
        self.best_by_trial.remove(&trial);
    }
}
