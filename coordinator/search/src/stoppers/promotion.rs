//! ASHA, the promoting kind (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020, algorithm 2): every
//! trial is set aside at each rung, and goes on from its checkpoint, on any agent, once it is among the best 1 in `eta`
//! of all that have come there. A free lane takes the promotion of the highest rung; a new configuration only where
//! there is none.
//!
//! Of n values the best floor(n / eta) go on. Once nothing else can happen, and until one trial has gone the whole way,
//! the best trial of the highest rung goes on as well: a study whose budget is spent ends with a winner that was trained
//! to the end. With brackets, trial t belongs to bracket t mod `brackets`.

use std::collections::BTreeMap;

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::Goal;

use super::rungs::{Levels, Rungs};
use super::{Chances, Stopper};
use crate::news::Measurement;

#[derive(Debug)]
pub struct Promotion {
    goal: Goal,
    brackets: Vec<Rungs>,
    /// Rungs that each trial was promoted from; absent: none.
    promotions: BTreeMap<TrialId, usize>,
    /// Whether a trial has spent its whole resource.
    has_winner: bool,
}

impl Promotion {
    pub fn new(goal: Goal, levels: Levels, brackets: u32) -> Self {
        Self { goal, brackets: Rungs::brackets(goal, levels, brackets), promotions: BTreeMap::new(), has_winner: false }
    }

    fn bracket(&self, trial: TrialId) -> usize {
        trial.0 as usize % self.brackets.len()
    }

    /// The number of the rung that the trial is at, or on its way to.
    fn rung(&self, trial: TrialId) -> usize {
        self.promotions.get(&trial).copied().unwrap_or(0)
    }

    /// The best trial set aside at the rung, of all or of those that earned it.
    fn best_set_aside(&self, rungs: &Rungs, rung: usize, chances: &Chances, only_earned: bool) -> Option<TrialId> {
        let count = if only_earned { rungs.promotable(rung) } else { usize::MAX };
        rungs.ranking(rung).take(count).find(|trial| self.rung(*trial) == rung && (chances.is_free)(*trial))
    }

    fn best_of_highest(&self, chances: &Chances, only_earned: bool) -> Option<TrialId> {
        let most = self.brackets.iter().map(Rungs::count).max().unwrap_or(0);
        (1..=most).find_map(|from_top| {
            self.brackets.iter().find_map(|rungs| {
                let rung = rungs.count().checked_sub(from_top)?;
                self.best_set_aside(rungs, rung, chances, only_earned)
            })
        })
    }
}

impl Stopper for Promotion {
    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { trial, resource, value, .. } = measurement;
        let bracket = self.bracket(trial);
        self.brackets[bracket].arrive(trial, resource, value);
        None
    }

    fn ended(&mut self, trial: TrialId, outcome: Outcome) {
        let bracket = self.bracket(trial);
        match outcome {
            Outcome::Failed => self.brackets[bracket].fail(trial),
            Outcome::Finished => self.has_winner = true,
            Outcome::Stopped | Outcome::Unknown => {}
        }
    }

    fn until(&self, trial: TrialId) -> Option<u32> {
        self.brackets[self.bracket(trial)].resource(self.rung(trial))
    }

    fn promoted(&mut self, trial: TrialId) {
        *self.promotions.entry(trial).or_default() += 1;
    }

    fn promotion(&self, chances: Chances) -> Option<TrialId> {
        let earned = self.best_of_highest(&chances, true);
        let wants_winner = chances.is_last && !self.has_winner;
        earned.or_else(|| wants_winner.then(|| self.best_of_highest(&chances, false)).flatten())
    }

    fn outranked(&self, trial: TrialId) -> Option<StopReason> {
        let standing = self.brackets[self.bracket(trial)].standing(trial, self.rung(trial))?;
        let threshold = standing.threshold.filter(|threshold| self.goal.is_better(*threshold, standing.value))?;
        let (resource, value, competitors) = (standing.resource, standing.value, standing.competitors);
        Some(StopReason::Rung { resource, value, threshold, competitors })
    }
}
