//! ASHA, the stopping kind: asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter
//! Tuning", 2020), in which a trial goes on past a rung only if it is, when it arrives there, among the best 1 in `eta`
//! of all of its bracket that have come so far; it never waits and is never resumed (as in Optuna's pruner and Syne
//! Tune's `stopping`).
//!
//! Of n values the best max(1, floor(n / eta)) go on. A trial is compared once at each rung, at its first value there.

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::Goal;

use super::Stopper;
use super::brackets::Brackets;
use crate::news::Measurement;

#[derive(Debug)]
pub struct Asha {
    goal: Goal,
    brackets: Brackets,
}

impl Asha {
    pub fn new(goal: Goal, brackets: Brackets) -> Self {
        Self { goal, brackets }
    }
}

impl Stopper for Asha {
    fn begun(&mut self, trial: TrialId, _until: Option<u32>) {
        self.brackets.begun(trial);
    }

    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { trial, resource, value, .. } = measurement;
        let goal = self.goal;
        self.brackets.measured(measurement);
        self.brackets.rungs_mut(trial).arrive(trial, resource, value).into_iter().find_map(|standing| {
            let threshold = standing.threshold.filter(|threshold| goal.is_better(*threshold, standing.value))?;
            let (resource, value, competitors) = (standing.resource, standing.value, standing.competitors);
            Some(StopReason::Rung { resource, value, threshold, competitors })
        })
    }

    fn ended(&mut self, trial: TrialId, outcome: Outcome) {
        match outcome {
            Outcome::Failed => self.brackets.rungs_mut(trial).fail(trial),
            Outcome::Finished | Outcome::Stopped | Outcome::Unknown => {}
        }
    }
}
