//! ASHA, the stopping kind: asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter
//! Tuning", 2020), in which a trial goes on past a rung only if it is, when it arrives there, among the best 1 in `eta`
//! of all that have come so far; it never waits and is never resumed (as in Optuna's pruner and Syne Tune's `stopping`).
//!
//! Of n values the best max(1, floor(n / eta)) go on. A trial is compared once at each rung, at its first value there.
//! With brackets, trial t belongs to bracket t mod `brackets`, whose first rung is `min_resource * eta^bracket`.

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::Goal;

use super::Stopper;
use super::rungs::{Levels, Rungs};
use crate::news::Measurement;

#[derive(Debug)]
pub struct Asha {
    goal: Goal,
    brackets: Vec<Rungs>,
}

impl Asha {
    pub fn new(goal: Goal, levels: Levels, brackets: u32) -> Self {
        Self { goal, brackets: Rungs::brackets(goal, levels, brackets) }
    }

    fn bracket(&mut self, trial: TrialId) -> &mut Rungs {
        let count = self.brackets.len();
        &mut self.brackets[trial.0 as usize % count]
    }
}

impl Stopper for Asha {
    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { trial, resource, value, .. } = measurement;
        let goal = self.goal;
        self.bracket(trial).arrive(trial, resource, value).into_iter().find_map(|standing| {
            let threshold = standing.threshold.filter(|threshold| goal.is_better(*threshold, standing.value))?;
            let (resource, value, competitors) = (standing.resource, standing.value, standing.competitors);
            Some(StopReason::Rung { resource, value, threshold, competitors })
        })
    }

    fn ended(&mut self, trial: TrialId, outcome: Outcome) {
        match outcome {
            Outcome::Failed => self.bracket(trial).fail(trial),
            Outcome::Finished | Outcome::Stopped | Outcome::Unknown => {}
        }
    }
}
