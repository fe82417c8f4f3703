//! Whether more trials promise no more than noise: so many in a row have not improved the best value by more than it.
//!
//! A bound on what is left to gain needs a model of the objective (Makarova et al., "Automatic Termination for
//! Hyperparameter Optimization", 2022); its criterion, to stop when the gain is below the noise of the metric, does not.
//! Here the noise is read off the curves: a curve that is smooth but for noise of the deviation s has second differences
//! of the deviation sqrt(6) s. Of each curve the later half counts, of all curves the median, so that neither a steep
//! beginning nor a wild trial matters.

use regatta_schemas::study::{Converged, Goal};

/// The median of absolute values of a normal distribution, in deviations.
const MEDIAN_OF_NORMAL: f64 = 0.6745;
/// Values that show how noisy they are.
const VALUES_MIN: usize = 5;
/// Values of a curve from which its noise can be told.
pub const CURVE_MIN: u32 = 2 * VALUES_MIN as u32 - 1;

#[derive(Debug, Clone, PartialEq)]
pub struct Convergence {
    rule: Converged,
    goal: Goal,
    /// The best value when it was last improved.
    best: Option<f64>,
    /// Trials since.
    trials: u32,
    /// What each curve says, ascending.
    noises: Vec<f64>,
}

impl Convergence {
    pub fn new(rule: Converged, goal: Goal) -> Self {
        Self { rule, goal, best: None, trials: 0, noises: Vec::new() }
    }

    /// A trial trained as far as it may, for now: its best value, and all of them.
    pub fn trained(&mut self, best: f64, curve: &[f64]) {
        if let Some(noise) = noise(curve) {
            let place = self.noises.partition_point(|other| *other < noise);
            self.noises.insert(place, noise);
        }
        let min_delta = self.min_delta();
        if self.best.is_none_or(|known| self.goal.is_better_by(best, known, min_delta)) {
            self.best = Some(best);
            self.trials = 0;
        } else {
            self.trials += 1;
        }
    }

    /// The best value, by how much it was not improved, and in how many trials; None: there is more to gain.
    pub fn reached(&self) -> Option<(f64, f64, u32)> {
        let best = self.best.filter(|_| self.trials >= self.rule.trials)?;
        Some((best, self.min_delta(), self.trials))
    }

    fn min_delta(&self) -> f64 {
        self.rule.min_delta.unwrap_or_else(|| self.noises.get(self.noises.len() / 2).copied().unwrap_or(0.0))
    }
}

/// The deviation of the noise on a curve; None: it is too short to tell.
fn noise(curve: &[f64]) -> Option<f64> {
    let later = &curve[curve.len() / 2..];
    if later.len() < VALUES_MIN {
        return None;
    }
    let mut bends: Vec<f64> = later.windows(3).map(|window| (window[0] - 2.0 * window[1] + window[2]).abs()).collect();
    bends.sort_by(f64::total_cmp);
    Some(bends[bends.len() / 2] / MEDIAN_OF_NORMAL / 6.0_f64.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn convergence(min_delta: Option<f64>) -> Convergence {
        Convergence::new(Converged { trials: 3, min_delta }, Goal::Maximize)
    }

    #[test]
    fn a_study_converges_when_nothing_improved_for_so_many_trials() {
        let mut convergence = convergence(Some(0.1));
        for best in [0.5, 0.4, 0.55, 0.65, 0.7, 0.3] {
            convergence.trained(best, &[]);
            assert_eq!(convergence.reached(), None, "{best}");
        }
        convergence.trained(0.75, &[]);
        assert_eq!(convergence.reached(), Some((0.65, 0.1, 3)));
    }

    #[test]
    fn noise_is_read_off_curves_that_also_rise() {
        let mut stream = Stream::new(Purpose { study_seed: 1, name: "noise", index: 0, redraw: 0 });
        for sigma in [0.0, 0.01, 0.1] {
            let mut convergence = convergence(None);
            for _ in 0..30 {
                let curve: Vec<f64> = (1..=40).map(|x| 0.9 - 0.5 / f64::from(x) + sigma * stream.normal()).collect();
                convergence.trained(0.5, &curve);
            }
            let (_, noise, trials) = convergence.reached().unwrap();
            assert_eq!(trials, 29);
            assert!((noise - sigma).abs() <= 0.15 * sigma + 1e-4, "{sigma}: {noise}");
        }
    }
}
