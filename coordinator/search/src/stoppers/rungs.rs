//! The rungs: resource levels at which trials are compared, and what each trial had reached there.
//!
//! It ranks and decides nothing: stopping and promoting schedulers share it.

use std::collections::BTreeMap;

use regatta_schemas::TrialId;
use regatta_schemas::study::Goal;

use super::best_first;

/// Where the rungs are: `min_resource * eta^i`, below `max_resource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    pub eta: u32,
    pub min_resource: u32,
    pub max_resource: u32,
}

impl Levels {
    /// The levels of this bracket, counted from 0: without so many of the lowest.
    pub fn above(self, bracket: u32) -> Self {
        let shift = self.eta.max(2).saturating_pow(bracket);
        Self { min_resource: self.min_resource.max(1).saturating_mul(shift), ..self }
    }

    pub fn resources(self) -> Vec<u32> {
        let eta = self.eta.max(2);
        std::iter::successors(Some(self.min_resource.max(1)), |level| level.checked_mul(eta))
            .take_while(|level| *level < self.max_resource)
            .collect()
    }
}

/// The rungs of one bracket.
#[derive(Debug, Clone, PartialEq)]
pub struct Rungs {
    goal: Goal,
    eta: u32,
    rungs: Vec<Rung>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rung {
    resource: u32,
    /// None: the trial failed, and counts as worst.
    value_by_trial: BTreeMap<TrialId, Option<f64>>,
    /// Of those that did not fail, best first; of equals, the older trial.
    ranked: Vec<(f64, TrialId)>,
}

/// How a trial stands at a rung.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    pub resource: u32,
    pub value: f64,
    /// The value of the last among the best 1 in `eta`; None: so few have come, or so many failed, that anything will do.
    pub threshold: Option<f64>,
    /// Trials at this rung, this one included.
    pub competitors: u32,
}

impl Rungs {
    pub fn new(goal: Goal, levels: Levels) -> Self {
        let rung = |resource| Rung { resource, value_by_trial: BTreeMap::new(), ranked: Vec::new() };
        Self { goal, eta: levels.eta.max(2), rungs: levels.resources().into_iter().map(rung).collect() }
    }

    /// One in so many goes on.
    pub fn eta(&self) -> usize {
        self.eta as usize
    }

    pub fn count(&self) -> usize {
        self.rungs.len()
    }

    /// Epochs at the rung of this number, from 0; None: there is none above the last.
    pub fn resource(&self, rung: usize) -> Option<u32> {
        self.rungs.get(rung).map(|rung| rung.resource)
    }

    /// How many of those at the rung go on.
    pub fn promotable(&self, rung: usize) -> usize {
        self.rungs.get(rung).map_or(0, |rung| rung.value_by_trial.len() / self.eta as usize)
    }

    /// The trials at the rung that did not fail, best first.
    pub fn ranking(&self, rung: usize) -> impl Iterator<Item = TrialId> {
        self.rungs.get(rung).into_iter().flat_map(|rung| rung.ranked.iter().map(|(_, trial)| *trial))
    }

    /// The trial that so many at the rung are better than.
    pub fn at(&self, rung: usize, place: usize) -> Option<TrialId> {
        self.rungs.get(rung)?.ranked.get(place).map(|(_, trial)| *trial)
    }

    /// Whether the trial came to the rung, or failed on its way there.
    pub fn has_come(&self, trial: TrialId, rung: usize) -> bool {
        self.rungs.get(rung).is_some_and(|rung| rung.value_by_trial.contains_key(&trial))
    }

    /// How many better ones the trial has at the rung; None: it is not there, or failed.
    pub fn place(&self, trial: TrialId, rung: usize) -> Option<usize> {
        let rung = self.rungs.get(rung)?;
        let value = (*rung.value_by_trial.get(&trial)?)?;
        Some(rung.place(trial, value, self.goal))
    }

    /// How the trial stands at the rung now; None: it is not there, or failed.
    pub fn standing(&self, trial: TrialId, rung: usize) -> Option<Standing> {
        let rung = self.rungs.get(rung)?;
        let value = (*rung.value_by_trial.get(&trial)?)?;
        Some(rung.standing(value, self.eta))
    }

    /// Enters a value at each rung that the trial has reached and not been at before; lowest rung first.
    pub fn arrive(&mut self, trial: TrialId, resource: u32, value: f64) -> Vec<Standing> {
        let (goal, eta) = (self.goal, self.eta);
        let reached = self.rungs.iter_mut().take_while(|rung| rung.resource <= resource);
        reached.filter_map(|rung| rung.arrive(trial, value, goal, eta)).collect()
    }

    /// The trial failed: it is the worst at each rung where it was, and at the one it was on its way to.
    pub fn fail(&mut self, trial: TrialId) {
        for rung in &mut self.rungs {
            match rung.value_by_trial.insert(trial, None) {
                Some(Some(_)) => rung.ranked.retain(|(_, other)| *other != trial),
                Some(None) => {}
                None => break,
            }
        }
    }
}

impl Rung {
    fn arrive(&mut self, trial: TrialId, value: f64, goal: Goal, eta: u32) -> Option<Standing> {
        if self.value_by_trial.contains_key(&trial) {
            return None;
        }
        self.value_by_trial.insert(trial, Some(value));
        self.ranked.insert(self.place(trial, value, goal), (value, trial));
        Some(self.standing(value, eta))
    }

    /// The number of those that are ranked before it.
    fn place(&self, trial: TrialId, value: f64, goal: Goal) -> usize {
        self.ranked.partition_point(|other| best_first(goal, other.0, value).then(other.1.cmp(&trial)).is_lt())
    }

    fn standing(&self, value: f64, eta: u32) -> Standing {
        let going_on = (self.value_by_trial.len() / eta as usize).max(1);
        Standing {
            resource: self.resource,
            value,
            threshold: self.ranked.get(going_on - 1).map(|(value, _)| *value),
            competitors: self.value_by_trial.len() as u32,
        }
    }
}
