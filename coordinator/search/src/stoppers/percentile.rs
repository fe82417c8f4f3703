//! The median rule (Golovin et al., "Google Vizier", 2017, section 3.2.2, as Maggy has it), and the same for any other
//! percentile: a trial stops when its best value so far is worse than the median, over the finished trials, of their
//! running averages up to the same resource.
//!
//! Nobody is judged before `es_min` trials have finished, nor before it has done `grace` epochs. A failed trial counts
//! in the median as worst, and not as finished. Between two values, a percentile is interpolated.

use std::collections::BTreeMap;

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::Goal;

use super::{Stopper, best_first, broken};
use crate::news::Measurement;
use crate::objectives::keeps_constraints;

#[derive(Debug)]
pub struct Percentile {
    goal: Goal,
    rule: Rule,
    es_min: usize,
    grace: u32,
    running: BTreeMap<TrialId, Curve>,
    finished: Vec<Curve>,
    failed: usize,
    /// For each resource at which a trial was judged: the finished trials' averages up to it, best first.
    averages_by_resource: BTreeMap<u32, Vec<f64>>,
}

/// What the finished trials' averages are made to one value by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    Median,
    /// So many percent are at least as good.
    Best(f64),
}

#[derive(Debug, Default)]
struct Curve {
    /// Count and sum of the values measured at each resource that keep the constraints.
    values_by_resource: BTreeMap<u32, (u32, f64)>,
    /// The best of the others: what the trial counts as where it has no such value.
    broken: Option<f64>,
    best: Option<f64>,
}

impl Percentile {
    pub fn new(goal: Goal, rule: Rule, es_min: u32, grace: u32) -> Self {
        Self {
            goal,
            rule,
            es_min: es_min as usize,
            grace,
            running: BTreeMap::new(),
            finished: Vec::new(),
            failed: 0,
            averages_by_resource: BTreeMap::new(),
        }
    }

    /// The percentile, and over how many trials.
    fn bar_at(&mut self, resource: u32) -> Option<(f64, u32)> {
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
        let count = averages.len() + self.failed;
        let last = count.checked_sub(1)?;
        let place = last as f64 * self.rule.percent() / 100.0;
        let at = |place: f64| averages.get(place as usize).copied().unwrap_or(worst);
        let (better, worse, share) = (at(place.floor()), at(place.ceil()), place.fract());
        let between = if share == 0.0 { better } else { better * (1.0 - share) + worse * share };
        Some((between, count as u32))
    }
}

impl Rule {
    fn percent(self) -> f64 {
        match self {
            Self::Median => 50.0,
            Self::Best(percent) => percent,
        }
    }

    fn reason(self, resource: u32, value: f64, threshold: f64, competitors: u32) -> StopReason {
        match self {
            Self::Median => StopReason::Median { resource, value, threshold, competitors },
            Self::Best(percentile) => StopReason::Percentile { percentile, resource, value, threshold, competitors },
        }
    }
}

impl Stopper for Percentile {
    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { trial, resource, ranked: value, .. } = measurement;
        let goal = self.goal;
        let curve = self.running.entry(trial).or_default();
        curve.take(resource, value, goal);
        let best = curve.best?;
        if self.finished.len() < self.es_min || resource < self.grace {
            return None;
        }
        let (threshold, competitors) = self.bar_at(resource)?;
        let is_worse = threshold.is_finite() && goal.is_better(threshold, best);
        let reason = || {
            let broken = broken(goal, resource, best, competitors);
            broken.unwrap_or_else(|| self.rule.reason(resource, best, threshold, competitors))
        };
        is_worse.then(reason)
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
        if keeps_constraints(goal, value) {
            let (count, sum) = self.values_by_resource.entry(resource).or_default();
            *count += 1;
            *sum += value;
        } else if self.broken.is_none_or(|best| goal.is_better(value, best)) {
            self.broken = Some(value);
        }
        if self.best.is_none_or(|best| goal.is_better(value, best)) {
            self.best = Some(value);
        }
    }

    /// The mean of all values up to this resource that keep the constraints; None: nothing was measured.
    fn average_to(&self, resource: u32) -> Option<f64> {
        let (count, sum) = self
            .values_by_resource
            .range(..=resource)
            .fold((0, 0.0), |(count, sum), (_, (more, value))| (count + more, sum + value));
        (count > 0).then(|| sum / f64::from(count)).or(self.broken)
    }
}
