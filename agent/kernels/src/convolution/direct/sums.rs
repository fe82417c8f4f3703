//! The innermost loops: sums of products of slices that begin at many places, as many of them at a time as there are
//! registers.
#![expect(
    clippy::needless_range_loop,
    reason = "what is not inlined is not compiled for the processor's widest vectors"
)]

use pulp::{Simd, WithSimd};

/// Filters that are summed up together.
pub const FILTERS: usize = 8;

/// Elements of the widest vectors.
pub const LANES: usize = 16;

/// `to[filter][p] = sum over k of weights[k][filter] * from[places[k] + p]`.
pub struct Outputs<'a> {
    pub from: &'a [f32],
    pub places: &'a [usize],
    pub weights: &'a [[f32; FILTERS]],
    /// [`FILTERS`] rows of so many elements, a multiple of [`LANES`].
    pub to: &'a mut [f32],
    pub length: usize,
}

impl WithSimd for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if S::F32_LANES == LANES {
            self.filters::<S, 8>(simd);
        } else {
            self.filters::<S, 4>(simd);
        }
    }
}

impl Outputs<'_> {
    /// `R` filters at a time.
    #[inline(always)]
    fn filters<S: Simd, const R: usize>(&mut self, simd: S) {
        let vectors = self.length / S::F32_LANES;
        let whole = vectors / 3 * 3;
        for first in (0..FILTERS).step_by(R) {
            for vector in (0..whole).step_by(3) {
                self.block::<S, R, 3>(simd, first, vector * S::F32_LANES);
            }
            match vectors - whole {
                0 => {}
                1 => self.block::<S, R, 1>(simd, first, whole * S::F32_LANES),
                _ => self.block::<S, R, 2>(simd, first, whole * S::F32_LANES),
            }
        }
    }

    /// `R` filters from the first on, `V` vectors from an element on.
    #[inline(always)]
    fn block<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, first: usize, element: usize) {
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        let from = &self.from[element..];
        for (&place, weights) in self.places.iter().zip(self.weights) {
            let (seen, _) = S::as_simd_f32s(&from[place..][..V * S::F32_LANES]);
            let weights = &weights[first..first + R];
            for r in 0..R {
                let weight = simd.splat_f32s(weights[r]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add_e_f32s(weight, seen[v], sums[r][v]);
                }
            }
        }
        for r in 0..R {
            let row = &mut self.to[(first + r) * self.length + element..][..V * S::F32_LANES];
            S::as_mut_simd_f32s(row).0.copy_from_slice(&sums[r]);
        }
    }
}

/// `sums[k][filter] += sum over images and p of seeds[image][filter][p] * from[image][places[k] + p]`, where a sum is kept
/// as the elements of a vector, to be added up at the end.
pub struct Gradients<'a> {
    /// From an image to the next there are so many elements.
    pub from: &'a [f32],
    pub image: usize,
    pub places: &'a [usize],
    /// Of each image [`FILTERS`] rows of so many elements, of which `length` count: a multiple of [`LANES`].
    pub seeds: &'a [&'a [f32]],
    pub row: usize,
    pub length: usize,
    pub sums: &'a mut [[[f32; LANES]; FILTERS]],
}

impl WithSimd for Gradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if S::F32_LANES == LANES {
            self.filters::<S, 8>(simd);
        } else {
            self.filters::<S, 4>(simd);
        }
    }
}

impl Gradients<'_> {
    /// `R` filters at a time.
    #[inline(always)]
    fn filters<S: Simd, const R: usize>(&mut self, simd: S) {
        let whole = self.places.len() / 3 * 3;
        for first in (0..FILTERS).step_by(R) {
            for at in (0..whole).step_by(3) {
                self.block::<S, R, 3>(simd, first, at);
            }
            for at in whole..self.places.len() {
                self.block::<S, R, 1>(simd, first, at);
            }
        }
    }

    /// `R` filters from the first on, `K` places from one on.
    #[inline(always)]
    fn block<S: Simd, const R: usize, const K: usize>(&mut self, simd: S, first: usize, at: usize) {
        let vectors = self.length / S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); R]; K];
        for k in 0..K {
            for r in 0..R {
                sums[k][r] = S::as_simd_f32s(&self.sums[at + k][first + r]).0[0];
            }
        }
        for (image, seeds) in self.seeds.iter().enumerate() {
            let image = &self.from[image * self.image..];
            let mut seen: [&[S::f32s]; K] = [&[]; K];
            for k in 0..K {
                seen[k] = &S::as_simd_f32s(&image[self.places[at + k]..][..self.length]).0[..vectors];
            }
            let mut rows: [&[S::f32s]; R] = [&[]; R];
            for r in 0..R {
                rows[r] = &S::as_simd_f32s(&seeds[(first + r) * self.row..][..self.length]).0[..vectors];
            }
            for vector in 0..vectors {
                for r in 0..R {
                    let seed = rows[r][vector];
                    for k in 0..K {
                        sums[k][r] = simd.mul_add_e_f32s(seed, seen[k][vector], sums[k][r]);
                    }
                }
            }
        }
        for k in 0..K {
            for r in 0..R {
                S::as_mut_simd_f32s(&mut self.sums[at + k][first + r]).0[0] = sums[k][r];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Scalar, Scalar256b, Scalar512b};

    use super::*;
    use crate::testing::numbers;

    const LENGTH: usize = 5 * LANES;
    const PLACES: [usize; 4] = [3, 0, 90, 41];

    fn outputs(simd: impl Simd) -> Vec<f32> {
        let (from, weights) = (numbers(200, 0), numbers(PLACES.len() * FILTERS, 1));
        let mut to = vec![f32::NAN; FILTERS * LENGTH];
        let (weights, _) = weights.as_chunks();
        Outputs { from: &from, places: &PLACES, weights, to: &mut to, length: LENGTH }.with_simd(simd);
        to
    }

    fn gradients(simd: impl Simd) -> Vec<f32> {
        let (from, seeds) = (numbers(400, 0), numbers(2 * FILTERS * (LENGTH + 1), 1));
        let seeds: Vec<&[f32]> = seeds.chunks(FILTERS * (LENGTH + 1)).collect();
        let mut sums = [[[0.0; LANES]; FILTERS]; PLACES.len()];
        sums[1][2][0] = 1.0;
        let row = LENGTH + 1;
        let sums_to = &mut sums;
        Gradients { from: &from, image: 200, places: &PLACES, seeds: &seeds, row, length: LENGTH, sums: sums_to }
            .with_simd(simd);
        sums.as_flattened().iter().map(|sums| sums.iter().sum()).collect()
    }

    #[test]
    fn vectors_of_every_width_give_what_plain_loops_give() {
        let close = |found: Vec<f32>, expected: Vec<f32>| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-4, "{found} rather than {expected}");
            }
        };
        let (from, weights) = (numbers(200, 0), numbers(PLACES.len() * FILTERS, 1));
        let output = |filter: usize, at: usize| -> f32 {
            PLACES.iter().enumerate().map(|(k, place)| weights[k * FILTERS + filter] * from[place + at]).sum()
        };
        let expected: Vec<f32> = (0..FILTERS * LENGTH).map(|at| output(at / LENGTH, at % LENGTH)).collect();
        for found in [outputs(Scalar::new()), outputs(Scalar256b), outputs(Scalar512b)] {
            close(found, expected.clone());
        }

        let (from, seeds) = (numbers(400, 0), numbers(2 * FILTERS * (LENGTH + 1), 1));
        let product = |place: usize, filter: usize, at: usize| {
            let (image, at) = (at / LENGTH, at % LENGTH);
            seeds[(image * FILTERS + filter) * (LENGTH + 1) + at] * from[image * 200 + PLACES[place] + at]
        };
        let sum = |place: usize, filter: usize| -> f32 { (0..2 * LENGTH).map(|at| product(place, filter, at)).sum() };
        let mut expected: Vec<f32> = (0..PLACES.len() * FILTERS).map(|at| sum(at / FILTERS, at % FILTERS)).collect();
        expected[FILTERS + 2] += 1.0;
        for found in [gradients(Scalar::new()), gradients(Scalar256b), gradients(Scalar512b)] {
            close(found, expected.clone());
        }
    }
}
