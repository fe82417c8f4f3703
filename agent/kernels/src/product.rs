//! Products of matrices that lie in slices.
#![expect(unsafe_code, reason = "the library takes pointers; the bounds are checked before it is called")]

use gemm::Parallelism;

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
    let Sizes { rows, inner, columns } = sizes;
    if rows == 0 || columns == 0 {
        return;
    }
    check(left, rows, inner);
    check(right, inner, columns);
    assert!(to.len() >= rows * columns, "the product has {rows} x {columns} elements, its place {}", to.len());
    let stride = |steps: usize| isize::try_from(steps).expect("a stride within a slice fits in an isize");
    // SAFETY: every element of the three matrices was checked to lie in its slice, and `to` is borrowed alone.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            to.as_mut_ptr(),
            1,
            stride(columns),
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
