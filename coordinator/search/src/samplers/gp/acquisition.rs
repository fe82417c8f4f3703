//! The logarithm of the expected improvement, exact where the improvement itself is too small for a number (Ament et
//! al., 2023, "Unexpected improvements to expected improvement for Bayesian optimization").

use std::f64::consts::PI;

use super::posterior::Expected;

/// Below it nothing is gained in telling variances apart.
const VARIANCE_MIN: f64 = 1e-18;
/// Beyond it the square would be infinite.
const FAR: f64 = 1e150;
/// Terms of the continued fraction: enough for full precision from 1 on.
const TERMS: u32 = 120;

/// By how much a configuration is expected to be below `best`, as a logarithm; finite.
pub fn log_expected_improvement(expected: Expected, best: f64) -> f64 {
    let deviation = expected.variance.max(VARIANCE_MIN).sqrt();
    deviation.ln() + log_improvement_of_standard(((best - expected.mean) / deviation).clamp(-FAR, FAR))
}

/// ln(pdf(z) + z cdf(z)) of the standard normal.
fn log_improvement_of_standard(z: f64) -> f64 {
    if z <= -1.0 {
        let (first, second) = tail_ratios(-z);
        return log_density(z) + first.ln() + second.ln();
    }
    (log_density(z).exp() + z * cumulative(z)).ln()
}

fn log_density(z: f64) -> f64 {
    -0.5 * z * z - 0.5 * (2.0 * PI).ln()
}

fn cumulative(z: f64) -> f64 {
    let density = log_density(z).exp();
    if z >= 1.0 {
        return 1.0 - density * tail_ratios(z).0;
    }
    // cdf(z) = 1/2 + pdf(z) (z + z^3/3 + z^5/15 + ...), for z in (-1, 1).
    let (mut term, mut sum) = (z, z);
    for odd in (3..41).step_by(2) {
        term *= z * z / f64::from(odd);
        sum += term;
    }
    0.5 + density * sum
}

/// I0/I-1 and I1/I0 at t, 1 or more, where I-1 is the normal density and each of the others the integral of the one
/// before it from t on. From (n + 1) I(n+1) = I(n-1) - t I(n) follows that each ratio is 1 / (t + (n + 1) next ratio):
/// all terms are positive, so nothing cancels. The two ratios' product is the improvement over the density.
fn tail_ratios(t: f64) -> (f64, f64) {
    let second = (2..TERMS).rev().fold(0.0, |next, n| 1.0 / (t + f64::from(n) * next));
    (1.0 / (t + second), second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simpson's rule over the density of what is below `best`.
    fn integrated(mean: f64, deviation: f64, best: f64) -> f64 {
        let (low, steps) = (mean - 12.0 * deviation, 20_000);
        let width = (best - low) / f64::from(steps);
        let at = |step: i32| {
            let value = low + width * f64::from(step);
            (best - value) * log_density((value - mean) / deviation).exp() / deviation
        };
        let weight = |step: i32| if step == 0 || step == steps { 1.0 } else { f64::from(2 + 2 * (step % 2)) };
        (0..=steps).map(|step| weight(step) * at(step)).sum::<f64>() * width / 3.0
    }

    #[test]
    fn it_is_the_logarithm_of_the_expected_improvement_where_that_can_be_integrated() {
        for (mean, deviation) in [(0.0, 1.0), (-3.0, 0.5), (0.9, 1.0), (1.1, 1.0), (2.0, 0.7), (4.0, 0.8), (-30.0, 2.0)]
        {
            let (best, variance) = (0.1, deviation * deviation);
            let found = log_expected_improvement(Expected { mean, variance }, best);
            let direct = integrated(mean, deviation, best).ln();
            assert!((found - direct).abs() < 1e-8 * (1.0 + direct.abs()), "{mean} {deviation}: {found} {direct}");
        }
    }

    #[test]
    fn it_is_finite_and_falls_with_the_mean_where_the_improvement_is_too_small_for_a_number() {
        let of = |mean, variance| log_expected_improvement(Expected { mean, variance }, 0.0);
        let means = [-1e300, -1e9, -2.0, 0.0, 0.5, 0.999_999, 1.0, 1.000_001, 3.0, 38.0, 39.0, 1e4, 1e8, 1e120];
        for pair in means.windows(2) {
            let (better, worse) = (of(pair[0], 1.0), of(pair[1], 1.0));
            assert!(better.is_finite() && worse.is_finite() && better > worse, "{pair:?}: {better} {worse}");
        }
        assert!(of(1.0, 0.0).is_finite() && of(1.0, -1e-9).is_finite() && of(f64::MAX, 0.0).is_finite());
        // -z^2/2 - ln(sqrt(2 pi)) - 2 ln z
        let asymptote = -0.5e10 - 0.5 * (2.0 * PI).ln() - 2.0 * 1e5_f64.ln();
        assert!((of(1e5, 1.0) - asymptote).abs() < 1e-5);
    }
}
