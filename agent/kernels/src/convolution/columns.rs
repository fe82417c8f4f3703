//! Convolutions as products with a matrix of columns: for each output position, the inputs that its kernel covers.

use std::ops::Range;
use std::sync::Mutex;

use super::{Convolution, Ending, Kernel2d, Planes, blocks, images_together};
use crate::product::{Into, Layout, Matrix, Sizes, product};
use crate::{InParallel, Scratch, alone};

/// Output positions that are worked on together.
const POSITIONS: usize = 1024;

/// Rows of a product that one thread computes at a time.
const ROWS: usize = 64;

/// Rows of a product of `rows` rows that one thread takes, and how many such parts there are.
fn parts(rows: usize) -> (usize, usize) {
    let part = ROWS.min(rows.div_ceil(2)).max(1);
    (part, rows.div_ceil(part))
}

/// `y = w columns(x)`, and the ending.
pub fn forward(
    convolution: &Convolution,
    (x, w, ending): (&[f32], &[f32], Ending<'_>),
    y: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { output, batch, .. } = *convolution;
    let (filters, taps) = (output.channels, convolution.taps());
    let together = images_together(POSITIONS, output.plane(), batch);
    let mut columns = scratch.take(taps * together * output.plane());
    let mut products = scratch.take(filters * together * output.plane());
    for images in blocks(batch, together) {
        let positions = images.len() * output.plane();
        convolution.columns(x, images.clone(), &mut columns, each);
        let left = |start| Matrix { elements: w, layout: Layout { start, row: taps, column: 1 } };
        let right = Matrix { elements: &columns, layout: Layout { start: 0, row: positions, column: 1 } };
        in_rows(filters, positions, taps, &mut products, Into::Replace, |row| left(row * taps), right, each);
        let y = &mut y[images.start * output.elements()..images.end * output.elements()];
        let planes: Vec<_> = y.chunks_mut(output.plane()).map(Mutex::new).collect();
        each(planes.len(), &|at| {
            let (image, filter) = (at / filters, at % filters);
            let from = &products[filter * positions + image * output.plane()..][..output.plane()];
            ending.end(filter, alone(&planes[at]).iter_mut().zip(from.iter().copied()));
        });
    }
    scratch.give_back(columns);
    scratch.give_back(products);
}

/// The gradient at `w`: `dy columns(x)'`, summed in the order of the images.
pub fn weight_gradient(
    convolution: &Convolution,
    (x, dy): (&[f32], &[f32]),
    dw: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { output, batch, .. } = *convolution;
    let (filters, taps) = (output.channels, convolution.taps());
    let together = images_together(POSITIONS, output.plane(), batch);
    let mut columns = scratch.take(taps * together * output.plane());
    let mut gradients = scratch.take(filters * together * output.plane());
    for images in blocks(batch, together) {
        let positions = images.len() * output.plane();
        convolution.columns(x, images.clone(), &mut columns, each);
        side_by_side(dy, output, images.clone(), &mut gradients, each);
        let left =
            |row| Matrix { elements: &gradients, layout: Layout { start: row * positions, row: positions, column: 1 } };
        let right = Matrix { elements: &columns, layout: Layout { start: 0, row: 1, column: positions } };
        let into = if images.start == 0 { Into::Replace } else { Into::Add };
        in_rows(filters, taps, positions, dw, into, left, right, each);
    }
    scratch.give_back(columns);
    scratch.give_back(gradients);
}

/// The gradient at `x`: `w' dy`, added up where columns overlap.
pub fn input_gradient(
    convolution: &Convolution,
    (dy, w): (&[f32], &[f32]),
    dx: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, kernel, batch, .. } = *convolution;
    let (filters, taps) = (output.channels, convolution.taps());
    let together = images_together(POSITIONS, output.plane(), batch);
    let mut columns = scratch.take(taps * together * output.plane());
    let mut gradients = scratch.take(filters * together * output.plane());
    for images in blocks(batch, together) {
        let positions = images.len() * output.plane();
        side_by_side(dy, output, images.clone(), &mut gradients, each);
        let left = |row| Matrix { elements: w, layout: Layout { start: row, row: 1, column: taps } };
        let right = Matrix { elements: &gradients, layout: Layout { start: 0, row: positions, column: 1 } };
        in_rows(taps, positions, filters, &mut columns, Into::Replace, left, right, each);
        let dx = &mut dx[images.start * input.elements()..images.end * input.elements()];
        let planes: Vec<_> = dx.chunks_mut(input.plane()).map(Mutex::new).collect();
        each(planes.len(), &|at| {
            let (image, channel) = (at / input.channels, at % input.channels);
            let mut plane = alone(&planes[at]);
            plane.fill(0.0);
            for tap in 0..kernel.taps() {
                let row = (channel * kernel.taps() + tap) * positions + image * output.plane();
                kernel.spread(tap, &columns[row..][..output.plane()], output, input, &mut plane);
            }
        });
    }
    scratch.give_back(columns);
    scratch.give_back(gradients);
}

/// A product, some of its rows at a time.
#[expect(clippy::too_many_arguments, reason = "a product has three sizes and three matrices")]
fn in_rows<'a>(
    rows: usize,
    columns: usize,
    inner: usize,
    to: &mut [f32],
    into: Into,
    left: impl Fn(usize) -> Matrix<'a> + Sync,
    right: Matrix<'_>,
    each: InParallel<'_>,
) {
    let (part, count) = parts(rows);
    let places: Vec<_> = to[..rows * columns].chunks_mut(part * columns).map(Mutex::new).collect();
    each(count, &|at| {
        let rows = part.min(rows - at * part);
        product(Sizes { rows, inner, columns }, left(at * part), right, &mut alone(&places[at]), into);
    })
}

/// The planes of each channel of a block of images, one behind the other.
fn side_by_side(dy: &[f32], planes: Planes, images: Range<usize>, to: &mut [f32], each: InParallel<'_>) {
    let places: Vec<_> = to.chunks_mut(images.len() * planes.plane()).take(planes.channels).map(Mutex::new).collect();
    each(planes.channels, &|channel| {
        let mut place = alone(&places[channel]);
        for (image, to) in images.clone().zip(place.chunks_exact_mut(planes.plane())) {
            to.copy_from_slice(&dy[image * planes.elements() + channel * planes.plane()..][..planes.plane()]);
        }
    })
}

impl Convolution {
    /// A row for each channel and tap, a column for each position of each image.
    fn columns(&self, x: &[f32], images: Range<usize>, to: &mut [f32], each: InParallel<'_>) {
        let Self { input, output, kernel, .. } = *self;
        let positions = images.len() * output.plane();
        let places: Vec<_> = to.chunks_mut(kernel.taps() * positions).take(input.channels).map(Mutex::new).collect();
        each(input.channels, &|channel| {
            let mut place = alone(&places[channel]);
            for (tap, row) in place.chunks_exact_mut(positions).enumerate() {
                for (image, to) in images.clone().zip(row.chunks_exact_mut(output.plane())) {
                    let plane = &x[image * input.elements() + channel * input.plane()..][..input.plane()];
                    kernel.cover(tap, plane, input, output, to);
                }
            }
        })
    }
}

impl Kernel2d {
    fn taps(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// The positions along an axis at which a tap hits the plane, and where it does for the first of them; none where it
    /// always lies in the pads.
    fn reach(&self, axis: usize, tap: usize, from: usize, to: usize) -> Option<(Range<usize>, usize)> {
        let (offset, pad, stride) = (tap * self.dilations[axis], self.pads[axis], self.strides[axis]);
        let first = pad.saturating_sub(offset).div_ceil(stride);
        let end = (from + pad).checked_sub(offset)?.div_ceil(stride).min(to);
        (first < end).then(|| (first..end, first * stride + offset - pad))
    }

    /// Rows and columns of the positions at which a tap hits the plane, with where it does for the first of them.
    fn reaches(&self, tap: usize, from: Planes, to: Planes) -> Option<[(Range<usize>, usize); 2]> {
        let rows = self.reach(0, tap / self.shape[1], from.height, to.height)?;
        Some([rows, self.reach(1, tap % self.shape[1], from.width, to.width)?])
    }

    /// What a tap sees at every output position of a plane.
    fn cover(&self, tap: usize, plane: &[f32], from: Planes, to: Planes, seen: &mut [f32]) {
        seen.fill(0.0);
        let Some([(rows, top), (columns, left)]) = self.reaches(tap, from, to) else { return };
        for (at, y) in rows.enumerate() {
            let row = &plane[(top + at * self.strides[0]) * from.width..][left..from.width];
            let seen = &mut seen[y * to.width..][columns.clone()];
            if self.strides[1] == 1 {
                seen.copy_from_slice(&row[..seen.len()]);
            } else {
                seen.iter_mut().zip(row.iter().step_by(self.strides[1])).for_each(|(to, from)| *to = *from);
            }
        }
    }

    /// Adds what a tap saw at every output position back to where it saw it.
    fn spread(&self, tap: usize, seen: &[f32], from: Planes, to: Planes, plane: &mut [f32]) {
        let Some([(rows, top), (columns, left)]) = self.reaches(tap, to, from) else { return };
        for (at, y) in rows.enumerate() {
            let row = &mut plane[(top + at * self.strides[0]) * to.width..][left..to.width];
            let seen = &seen[y * from.width..][columns.clone()];
            if self.strides[1] == 1 {
                row[..seen.len()].iter_mut().zip(seen).for_each(|(sum, number)| *sum += number);
            } else {
                row.iter_mut().step_by(self.strides[1]).zip(seen).for_each(|(sum, number)| *sum += number);
            }
        }
    }
}
