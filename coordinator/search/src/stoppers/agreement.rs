//! How well values at a rung rank the trials as their final values do.
//!
//! It counts, over the pairs of the last trials that were trained to the end, those that are in the same order in both
//! places less those that are not (Kendall's tau). Trials that ended before say nothing: their final value is not known.

use std::collections::{BTreeMap, VecDeque};

use regatta_schemas::TrialId;
use regatta_schemas::study::Goal;

use super::best_first;
use crate::news::Measurement;

/// Trials that are compared with each other: so many give 2,016 pairs.
const TRIALS_MAX: usize = 64;
/// Pairs in agreement that are taken for granted: those of 8 trials.
const PAIRS_GRANTED: f64 = 28.0;

#[derive(Debug)]
pub struct Agreement {
    goal: Goal,
    resources: Vec<u32>,
    max_resource: u32,
    /// The first value of each trial at or after each resource.
    values_by_trial: BTreeMap<TrialId, Vec<f64>>,
    /// The last trials that were trained to the end: their values at each resource, and the final one.
    ends: VecDeque<(Vec<f64>, f64)>,
    /// For each resource, in [0, 1].
    agreements: Vec<f64>,
}

impl Agreement {
    pub fn new(goal: Goal, resources: Vec<u32>, max_resource: u32) -> Self {
        let agreements = vec![1.0; resources.len()];
        Self { goal, resources, max_resource, values_by_trial: BTreeMap::new(), ends: VecDeque::new(), agreements }
    }

    pub fn measured(&mut self, measurement: Measurement) {
        let Measurement { trial, resource, ranked: value, .. } = measurement;
        let values = self.values_by_trial.entry(trial).or_default();
        while self.resources.get(values.len()).is_some_and(|reached| *reached <= resource) {
            values.push(value);
        }
        if resource >= self.max_resource {
            let values = self.values_by_trial.remove(&trial).unwrap_or_default();
            if self.ends.len() == TRIALS_MAX {
                self.ends.pop_front();
            }
            self.ends.push_back((values, value));
            self.agreements = (0..self.resources.len()).map(|level| self.agreement_at(level)).collect();
        }
    }

    /// For each resource, and 1 for the end.
    pub fn with_end(&self) -> impl Iterator<Item = f64> {
        self.agreements.iter().copied().chain([1.0])
    }

    fn agreement_at(&self, level: usize) -> f64 {
        let (mut sum, mut pairs) = (PAIRS_GRANTED, PAIRS_GRANTED);
        for (number, (values, end)) in self.ends.iter().enumerate() {
            for (other_values, other_end) in self.ends.iter().take(number) {
                let early = best_first(self.goal, values[level], other_values[level]) as i32;
                let late = best_first(self.goal, *end, *other_end) as i32;
                sum += f64::from(early * late);
                pairs += f64::from(late.abs());
            }
        }
        (sum / pairs).max(0.0)
    }
}
