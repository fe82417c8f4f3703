//! The gradient of a softmax along rows, in one pass over the memory.

use std::sync::Mutex;

use crate::sums::summed;
use crate::{InParallel, alone, vectorized};

/// Elements that one thread takes at a time, or one row.
const PART: usize = 16_384;

/// `dx = (dy - sum(dy y)) y` for each row of `width` elements, where `y` is what the softmax gave.
///
/// # Panics
/// The slices are not equally long.
pub fn softmax_gradient(dy: &[f32], y: &[f32], width: usize, dx: &mut [f32], each: InParallel<'_>) {
    let part = (PART / width.max(1)).max(1) * width.max(1);
    let parts: Vec<_> = dx.chunks_mut(part).zip(dy.chunks(part).zip(y.chunks(part))).map(Mutex::new).collect();
    each(parts.len(), &|at| {
        let mut part = alone(&parts[at]);
        let (dx, (dy, y)) = &mut *part;
        for (dx, (dy, y)) in dx.chunks_mut(width).zip(dy.chunks(width).zip(y.chunks(width))) {
            vectorized(
                #[inline(always)]
                || {
                    let along = summed(dy, y, |dy, y| dy * y) as f32;
                    for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                        *dx = (dy - along) * y;
                    }
                },
            );
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_turn, numbers};

    #[test]
    fn a_gradient_is_that_of_double_precision() {
        for (rows, width) in [(1, 1), (300, 130), (3, 20_000)] {
            let (dy, y) = (numbers(rows * width, 1), numbers(rows * width, 2));
            let mut dx = vec![f32::NAN; rows * width];

            softmax_gradient(&dy, &y, width, &mut dx, &in_turn);

            for row in 0..rows {
                let of = |values: &[f32], column: usize| f64::from(values[row * width + column]);
                let along: f64 = (0..width).map(|column| of(&dy, column) * of(&y, column)).sum();
                for column in 0..width {
                    let expected = (of(&dy, column) - along) * of(&y, column);
                    assert!((of(&dx, column) - expected).abs() < 1e-5 * along.abs().max(1.0), "{row}, {column}");
                }
            }
        }
    }
}
