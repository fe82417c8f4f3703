//! Products of matrices that lie in slices.
#![expect(unsafe_code, reason = "the library takes pointers; the bounds are checked before it is called")]

use std::sync::Mutex;

use gemm::Parallelism;
use pulp::{Arch, Simd, WithSimd};

use crate::{InParallel, alone};

/// Where a matrix lies in a slice: element (i, j) at `start + i * row + j * column`.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub start: usize,
    pub row: usize,
    pub column: usize,
}

/// A matrix that is read.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub elements: &'a [f32],
    pub layout: Layout,
}

/// Rows of the left, what is summed over, and columns of the right matrix.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
}

/// Whether a product replaces what is there or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    Replace,
    Add,
}

/// `to = left right`, or `to += left right`, on the calling thread; `to` is dense, row after row.
///
/// # Panics
/// A matrix reaches beyond its slice: a bug of the caller's.
pub fn product(sizes: Sizes, left: Matrix<'_>, right: Matrix<'_>, to: &mut [f32], into: Into) {
    check(left, sizes.rows, sizes.inner);
    check(right, sizes.inner, sizes.columns);
    check_product(sizes, to);
    // SAFETY: every element of the three matrices was checked to lie in its slice, and `to` is borrowed alone.
    unsafe { multiply(sizes, left, right, (to.as_mut_ptr(), sizes.columns), into) }
}

/// A product of two dense matrices, either of which may lie turned: column after column.
#[derive(Debug, Clone, Copy)]
pub struct MatrixProduct {
    pub rows: usize,
    /// What is summed over.
    pub inner: usize,
    pub columns: usize,
    pub is_left_turned: bool,
    pub is_right_turned: bool,
}

/// Rows or columns of a part at least: below 65 of both the library would sum in another order.
const OF_PART: usize = 96;

/// Multiplications that take longer than to call another thread.
const ALONE: usize = 1 << 18;

impl MatrixProduct {
    /// Whether the processor has vectors of sixteen elements: there, large products were measured to take less time than
    /// ONNX Runtime's.
    pub fn is_fast() -> bool {
        struct Lanes;

        impl WithSimd for Lanes {
            type Output = usize;

            fn with_simd<S: Simd>(self, _: S) -> usize {
                S::F32_LANES
            }
        }

        Arch::new().dispatch(Lanes) >= 16
    }

    /// `to = left right + bias`, with a bias for each column, by so many threads. However many there are, sums are taken in
    /// one order.
    ///
    /// # Panics
    /// A slice has not as many elements as its matrix.
    pub fn compute(
        &self,
        (left, right, bias): (&[f32], &[f32], Option<&[f32]>),
        to: &mut [f32],
        threads: usize,
        each: InParallel<'_>,
    ) {
        let Self { rows, inner, columns, .. } = *self;
        if to.is_empty() {
            return;
        }
        if let Some(bias) = bias {
            let blocks: Vec<_> = to.chunks_mut(columns * rows.div_ceil(threads)).map(Mutex::new).collect();
            each(blocks.len(), &|at| {
                alone(&blocks[at]).chunks_exact_mut(columns).for_each(|row| row.copy_from_slice(bias));
            });
        }
        let into = if bias.is_some() { Into::Add } else { Into::Replace };
        let lying = |elements, is_turned: bool, rows: usize, columns: usize| {
            let (row, column) = if is_turned { (1, rows) } else { (columns, 1) };
            Matrix { elements, layout: Layout { start: 0, row, column } }
        };
        let left = lying(left, self.is_left_turned, rows, inner);
        let right = lying(right, self.is_right_turned, inner, columns);
        check(left, rows, inner);
        check(right, inner, columns);
        check_product(Sizes { rows, inner, columns }, to);
        let longest = rows.max(columns);
        let is_long = threads > 1 && rows * columns * inner > ALONE;
        let parts = if is_long { (longest / OF_PART).clamp(1, 2 * threads) } else { 1 };
        let to = Parted(to.as_mut_ptr());
        each(parts, &|part| {
            let (first, end) = (longest * part / parts, longest * (part + 1) / parts);
            let (mut left, mut right, mut sizes) = (left, right, Sizes { rows, inner, columns });
            let place = if rows == longest {
                left.layout.start = first * left.layout.row;
                sizes.rows = end - first;
                first * columns
            } else {
                right.layout.start = first * right.layout.column;
                sizes.columns = end - first;
                first
            };
            // SAFETY: the three matrices were checked to lie in their slices, of which these are parts. `to` is borrowed
            // alone, and no two parts write to the same rows and columns of it.
            unsafe { multiply(sizes, left, right, (to.from(place), columns), into) }
        });
    }
}

/// Where the parts of a product are written to.
struct Parted(*mut f32);

// SAFETY: who uses it from several threads writes to different elements.
unsafe impl Sync for Parted {}

impl Parted {
    /// # Safety
    /// It lies within the product.
    unsafe fn from(&self, place: usize) -> *mut f32 {
        // SAFETY: as the caller promises.
        unsafe { self.0.add(place) }
    }
}

/// # Safety
/// The matrices lie in their slices, and from the pointer on there are so many rows and columns, with so many elements from
/// one row to the next, that nobody else reads or writes.
unsafe fn multiply(sizes: Sizes, left: Matrix<'_>, right: Matrix<'_>, (to, row): (*mut f32, usize), into: Into) {
    let Sizes { rows, inner, columns } = sizes;
    if rows == 0 || columns == 0 {
        return;
    }
    let stride = |steps: usize| isize::try_from(steps).expect("a stride within a slice fits in an isize");
    // SAFETY: as the caller promises.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            to,
            1,
            stride(row),
            into == Into::Add,
            left.elements.as_ptr().add(left.layout.start),
            stride(left.layout.column),
            stride(left.layout.row),
            right.elements.as_ptr().add(right.layout.start),
            stride(right.layout.column),
            stride(right.layout.row),
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

fn check(matrix: Matrix<'_>, rows: usize, columns: usize) {
    let Layout { start, row, column } = matrix.layout;
    let end = start + rows.saturating_sub(1) * row + columns.saturating_sub(1) * column;
    let is_empty = rows == 0 || columns == 0;
    assert!(is_empty || end < matrix.elements.len(), "a matrix ends at {end} of {}", matrix.elements.len());
}

fn check_product(Sizes { rows, columns, .. }: Sizes, to: &[f32]) {
    assert!(to.len() >= rows * columns, "the product has {rows} x {columns} elements, its place {}", to.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_turn, numbers};

    #[test]
    fn products_are_those_of_plain_loops_and_the_same_for_any_number_of_threads() {
        for (rows, inner, columns) in
            [(3, 5, 4), (1, 70, 9), (200, 700, 33), (40, 1030, 300), (300, 64, 320), (7, 0, 3)]
        {
            for turned in [[false, false], [true, false], [false, true], [true, true]] {
                let [is_left_turned, is_right_turned] = turned;
                let form = MatrixProduct { rows, inner, columns, is_left_turned, is_right_turned };
                let (left, right) = (numbers(rows * inner, 0), numbers(inner * columns, 1));
                let bias = numbers(columns, 2);
                let at = |is_turned: bool, row: usize, column: usize, rows: usize, columns: usize| {
                    if is_turned { column * rows + row } else { row * columns + column }
                };
                let sum = |place: usize| -> f64 {
                    let (row, column) = (place / columns, place % columns);
                    let products = (0..inner).map(|k| {
                        let left = left[at(is_left_turned, row, k, rows, inner)];
                        f64::from(left) * f64::from(right[at(is_right_turned, k, column, inner, columns)])
                    });
                    products.sum()
                };
                let results = [1, 2, 3].map(|threads| {
                    let mut to = [vec![f32::NAN; rows * columns], vec![f32::NAN; rows * columns]];
                    form.compute((&left, &right, None), &mut to[0], threads, &in_turn);
                    form.compute((&left, &right, Some(&bias)), &mut to[1], threads, &in_turn);
                    to
                });
                assert!(results[0] == results[1] && results[1] == results[2], "{form:?}: the number of threads shows");
                for (place, (found, biased)) in results[0][0].iter().zip(&results[0][1]).enumerate() {
                    let expected = sum(place);
                    assert!((f64::from(*found) - expected).abs() < 1e-4, "{form:?}: {found}, not {expected}");
                    let expected = expected + f64::from(bias[place % columns]);
                    assert!((f64::from(*biased) - expected).abs() < 1e-4, "{form:?}: {biased}, not {expected}");
                }
            }
        }
    }
}
