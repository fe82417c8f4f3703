//! ASHA, the promoting kind (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020, algorithm 2): every
//! trial is set aside at each rung, and goes on from its checkpoint, on any agent, once it is among the best 1 in `eta`
//! of all of its bracket that have come there. A free lane takes the promotion of the highest rung; a new configuration
//! only where there is none.
//!
//! Of n values the best floor(n / eta) go on. Once nothing else can happen, and until one trial has gone the whole way,
//! the best trial of the highest rung goes on as well: a study whose budget is spent ends with a winner that was trained
//! to the end.
//!
//! A trial that can never be promoted is ended when that is certain: when at its rung as many are better as could ever be
//! promoted from there, if all came that still can. Of several objectives that is never certain; of
//! them no more go on than floor(n / eta), those that went on before included.

use std::collections::{BTreeMap, BTreeSet};

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};

use super::brackets::Brackets;
use super::rungs::Rungs;
use super::{Chances, Stopper};
use crate::news::Measurement;

#[derive(Debug)]
pub struct Promotion {
    brackets: Brackets,
    /// Rungs that each trial was promoted from; absent: none.
    promotions: BTreeMap<TrialId, usize>,
    set_aside: BTreeSet<TrialId>,
    /// Trials that the study has at most.
    trials: u32,
    /// Those that ended before they came there, by bracket and rung.
    missing: BTreeMap<(usize, usize), usize>,
    /// Those that cannot be promoted any more.
    outclassed: BTreeSet<TrialId>,
    /// Whether a trial has spent its whole resource.
    has_winner: bool,
}

impl Promotion {
    /// `trials`: those that the study has at most.
    pub fn new(brackets: Brackets, trials: u32) -> Self {
        Self {
            brackets,
            promotions: BTreeMap::new(),
            set_aside: BTreeSet::new(),
            trials,
            missing: BTreeMap::new(),
            outclassed: BTreeSet::new(),
            has_winner: false,
        }
    }

    /// Of how many trials some may still be promoted from this rung: those that came there, and those that still can.
    fn coming(&self, bracket: usize, rung: usize) -> usize {
        let missing = self.missing.get(&(bracket, rung)).copied().unwrap_or(0);
        self.brackets.share(self.trials).saturating_sub(missing)
    }

    /// The trial has come to a rung, or come no further: from the rung that it may have changed, it or one other cannot
    /// go on any more. One that was promoted from there is none of them.
    fn outclass(&mut self, trial: TrialId) {
        let bracket = self.brackets.bracket(trial);
        let rungs = self.brackets.rungs(trial);
        if !rungs.keeps_order() {
            return;
        }
        for rung in 0..rungs.count() {
            // The best may be the last that is left, and then goes on in any case.
            let promotable = (self.coming(bracket, rung) / rungs.eta()).max(1);
            let places = [Some(promotable), rungs.place(trial, rung).filter(|place| *place > promotable)];
            let trials = places.into_iter().flatten().filter_map(|place| rungs.at(rung, place));
            let left: Vec<TrialId> = trials.filter(|trial| self.rung(*trial) == rung).collect();
            self.outclassed.extend(left);
        }
    }

    /// The number of the rung that the trial is at, or on its way to.
    fn rung(&self, trial: TrialId) -> usize {
        self.promotions.get(&trial).copied().unwrap_or(0)
    }

    /// The best trial set aside at the rung, of all or of those that earned it.
    fn best_set_aside(&self, rungs: &Rungs, rung: usize, chances: &Chances, only_earned: bool) -> Option<TrialId> {
        let count = if only_earned { rungs.promotable(rung) } else { usize::MAX };
        // Where newcomers change the order of the others, each of a long front would be among the first at some time.
        if !rungs.keeps_order() && rungs.ranking(rung).filter(|trial| self.rung(*trial) > rung).count() >= count {
            return None;
        }
        rungs.ranking(rung).take(count).find(|trial| self.rung(*trial) == rung && (chances.is_free)(*trial))
    }

    fn best_of_highest(&self, chances: &Chances, rungs_below_top: usize, only_earned: bool) -> Option<TrialId> {
        let most = self.brackets.all().map(Rungs::count).max().unwrap_or(0);
        (1 + rungs_below_top..=most).find_map(|from_top| {
            self.brackets.all().find_map(|rungs| {
                let rung = rungs.count().checked_sub(from_top)?;
                self.best_set_aside(rungs, rung, chances, only_earned)
            })
        })
    }

    /// As [`Stopper::promotion`], but nobody goes on from the highest `rungs_closed` rungs, except for the last winner.
    pub fn promotion_below(&self, chances: Chances, rungs_closed: usize) -> Option<TrialId> {
        let earned = self.best_of_highest(&chances, rungs_closed, true);
        let wants_winner = chances.is_last && !self.has_winner;
        earned.or_else(|| wants_winner.then(|| self.best_of_highest(&chances, 0, false)).flatten())
    }
}

impl Stopper for Promotion {
    fn begun(&mut self, trial: TrialId, until: Option<u32>) {
        self.brackets.begun_until(trial, until);
    }

    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let trial = measurement.trial;
        self.brackets.measured(measurement);
        if !self.brackets.rungs_mut(trial).arrive(measurement).is_empty() {
            self.outclass(trial);
        }
        None
    }

    fn ended(&mut self, trial: TrialId, outcome: Outcome) {
        self.set_aside.remove(&trial);
        self.outclassed.remove(&trial);
        match outcome {
            Outcome::Failed => self.brackets.rungs_mut(trial).fail(trial),
            Outcome::Finished => self.has_winner = true,
            Outcome::Stopped | Outcome::Unknown => {}
        }
        let (bracket, rungs) = (self.brackets.bracket(trial), self.brackets.rungs(trial));
        for rung in (0..rungs.count()).filter(|rung| !rungs.has_come(trial, *rung)) {
            *self.missing.entry((bracket, rung)).or_default() += 1;
        }
        self.outclass(trial);
    }

    fn until(&self, trial: TrialId) -> Option<u32> {
        let next = self.rung(trial) + usize::from(self.set_aside.contains(&trial));
        self.brackets.rungs(trial).resource(next)
    }

    fn paused(&mut self, trial: TrialId, _resource: u32) {
        self.set_aside.insert(trial);
    }

    fn promoted(&mut self, trial: TrialId) {
        self.set_aside.remove(&trial);
        *self.promotions.entry(trial).or_default() += 1;
    }

    fn promotion(&self, chances: Chances) -> Option<TrialId> {
        self.promotion_below(chances, 0)
    }

    fn hopeless(&self) -> Vec<TrialId> {
        self.outclassed.intersection(&self.set_aside).copied().collect()
    }

    fn outranked(&self, trial: TrialId) -> Option<StopReason> {
        self.brackets.rungs(trial).verdict(trial, self.rung(trial))
    }
}
