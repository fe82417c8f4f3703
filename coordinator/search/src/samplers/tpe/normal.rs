//! The cumulative normal distribution, as a table: a model asks for it several times for each kernel.

const STEPS_PER_UNIT: usize = 64;
/// Beyond it the tail is below 1e-15.
const END: usize = 8;

#[derive(Debug)]
pub struct Normal(Vec<f64>);

impl Normal {
    pub fn new() -> Self {
        Self((0..=END * STEPS_PER_UNIT).map(|step| upper(step as f64 / STEPS_PER_UNIT as f64)).collect())
    }

    /// The share below `z`, to within 2e-5; `z` is not NaN.
    pub fn below(&self, z: f64) -> f64 {
        if z < 0.0 { 1.0 - self.below_positive(-z) } else { self.below_positive(z) }
    }

    fn below_positive(&self, z: f64) -> f64 {
        let place = z * STEPS_PER_UNIT as f64;
        let step = (place as usize).min(self.0.len());
        match self.0.get(step..step + 2) {
            Some(pair) => pair[0] + (place - step as f64) * (pair[1] - pair[0]),
            None => 1.0,
        }
    }
}

/// The share below `z`, which is in 0..=8 (Marsaglia, "Evaluating the normal distribution", 2004).
fn upper(z: f64) -> f64 {
    let (mut sum, mut term, mut odd) = (z, z, 1.0);
    while term > f64::EPSILON * sum {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_quantiles_hold() {
        let normal = Normal::new();
        for (z, share) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746),
            (-1.0, 0.158_655_254),
            (1.959_963_985, 0.975),
            (-3.090_232_306, 0.001),
            (9.0, 1.0),
            (-40.0, 0.0),
            (f64::INFINITY, 1.0),
        ] {
            assert!((normal.below(z) - share).abs() < 2e-5, "{z}");
        }
    }
}
