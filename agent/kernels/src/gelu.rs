//! The Gaussian error linear unit (Hendrycks and Gimpel, 2016), forward and back in one pass each.
//!
//! Operations are rounded one by one: no processor's fused ones change a result. Functions are off by less than 3e-7.

use std::f32::consts::FRAC_1_SQRT_2;
use std::sync::Mutex;

use crate::{InParallel, alone, vectorized};

/// Elements that one thread takes at a time.
const PART: usize = 16_384;

/// Which function of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// `x Phi(x)`, with the normal distribution `Phi`.
    Exact,
    /// `x (1 + tanh(u)) / 2` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`.
    Tanh,
}

impl Gelu {
    /// `y`, as long as `x`.
    pub fn forward(self, x: &[f32], y: &mut [f32], each: InParallel<'_>) {
        let parts: Vec<_> = y.chunks_mut(PART).zip(x.chunks(PART)).map(Mutex::new).collect();
        each(parts.len(), &|at| {
            let mut part = alone(&parts[at]);
            let (y, x) = &mut *part;
            match self {
                Self::Exact => vectorized(
                    #[inline(always)]
                    || y.iter_mut().zip(*x).for_each(|(y, x)| *y = x * exact(*x).share),
                ),
                Self::Tanh => vectorized(
                    #[inline(always)]
                    || y.iter_mut().zip(*x).for_each(|(y, x)| *y = x * by_tanh(*x).share),
                ),
            }
        });
    }

    /// `dx = dy` times the slope at `x`. All have the same length.
    pub fn gradient(self, dy: &[f32], x: &[f32], dx: &mut [f32], each: InParallel<'_>) {
        let parts: Vec<_> = dx.chunks_mut(PART).zip(dy.chunks(PART).zip(x.chunks(PART))).map(Mutex::new).collect();
        each(parts.len(), &|at| {
            let mut part = alone(&parts[at]);
            let (dx, (dy, x)) = &mut *part;
            let elements = dx.iter_mut().zip(dy.iter().zip(*x));
            match self {
                Self::Exact => vectorized(
                    #[inline(always)]
                    || elements.for_each(|(dx, (dy, x))| *dx = dy * exact(*x).slope),
                ),
                Self::Tanh => vectorized(
                    #[inline(always)]
                    || elements.for_each(|(dx, (dy, x))| *dx = dy * by_tanh(*x).slope),
                ),
            }
        });
    }
}

/// What `x` is multiplied with, and the slope of the product. What is not used is not computed.
struct Point {
    share: f32,
    slope: f32,
}

/// Beyond it, a share is zero or one in single precision.
const EDGE: f32 = 13.0;

/// `Phi(x)` by the approximation 7.1.26 of Abramowitz and Stegun (1964): off by less than 7.5e-8.
#[inline(always)]
fn exact(x: f32) -> Point {
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    let size = within(x.abs(), EDGE);
    let bell = exp(-0.5 * size * size);
    let t = 1.0 / (1.0 + 0.327_591_1 * FRAC_1_SQRT_2 * size);
    let sum = 1.061_405_4 * t - 1.453_152;
    let sum = ((sum * t + 1.421_413_8) * t - 0.284_496_74) * t + 0.254_829_6;
    let tail = 0.5 * sum * t * bell;
    let share = if x < 0.0 { tail } else { 1.0 - tail };
    let signed = if x < 0.0 { -size } else { size };
    Point { share, slope: share + signed * (DENSITY_AT_ZERO * bell) }
}

#[inline(always)]
fn by_tanh(x: f32) -> Point {
    const SCALE: f32 = 0.797_884_6;
    const CUBIC: f32 = 0.044_715;
    let size = within(x.abs(), EDGE);
    let square = size * size;
    let u = within(SCALE * size * (1.0 + CUBIC * square), 40.0);
    // (1 + tanh(-u)) / 2, which is small, so that the smaller of the two shares keeps its digits.
    let decay = exp(-2.0 * u);
    let tail = decay / (1.0 + decay);
    let share = if x < 0.0 { tail } else { 1.0 - tail };
    let signed = if x < 0.0 { -size } else { size };
    let steepness = SCALE * (1.0 + 3.0 * CUBIC * square);
    Point { share, slope: share + signed * (2.0 * steepness) * (tail * (1.0 - tail)) }
}

/// The smaller one; NaN stays NaN.
#[inline(always)]
fn within(number: f32, bound: f32) -> f32 {
    if number > bound { bound } else { number }
}

/// `e^x` for `x` of `-87 .. 0`, off by less than 2e-7 of it: `2^n e^r` with a whole `n` and the series of `e^r` in the
/// least `r`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Added to a number, it leaves the nearest whole one in the last bits.
    const ROUNDING: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x * std::f32::consts::LOG2_E + ROUNDING;
    let whole = shifted - ROUNDING;
    let r = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let sum = 1.987_569_2e-4 * r + 1.398_2e-3;
    let sum = ((sum * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1;
    let sum = (sum * r + 0.5) * r * r + r + 1.0;
    sum * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_turn;

    /// `erf` by its series, in double precision.
    fn distribution(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..400 {
            term *= x * x / f64::from(2 * n + 1);
            sum += term;
        }
        0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    fn expected(gelu: Gelu, x: f64) -> (f64, f64) {
        match gelu {
            Gelu::Exact => {
                let (share, density) = (distribution(x), (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt());
                (x * share, share + x * density)
            }
            Gelu::Tanh => {
                let scale = (2.0 / std::f64::consts::PI).sqrt();
                let t = (scale * (x + 0.044_715 * x.powi(3))).tanh();
                let slope = scale * (1.0 + 3.0 * 0.044_715 * x * x);
                (0.5 * x * (1.0 + t), 0.5 * (1.0 + t + x * (1.0 - t * t) * slope))
            }
        }
    }

    fn points() -> Vec<f32> {
        (-8000..=8000).map(|at| at as f32 * 1.5e-3).collect()
    }

    #[test]
    fn values_and_slopes_are_those_of_double_precision() {
        for gelu in [Gelu::Exact, Gelu::Tanh] {
            let x = points();
            let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            gelu.forward(&x, &mut y, &in_turn);
            gelu.gradient(&vec![1.0; x.len()], &x, &mut dx, &in_turn);
            for (at, &x) in x.iter().enumerate() {
                let (value, slope) = expected(gelu, f64::from(x));
                let allowed = 3e-7 * f64::from(x).abs().max(1.0);
                assert!((f64::from(y[at]) - value).abs() < allowed, "{gelu:?} at {x}: {} against {value}", y[at]);
                assert!((f64::from(dx[at]) - slope).abs() < 5e-7, "{gelu:?}' at {x}: {} against {slope}", dx[at]);
            }
        }
    }

    #[test]
    fn far_out_it_is_zero_or_the_identity_and_nan_stays() {
        let x = [f32::NEG_INFINITY, -1e30, -100.0, 100.0, 1e30, f32::INFINITY, f32::NAN];
        for gelu in [Gelu::Exact, Gelu::Tanh] {
            let mut dx = [0.5; 7];
            gelu.gradient(&[2.0; 7], &x, &mut dx, &in_turn);
            for (at, expected) in [0.0, 0.0, 0.0, 2.0, 2.0, 2.0].into_iter().enumerate() {
                assert!((dx[at] - expected).abs() < 1e-30, "{gelu:?} at {}: {}", x[at], dx[at]);
            }
            assert!(dx[6].is_nan());
        }
    }
}
