//! A trial's points: each counted once, whichever attempt measured it and in whatever order it arrived.
//!
//! A coordinator may hold millions of them, so they lie column by column, with each metric's name once.

use std::collections::BTreeMap;

use regatta_schemas::api::Failure;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::Point;
use regatta_schemas::reasons::FailCause;

/// By ascending step, each step once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Points {
    steps: Vec<u64>,
    resources: Vec<u32>,
    elapsed_s: Vec<f64>,
    /// As long as `steps`; None where the metric was not measured then.
    values: BTreeMap<String, Vec<Option<f64>>>,
}

impl Points {
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Point> {
        self.last(self.len())
    }

    /// So many of the last ones.
    pub fn last(&self, count: usize) -> impl Iterator<Item = Point> {
        (self.len().saturating_sub(count)..self.len()).map(|place| self.at(place))
    }

    /// What was measured last, by name.
    pub fn last_metrics(&self) -> Option<BTreeMap<String, f64>> {
        Some(self.metrics_at(self.len().checked_sub(1)?))
    }

    /// The values of this metric, by ascending step.
    pub fn curve(&self, metric: &str) -> Vec<f64> {
        self.values.get(metric).map_or_else(Vec::new, |values| values.iter().copied().flatten().collect())
    }

    /// Enters a point by its step; what the same step already holds stays. Returns the objective's value, if it is new.
    ///
    /// # Errors
    /// When a metric is not a finite number: the trial has diverged.
    pub fn absorb(&mut self, point: &Point, objective: &str) -> Result<Option<f64>, Failure> {
        if let Some((name, value)) = point.metrics.iter().find(|(_, value)| !value.is_finite()) {
            let detail = format!("`{name}` was {value} at step {}", point.step);
            return Err(Failure { cause: FailCause::Diverged, detail });
        }
        let place = match self.steps.binary_search(&point.step) {
            Ok(place) => {
                self.resources[place] = self.resources[place].max(point.resource);
                place
            }
            Err(_) if self.len() >= LIMITS.points_per_trial_max => return Ok(None),
            Err(place) => {
                self.steps.insert(place, point.step);
                self.resources.insert(place, point.resource);
                self.elapsed_s.insert(place, point.elapsed_s);
                self.values.values_mut().for_each(|values| values.insert(place, None));
                place
            }
        };
        let is_new = self.values.get(objective).is_none_or(|values| values[place].is_none());
        for (name, value) in &point.metrics {
            if !self.values.contains_key(name) {
                self.values.insert(name.clone(), vec![None; self.steps.len()]);
            }
            if let Some(values) = self.values.get_mut(name) {
                values[place].get_or_insert(*value);
            }
        }
        Ok(point.metrics.get(objective).copied().filter(|_| is_new))
    }

    fn at(&self, place: usize) -> Point {
        Point {
            step: self.steps[place],
            resource: self.resources[place],
            elapsed_s: self.elapsed_s[place],
            metrics: self.metrics_at(place),
        }
    }

    fn metrics_at(&self, place: usize) -> BTreeMap<String, f64> {
        let measured = self.values.iter().filter_map(|(name, values)| Some((name.clone(), values[place]?)));
        measured.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64, metrics: &[(&str, f64)]) -> Point {
        let metrics = metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Point { step, resource: step as u32 / 10, elapsed_s: step as f64, metrics }
    }

    #[test]
    fn points_lie_by_step_whatever_came_first_and_whatever_each_measured() {
        let mut points = Points::default();
        assert_eq!(points.absorb(&point(20, &[("loss", 0.2)]), "accuracy"), Ok(None));
        assert_eq!(points.absorb(&point(10, &[("loss", 0.3), ("accuracy", 0.7)]), "accuracy"), Ok(Some(0.7)));
        assert_eq!(points.absorb(&point(20, &[("loss", 9.0), ("accuracy", 0.8)]), "accuracy"), Ok(Some(0.8)));
        assert_eq!(points.absorb(&point(20, &[("accuracy", 0.9)]), "accuracy"), Ok(None), "it was measured before");
        let as_kept = [point(10, &[("loss", 0.3), ("accuracy", 0.7)]), point(20, &[("loss", 0.2), ("accuracy", 0.8)])];
        assert_eq!(points.iter().collect::<Vec<_>>(), as_kept);
        assert_eq!(points.curve("accuracy"), [0.7, 0.8]);
        assert_eq!(points.last_metrics().as_ref(), Some(&as_kept[1].metrics));
        points.absorb(&point(30, &[("latency", 1.0)]), "accuracy").unwrap();
        assert_eq!((points.curve("loss"), points.len()), (vec![0.3, 0.2], 3));
    }

    #[test]
    fn what_is_no_number_leaves_no_trace() {
        let mut points = Points::default();
        let failure = points.absorb(&point(10, &[("accuracy", 0.5), ("loss", f64::NAN)]), "accuracy").unwrap_err();
        assert_eq!((failure.cause, points.is_empty()), (FailCause::Diverged, true));
    }
}
