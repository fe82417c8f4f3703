//! A mean of paired differences with its intervals: Student's, and the percentile bootstrap's (Efron, 1979).

use crate::random::{Purpose, Stream};
use crate::student;

/// How often an interval holds the true mean.
pub const CONFIDENCE: f64 = 0.95;

/// Samples that the bootstrap draws.
const SAMPLES: usize = 2_000;

/// What paired differences say of their mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Differences, one a repeat.
    pub repeats: usize,
    pub mean: f64,
    /// The standard deviation of the differences; 0 where there is one.
    pub deviation: f64,
    /// Student's, of [`CONFIDENCE`]; None: one repeat says nothing of the spread.
    pub interval: Option<(f64, f64)>,
    /// The bootstrap's, of [`CONFIDENCE`]. Of few repeats it is too narrow.
    pub bootstrap: Option<(f64, f64)>,
    /// The mean in deviations (Cohen's d of paired samples); None: the differences are all alike.
    pub effect_size: Option<f64>,
}

impl Estimate {
    /// Whether no difference at all would not surprise: the interval holds zero, or there is none.
    pub fn holds_zero(&self) -> bool {
        self.interval.is_none_or(|(low, high)| low <= 0.0 && 0.0 <= high)
    }
}

/// None: there is no difference. The bootstrap's samples follow from the seed and the name.
pub fn estimate(differences: &[f64], seed: u64, name: &str) -> Option<Estimate> {
    if differences.is_empty() {
        return None;
    }
    let (count, center) = (differences.len() as f64, mean(differences));
    let squares: f64 = differences.iter().map(|difference| (difference - center).powi(2)).sum();
    let deviation = if differences.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
    let has_spread = differences.len() > 1;
    let half = || student::quantile(0.5 + CONFIDENCE / 2.0, count - 1.0) * deviation / count.sqrt();
    Some(Estimate {
        repeats: differences.len(),
        mean: center,
        deviation,
        interval: has_spread.then(|| (center - half(), center + half())),
        bootstrap: has_spread.then(|| bootstrap(differences, seed, name)),
        effect_size: (deviation > 0.0).then(|| center / deviation),
    })
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn bootstrap(differences: &[f64], study_seed: u64, name: &str) -> (f64, f64) {
    let mut stream = Stream::new(Purpose { study_seed, name, index: 0, redraw: 0 });
    let mut draw = || (0..differences.len()).map(|_| differences[stream.below(differences.len())]).sum::<f64>();
    let mut means: Vec<f64> = (0..SAMPLES).map(|_| draw() / differences.len() as f64).collect();
    means.sort_by(f64::total_cmp);
    let left_out = ((1.0 - CONFIDENCE) / 2.0 * SAMPLES as f64) as usize;
    (means[left_out], means[SAMPLES - 1 - left_out])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_difference_has_a_mean_and_no_interval() {
        let estimate = estimate(&[0.5], 0, "x").unwrap();
        assert_eq!((estimate.mean, estimate.interval, estimate.effect_size), (0.5, None, None));
        assert!(estimate.holds_zero());
    }

    #[test]
    fn like_differences_are_certain() {
        let estimate = estimate(&[0.5, 0.5, 0.5], 0, "x").unwrap();
        assert_eq!((estimate.interval, estimate.bootstrap), (Some((0.5, 0.5)), Some((0.5, 0.5))));
        assert_eq!(estimate.effect_size, None);
        assert!(!estimate.holds_zero());
    }

    #[test]
    fn a_bootstrap_of_many_is_near_students_interval_and_the_same_each_time() {
        let differences: Vec<f64> = (0..200).map(|i| f64::from(i % 20)).collect();
        let (one, again) = (estimate(&differences, 7, "x").unwrap(), estimate(&differences, 7, "x").unwrap());
        assert_eq!(one, again);
        let ((low, high), (student_low, student_high)) = (one.bootstrap.unwrap(), one.interval.unwrap());
        assert!((low - student_low).abs() < 0.1 && (high - student_high).abs() < 0.1, "{one:?}");
    }
}
