//! The median rule (Golovin et al., "Google Vizier", 2017, section 3.2.2, as Maggy has it): a trial stops when its best
//! value so far is worse than the median, over the finished trials, of their running averages up to the same resource.
//!
//! Nobody is judged before `es_min` trials have finished, nor before it has done `grace` epochs. A failed trial counts
//! in the median as worst, and not as finished.

use std::collections::BTreeMap;

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::Goal;

use super::{Stopper, best_first};
use crate::news::Measurement;

#[derive(Debug)]
pub struct Median {
    goal: Goal,
    es_min: usize,
    grace: u32,
    running: BTreeMap<TrialId, Curve>,
    finished: Vec<Curve>,
    failed: usize,
    /// For each resource at which a trial was judged: the finished trials' averages up to it, best first.
    averages_by_resource: BTreeMap<u32, Vec<f64>>,
}

#[derive(Debug, Default)]
struct Curve {
    /// Count and sum of the values measured at each resource.
    values_by_resource: BTreeMap<u32, (u32, f64)>,
    best: Option<f64>,
}

impl Median {
    pub fn new(goal: Goal, es_min: u32, grace: u32) -> Self {
        Self {
            goal,
            es_min: es_min as usize,
            grace,
            running: BTreeMap::new(),
            finished: Vec::new(),
            failed: 0,
            averages_by_resource: BTreeMap::new(),
        }
    }

    /// The median, and over how many trials.
    fn median_at(&mut self, resource: u32) -> Option<(f64, u32)> {
        let (goal, finished) = (self.goal, &self.finished);
        let averages = self.averages_by_resource.entry(resource).or_insert_with(|| {
            let mut averages: Vec<f64> = finished.iter().filter_map(|curve| curve.average_to(resource)).collect();
            averages.sort_by(|a, b| best_first(goal, *a, *b));
            averages
        });
        let worst = match goal {
            Goal::Maximize => f64::NEG_INFINITY,
            Goal::Minimize => f64::INFINITY,
        };
        let at = |place: usize| averages.get(place).copied().unwrap_or(worst);
        let count = averages.len() + self.failed;
        let median = match count {
            0 => return None,
            odd if odd % 2 == 1 => at(odd / 2),
            even => f64::midpoint(at(even / 2 - 1), at(even / 2)),
        };
        Some((median, count as u32))
    }
}

impl Stopper for Median {
    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { trial, resource, value, .. } = measurement;
        let goal = self.goal;
        let curve = self.running.entry(trial).or_default();
        curve.take(resource, value, goal);
        let best = curve.best?;
        if self.finished.len() < self.es_min || resource < self.grace {
            return None;
        }
        let (threshold, competitors) = self.median_at(resource)?;
        (threshold.is_finite() && goal.is_better(threshold, best)).then_some(StopReason::Median {
            resource,
            value: best,
            threshold,
            competitors,
        })
    }

    fn ended(&mut self, trial: TrialId, outcome: Outcome) {
        let curve = self.running.remove(&trial).unwrap_or_default();
        match outcome {
            Outcome::Failed => self.failed += 1,
            Outcome::Stopped | Outcome::Unknown => {}
            Outcome::Finished => {
                for (resource, averages) in &mut self.averages_by_resource {
                    let Some(average) = curve.average_to(*resource) else { continue };
                    let place = averages.partition_point(|other| best_first(self.goal, *other, average).is_lt());
                    averages.insert(place, average);
                }
                self.finished.push(curve);
            }
        }
    }
}

impl Curve {
    fn take(&mut self, resource: u32, value: f64, goal: Goal) {
        let (count, sum) = self.values_by_resource.entry(resource).or_default();
        *count += 1;
        *sum += value;
        if self.best.is_none_or(|best| goal.is_better(value, best)) {
            self.best = Some(value);
        }
    }

    /// The mean of all values up to this resource; None: there are none.
    fn average_to(&self, resource: u32) -> Option<f64> {
        let (count, sum) = self
            .values_by_resource
            .range(..=resource)
            .fold((0, 0.0), |(count, sum), (_, (more, value))| (count + more, sum + value));
        (count > 0).then(|| sum / f64::from(count))
    }
}
