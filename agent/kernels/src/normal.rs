//! Normal numbers from random words (Box and Muller, 1958): of two words, one is the radius and one the angle.
//!
//! The same bits on every processor, because nothing is fused and no function is the system's.

use crate::vectorized;

/// Words that become as many numbers together: half of them are radii, half angles.
pub const NORMALS: usize = 2 * RADII;
const RADII: usize = 16;

/// Fills `to` with numbers of mean zero, by as many words: of each block of [`NORMALS`], the cosines' numbers before the
/// sines'. None is beyond 6.6 deviations.
///
/// # Panics
/// There are more or fewer words, or not whole blocks of them.
pub fn normal(words: &[u32], deviation: f32, to: &mut [f32]) {
    let (words, rest) = words.as_chunks::<NORMALS>();
    let (to, left) = to.as_chunks_mut::<NORMALS>();
    assert!(words.len() == to.len() && rest.is_empty() && left.is_empty(), "a number for each word, in whole blocks");
    vectorized(
        #[inline(always)]
        || {
            for (words, to) in words.iter().zip(to) {
                block(words, deviation, to);
            }
        },
    );
}

#[inline(always)]
fn block(words: &[u32; NORMALS], deviation: f32, to: &mut [f32; NORMALS]) {
    let (radii, angles) = words.split_at(RADII);
    let (cosines, sines) = to.split_at_mut(RADII);
    for at in 0..RADII {
        let radius = deviation * (-2.0 * logarithm_of_share(radii[at])).sqrt();
        let (sine, cosine) = sine_and_cosine_of_turn(angles[at]);
        cosines[at] = radius * cosine;
        sines[at] = radius * sine;
    }
}

/// `ln((word / 2 + 1) / 2^31)`, not above zero; the series of Cephes (Moshier, 1989) for what is between the roots of a half
/// and of two.
#[inline(always)]
fn logarithm_of_share(word: u32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const BITS_OF_ROOT: u32 = 0x3f35_04f3;
    const MANTISSA: u32 = 0x007f_ffff;
    // Whole numbers of 31 bits, of which every processor makes floats at once.
    #[expect(clippy::cast_precision_loss, reason = "single precision is what is wanted")]
    let share = ((word >> 1).cast_signed() as f32 + 1.0) * (1.0 / 2_147_483_648.0);
    let from_root = share.to_bits().wrapping_sub(BITS_OF_ROOT).cast_signed();
    #[expect(clippy::cast_precision_loss, reason = "an exponent has few bits")]
    let exponent = (from_root >> 23) as f32;
    let x = f32::from_bits((from_root.cast_unsigned() & MANTISSA).wrapping_add(BITS_OF_ROOT)) - 1.0;
    let square = x * x;
    let sum = 7.037_683_6e-2 * x - 1.151_461e-1;
    let sum = ((sum * x + 1.167_699_9e-1) * x - 1.242_014_1e-1) * x + 1.424_932_3e-1;
    let sum = ((sum * x - 1.666_805_8e-1) * x + 2.000_071_5e-1) * x - 2.499_999_4e-1;
    let sum = (sum * x + 3.333_333e-1) * x * square;
    let found = x + (sum + LN_2_LOW * exponent - 0.5 * square) + LN_2_HIGH * exponent;
    // Rounded, a share may be one, and its logarithm above zero by a last bit.
    if found > 0.0 { 0.0 } else { found }
}

/// Sine and cosine of `word / 2^32` turns: Cephes' series within an eighth of a turn of a quarter.
#[inline(always)]
fn sine_and_cosine_of_turn(word: u32) -> (f32, f32) {
    const TAU: f32 = std::f32::consts::TAU;
    let quarters = word.wrapping_add(1 << 29) >> 30;
    let rest = word.wrapping_sub(quarters << 30).cast_signed();
    #[expect(clippy::cast_precision_loss, reason = "single precision is what is wanted")]
    let x = rest as f32 * (TAU / 4_294_967_296.0);
    let square = x * x;
    let sine = ((-1.951_529_6e-4 * square + 8.332_161e-3) * square - 1.666_665_5e-1) * square * x + x;
    let cosine = ((2.443_315_7e-5 * square - 1.388_731_6e-3) * square + 4.166_664_6e-2) * square * square;
    let cosine = cosine - 0.5 * square + 1.0;
    let (first, second) = if quarters & 1 == 0 { (sine, cosine) } else { (cosine, sine) };
    let negated = |number: f32, is_negative: u32| f32::from_bits(number.to_bits() ^ (is_negative << 31));
    (negated(first, quarters >> 1 & 1), negated(second, (quarters.wrapping_add(1) >> 1) & 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_formula() {
        // Corners first, then whatever.
        let corners =
            [0, 1, 2, u32::MAX, u32::MAX - 1, 1 << 31, (1 << 31) - 1, 1 << 30, 1 << 29, (1 << 29) - 1, 3 << 29];
        let whatever = (0..100_000u32).map(|at| at.wrapping_mul(2_654_435_761));
        let words: Vec<u32> = corners.into_iter().chain(whatever).collect();
        let words = &words[..words.len() / NORMALS * NORMALS];
        let mut found = vec![f32::NAN; words.len()];
        normal(words, 0.5, &mut found);
        for (words, found) in words.chunks(NORMALS).zip(found.chunks(NORMALS)) {
            for at in 0..RADII {
                let share = (f64::from(words[at] >> 1) + 1.0) / 2_147_483_648.0;
                let radius = 0.5 * (-2.0 * share.ln()).sqrt();
                let (sine, cosine) = (std::f64::consts::TAU * f64::from(words[RADII + at]) / 4_294_967_296.0).sin_cos();
                for (found, expected) in [(found[at], radius * cosine), (found[RADII + at], radius * sine)] {
                    // Near a share of one, the word has more digits than single precision.
                    assert!(
                        (f64::from(found) - expected).abs()
                            < 1e-6 * (1.0 + expected.abs()) + 2e-4 * f64::from(radius < 2e-3)
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "in whole blocks")]
    fn words_are_as_many_as_numbers() {
        normal(&[0; 2 * NORMALS], 1.0, &mut [0.0; NORMALS]);
    }
}
