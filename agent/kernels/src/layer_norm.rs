//! The gradient of layer normalisation: row by row, while a row is in a cache.

use std::sync::Mutex;

use crate::sums::{sum, summed};
use crate::{InParallel, alone, vectorized};

/// `rows` rows of `width` elements, each normalised by itself.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm {
    pub rows: usize,
    pub width: usize,
}

/// Rows whose part in the sums over all rows is taken together: fixed, so that the number of threads changes no sum.
const ROWS: usize = 32;

impl LayerNorm {
    /// With `g = dy scale` and `n = (x - mean) inverse`: `dx = inverse (g - mean(g) - n mean(g n))` and, over the rows,
    /// `dscale = sum(dy n)` and `dbias = sum(dy)`. The statistics have an element for each row, scale and sums one for
    /// each column.
    ///
    /// # Panics
    /// A slice has not as many elements as its shape.
    pub fn gradient(
        &self,
        (dy, x, scale): (&[f32], &[f32], &[f32]),
        (mean, inverse): (&[f32], &[f32]),
        dx: &mut [f32],
        (dscale, dbias): (&mut [f32], &mut [f32]),
        each: InParallel<'_>,
    ) {
        let width = self.width;
        dscale.fill(0.0);
        dbias.fill(0.0);
        if width == 0 {
            return;
        }
        let mut sums = vec![0.0; self.rows.div_ceil(ROWS) * 2 * width];
        let blocks: Vec<_> = dx.chunks_mut(ROWS * width).zip(sums.chunks_mut(2 * width)).map(Mutex::new).collect();
        each(blocks.len(), &|block| {
            let mut part = alone(&blocks[block]);
            let (dx, sums) = &mut *part;
            let (to_scale, to_bias) = sums.split_at_mut(width);
            for (at, dx) in dx.chunks_exact_mut(width).enumerate() {
                let row = block * ROWS + at;
                let (dy, x) = (&dy[row * width..][..width], &x[row * width..][..width]);
                let statistics = (mean[row], inverse[row]);
                vectorized(
                    #[inline(always)]
                    || of_row((dy, x, scale), statistics, dx, (to_scale, to_bias)),
                );
            }
        });
        drop(blocks);
        for sums in sums.chunks_exact(2 * width) {
            let (to_scale, to_bias) = sums.split_at(width);
            dscale.iter_mut().zip(to_scale).for_each(|(sum, part)| *sum += part);
            dbias.iter_mut().zip(to_bias).for_each(|(sum, part)| *sum += part);
        }
    }
}

#[inline(always)]
fn of_row(
    (dy, x, scale): (&[f32], &[f32], &[f32]),
    (mean, inverse): (f32, f32),
    dx: &mut [f32],
    (to_scale, to_bias): (&mut [f32], &mut [f32]),
) {
    let count = dx.len() as f64;
    let columns = dx.iter_mut().zip(dy).zip(x).zip(scale).zip(to_scale).zip(to_bias);
    for (((((dx, dy), x), scale), to_scale), to_bias) in columns {
        *dx = dy * scale;
        *to_scale += dy * ((x - mean) * inverse);
        *to_bias += dy;
    }
    let level = (sum(dx) / count) as f32;
    let slope = (summed(dx, x, |g, x| g * (x - mean)) / count) as f32 * inverse * inverse;
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx = inverse * (*dx - level - (x - mean) * slope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_turn, numbers};

    #[test]
    fn gradients_are_those_of_double_precision() {
        for (rows, width) in [(1, 1), (70, 37), (33, 256)] {
            let norm = LayerNorm { rows, width };
            let (dy, x, scale) = (numbers(rows * width, 1), numbers(rows * width, 2), numbers(width, 3));
            let (mean, inverse) = (numbers(rows, 4), numbers(rows, 5));
            let mut dx = vec![f32::NAN; rows * width];
            let (mut dscale, mut dbias) = (vec![f32::NAN; width], vec![f32::NAN; width]);

            norm.gradient((&dy, &x, &scale), (&mean, &inverse), &mut dx, (&mut dscale, &mut dbias), &in_turn);

            let (mut sums, mut totals) = (vec![0.0; width], vec![0.0; width]);
            for row in 0..rows {
                let of = |values: &[f32], column: usize| f64::from(values[row * width + column]);
                let (mean, inverse) = (f64::from(mean[row]), f64::from(inverse[row]));
                let g = |column: usize| of(&dy, column) * f64::from(scale[column]);
                let n = |column: usize| (of(&x, column) - mean) * inverse;
                let level = (0..width).map(g).sum::<f64>() / width as f64;
                let slope = (0..width).map(|column| g(column) * n(column)).sum::<f64>() / width as f64;
                for column in 0..width {
                    let expected = inverse * (g(column) - level - n(column) * slope);
                    assert!((of(&dx, column) - expected).abs() < 1e-6, "{row}, {column}");
                    sums[column] += of(&dy, column) * n(column);
                    totals[column] += of(&dy, column);
                }
            }
            for column in 0..width {
                assert!((f64::from(dscale[column]) - sums[column]).abs() < 1e-5, "{column}");
                assert!((f64::from(dbias[column]) - totals[column]).abs() < 1e-5, "{column}");
            }
        }
    }
}
