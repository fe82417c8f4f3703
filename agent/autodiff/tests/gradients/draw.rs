//! Numbers of the rows.

use crate::evaluator::Tensor;

/// Inputs are drawn from `0.3 .. 1.7`, away from kinks and poles; `Signed` ones get both signs.
#[derive(Clone, Copy)]
pub enum Draw {
    Positive,
    Signed,
    /// Between -0.9 and 0.9, away from zero.
    Inner,
    /// Above one.
    Outer,
}

/// A linear congruential generator (Knuth's constants): the same numbers every time.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(1)
    }

    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn tensor(&mut self, shape: &[usize], draw: Draw) -> Tensor {
        let count = shape.iter().product();
        let number = |random: &mut Self| {
            let unit = random.unit();
            let magnitude = match draw {
                Draw::Positive | Draw::Signed => 0.3 + 1.4 * unit,
                Draw::Inner => 0.1 + 0.8 * unit,
                Draw::Outer => 1.2 + unit,
            };
            let negative = matches!(draw, Draw::Signed | Draw::Inner) && random.unit() < 0.5;
            if negative { -magnitude } else { magnitude }
        };
        Tensor::floats(shape, (0..count).map(|_| number(self)).collect())
    }
}
