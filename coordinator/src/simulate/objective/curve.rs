//! What a trial would measure, and how long it would take, epoch by epoch.

use std::collections::BTreeMap;

use regatta_schemas::study::StudyFile;
use regatta_search::simulator::Epoch;

/// The seconds since the trial began at each epoch's end.
pub const ELAPSED: &str = "elapsed_s";

/// Why lists of numbers are no curve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CurveError {
    #[error("it wants `{ELAPSED}`, one number an epoch")]
    NoTime,
    #[error("it lacks `{metric}`, by which the study judges its trials")]
    NoObjective { metric: String },
    #[error("`{name}` has {count} values, and a trial {resource} epochs")]
    TooShort { name: String, count: usize, resource: u32 },
    #[error("`{ELAPSED}` must rise from 0 on")]
    NotRising,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    values_by_metric: BTreeMap<String, Vec<f64>>,
    elapsed_s: Vec<f64>,
}

impl Curve {
    /// Of one number an epoch for each metric and for [`ELAPSED`].
    ///
    /// # Errors
    /// When the time or a metric that judges trials is missing, a list is shorter than a trial, or time runs backwards.
    pub fn new(mut values_by_metric: BTreeMap<String, Vec<f64>>, study: &StudyFile) -> Result<Self, CurveError> {
        let resource = study.budget.resource;
        let elapsed_s = values_by_metric.remove(ELAPSED).ok_or(CurveError::NoTime)?;
        if let Some(metric) = study.judging_metrics().find(|metric| !values_by_metric.contains_key(*metric)) {
            return Err(CurveError::NoObjective { metric: metric.clone() });
        }
        let lists =
            values_by_metric.iter().map(|(name, values)| (name.as_str(), values)).chain([(ELAPSED, &elapsed_s)]);
        for (name, values) in lists {
            let count = values.len();
            if count < resource as usize {
                return Err(CurveError::TooShort { name: name.to_owned(), count, resource });
            }
        }
        let is_rising =
            elapsed_s.windows(2).all(|pair| pair[0] <= pair[1]) && elapsed_s.first().is_some_and(|s| *s >= 0.0);
        if !is_rising || !elapsed_s.iter().all(|s| s.is_finite()) {
            return Err(CurveError::NotRising);
        }
        Ok(Self { values_by_metric, elapsed_s })
    }

    /// What an epoch gives, counted from 1.
    pub fn epoch(&self, number: u32) -> Epoch {
        let place = (number.max(1) as usize).min(self.elapsed_s.len()) - 1;
        let metrics = self.values_by_metric.iter().map(|(name, values)| (name.clone(), values[place])).collect();
        let before = if place == 0 { 0.0 } else { self.elapsed_s[place - 1] };
        Epoch { metrics, seconds: self.elapsed_s[place] - before }
    }
}
