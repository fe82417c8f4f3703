//! Student's t distribution, by the regularised incomplete beta function.
//!
//! Its continued fraction is DLMF 8.17.22 (evaluated by Lentz's method); the logarithm of the gamma function is
//! Lanczos' series with g = 7 and nine terms.

use std::f64::consts::PI;

/// The value below which a share `p`, above 0 and below 1, of the distribution lies.
pub fn quantile(p: f64, freedom: f64) -> f64 {
    if p < 0.5 {
        return -quantile(1.0 - p, freedom);
    }
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    while distribution(high, freedom) < p && high < 1e300 {
        low = high;
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = low + (high - low) / 2.0;
        if distribution(middle, freedom) < p { low = middle } else { high = middle }
    }
    low + (high - low) / 2.0
}

/// The share of the distribution below `t`.
pub fn distribution(t: f64, freedom: f64) -> f64 {
    let tail = 0.5 * incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5);
    if t > 0.0 { 1.0 - tail } else { tail }
}

fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    // The fraction converges fast on this side of the mean; on the other, by the symmetry of both.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for m in 1..=500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = value;
        for term in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + term * d);
            c = away_from_zero(1.0 + term / c);
            value *= c * d;
        }
        if (value - before).abs() <= 1e-16 * value.abs() {
            break;
        }
    }
    value
}

/// For arguments of at least one half.
fn ln_gamma(x: f64) -> f64 {
    const G: f64 = 7.0;
    const FIRST: f64 = 0.999_999_999_999_809_9;
    const SERIES: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let sum = SERIES.iter().zip(1_u8..).fold(FIRST, |sum, (term, i)| sum + term / (x + f64::from(i)));
    let t = x + G + 0.5;
    0.5 * (2.0 * PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (p, freedom, expected) in [
            (0.975, 1.0, 12.706_204_736),
            (0.975, 2.0, 4.302_652_730),
            (0.975, 3.0, 3.182_446_305),
            (0.975, 4.0, 2.776_445_105),
            (0.975, 9.0, 2.262_157_163),
            (0.975, 29.0, 2.045_229_642),
            (0.995, 5.0, 4.032_142_984),
            (0.975, 1e6, 1.959_966_4),
            (0.025, 4.0, -2.776_445_105),
            (0.5, 7.0, 0.0),
        ] {
            let found = quantile(p, freedom);
            assert!((found - expected).abs() < 1e-6, "t({p}; {freedom}) is {expected}, not {found}");
        }
    }

    #[test]
    fn shares_are_those_of_the_tables() {
        for (freedom, t, share) in [
            (1.0, 6.314, 0.95),
            (2.0, 2.920, 0.95),
            (3.0, 2.353, 0.95),
            (4.0, 3.747, 0.99),
            (7.0, 1.895, 0.95),
            (30.0, 2.457, 0.99),
        ] {
            assert!((distribution(t, freedom) - share).abs() < 1e-4, "{freedom}");
            assert!((distribution(-t, freedom) + distribution(t, freedom) - 1.0).abs() < 1e-12, "{freedom}");
        }
        assert!((distribution(0.0, 5.0) - 0.5).abs() < 1e-12);
    }
}
