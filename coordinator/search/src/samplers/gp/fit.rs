//! Length scales, signal and noise: the most probable ones given what was measured (maximum a posteriori).
//!
//! Length scales have the log-normal prior whose median grows with the root of the number of parameters (Hvarfner et
//! al., 2024, "Vanilla Bayesian optimization performs great in high dimensions").

use std::f64::consts::SQRT_2;

use super::cholesky::{Factor, dot};
use super::kernel::{Geometry, Hyper, Site, matern, matern_slope};

/// What the model is told: where, how much, and how sure that is beside the noise of all.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    pub sites: Vec<Site>,
    /// Standardised losses.
    pub losses: Vec<f64>,
    /// Variances that add to the noise.
    pub doubts: Vec<f64>,
}

/// A log-normal distribution, and the range that is searched.
struct Prior {
    location: f64,
    scale: f64,
    range: (f64, f64),
}

impl Prior {
    fn length(parameters: usize) -> Self {
        Self { location: SQRT_2 + (parameters as f64).ln() / 2.0, scale: 3.0_f64.sqrt(), range: (-4.0, 6.0) }
    }

    /// Its mode is as much as all losses vary: what a choice does by itself is mostly what it does.
    const EFFECT: Self = Self { location: 1.0, scale: 1.0, range: (-9.0, 3.0) };
    const SIGNAL: Self = Self { location: 0.5, scale: 0.7, range: (-3.0, 3.0) };
    const NOISE: Self = Self { location: -4.0, scale: 1.0, range: (-14.0, 0.5) };

    fn mode(&self) -> f64 {
        self.location - self.scale * self.scale
    }

    /// The negative logarithm of the density at e^`x`, less a constant, and its derivative.
    fn cost(&self, x: f64) -> (f64, f64) {
        let far = (x - self.location) / self.scale;
        (x + far * far / 2.0, 1.0 + far / self.scale)
    }
}

/// Adam's settings (Kingma and Ba, 2015), its steps in logarithms.
const STEP: f64 = 0.2;
const MOMENTUM: f64 = 0.8;
const MOMENTUM_OF_SQUARES: f64 = 0.95;

impl Hyper {
    /// What is most probable before anything was measured.
    pub fn prior(geometry: &Geometry) -> Self {
        let modes: Vec<f64> = priors(geometry).iter().map(Prior::mode).collect();
        Self::from_slice(geometry, &modes)
    }

    fn to_vec(&self) -> Vec<f64> {
        [self.lengths.as_slice(), &self.effects, &[self.signal, self.noise]].concat()
    }

    /// The same numbers in the order of [`to_vec`](Self::to_vec).
    fn from_slice(geometry: &Geometry, values: &[f64]) -> Self {
        let (lengths, rest) = values.split_at(geometry.parameters());
        let (effects, rest) = rest.split_at(geometry.choices().len());
        Self { lengths: lengths.to_vec(), effects: effects.to_vec(), signal: rest[0], noise: rest[1] }
    }

    /// The best of so many steps from here.
    pub fn fitted(&self, geometry: &Geometry, evidence: &Evidence, steps: u32) -> Self {
        let pairs = Pairs::new(geometry, evidence);
        let priors = priors(geometry);
        let mut at = self.to_vec();
        let (mut best, mut best_cost) = (at.clone(), f64::INFINITY);
        let (mut speed, mut size) = (vec![0.0; at.len()], vec![0.0; at.len()]);
        for step in 1..=steps as i32 {
            let (cost, gradient) = cost(geometry, &pairs, evidence, &Self::from_slice(geometry, &at));
            if cost < best_cost {
                (best, best_cost) = (at.clone(), cost);
            }
            let (unbias, unbias_squares) = (1.0 - MOMENTUM.powi(step), 1.0 - MOMENTUM_OF_SQUARES.powi(step));
            let rate = STEP * (1.0 - f64::from(step - 1) / f64::from(steps));
            for (place, slope) in gradient.iter().enumerate() {
                speed[place] += (1.0 - MOMENTUM) * (slope - speed[place]);
                size[place] += (1.0 - MOMENTUM_OF_SQUARES) * (slope * slope - size[place]);
                let along = speed[place] / unbias / ((size[place] / unbias_squares).sqrt() + 1e-8);
                let (low, high) = priors[place].range;
                at[place] = (at[place] - rate * along).clamp(low, high);
            }
        }
        Self::from_slice(geometry, &best)
    }
}

fn priors(geometry: &Geometry) -> Vec<Prior> {
    let parameters = geometry.parameters();
    let lengths = (0..parameters).map(|_| Prior::length(parameters));
    let effects = geometry.choices().iter().map(|_| Prior::EFFECT);
    lengths.chain(effects).chain([Prior::SIGNAL, Prior::NOISE]).collect()
}

/// The squared distances of all sites, along each parameter.
struct Pairs(Vec<Vec<Vec<f64>>>);

impl Pairs {
    fn new(geometry: &Geometry, evidence: &Evidence) -> Self {
        let sites = &evidence.sites;
        let row =
            |place: usize| sites[..place].iter().map(|other| geometry.separations(&sites[place], other)).collect();
        Self((0..sites.len()).map(row).collect())
    }
}

/// The negative logarithm of the posterior density, less a constant, and its gradient in the logarithms
/// (Rasmussen and Williams, 2006, section 5.4.1).
fn cost(geometry: &Geometry, pairs: &Pairs, evidence: &Evidence, hyper: &Hyper) -> (f64, Vec<f64>) {
    let (signal, noise) = (hyper.signal.exp(), hyper.noise.exp());
    let effects: Vec<f64> = hyper.effects.iter().map(|effect| effect.exp()).collect();
    let shared = |apart: &[f64]| {
        let same = geometry.choices().iter().zip(&effects).filter(|(parameter, _)| apart[**parameter] == 0.0);
        same.map(|(_, effect)| effect).sum::<f64>()
    };
    let weights: Vec<f64> = hyper.lengths.iter().map(|length| (-2.0 * length).exp()).collect();
    let mut factor = Factor::default();
    for (row, doubt) in pairs.0.iter().zip(&evidence.doubts) {
        let mut covariances: Vec<f64> =
            row.iter().map(|apart| shared(apart) + signal * matern(dot(apart, &weights))).collect();
        covariances.push(signal + effects.iter().sum::<f64>() + noise + doubt);
        factor.push(&covariances);
    }
    let alpha = factor.solve_upper(factor.solve_lower(&evidence.losses));
    let mut cost = (dot(&alpha, &evidence.losses) + factor.log_determinant()) / 2.0;
    let inverse = factor.inverse();
    let (of_effects, of_signal) = (hyper.lengths.len(), hyper.lengths.len() + effects.len());
    let of_noise = of_signal + 1;
    let mut gradient = vec![0.0; of_noise + 1];
    for (i, row) in pairs.0.iter().enumerate() {
        let own = (inverse[i][i] - alpha[i] * alpha[i]) / 2.0;
        gradient[of_signal] += own * signal;
        gradient[of_noise] += own * noise;
        gradient[of_effects..].iter_mut().zip(&effects).for_each(|(sum, effect)| *sum += own * effect);
        for (j, apart) in row.iter().enumerate() {
            let both = inverse[i][j] - alpha[i] * alpha[j];
            for ((sum, parameter), effect) in gradient[of_effects..].iter_mut().zip(geometry.choices()).zip(&effects) {
                *sum += if apart[*parameter] == 0.0 { both * effect } else { 0.0 };
            }
            let both = both * signal;
            let squared = dot(apart, &weights);
            gradient[of_signal] += both * matern(squared);
            let slope = -2.0 * both * matern_slope(squared);
            for ((sum, apart), weight) in gradient.iter_mut().zip(apart).zip(&weights) {
                *sum += slope * apart * weight;
            }
        }
    }
    for ((prior, value), sum) in priors(geometry).iter().zip(hyper.to_vec()).zip(&mut gradient) {
        let (of_prior, slope) = prior.cost(value);
        cost += of_prior;
        *sum += slope;
    }
    (cost, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};
    use crate::space::{Coordinate, Space};
    use serde_json::json;

    /// A space with a line, a choice and an arc, and losses that depend on the line the most.
    fn example(count: usize) -> (Geometry, Evidence) {
        let space = Space::new(
            &serde_json::from_value(json!({
                "c": {"type": "bool"},
                "v": {"type": "float", "low": 0.0, "high": 1.0, "when": {"c": true}},
                "u": {"type": "float", "low": 0.0, "high": 1.0},
            }))
            .unwrap(),
        );
        let geometry = Geometry::new(&space);
        let mut stream = Stream::new(Purpose { study_seed: 4, name: "an example", index: 0, redraw: 0 });
        let mut evidence = Evidence::default();
        for _ in 0..count {
            let (c, u, n) = (stream.below(2), stream.unit(), stream.unit());
            let n = (c == 1).then_some(Coordinate::Number(n));
            let point = [Some(Coordinate::Choice(c)), Some(Coordinate::Number(u)), n];
            evidence.sites.push(geometry.site(&point));
            evidence.losses.push((9.0 * u).sin() + 0.1 * c as f64 + 0.05 * stream.normal());
            evidence.doubts.push(0.1 * stream.unit());
        }
        (geometry, evidence)
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let (geometry, evidence) = example(15);
        let pairs = Pairs::new(&geometry, &evidence);
        let at = [-0.4, 0.3, 0.8, -1.0, 0.2, -2.5];
        let (_, gradient) = cost(&geometry, &pairs, &evidence, &Hyper::from_slice(&geometry, &at));
        for place in 0..at.len() {
            let moved = |by: f64| {
                let mut at = at;
                at[place] += by;
                cost(&geometry, &pairs, &evidence, &Hyper::from_slice(&geometry, &at)).0
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((gradient[place] - difference).abs() < 1e-6 * (1.0 + difference.abs()), "{place}: {difference}");
        }
    }

    #[test]
    fn a_fit_comes_to_rest_and_finds_what_matters() {
        let (geometry, mut evidence) = example(60);
        evidence.doubts.fill(0.0);
        let fitted = Hyper::prior(&geometry).fitted(&geometry, &evidence, 150);
        let (_, gradient) = cost(&geometry, &Pairs::new(&geometry, &evidence), &evidence, &fitted);
        assert!(gradient.iter().all(|slope| slope.abs() < 0.3), "{gradient:?}");
        assert!(fitted.lengths[1] + 1.0 < fitted.lengths[0].min(fitted.lengths[2]), "{fitted:?}");
    }
}
