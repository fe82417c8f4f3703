//! Convolutions with kernels of 3x3 and strides of 1 by Winograd's F(2x2, 3x3) (Lavin and Gray, 2016): 16 products
//! where the plain way takes 36, and a quarter of the memory of its columns.

mod tiles;

use std::ops::Range;
use std::sync::Mutex;

use super::{Convolution, Flip, Kernel2d, Planes, blocks, images_together};
use crate::product::{Into, Layout, Matrix, Sizes, product};
use crate::{InParallel, Scratch, alone, vectorized};
use tiles::{Plane, Rows};

/// Numbers that a tile becomes.
const PLACES: usize = 16;

/// Tiles that are worked on together: enough for a product to be efficient, few enough for a cache.
const TILES: usize = 1024;

/// Elements between rows of tiles, and between products: their lengths are often powers of two, and what lies at one
/// place of many rows would share a set of a cache.
const GAP: usize = 16;

/// How the outputs are cut into tiles of 2x2, and how many images are worked on together.
#[derive(Debug, Clone, Copy)]
pub struct Tiling {
    down: usize,
    across: usize,
    images: usize,
}

impl Tiling {
    fn of(output: Planes, batch: usize) -> Self {
        let (down, across) = (output.height.div_ceil(2), output.width.div_ceil(2));
        Self { down, across, images: images_together(TILES, down * across, batch) }
    }

    /// Of one image.
    fn tiles(self) -> usize {
        self.down * self.across
    }
}

/// Whether this way computes the convolution, and is faster than the plain one.
pub fn suits(convolution: &Convolution) -> bool {
    let Convolution { kernel, input, output, .. } = convolution;
    let is_small_step = kernel.strides == [1, 1] && kernel.dilations == [1, 1] && kernel.shape == [3, 3];
    let pads = kernel.pads.iter().all(|&pad| pad <= 2);
    is_small_step && pads && input.channels.min(output.channels) >= 8 && output.height.min(output.width) >= 2
}

/// `y = x * w + bias`.
pub fn forward(
    convolution: &Convolution,
    (x, w, bias): (&[f32], &[f32], Option<&[f32]>),
    y: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, kernel, batch } = convolution;
    let weights = transformed(w, kernel, (output.channels, input.channels), Flip::No);
    let problem = Problem { batch: *batch, from: *input, to: *output, before: [kernel.pads[0], kernel.pads[1]] };
    problem.solve(x, &weights, bias, y, scratch, each)
}

/// The gradient at `x`: a convolution of `dy` with the kernels turned round and their channels swapped.
pub fn input_gradient(
    convolution: &Convolution,
    (dy, w): (&[f32], &[f32]),
    dx: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, kernel, batch } = convolution;
    let weights = transformed(w, kernel, (input.channels, output.channels), Flip::Yes);
    let before = [2 - kernel.pads[0], 2 - kernel.pads[1]];
    let problem = Problem { batch: *batch, from: *output, to: *input, before };
    problem.solve(dy, &weights, None, dx, scratch, each)
}

/// `G g G'` of every kernel: 16 matrices of filters x channels.
fn transformed(w: &[f32], kernel: &Kernel2d, (filters, channels): (usize, usize), flip: Flip) -> Vec<f32> {
    let plane = filters * channels;
    let mut transformed = vec![0.0; PLACES * plane];
    let column = |[a, b, c]: [f32; 3]| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    for filter in 0..filters {
        for channel in 0..channels {
            let at = kernel.position(filter, channel, (filters, channels), flip);
            let g = &w[at..at + 9];
            let tap = |tap: usize| if flip == Flip::Yes { g[8 - tap] } else { g[tap] };
            let columns = [0, 1, 2].map(|j| column([tap(j), tap(3 + j), tap(6 + j)]));
            for i in 0..4 {
                for (j, number) in column([columns[0][i], columns[1][i], columns[2][i]]).into_iter().enumerate() {
                    transformed[(4 * i + j) * plane + filter * channels + channel] = number;
                }
            }
        }
    }
    transformed
}

/// A convolution by weights that are transformed already.
struct Problem {
    batch: usize,
    from: Planes,
    to: Planes,
    /// Rows and columns of zeros before the planes of `from`.
    before: [usize; 2],
}

impl Problem {
    fn solve(
        &self,
        x: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        y: &mut [f32],
        scratch: &Scratch,
        each: InParallel<'_>,
    ) {
        let tiling = Tiling::of(self.to, self.batch);
        let (channels, filters) = (self.from.channels, self.to.channels);
        let columns_max = tiling.images * tiling.tiles();
        let mut inputs = scratch.take(PLACES * channels * (columns_max + GAP));
        let mut products = scratch.take(PLACES * (filters * columns_max + GAP));
        for images in blocks(self.batch, tiling.images) {
            let columns = images.len() * tiling.tiles();
            let source = Source { planes: self.from, before: self.before, tiling, to_tiles: tiles::of_inputs };
            source.transform(x, images.clone(), &mut inputs, each);
            let parts: Vec<_> = products.chunks_mut(filters * columns + GAP).take(PLACES).map(Mutex::new).collect();
            each(PLACES, &|place| {
                let layout = Layout { start: place * filters * channels, row: channels, column: 1 };
                let left = Matrix { elements: weights, layout };
                let right = Matrix { elements: &inputs, layout: row_of_tiles(place, columns) };
                let sizes = Sizes { rows: filters, inner: channels, columns };
                product(sizes, left, right, &mut alone(&parts[place]), Into::Replace);
            });
            drop(parts);
            let block = &mut y[images.start * self.to.elements()..images.end * self.to.elements()];
            self.gather(&products, columns, bias, block, each);
        }
        scratch.give_back(inputs);
        scratch.give_back(products);
    }

    /// From products to the planes of a block of images.
    fn gather(&self, products: &[f32], columns: usize, bias: Option<&[f32]>, y: &mut [f32], each: InParallel<'_>) {
        let tiling = Tiling::of(self.to, self.batch);
        let (filters, size) = (self.to.channels, (self.to.height, self.to.width));
        let planes: Vec<_> = y.chunks_mut(self.to.plane()).map(Mutex::new).collect();
        each(filters, &|filter| {
            let rows = std::array::from_fn(|place| {
                &products[place * (filters * columns + GAP) + filter * columns..][..columns]
            });
            let bias = bias.map_or(0.0, |bias| bias[filter]);
            let mut scratch = Vec::new();
            for (image, plane) in planes.iter().skip(filter).step_by(filters).enumerate() {
                let mut plane = alone(plane);
                vectorized(
                    #[inline(always)]
                    || {
                        tiles::to_outputs(&rows, image * tiling.tiles(), bias, tiling, &mut scratch, &mut plane, size);
                    },
                );
            }
        })
    }
}

/// The row of every tile's number at a place, among the sixteen of each channel.
fn row_of_tiles(place: usize, columns: usize) -> Layout {
    Layout { start: place * (columns + GAP), row: PLACES * (columns + GAP), column: 1 }
}

/// Planes on their way to tiles: sixteen rows for each channel.
struct Source<T> {
    planes: Planes,
    before: [usize; 2],
    tiling: Tiling,
    /// A type of its own for each transform, so that it is compiled for the processor's widest vectors.
    to_tiles: T,
}

impl<T: Fn(&[f32], Plane, Tiling, &mut Vec<f32>, &mut [f32], Rows) + Sync> Source<T> {
    fn transform(&self, x: &[f32], images: Range<usize>, to: &mut [f32], each: InParallel<'_>) {
        let Self { planes, before: [top, left], tiling, to_tiles } = self;
        let columns = images.len() * tiling.tiles();
        let plane = Plane { width: planes.width, top: *top, left: *left };
        let parts: Vec<_> = to.chunks_mut(PLACES * (columns + GAP)).take(planes.channels).map(Mutex::new).collect();
        each(planes.channels, &|channel| {
            let mut part = alone(&parts[channel]);
            let mut scratch = Vec::new();
            for (position, image) in images.clone().enumerate() {
                let image = &x[image * planes.elements() + channel * planes.plane()..][..planes.plane()];
                let rows = Rows { length: columns + GAP, first: position * tiling.tiles() };
                vectorized(
                    #[inline(always)]
                    || to_tiles(image, plane, *tiling, &mut scratch, &mut part, rows),
                );
            }
        })
    }
}

/// The gradient at `w`: `G' (sum of (A dy A') (B' x B)) G`, summed in the order of the images.
pub fn weight_gradient(
    convolution: &Convolution,
    (x, dy): (&[f32], &[f32]),
    dw: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, kernel, batch } = convolution;
    let tiling = Tiling::of(*output, *batch);
    let (channels, filters) = (input.channels, output.channels);
    let block = PLACES * (tiling.images * tiling.tiles() + GAP);
    let (mut inputs, mut gradients) = (scratch.take(channels * block), scratch.take(filters * block));
    let mut sums = scratch.take(PLACES * filters * channels);
    let before = [kernel.pads[0], kernel.pads[1]];
    let source = Source { planes: *input, before, tiling, to_tiles: tiles::of_inputs };
    let seed = Source { planes: *output, before: [0, 0], tiling, to_tiles: tiles::of_gradients };
    for images in blocks(*batch, tiling.images) {
        let columns = images.len() * tiling.tiles();
        source.transform(x, images.clone(), &mut inputs, each);
        seed.transform(dy, images.clone(), &mut gradients, each);
        let parts: Vec<_> = sums.chunks_mut(filters * channels).take(PLACES).map(Mutex::new).collect();
        each(PLACES, &|place| {
            let Layout { start, row, column } = row_of_tiles(place, columns);
            let left = Matrix { elements: &gradients, layout: Layout { start, row, column } };
            let right = Matrix { elements: &inputs, layout: Layout { start, row: column, column: row } };
            let sizes = Sizes { rows: filters, inner: columns, columns: channels };
            let into = if images.start == 0 { Into::Replace } else { Into::Add };
            product(sizes, left, right, &mut alone(&parts[place]), into);
        });
    }
    let column = |[a, b, c, d]: [f32; 4]| [a + 0.5 * (b + c), 0.5 * (b - c), 0.5 * (b + c) + d];
    for (at, taps) in dw.chunks_exact_mut(9).enumerate() {
        let sum = |i: usize, j: usize| sums[(4 * i + j) * filters * channels + at];
        let columns = [0, 1, 2, 3].map(|j| column([sum(0, j), sum(1, j), sum(2, j), sum(3, j)]));
        for (i, taps) in taps.chunks_exact_mut(3).enumerate() {
            taps.copy_from_slice(&column([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]));
        }
    }
    for buffer in [inputs, gradients, sums] {
        scratch.give_back(buffer);
    }
}
