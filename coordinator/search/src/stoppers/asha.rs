//! ASHA, the stopping kind: asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter
//! Tuning", 2020), in which a trial goes on past a rung only if it is, when it arrives there, among the best 1 in `eta`
//! of all of its bracket that have come so far; it never waits and is never resumed (as in Optuna's pruner and Syne
//! Tune's `stopping`).
//!
//! Of n values the best max(1, floor(n / eta)) go on. A trial is compared once at each rung, at its first value there. Of
//! several objectives, who is dominated by nobody at the rung goes on as well.

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};

use super::Stopper;
use super::brackets::Brackets;
use crate::news::Measurement;

#[derive(Debug)]
pub struct Asha {
    brackets: Brackets,
}

impl Asha {
    pub fn new(brackets: Brackets) -> Self {
        Self { brackets }
    }
}

impl Stopper for Asha {
    fn begun(&mut self, trial: TrialId, _until: Option<u32>) {
        self.brackets.begun(trial);
    }

    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let trial = measurement.trial;
        self.brackets.measured(measurement);
        let rungs = self.brackets.rungs_mut(trial);
        rungs.arrive(measurement).into_iter().find_map(|rung| rungs.verdict(trial, rung))
    }

    fn ended(&mut self, trial: TrialId, outcome: Outcome) {
        match outcome {
            Outcome::Failed => self.brackets.rungs_mut(trial).fail(trial),
            Outcome::Finished | Outcome::Stopped | Outcome::Unknown => {}
        }
    }
}
