//! Successive halving, synchronous (Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
//! Optimization", 2016), for comparisons: a cohort of trials is set aside at each rung until the last of them has come;
//! then the best 1 in `eta` go on, and the others never do. The next cohort begins when the one before is done.
//!
//! A cohort has `eta` trials to the power of the number of rungs, so that one of them is trained to the end; the last
//! cohort has what the budget leaves. Who ended early has come, and does not go on. Of n the best max(1, floor(n / eta))
//! go on.

use std::collections::{BTreeMap, BTreeSet};

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::Goal;

use super::rungs::Levels;
use super::{Chances, Stopper, best_first, outdone};
use crate::news::Measurement;

#[derive(Debug)]
pub struct Halving {
    goal: Goal,
    eta: usize,
    resources: Vec<u32>,
    cohorts: Cohorts,
    /// Rungs that each trial was promoted from; absent: none.
    promotions: BTreeMap<TrialId, usize>,
    set_aside: BTreeSet<TrialId>,
    cohort_by_number: BTreeMap<u32, Cohort>,
}

/// Which trials are together: so many in a row, and of the budget's last the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cohorts {
    pub size: u32,
    pub trials: u32,
}

#[derive(Debug, Default)]
struct Cohort {
    ended: BTreeSet<TrialId>,
    /// What came to each rung.
    values_by_rung: Vec<BTreeMap<TrialId, f64>>,
    /// Who goes on from each rung at which all have come.
    chosen_by_rung: Vec<Vec<TrialId>>,
}

impl Cohorts {
    pub fn number(self, trial: TrialId) -> u32 {
        trial.0 / self.size
    }

    pub fn len(self, number: u32) -> usize {
        let first = number.saturating_mul(self.size);
        self.trials.saturating_sub(first).min(self.size) as usize
    }
}

impl Halving {
    pub fn new(goal: Goal, levels: Levels, trials: u32) -> Self {
        let resources = levels.resources();
        let size = levels.eta.saturating_pow(resources.len() as u32);
        Self {
            goal,
            eta: levels.eta as usize,
            resources,
            cohorts: Cohorts { size, trials },
            promotions: BTreeMap::new(),
            set_aside: BTreeSet::new(),
            cohort_by_number: BTreeMap::new(),
        }
    }

    /// The number of the rung that the trial is at, or on its way to.
    fn rung(&self, trial: TrialId) -> usize {
        self.promotions.get(&trial).copied().unwrap_or(0)
    }

    fn cohort(&mut self, trial: TrialId) -> &mut Cohort {
        let rungs = self.resources.len();
        let new = || Cohort { values_by_rung: vec![BTreeMap::new(); rungs], ..Cohort::default() };
        self.cohort_by_number.entry(self.cohorts.number(trial)).or_insert_with(new)
    }

    /// Chooses who goes on from each rung at which all have come by now.
    fn settle(&mut self, number: u32) {
        let size = self.cohorts.len(number);
        let (goal, eta) = (self.goal, self.eta);
        let Some(cohort) = self.cohort_by_number.get_mut(&number) else { return };
        while cohort.chosen_by_rung.len() < cohort.values_by_rung.len() && cohort.is_complete(size) {
            let chosen = cohort.best(goal, eta);
            cohort.chosen_by_rung.push(chosen);
        }
    }

    /// Whether everything in the cohort has happened.
    fn is_done(&self, number: u32) -> bool {
        let Some(cohort) = self.cohort_by_number.get(&number) else { return self.cohorts.len(number) == 0 };
        let going_on = cohort.chosen_by_rung.last();
        match going_on {
            Some(last) if cohort.chosen_by_rung.len() == cohort.values_by_rung.len() => {
                last.iter().all(|trial| cohort.ended.contains(trial))
            }
            Some(_) => false,
            None => cohort.ended.len() >= self.cohorts.len(number),
        }
    }
}

impl Cohort {
    /// Whether all that are expected at the next rung have come there, or ended.
    fn is_complete(&self, size: usize) -> bool {
        let values = &self.values_by_rung[self.chosen_by_rung.len()];
        match self.chosen_by_rung.last() {
            None => self.came(values) >= size,
            Some(expected) => expected.iter().all(|trial| values.contains_key(trial) || self.ended.contains(trial)),
        }
    }

    /// Those that came to the next rung and are sound, best first, as many as go on.
    fn best(&self, goal: Goal, eta: usize) -> Vec<TrialId> {
        let rung = self.chosen_by_rung.len();
        let Some(values) = self.values_by_rung.get(rung) else { return Vec::new() };
        let came = self.chosen_by_rung.last().map_or_else(|| self.came(values), Vec::len);
        let sound = values.iter().filter(|(trial, _)| !self.ended.contains(trial));
        let mut ranked: Vec<(f64, TrialId)> = sound.map(|(trial, value)| (*value, *trial)).collect();
        ranked.sort_by(|a, b| best_first(goal, a.0, b.0).then(a.1.cmp(&b.1)));
        ranked.truncate((came / eta).max(1));
        ranked.into_iter().map(|(_, trial)| trial).collect()
    }

    /// How many came to the first rung, or ended before.
    fn came(&self, values: &BTreeMap<TrialId, f64>) -> usize {
        values.len() + self.ended.iter().filter(|trial| !values.contains_key(trial)).count()
    }
}

impl Stopper for Halving {
    fn begun(&mut self, trial: TrialId, _until: Option<u32>) {
        self.cohort(trial);
    }

    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { trial, resource, ranked: value, .. } = measurement;
        let rung = self.rung(trial);
        if self.resources.get(rung).is_some_and(|reached| *reached <= resource) {
            self.cohort(trial).values_by_rung[rung].entry(trial).or_insert(value);
            self.settle(self.cohorts.number(trial));
        }
        None
    }

    fn ended(&mut self, trial: TrialId, _outcome: Outcome) {
        self.set_aside.remove(&trial);
        self.cohort(trial).ended.insert(trial);
        self.settle(self.cohorts.number(trial));
    }

    fn until(&self, trial: TrialId) -> Option<u32> {
        let next = self.rung(trial) + usize::from(self.set_aside.contains(&trial));
        self.resources.get(next).copied()
    }

    fn paused(&mut self, trial: TrialId, _resource: u32) {
        self.set_aside.insert(trial);
    }

    fn promoted(&mut self, trial: TrialId) {
        self.set_aside.remove(&trial);
        let rung = self.rung(trial);
        self.promotions.insert(trial, rung + 1);
        let (goal, eta) = (self.goal, self.eta);
        let cohort = self.cohort(trial);
        if cohort.chosen_by_rung.len() == rung {
            let chosen = cohort.best(goal, eta);
            cohort.chosen_by_rung.push(chosen);
        }
    }

    /// Where nothing else can happen, those that are missing from a rung will never come there: the budget was not used
    /// up, or they have no value of the objective.
    fn promotion(&self, chances: Chances) -> Option<TrialId> {
        let is_ready = |trial: &TrialId, from: usize| self.rung(*trial) == from && (chances.is_free)(*trial);
        let earned = self.cohort_by_number.values().find_map(|cohort| {
            let from = cohort.chosen_by_rung.len().checked_sub(1)?;
            cohort.chosen_by_rung[from].iter().copied().find(|trial| is_ready(trial, from))
        });
        let best_left = || {
            self.cohort_by_number.values().find_map(|cohort| {
                let from = cohort.chosen_by_rung.len();
                cohort.best(self.goal, self.eta).into_iter().find(|trial| is_ready(trial, from))
            })
        };
        earned.or_else(|| chances.is_last.then(best_left).flatten())
    }

    fn admits(&self, trial: TrialId) -> bool {
        self.cohorts.number(trial).checked_sub(1).is_none_or(|before| self.is_done(before))
    }

    fn outranked(&self, trial: TrialId) -> Option<StopReason> {
        let cohort = self.cohort_by_number.get(&self.cohorts.number(trial))?;
        let rung = self.rung(trial);
        let (values, chosen) = (cohort.values_by_rung.get(rung)?, cohort.chosen_by_rung.get(rung)?);
        let (value, threshold) = (*values.get(&trial)?, *values.get(chosen.last()?)?);
        let (resource, competitors) = (self.resources[rung], values.len() as u32);
        let is_worse = self.goal.is_better(threshold, value);
        is_worse.then(|| outdone(self.goal, resource, value, threshold, competitors))
    }
}
