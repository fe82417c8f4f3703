//! Learning curves, extrapolated (Domhan et al., "Speeding up Automatic Hyperparameter Optimization of Deep Neural
//! Networks by Extrapolation of Learning Curves", 2015): a trial stops when it is improbable that its value at the end is
//! better than the best of the finished trials.
//!
//! Where that paper samples the parameters of eleven families, here each family y = a + b g(x) has its exponent from a
//! grid and its a and b by weighted least squares, later values counting more; with flat priors, the families' evidence
//! and Student's t of each prediction are known in closed form, and no random number is needed.

use std::collections::BTreeMap;

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::Goal;

use super::Stopper;
use crate::news::Measurement;
use crate::objectives::keeps_constraints;
use crate::student;

/// Values that a curve needs before it is extrapolated: two for the parameters, two for their spread.
const POINTS_MIN: usize = 4;
/// Exponents of the power law: so many steps of a quarter.
const EXPONENTS: u32 = 8;
/// Rates of the exponential over the whole resource: a half, and so many steps by the square root of 2.
const RATES: u32 = 15;
/// No curve is quite of a family: the spread around a fit is taken to be at least this share of the curve's own range.
const NOISE_FLOOR: f64 = 0.01;

#[derive(Debug)]
pub struct Curve {
    goal: Goal,
    probability: f64,
    grace: u32,
    max_resource: u32,
    running: BTreeMap<TrialId, Running>,
    /// The best value of a finished trial that kept the constraints.
    best: Option<f64>,
}

#[derive(Debug, Default)]
struct Running {
    values: BTreeMap<u32, f64>,
    /// The best of those that kept the constraints.
    best: Option<f64>,
}

/// What a curve comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Forecast {
    mean: f64,
    /// That the value at the end is better than the best known.
    probability: f64,
}

/// One family with its exponent, fitted.
struct Fit {
    mean: f64,
    spread: f64,
    log_evidence: f64,
}

impl Curve {
    pub fn new(goal: Goal, probability: f64, grace: u32, max_resource: u32) -> Self {
        Self { goal, probability, grace, max_resource, running: BTreeMap::new(), best: None }
    }
}

impl Stopper for Curve {
    fn measured(&mut self, measurement: Measurement) -> Option<StopReason> {
        let Measurement { trial, resource, value, ranked, .. } = measurement;
        let goal = self.goal;
        let running = self.running.entry(trial).or_default();
        running.values.insert(resource, value);
        if keeps_constraints(goal, ranked) && running.best.is_none_or(|best| goal.is_better(value, best)) {
            running.best = Some(value);
        }
        let values = &running.values;
        let best = self.best.filter(|_| resource >= self.grace && values.len() >= POINTS_MIN)?;
        if values.values().any(|value| goal.is_better(*value, best)) {
            return None;
        }
        let Forecast { mean: predicted, probability } = forecast(goal, values, self.max_resource, best)?;
        (probability < self.probability).then_some(StopReason::Curve { resource, predicted, best, probability })
    }

    fn ended(&mut self, trial: TrialId, outcome: Outcome) {
        let running = self.running.remove(&trial).unwrap_or_default();
        match outcome {
            Outcome::Failed | Outcome::Stopped | Outcome::Unknown => {}
            Outcome::Finished => {
                let both = self.best.into_iter().chain(running.best);
                self.best = both.reduce(|best, value| if self.goal.is_better(value, best) { value } else { best });
            }
        }
    }
}

/// None: the curve cannot be fitted.
fn forecast(goal: Goal, values: &BTreeMap<u32, f64>, max_resource: u32, best: f64) -> Option<Forecast> {
    let points: Vec<(f64, f64)> = values.iter().map(|(x, y)| (f64::from(*x) / f64::from(max_resource), *y)).collect();
    let exponents = (1..=EXPONENTS).map(|step| f64::from(step) / 4.0);
    let rates = (0..RATES).map(|step| (f64::from(step) / 2.0 - 1.0).exp2());
    let powers = exponents.map(|exponent| fit(&points, |x: f64| x.max(1e-9).powf(-exponent)));
    let exponentials = rates.map(|rate| fit(&points, |x: f64| (-rate * x).exp()));
    let fits: Vec<Fit> = powers.chain(exponentials).flatten().collect();
    let most = fits.iter().map(|fit| fit.log_evidence).fold(f64::NEG_INFINITY, f64::max);
    let (mut total, mut mean, mut probability) = (0.0, 0.0, 0.0);
    for fit in &fits {
        let weight = (fit.log_evidence - most).exp();
        let ahead = match goal {
            Goal::Maximize => fit.mean - best,
            Goal::Minimize => best - fit.mean,
        };
        total += weight;
        mean += weight * fit.mean;
        probability += weight * student::distribution(ahead / fit.spread, points.len() as f64 - 2.0);
    }
    let forecast = Forecast { mean: mean / total, probability: probability / total };
    (total > 0.0 && forecast.mean.is_finite() && forecast.probability.is_finite()).then_some(forecast)
}

/// Weighted least squares of y = a + b g(x), and its prediction at x = 1.
fn fit(points: &[(f64, f64)], g: impl Fn(f64) -> f64) -> Option<Fit> {
    let rows = || points.iter().map(|(x, y)| (*x, g(*x), *y));
    let count = points.len() as f64;
    let scale = count / rows().map(|(weight, _, _)| weight).sum::<f64>();
    let mean_of = |value: &dyn Fn(f64, f64) -> f64| {
        rows().map(|(weight, g, y)| weight * scale * value(g, y)).sum::<f64>() / count
    };
    let (g_mean, y_mean) = (mean_of(&|g, _| g), mean_of(&|_, y| y));
    let g_squares = mean_of(&|g, _| (g - g_mean).powi(2)) * count;
    if g_squares.is_nan() || g_squares <= 0.0 {
        return None;
    }
    let slope = mean_of(&|g, y| (g - g_mean) * (y - y_mean)) * count / g_squares;
    let at = |g: f64| y_mean + slope * (g - g_mean);
    let squares = mean_of(&|g, y| (y - at(g)).powi(2)) * count;
    let (low, high) =
        points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    let floor = (NOISE_FLOOR * (high - low)).max(1e-9 * high.abs().max(low.abs()).max(1e-9));
    let squares = squares.max(floor * floor * count);
    let freedom = count - 2.0;
    let end = g(1.0);
    let variance = squares / freedom * (1.0 + 1.0 / count + (end - g_mean).powi(2) / g_squares);
    let log_evidence = -0.5 * freedom * squares.ln() - 0.5 * g_squares.ln();
    Some(Fit { mean: at(end), spread: variance.sqrt(), log_evidence })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(until: u32, value: impl Fn(f64) -> f64) -> BTreeMap<u32, f64> {
        (1..=until).map(|resource| (resource, value(f64::from(resource)))).collect()
    }

    #[test]
    fn curves_of_the_families_are_foretold() {
        let power = measured(10, |x| 0.9 - 0.5 * x.powf(-0.5));
        let exponential = measured(10, |x| 0.2 + 0.7 * (-x / 3.75).exp());
        for (goal, curve, resource, end) in
            [(Goal::Maximize, power, 100, 0.85), (Goal::Minimize, exponential, 30, 0.2 + 0.7 * (-8.0_f64).exp())]
        {
            let known = forecast(goal, &curve, resource, end).unwrap();
            assert!((known.mean - end).abs() < 0.03, "{goal:?}: {known:?}");
            let (easy, hard) = match goal {
                Goal::Maximize => (end - 0.1, end + 0.1),
                Goal::Minimize => (end + 0.1, end - 0.1),
            };
            assert!(forecast(goal, &curve, resource, easy).unwrap().probability > 0.95, "{goal:?}");
            assert!(forecast(goal, &curve, resource, hard).unwrap().probability < 0.05, "{goal:?}");
        }
    }

    #[test]
    fn noise_makes_a_forecast_unsure() {
        let calm = measured(12, |x| 0.8 - 0.4 / x);
        let noisy = measured(12, |x| 0.8 - 0.4 / x + if x % 2.0 == 0.0 { 0.05 } else { -0.05 });
        let probability = |curve| forecast(Goal::Maximize, curve, 50, 0.9).unwrap().probability;
        assert!(probability(&calm) < 0.01);
        assert!(probability(&noisy) > 0.02);
    }
}
