//! PASHA (Bohdal et al., "PASHA: Efficient HPO and NAS with Progressive Resource Allocation", 2023): ASHA by promotion,
//! in which nobody is promoted beyond the second rung at first. Another rung opens when the trials at the highest open
//! one are ranked otherwise there than at the one before, by more than noise; where longer training does not change the
//! ranking, it is not paid for.
//!
//! Noise, as estimated there, is what makes two curves cross and cross back: the 90th percentile, over the pairs of curves
//! that do, of their distance at the resource of the highest open rung. A ranking has changed when a trial is at a place
//! where, in the ranking before, nobody within that distance was it.

use std::collections::{BTreeMap, VecDeque};

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::Goal;

use super::brackets::Brackets;
use super::promotion::Promotion;
use super::rungs::{Levels, Order};
use super::{Chances, Stopper, best_first};
use crate::news::Measurement;
use crate::objectives::keeps_constraints;

/// The last trials at the highest open rung, by which it is judged.
const TRIALS_MAX: usize = 32;
const NOISE_PERCENTILE: f64 = 0.9;

#[derive(Debug)]
pub struct Pasha {
    goal: Goal,
    promotion: Promotion,
    resources: Vec<u32>,
    /// The number of the highest rung that trials are promoted to; as many as there are rungs: to the end.
    highest: usize,
    /// The values of each trial that has not ended, by resource.
    curves: BTreeMap<TrialId, BTreeMap<u32, f64>>,
    /// Curves up to the highest open rung.
    arrived: VecDeque<BTreeMap<u32, f64>>,
}

impl Pasha {
    pub fn new(goal: Goal, levels: Levels, trials: u32) -> Self {
        let resources = levels.resources();
        Self {
            goal,
            promotion: Promotion::new(Brackets::in_turn(&Order::Value(goal), levels, 1), trials),
            highest: resources.len().min(1),
            resources,
            curves: BTreeMap::new(),
            arrived: VecDeque::new(),
        }
    }

    fn arrive(&mut self, trial: TrialId, resource: u32) {
        let (Some(top), Some(before)) = (self.resources.get(self.highest), self.highest.checked_sub(1)) else { return };
        if resource != *top {
            return;
        }
        if self.arrived.len() == TRIALS_MAX {
            self.arrived.pop_front();
        }
        self.arrived.push_back(self.curves.get(&trial).cloned().unwrap_or_default());
        if is_unsettled(self.goal, &self.arrived, self.resources[before], *top) {
            self.highest += 1;
            self.arrived.clear();
        }
    }
}

impl Stopper for Pasha {
    fn begun(&mut self, trial: TrialId, until: Option<u32>) {
        self.promotion.begun(trial, until);
    }

    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { trial, resource, ranked: value, .. } = measurement;
        self.curves.entry(trial).or_default().entry(resource).or_insert(value);
        self.arrive(trial, resource);
        self.promotion.measured(measurement)
    }

    fn ended(&mut self, trial: TrialId, outcome: Outcome) {
        self.curves.remove(&trial);
        self.promotion.ended(trial, outcome);
    }

    fn until(&self, trial: TrialId) -> Option<u32> {
        self.promotion.until(trial)
    }

    fn paused(&mut self, trial: TrialId, resource: u32) {
        self.promotion.paused(trial, resource);
    }

    fn promoted(&mut self, trial: TrialId) {
        self.promotion.promoted(trial);
    }

    fn promotion(&self, chances: Chances) -> Option<TrialId> {
        self.promotion.promotion_below(chances, self.resources.len() - self.highest)
    }

    fn outranked(&self, trial: TrialId) -> Option<StopReason> {
        self.promotion.outranked(trial)
    }

    fn hopeless(&self) -> Vec<TrialId> {
        self.promotion.hopeless()
    }
}

/// Whether the ranking at `top` differs from the one at `before` by more than noise.
fn is_unsettled(goal: Goal, curves: &VecDeque<BTreeMap<u32, f64>>, before: u32, top: u32) -> bool {
    let known: Vec<&BTreeMap<u32, f64>> =
        curves.iter().filter(|curve| curve.contains_key(&before) && curve.contains_key(&top)).collect();
    // What breaks a constraint has a rank, and no distance that could be noise.
    let keeps = |curve: &&&BTreeMap<u32, f64>| curve.values().all(|value| keeps_constraints(goal, *value));
    let noise = noise(&known.iter().filter(keeps).copied().collect::<Vec<_>>(), top);
    let ranking = |resource: u32| {
        let mut ranking = known.clone();
        ranking.sort_by(|a, b| best_first(goal, a[&resource], b[&resource]));
        ranking
    };
    let (earlier, later) = (ranking(before), ranking(top));
    earlier.iter().zip(&later).any(|(earlier, later)| (earlier[&before] - later[&before]).abs() > noise)
}

fn noise(curves: &[&BTreeMap<u32, f64>], top: u32) -> f64 {
    let mut distances = Vec::new();
    for (number, curve) in curves.iter().enumerate() {
        for other in &curves[..number] {
            if crosses_back(curve, other) {
                distances.push((curve[&top] - other[&top]).abs());
            }
        }
    }
    distances.sort_by(f64::total_cmp);
    let place = (distances.len() as f64 * NOISE_PERCENTILE) as usize;
    distances.get(place.min(distances.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Whether one curve is above the other, then below it, then above it again, or the other way round.
fn crosses_back(curve: &BTreeMap<u32, f64>, other: &BTreeMap<u32, f64>) -> bool {
    let mut crossings = 0;
    let mut side = None;
    for (resource, value) in curve {
        let Some(other) = other.get(resource).filter(|other| *other != value) else { continue };
        let is_above = value > other;
        crossings += u32::from(side.is_some_and(|side| side != is_above));
        side = Some(is_above);
    }
    crossings >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(values: [[f64; 4]; 2]) -> VecDeque<BTreeMap<u32, f64>> {
        values.into_iter().map(|values| (1..).zip(values).collect()).collect()
    }

    #[test]
    fn a_ranking_changes_by_more_than_the_noise_of_curves_that_cross_back() {
        let is_unsettled = |curves| is_unsettled(Goal::Maximize, &curves, 2, 4);
        assert!(!is_unsettled(curves([[0.5, 0.6, 0.7, 0.8], [0.4, 0.5, 0.6, 0.7]])), "no change");
        assert!(is_unsettled(curves([[0.5, 0.6, 0.7, 0.8], [0.4, 0.5, 0.8, 0.9]])), "they cross once");
        assert!(
            !is_unsettled(curves([[0.5, 0.6, 0.5, 0.8], [0.4, 0.5, 0.6, 0.7]])),
            "and back: the ranking is the same"
        );
        assert!(!is_unsettled(curves([[0.4, 0.6, 0.5, 0.6], [0.5, 0.5, 0.6, 0.8]])), "0.1 is less than the noise, 0.2");
    }
}
