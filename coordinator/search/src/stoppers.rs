//! Stoppers: who judges running trials.
//!
//! A new one is its file, its line in [`stopper_for`], and its row in the conformance suite. A verdict is part of the
//! fold of the log: it depends on what was measured up to that record and on nothing else, so a replay gives it again.

mod asha;
mod fronts;
mod median;
mod none;
mod promotion;
mod rungs;

use std::fmt::Debug;

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::{AshaMode, Stopper as Choice, StudyFile};

use crate::news::Measurement;
use crate::objectives::Objectives;

/// Judges the trials of a study.
///
/// Its state is a fold of what it was told.
pub trait Stopper: Debug + Send {
    /// The trial measured. Whether it must stop, and why.
    fn measured(&mut self, measurement: Measurement) -> Option<StopReason>;

    /// The trial has ended. A failed one counts as worse than any other.
    fn ended(&mut self, trial: TrialId, outcome: Outcome);

    /// Until which resource the trial's next attempt trains before it is set aside; None: to its end.
    fn until(&self, _trial: TrialId) -> Option<u32> {
        None
    }

    /// The trial was set aside with so many epochs done.
    fn paused(&mut self, _trial: TrialId, _resource: u32) {}

    /// The trial, set aside before, was offered again.
    fn promoted(&mut self, _trial: TrialId) {}

    /// The trial, of those set aside, that a free lane goes on with; None: the lane is for others.
    fn promotion(&self, _chances: Chances) -> Option<TrialId> {
        None
    }

    /// Whether a new configuration may begin now. A barrier says no until all before it have arrived.
    fn admits(&self) -> bool {
        true
    }

    /// Why the trial, set aside, was never promoted; None: it was not ranked.
    fn outranked(&self, _trial: TrialId) -> Option<StopReason> {
        None
    }
}

/// Which of the trials set aside may go on.
#[derive(Clone, Copy)]
pub struct Chances<'a> {
    /// Whether no decision about the trial is on its way.
    pub is_free: &'a dyn Fn(TrialId) -> bool,
    /// Whether the study ends unless a trial goes on: no new configuration can come, and none is running.
    pub is_last: bool,
}

/// The table of stoppers.
pub fn stopper_for(study: &StudyFile) -> Box<dyn Stopper> {
    let goal = study.objective.goal;
    match study.stopper {
        Choice::None => Box::new(none::Never),
        Choice::Median { es_min, grace } => Box::new(median::Median::new(goal, es_min, grace)),
        Choice::Asha { eta, min_resource, brackets, mode } => {
            let levels = rungs::Levels { eta, min_resource, max_resource: study.budget.resource };
            let objectives = Objectives::new(study);
            match mode {
                _ if objectives.are_several() => Box::new(fronts::Fronts::new(objectives, levels)),
                AshaMode::Stop => Box::new(asha::Asha::new(goal, levels, brackets)),
                AshaMode::Promote => Box::new(promotion::Promotion::new(goal, levels, brackets)),
            }
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
