//! The rungs: resource levels at which trials are compared, and what each trial had reached there.
//!
//! It ranks and decides nothing: stopping and promoting schedulers share it.

use std::collections::{BTreeMap, VecDeque};

use regatta_schemas::TrialId;
use regatta_schemas::reasons::StopReason;
use regatta_schemas::study::Goal;

use super::{best_first, outdone};
use crate::news::Measurement;
use crate::objectives::Objectives;
use crate::pareto::{Score, fronts, ranking};

/// Of several objectives, so many arrivals at a rung are ranked, the last ones: each is held against all others.
const RANKED_MAX: usize = 500;

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

/// What trials are ranked by.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// The objective; of equals, the older trial is first.
    Value(Goal),
    /// Several objectives: non-dominated sorting, and within a front crowding (Schmucker et al., "Multi-objective
    /// asynchronous successive halving", 2021), among the last that came.
    Fronts(Objectives),
}

/// The rungs of one bracket.
#[derive(Debug, Clone, PartialEq)]
pub struct Rungs {
    order: Order,
    eta: u32,
    rungs: Vec<Rung>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rung {
    resource: u32,
    /// Of all that came; None: the trial failed, and counts as worst.
    value_by_trial: BTreeMap<TrialId, Option<f64>>,
    /// Of those that did not fail, best first.
    ranked: Vec<(f64, TrialId)>,
    /// Where several objectives rank, those of `ranked` as they came.
    scores: VecDeque<(TrialId, Score)>,
}

impl Rungs {
    pub fn new(order: Order, levels: Levels) -> Self {
        let rung =
            |resource| Rung { resource, value_by_trial: BTreeMap::new(), ranked: Vec::new(), scores: VecDeque::new() };
        Self { order, eta: levels.eta.max(2), rungs: levels.resources().into_iter().map(rung).collect() }
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
        self.rungs.get(rung).map_or(0, |rung| rung.competitors(&self.order) / self.eta())
    }

    /// The trials at the rung that did not fail, best first.
    pub fn ranking(&self, rung: usize) -> impl Iterator<Item = TrialId> {
        self.rungs.get(rung).into_iter().flat_map(|rung| rung.ranked.iter().map(|(_, trial)| *trial))
    }

    /// Whether a newcomer leaves the order of the others as it was: crowding does not.
    pub fn keeps_order(&self) -> bool {
        matches!(self.order, Order::Value(_))
    }

    /// The trial that so many at the rung are better than.
    pub fn at(&self, rung: usize, place: usize) -> Option<TrialId> {
        self.rungs.get(rung)?.ranked.get(place).map(|(_, trial)| *trial)
    }

    /// Whether the trial came to the rung, or failed on its way there.
    pub fn has_come(&self, trial: TrialId, rung: usize) -> bool {
        self.rungs.get(rung).is_some_and(|rung| rung.value_by_trial.contains_key(&trial))
    }

    /// How many better ones the trial has at the rung; None: it is not there, or failed, or is not ranked any more.
    pub fn place(&self, trial: TrialId, rung: usize) -> Option<usize> {
        let rung = self.rungs.get(rung)?;
        let value = (*rung.value_by_trial.get(&trial)?)?;
        match &self.order {
            Order::Value(goal) => Some(rung.place(trial, value, *goal)),
            Order::Fronts(_) => rung.ranked.iter().position(|(_, other)| *other == trial),
        }
    }

    /// Why the trial is not among the best 1 in `eta` at the rung as it is now, or the one best; None: it is, or it has no
    /// place there. Of several objectives, who is dominated by nobody is among the best, were these ever so many.
    pub fn verdict(&self, trial: TrialId, rung: usize) -> Option<StopReason> {
        let place = self.place(trial, rung)?;
        let rung = self.rungs.get(rung)?;
        let (resource, competitors) = (rung.resource, rung.competitors(&self.order));
        let going_on = (competitors / self.eta()).max(1);
        match &self.order {
            Order::Value(goal) => {
                let ((value, _), (threshold, _)) = (rung.ranked[place], *rung.ranked.get(going_on - 1)?);
                let is_worse = goal.is_better(threshold, value);
                is_worse.then(|| outdone(*goal, resource, value, threshold, competitors as u32))
            }
            Order::Fronts(_) => {
                let scores: Vec<&Score> = rung.scores.iter().map(|(_, score)| score).collect();
                let own = rung.scores.iter().position(|(other, _)| *other == trial)?;
                let front = if place >= going_on { fronts(&scores)[own] } else { 0 };
                (front > 0).then_some(StopReason::Front {
                    resource,
                    front: front as u32,
                    rank: place as u32,
                    going_on: going_on as u32,
                    competitors: competitors as u32,
                })
            }
        }
    }

    /// Enters a trial at each rung that it has reached and not been at before: their numbers, the lowest first. Without a
    /// value of every objective it comes to none.
    pub fn arrive(&mut self, measurement: Measurement) -> Vec<usize> {
        let Measurement { trial, resource, ranked: value, metrics, .. } = measurement;
        let score = match &self.order {
            Order::Value(_) => None,
            Order::Fronts(objectives) => match objectives.score(metrics) {
                None => return Vec::new(),
                score => score,
            },
        };
        let reached = self.rungs.iter_mut().enumerate().take_while(|(_, rung)| rung.resource <= resource);
        let arrived = reached
            .filter_map(|(number, rung)| rung.arrive(trial, value, score.as_ref(), &self.order).then_some(number));
        arrived.collect()
    }

    /// The trial failed: it is the worst at each rung where it was, and at the one it was on its way to.
    pub fn fail(&mut self, trial: TrialId) {
        for rung in &mut self.rungs {
            match rung.value_by_trial.insert(trial, None) {
                Some(Some(_)) => rung.leave(trial, &self.order),
                Some(None) => {}
                None => break,
            }
        }
    }
}

impl Rung {
    /// How many are compared, those that failed included.
    fn competitors(&self, order: &Order) -> usize {
        match order {
            Order::Value(_) => self.value_by_trial.len(),
            Order::Fronts(_) => self.value_by_trial.len().min(RANKED_MAX),
        }
    }

    /// Whether it was not here before.
    fn arrive(&mut self, trial: TrialId, value: f64, score: Option<&Score>, order: &Order) -> bool {
        if self.value_by_trial.contains_key(&trial) {
            return false;
        }
        self.value_by_trial.insert(trial, Some(value));
        match order {
            Order::Value(goal) => self.ranked.insert(self.place(trial, value, *goal), (value, trial)),
            Order::Fronts(_) => {
                if self.scores.len() == RANKED_MAX {
                    self.scores.pop_front();
                }
                self.scores.extend(score.map(|score| (trial, score.clone())));
                self.rank_scores();
            }
        }
        true
    }

    fn leave(&mut self, trial: TrialId, order: &Order) {
        match order {
            Order::Value(_) => self.ranked.retain(|(_, other)| *other != trial),
            Order::Fronts(_) => {
                self.scores.retain(|(other, _)| *other != trial);
                self.rank_scores();
            }
        }
    }

    fn rank_scores(&mut self) {
        let scores: Vec<&Score> = self.scores.iter().map(|(_, score)| score).collect();
        let trials = ranking(&scores).into_iter().map(|place| self.scores[place].0);
        let value = |trial: &TrialId| self.value_by_trial.get(trial).copied().flatten().unwrap_or(f64::NAN);
        self.ranked = trials.map(|trial| (value(&trial), trial)).collect();
    }

    /// The number of those that are ranked before it.
    fn place(&self, trial: TrialId, value: f64, goal: Goal) -> usize {
        self.ranked.partition_point(|other| best_first(goal, other.0, value).then(other.1.cmp(&trial)).is_lt())
    }
}
