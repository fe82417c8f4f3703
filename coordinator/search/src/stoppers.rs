//! Stoppers: who judges running trials.
//!
//! A new one is its file, its line in [`stopper_for`], and its row in the conformance suite. A verdict is part of the
//! fold of the log: it depends on what was measured up to that record and on nothing else, so a replay gives it again.

mod agreement;
mod asha;
mod brackets;
mod curve;
mod halving;
mod none;
mod pasha;
mod patience;
mod pbt;
mod percentile;
mod promotion;
mod rungs;
mod stages;
mod threshold;

use std::fmt::Debug;

use regatta_schemas::log::Checkpoint;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::{
    AshaMode, EarlyStopping, Goal, Stopper as Choice, StudyFile, default_es_min, default_grace, default_patience,
    first_rung, pbt_interval,
};
use regatta_schemas::{Params, TrialId};

use crate::news::Measurement;
use crate::objectives::{Objectives, measured, violation};
use brackets::Brackets;
use percentile::Rule;
use rungs::{Levels, Order};

/// Judges the trials of a study.
///
/// Its state is a fold of what it was told.
pub trait Stopper: Debug + Send {
    /// The trial was offered for the first time, to train until there before it is set aside; None: to its end.
    fn begun(&mut self, _trial: TrialId, _until: Option<u32>) {}

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

    /// Whether this configuration, a new one, may begin now. A barrier says no until all before it have arrived. It is
    /// not asked where nothing else can happen, nor about trials that came from outside.
    fn admits(&self, _trial: TrialId) -> bool {
        true
    }

    /// Who takes the place of this trial, which was set aside and has a lane; None: it goes on itself. `child` is the
    /// number of the trial that would come, `parent` gives what there is to go on from of a trial that may be copied.
    fn heir<'a>(
        &self,
        _trial: TrialId,
        _child: TrialId,
        _parent: &dyn Fn(TrialId) -> Option<Parent<'a>>,
    ) -> Option<Heir> {
        None
    }

    /// Those of the trials set aside that cannot be promoted any more, whatever is still to come.
    fn hopeless(&self) -> Vec<TrialId> {
        Vec::new()
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
    /// The trial that a new configuration would become; None: there can be none now.
    pub next: Option<TrialId>,
}

/// What a copy of a trial begins with.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    pub params: &'a Params,
    pub checkpoint: &'a Checkpoint,
}

/// A new trial that goes on from another's checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Heir {
    pub parent: TrialId,
    pub checkpoint: Checkpoint,
    pub params: Params,
    /// Until which resource it trains before it is set aside; None: to its end.
    pub until: Option<u32>,
    /// Why the trial whose place it takes ends.
    pub reason: StopReason,
}

/// The table of stoppers.
pub fn stopper_for(study: &StudyFile) -> Box<dyn Stopper> {
    let (goal, budget) = (study.objective.goal, &study.budget);
    let levels = |eta, min_resource| Levels { eta, min_resource, max_resource: budget.resource };
    let from_first = |eta, min_resource| levels(eta, first_rung(min_resource, budget.resource));
    match study.stopper {
        Choice::None => Box::new(none::Never),
        Choice::Median { es_min, grace } => Box::new(percentile::Percentile::new(goal, Rule::Median, es_min, grace)),
        Choice::Percentile { percentile, es_min, grace } => {
            Box::new(percentile::Percentile::new(goal, Rule::Best(percentile), es_min, grace))
        }
        Choice::Threshold { lower, upper, grace } => Box::new(threshold::Threshold { lower, upper, grace }),
        Choice::Patience { epochs, min_delta } => Box::new(patience::Patience::new(goal, epochs, min_delta)),
        Choice::Curve { probability, grace } => Box::new(curve::Curve::new(goal, probability, grace, budget.resource)),
        Choice::Asha { eta, min_resource, brackets, mode } => {
            let objectives = Objectives::new(study);
            let order = if objectives.are_several() { Order::Fronts(objectives) } else { Order::Value(goal) };
            successive(Brackets::in_turn(&order, from_first(eta, min_resource), brackets), budget.trials, mode)
        }
        Choice::Hyperband { eta, min_resource, mode } => {
            successive(Brackets::drawn(goal, levels(eta, min_resource), study.seed), budget.trials, mode)
        }
        Choice::Pasha { eta, min_resource } => {
            Box::new(pasha::Pasha::new(goal, from_first(eta, min_resource), budget.trials))
        }
        Choice::Halving { eta, min_resource } => {
            Box::new(halving::Halving::new(goal, from_first(eta, min_resource), budget.trials))
        }
        Choice::Pbt { population, interval, quantile, .. } => {
            let rules = pbt::Rules { population, interval: pbt_interval(interval, budget.resource), quantile };
            Box::new(pbt::Pbt::new(study, rules))
        }
        Choice::Stages { size, early_stopping } => {
            let cohorts = halving::Cohorts { size, trials: budget.trials };
            Box::new(stages::Stages::new(cohorts, early_stopper(goal, early_stopping)))
        }
    }
}

fn successive(brackets: Brackets, trials: u32, mode: AshaMode) -> Box<dyn Stopper> {
    match mode {
        AshaMode::Stop => Box::new(asha::Asha::new(brackets)),
        AshaMode::Promote => Box::new(promotion::Promotion::new(brackets, trials)),
    }
}

/// Who judges the trials of a stage.
fn early_stopper(goal: Goal, choice: EarlyStopping) -> Box<dyn Stopper> {
    match choice {
        EarlyStopping::None => Box::new(none::Never),
        EarlyStopping::Agent => Box::new(patience::Patience::new(goal, default_patience(), 0.0)),
        EarlyStopping::Global => {
            Box::new(percentile::Percentile::new(goal, Rule::Median, default_es_min(), default_grace()))
        }
    }
}

/// Why a trial does not go on from where so many came: its value is worse than the threshold, or breaks a constraint.
fn outdone(goal: Goal, resource: u32, value: f64, threshold: f64, competitors: u32) -> StopReason {
    broken(goal, resource, value, competitors).unwrap_or(StopReason::Rung { resource, value, threshold, competitors })
}

/// The reason where the value that was ranked breaks a constraint.
fn broken(goal: Goal, resource: u32, ranked: f64, competitors: u32) -> Option<StopReason> {
    let violation = measured(violation(goal.loss(ranked))?);
    Some(StopReason::Constraint { resource, violation, competitors })
}

/// Orders values from best to worst.
fn best_first(goal: Goal, a: f64, b: f64) -> std::cmp::Ordering {
    match goal {
        Goal::Maximize => b.total_cmp(&a),
        Goal::Minimize => a.total_cmp(&b),
    }
}
