//! The innermost loops: sums of products of slices that begin at many places, as many of them at a time as there are
//! registers.
#![expect(
    clippy::needless_range_loop,
    reason = "what is not inlined is not compiled for the processor's widest vectors"
)]

use pulp::{Simd, WithSimd};

/// Most filters that are summed up together.
pub const FILTERS: usize = 8;

/// Elements of the widest vectors.
pub const LANES: usize = 16;

/// `to[filter][p] = sum over k of weights[k][filter] * from[places[k] + p]`.
pub struct Outputs<'a> {
    pub from: &'a [f32],
    pub places: &'a [usize],
    /// 1, 2, 4 or [`FILTERS`].
    pub filters: usize,
    /// For each place those of all filters.
    pub weights: &'a [f32],
    /// For each filter so many elements, a multiple of [`LANES`].
    pub to: &'a mut [f32],
    pub length: usize,
}

impl WithSimd for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match self.filters {
            1 => self.rows::<S, 1, 8>(simd, 0),
            2 => self.rows::<S, 2, 4>(simd, 0),
            4 => self.rows::<S, 4, 3>(simd, 0),
            _ if S::F32_LANES == LANES => self.rows::<S, 8, 3>(simd, 0),
            // There are half as many registers.
            _ => {
                self.rows::<S, 4, 3>(simd, 0);
                self.rows::<S, 4, 3>(simd, 4);
            }
        }
    }
}

impl Outputs<'_> {
    /// `R` filters from the first on, `V` vectors of them at a time.
    #[inline(always)]
    fn rows<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, first: usize) {
        let vectors = self.length / S::F32_LANES;
        let mut vector = 0;
        while vector + V <= vectors {
            self.block::<S, R, V>(simd, first, vector * S::F32_LANES);
            vector += V;
        }
        while vector + 2 <= vectors {
            self.block::<S, R, 2>(simd, first, vector * S::F32_LANES);
            vector += 2;
        }
        if vector < vectors {
            self.block::<S, R, 1>(simd, first, vector * S::F32_LANES);
        }
    }

    /// `R` filters from the first on, `V` vectors from an element on.
    #[inline(always)]
    fn block<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, first: usize, element: usize) {
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        let from = &self.from[element..];
        for (&place, weights) in self.places.iter().zip(self.weights.chunks_exact(self.filters)) {
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
    /// 1, 2, 4 or [`FILTERS`].
    pub filters: usize,
    /// Of each image a row for each filter, of so many elements, of which `length` count: a multiple of [`LANES`].
    pub seeds: &'a [&'a [f32]],
    pub row: usize,
    pub length: usize,
    /// For each place those of all filters.
    pub sums: &'a mut [[f32; LANES]],
}

impl WithSimd for Gradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match self.filters {
            1 => self.rows::<S, 1, 6>(simd, 0),
            2 => self.rows::<S, 2, 3>(simd, 0),
            4 => self.rows::<S, 4, 3>(simd, 0),
            _ if S::F32_LANES == LANES => self.rows::<S, 8, 3>(simd, 0),
            // There are half as many registers.
            _ => {
                self.rows::<S, 4, 3>(simd, 0);
                self.rows::<S, 4, 3>(simd, 4);
            }
        }
    }
}

impl Gradients<'_> {
    /// `R` filters from the first on, `K` places at a time.
    #[inline(always)]
    fn rows<S: Simd, const R: usize, const K: usize>(&mut self, simd: S, first: usize) {
        let whole = self.places.len() / K * K;
        for at in (0..whole).step_by(K) {
            self.block::<S, R, K>(simd, first, at);
        }
        for at in whole..self.places.len() {
            self.block::<S, R, 1>(simd, first, at);
        }
    }

    /// `R` filters from the first on, `K` places from one on.
    #[inline(always)]
    fn block<S: Simd, const R: usize, const K: usize>(&mut self, simd: S, first: usize, at: usize) {
        let vectors = self.length / S::F32_LANES;
        let place = |k: usize, r: usize| (at + k) * self.filters + first + r;
        let mut sums = [[simd.splat_f32s(0.0); R]; K];
        for k in 0..K {
            for r in 0..R {
                sums[k][r] = S::as_simd_f32s(&self.sums[place(k, r)]).0[0];
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
                S::as_mut_simd_f32s(&mut self.sums[place(k, r)]).0[0] = sums[k][r];
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
    const PLACES: [usize; 7] = [3, 0, 90, 41, 1, 2, 17];

    fn assert_close(found: &[f32], expected: &[f32], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{what}: {found} rather than {expected}");
        }
    }

    fn outputs(simd: impl Simd, filters: usize) -> Vec<f32> {
        let (from, weights) = (numbers(200, 0), numbers(PLACES.len() * filters, 1));
        let mut to = vec![f32::NAN; filters * LENGTH];
        Outputs { from: &from, places: &PLACES, filters, weights: &weights, to: &mut to, length: LENGTH }
            .with_simd(simd);
        to
    }

    #[test]
    fn outputs_of_every_width_of_vectors_are_those_of_plain_loops() {
        for filters in [1, 2, 4, 8] {
            let (from, weights) = (numbers(200, 0), numbers(PLACES.len() * filters, 1));
            let output = |filter: usize, at: usize| -> f32 {
                PLACES.iter().enumerate().map(|(k, place)| weights[k * filters + filter] * from[place + at]).sum()
            };
            let expected: Vec<f32> = (0..filters * LENGTH).map(|at| output(at / LENGTH, at % LENGTH)).collect();
            assert_close(&outputs(Scalar::new(), filters), &expected, "1");
            assert_close(&outputs(Scalar256b, filters), &expected, "8");
            assert_close(&outputs(Scalar512b, filters), &expected, "16");
        }
    }

    const ROW: usize = LENGTH + 1;

    fn gradients(simd: impl Simd, filters: usize) -> Vec<f32> {
        let (from, seeds) = (numbers(400, 0), numbers(2 * filters * ROW, 1));
        let seeds: Vec<&[f32]> = seeds.chunks(filters * ROW).collect();
        let mut sums = vec![[0.0; LANES]; PLACES.len() * filters];
        sums[3][0] = 1.0;
        let (places, sums_to) = (&PLACES, &mut sums);
        Gradients { from: &from, image: 200, places, filters, seeds: &seeds, row: ROW, length: LENGTH, sums: sums_to }
            .with_simd(simd);
        sums.iter().map(|sums| sums.iter().sum()).collect()
    }

    #[test]
    fn gradients_of_every_width_of_vectors_are_those_of_plain_loops() {
        for filters in [1, 2, 4, 8] {
            let (from, seeds) = (numbers(400, 0), numbers(2 * filters * ROW, 1));
            let product = |place: usize, filter: usize, at: usize| {
                let (image, at) = (at / LENGTH, at % LENGTH);
                seeds[(image * filters + filter) * ROW + at] * from[image * 200 + PLACES[place] + at]
            };
            let sum =
                |place: usize, filter: usize| -> f32 { (0..2 * LENGTH).map(|at| product(place, filter, at)).sum() };
            let mut expected: Vec<f32> =
                (0..PLACES.len() * filters).map(|at| sum(at / filters, at % filters)).collect();
            expected[3] += 1.0;
            assert_close(&gradients(Scalar::new(), filters), &expected, "1");
            assert_close(&gradients(Scalar256b, filters), &expected, "8");
            assert_close(&gradients(Scalar512b, filters), &expected, "16");
        }
    }
}
