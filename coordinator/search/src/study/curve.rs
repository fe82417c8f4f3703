//! A trial's points: each counted once, whichever attempt measured it and in whatever order it arrived.

use regatta_schemas::api::Failure;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::Point;
use regatta_schemas::reasons::FailCause;

/// Enters a point by its step; what the same step already holds stays. Returns the objective's value, if it is new.
///
/// # Errors
/// When a metric is not a finite number: the trial has diverged.
pub fn absorb(points: &mut Vec<Point>, point: Point, objective: &str) -> Result<Option<f64>, Failure> {
    if let Some((name, value)) = point.metrics.iter().find(|(_, value)| !value.is_finite()) {
        let detail = format!("`{name}` was {value} at step {}", point.step);
        return Err(Failure { cause: FailCause::Diverged, detail });
    }
    let value = point.metrics.get(objective).copied();
    match points.binary_search_by_key(&point.step, |known| known.step) {
        Ok(place) => {
            let known = &mut points[place];
            let is_new = !known.metrics.contains_key(objective);
            known.resource = known.resource.max(point.resource);
            for (name, value) in point.metrics {
                known.metrics.entry(name).or_insert(value);
            }
            Ok(value.filter(|_| is_new))
        }
        Err(_) if points.len() >= LIMITS.points_per_trial_max => Ok(None),
        Err(place) => {
            points.insert(place, point);
            Ok(value)
        }
    }
}
