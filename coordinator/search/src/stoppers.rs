//! Stoppers: who judges running trials.
//!
//! A new one is its file, its line in [`stopper_for`], and its row in the conformance suite. A verdict is part of the
//! fold of the log: it depends on what was measured up to that record and on nothing else, so a replay gives it again.

mod asha;
mod median;
mod none;
mod rungs;

use std::fmt::Debug;

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::{Stopper as Choice, StudyFile};

/// Judges the trials of a study.
pub trait Stopper: Debug + Send {
    /// The trial measured this objective value with so many epochs done. Whether it must stop, and why.
    /// The value is finite; the same (trial, step) comes once, though not always in order.
    fn measured(&mut self, trial: TrialId, resource: u32, value: f64) -> Option<StopReason>;

    /// The trial has ended. A failed one counts as worse than any other.
    fn ended(&mut self, trial: TrialId, outcome: Outcome);
}

/// The table of stoppers.
pub fn stopper_for(study: &StudyFile) -> Box<dyn Stopper> {
    let goal = study.objective.goal;
    match study.stopper {
        Choice::None => Box::new(none::Never),
        Choice::Median { es_min, grace } => Box::new(median::Median::new(goal, es_min, grace)),
        Choice::Asha { eta, min_resource, brackets } => {
            let levels = rungs::Levels { eta, min_resource, max_resource: study.budget.resource };
            Box::new(asha::Asha::new(goal, levels, brackets))
        }
    }
}

/// Orders values from best to worst.
fn best_first(goal: regatta_schemas::study::Goal, a: f64, b: f64) -> std::cmp::Ordering {
    use regatta_schemas::study::Goal;
    match goal {
        Goal::Maximize => b.total_cmp(&a),
        Goal::Minimize => a.total_cmp(&b),
    }
}
