//! The normal distribution that CMA-ES moves (Hansen, "The CMA evolution strategy: a tutorial", 2016, appendix A,
//! positive weights), for points that may not be its own: far ones are drawn near first (Hansen, "Injecting external
//! solutions into CMA-ES", 2011).

use super::eigen::{Matrix, eigen, identity};

/// It has converged when it is narrower than this in every direction: less than matters of any range.
const WIDTH_MIN: f64 = 1e-6;
/// Its longest axis to its shortest, squared: beyond it, rounding takes over.
const CONDITION_MAX: f64 = 1e14;
/// The step grows by no more at once, in the logarithm.
const GROWTH_MAX: f64 = 1.0;

#[derive(Debug, Clone)]
pub struct Gaussian {
    pub mean: Vec<f64>,
    step: f64,
    covariance: Matrix,
    /// The square roots of the covariance's eigenvalues, and its eigenvectors.
    lengths: Vec<f64>,
    axes: Matrix,
    path_of_step: Vec<f64>,
    path_of_covariance: Vec<f64>,
    generation: i32,
}

/// The weights of the better half, the best first, and their effective number.
pub fn weights(count: usize) -> (Vec<f64>, f64) {
    let parents = (count / 2).max(1);
    let raw: Vec<f64> = (1..=parents).map(|rank| ((count as f64 + 1.0) / 2.0).ln() - (rank as f64).ln()).collect();
    let sum: f64 = raw.iter().sum();
    let weights: Vec<f64> = raw.iter().map(|weight| if sum > 0.0 { weight / sum } else { 1.0 }).collect();
    let effective = 1.0 / weights.iter().map(|weight| weight * weight).sum::<f64>();
    (weights, effective)
}

impl Gaussian {
    /// `widths`: the standard deviation along each coordinate, in steps.
    pub fn new(mean: Vec<f64>, step: f64, widths: Vec<f64>) -> Self {
        let size = mean.len();
        let mut covariance = identity(size);
        for (coordinate, width) in widths.iter().enumerate() {
            covariance[coordinate][coordinate] = width * width;
        }
        Self {
            mean,
            step,
            covariance,
            lengths: widths,
            axes: identity(size),
            path_of_step: vec![0.0; size],
            path_of_covariance: vec![0.0; size],
            generation: 0,
        }
    }

    /// From standard normal numbers, the way from the mean.
    pub fn deviation(&self, normals: &[f64]) -> Vec<f64> {
        let stretched: Vec<f64> = normals.iter().zip(&self.lengths).map(|(normal, length)| normal * length).collect();
        self.axes.iter().map(|row| self.step * dot(row, &stretched)).collect()
    }

    /// The standard deviation along one coordinate.
    pub fn width(&self, coordinate: usize) -> f64 {
        self.step * self.covariance[coordinate][coordinate].max(0.0).sqrt()
    }

    /// Whether nothing more is to be expected of it.
    pub fn is_spent(&self) -> bool {
        let longest = self.lengths.iter().copied().fold(0.0, f64::max);
        let shortest = self.lengths.iter().copied().fold(f64::INFINITY, f64::min);
        !self.mean.is_empty()
            && (self.step * longest < WIDTH_MIN || longest * longest > CONDITION_MAX * shortest * shortest)
    }

    /// Moves towards the better half of these points, the best first.
    pub fn update(&mut self, ranked: &[Vec<f64>]) {
        if self.mean.is_empty() || ranked.len() < 2 {
            return;
        }
        let size = self.mean.len() as f64;
        let (weights, effective) = weights(ranked.len());
        let steps: Vec<Vec<f64>> = ranked.iter().take(weights.len()).map(|point| self.step_to(point)).collect();
        let mean_step: Vec<f64> = (0..self.mean.len())
            .map(|n| weights.iter().zip(&steps).map(|(weight, step)| weight * step[n]).sum())
            .collect();
        for (mean, step) in self.mean.iter_mut().zip(&mean_step) {
            *mean = (*mean + self.step * step).clamp(0.0, 1.0);
        }

        let rate = (effective + 2.0) / (size + effective + 5.0);
        let damping = 1.0 + 2.0 * (((effective - 1.0) / (size + 1.0)).sqrt() - 1.0).max(0.0) + rate;
        let whitened = self.whitened(&mean_step);
        decay_towards(&mut self.path_of_step, rate, effective, &whitened);
        let usual = size.sqrt() * (1.0 - 1.0 / (4.0 * size) + 1.0 / (21.0 * size * size));
        let length = dot(&self.path_of_step, &self.path_of_step).sqrt();
        self.step *= (rate / damping * (length / usual - 1.0)).min(GROWTH_MAX).exp();
        self.step = self.step.min(1.0);

        self.generation = self.generation.saturating_add(1);
        let settled = (1.0 - (1.0 - rate).powi(2 * self.generation)).sqrt();
        let is_long = length / settled >= (1.4 + 2.0 / (size + 1.0)) * usual;
        self.adapt(&weights, effective, &steps, if is_long { None } else { Some(&mean_step) });
    }

    /// `mean_step`: None while the step's path is long, lest the covariance grow too.
    fn adapt(&mut self, weights: &[f64], effective: f64, steps: &[Vec<f64>], mean_step: Option<&[f64]>) {
        let size = self.mean.len() as f64;
        let rate = (4.0 + effective / size) / (size + 4.0 + 2.0 * effective / size);
        let by_path = 2.0 / ((size + 1.3).powi(2) + effective);
        let by_rank =
            (2.0 * (effective - 2.0 + 1.0 / effective) / ((size + 2.0).powi(2) + effective)).min(1.0 - by_path);
        let still = vec![0.0; self.mean.len()];
        decay_towards(&mut self.path_of_covariance, rate, effective, mean_step.unwrap_or(&still));
        let lost = if mean_step.is_none() { by_path * rate * (2.0 - rate) } else { 0.0 };
        let path = &self.path_of_covariance;
        for (row, entries) in self.covariance.iter_mut().enumerate() {
            for (column, entry) in entries.iter_mut().enumerate() {
                let spread: f64 =
                    weights.iter().zip(steps).map(|(weight, step)| weight * step[row] * step[column]).sum();
                *entry =
                    (1.0 - by_path - by_rank + lost) * *entry + by_path * path[row] * path[column] + by_rank * spread;
            }
        }
        let (values, axes) = eigen(self.covariance.clone());
        self.lengths = values.into_iter().map(|value| value.max(0.0).sqrt()).collect();
        self.axes = axes;
    }

    /// The way from the mean to a point, in steps, no longer than nearly all of its own points are away.
    fn step_to(&self, point: &[f64]) -> Vec<f64> {
        let size = self.mean.len() as f64;
        let step: Vec<f64> = point.iter().zip(&self.mean).map(|(point, mean)| (point - mean) / self.step).collect();
        let whitened = self.whitened(&step);
        let length = dot(&whitened, &whitened).sqrt();
        let most = size.sqrt() + 2.0 * size / (size + 2.0);
        let shrink = if length > most { most / length } else { 1.0 };
        step.into_iter().map(|step| shrink * step).collect()
    }

    /// By the covariance's inverse square root.
    fn whitened(&self, step: &[f64]) -> Vec<f64> {
        let size = step.len();
        let along: Vec<f64> = (0..size)
            .map(|n| {
                (0..size).map(|row| self.axes[row][n] * step[row]).sum::<f64>() / self.lengths[n].max(f64::MIN_POSITIVE)
            })
            .collect();
        self.axes.iter().map(|row| dot(row, &along)).collect()
    }
}

/// A path forgets at this rate, and keeps its length under steps of pure chance.
fn decay_towards(path: &mut [f64], rate: f64, effective: f64, step: &[f64]) {
    let gain = (rate * (2.0 - rate) * effective).sqrt();
    for (path, step) in path.iter_mut().zip(step) {
        *path = (1.0 - rate) * *path + gain * step;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
