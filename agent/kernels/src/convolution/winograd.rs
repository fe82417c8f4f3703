//! Convolutions with kernels of 3x3 and strides of 1 by Winograd's ways (Lavin and Gray, 2016): a quarter to a half of
//! the products of the plain way, and less memory than its columns.

mod scheme;
mod tiles;

use std::array::from_fn;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Mutex;

use super::{Convolution, Ending, Flip, Kernel2d, Planes, blocks, images_together};
use crate::product::{Into, Layout, Matrix, Sizes, product};
use crate::{InParallel, Scratch, alone, vectorized};
use scheme::{Lanes, Large, Scheme, Small};
use tiles::{Along, Images, Plane, along};

/// Numbers that the tiles of a channel become which are worked on together: enough for a product to be efficient, few
/// enough for a cache.
const NUMBERS: usize = 8192;

/// Elements between rows of tiles, and between products: their lengths are often powers of two, and what lies at one
/// place of many rows would share a set of a cache.
const GAP: usize = 16;

/// How the outputs are cut into tiles, and how many images are worked on together.
#[derive(Debug, Clone, Copy)]
pub struct Tiling {
    down: usize,
    across: usize,
    images: usize,
}

impl Tiling {
    /// Tiles of `side` x `side` outputs.
    fn of(output: Planes, batch: usize, side: usize) -> Self {
        let (down, across) = (output.height.div_ceil(side), output.width.div_ceil(side));
        let together = NUMBERS / (side + 2).pow(2);
        Self { down, across, images: images_together(together, down * across, batch) }
    }

    /// Tiles in a row of so many images side by side: between two there is one that belongs to none.
    fn along(self, images: usize) -> usize {
        images * (self.across + 1)
    }

    /// Of so many images.
    fn tiles(self, images: usize) -> usize {
        self.down * self.along(images)
    }
}

/// Whether this way computes the convolution.
pub fn suits(Convolution { kernel, groups, .. }: &Convolution) -> bool {
    let is_small_step = kernel.strides == [1, 1] && kernel.dilations == [1, 1] && kernel.shape == [3, 3];
    *groups == 1 && is_small_step && kernel.pads.iter().all(|&pad| pad <= 2)
}

/// Whether the large tiles are faster: they take clearly fewer products, with what hangs over and lies between planes.
fn is_for_large(output: Planes) -> bool {
    let products = |side: usize| Tiling::of(output, 1, side).tiles(1) * (side + 2).pow(2);
    100 * products(4) < 64 * products(2)
}

/// `y = x * w`, and the ending.
pub fn forward(
    convolution: &Convolution,
    operands: (&[f32], &[f32], Ending<'_>),
    y: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    if is_for_large(convolution.output) {
        forward_by::<Large, 4, 6>(convolution, operands, y, scratch, each);
    } else {
        forward_by::<Small, 2, 4>(convolution, operands, y, scratch, each);
    }
}

fn forward_by<S: Scheme<M, T>, const M: usize, const T: usize>(
    convolution: &Convolution,
    (x, w, ending): (&[f32], &[f32], Ending<'_>),
    y: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, kernel, batch, .. } = convolution;
    let weights = transformed::<S, M, T>(w, kernel, (output.channels, input.channels), Flip::No);
    let problem = Problem { batch: *batch, from: *input, to: *output, before: [kernel.pads[0], kernel.pads[1]] };
    problem.solve::<S, M, T>(x, &weights, ending, y, scratch, each);
}

/// The gradient at `x`: a convolution of `dy` with the kernels turned round and their channels swapped.
pub fn input_gradient(
    convolution: &Convolution,
    operands: (&[f32], &[f32]),
    dx: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    if is_for_large(convolution.input) {
        input_gradient_by::<Large, 4, 6>(convolution, operands, dx, scratch, each);
    } else {
        input_gradient_by::<Small, 2, 4>(convolution, operands, dx, scratch, each);
    }
}

fn input_gradient_by<S: Scheme<M, T>, const M: usize, const T: usize>(
    convolution: &Convolution,
    (dy, w): (&[f32], &[f32]),
    dx: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, kernel, batch, .. } = convolution;
    let weights = transformed::<S, M, T>(w, kernel, (input.channels, output.channels), Flip::Yes);
    let before = [2 - kernel.pads[0], 2 - kernel.pads[1]];
    let problem = Problem { batch: *batch, from: *output, to: *input, before };
    problem.solve::<S, M, T>(dy, &weights, Ending::default(), dx, scratch, each);
}

/// `G g G'` of every kernel: `T` x `T` matrices of filters x channels.
fn transformed<S: Scheme<M, T>, const M: usize, const T: usize>(
    w: &[f32],
    kernel: &Kernel2d,
    sizes: (usize, usize),
    flip: Flip,
) -> Vec<f32> {
    let (filters, channels) = sizes;
    let mut to = vec![0.0; T * T * filters * channels];
    vectorized(
        #[inline(always)]
        || {
            for filter in 0..filters {
                let position = |channel| kernel.position(filter, channel, sizes, flip);
                let kernels =
                    OfKernels::<S, _, M, T> { scheme: PhantomData, w, position, flip, to: &mut to, filter, sizes };
                along(channels, &mut { kernels });
            }
        },
    );
    to
}

/// `G g G'` of one filter's kernels.
struct OfKernels<'a, S, P, const M: usize, const T: usize> {
    scheme: PhantomData<S>,
    w: &'a [f32],
    /// Where a channel's kernel begins.
    position: P,
    flip: Flip,
    to: &'a mut [f32],
    filter: usize,
    sizes: (usize, usize),
}

impl<S: Scheme<M, T>, P: Fn(usize) -> usize, const M: usize, const T: usize> Along for OfKernels<'_, S, P, M, T> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let kernels: [&[f32]; N] = from_fn(|at| &self.w[(self.position)(first + at)..][..9]);
        let tap = |tap: usize| if self.flip == Flip::Yes { 8 - tap } else { tap };
        let lanes = |at: usize| Lanes::<N>(kernels.map(|kernel| kernel[tap(at)]));
        let columns = [0, 1, 2].map(|j| S::of_weights([lanes(j), lanes(3 + j), lanes(6 + j)]));
        let (filters, channels) = self.sizes;
        for i in 0..T {
            let row = S::of_weights(columns.map(|column| column[i]));
            for (j, Lanes(numbers)) in row.into_iter().enumerate() {
                let at = ((T * i + j) * filters + self.filter) * channels + first;
                self.to[at..at + N].copy_from_slice(&numbers);
            }
        }
    }
}

/// `G' s G`: the kernels' gradients from their sums, of which `plane` numbers belong to each place.
struct ToKernels<'a, S, const M: usize, const T: usize> {
    scheme: PhantomData<S>,
    sums: &'a [f32],
    plane: usize,
    dw: &'a mut [f32],
}

impl<S: Scheme<M, T>, const M: usize, const T: usize> Along for ToKernels<'_, S, M, T> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let sum = |place: usize| {
            let numbers = &self.sums[place * self.plane + first..][..N];
            Lanes::<N>(numbers.try_into().expect("the range has so many elements"))
        };
        let columns: [[Lanes<N>; 3]; T] = from_fn(|j| S::to_weights(from_fn(|i| sum(T * i + j))));
        let kernels = &mut self.dw[9 * first..][..9 * N];
        for i in 0..3 {
            for (j, Lanes(numbers)) in S::to_weights(columns.map(|column| column[i])).into_iter().enumerate() {
                for (kernel, number) in kernels.as_chunks_mut::<9>().0.iter_mut().zip(numbers) {
                    kernel[3 * i + j] = number;
                }
            }
        }
    }
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
    fn solve<S: Scheme<M, T>, const M: usize, const T: usize>(
        &self,
        x: &[f32],
        weights: &[f32],
        ending: Ending<'_>,
        y: &mut [f32],
        scratch: &Scratch,
        each: InParallel<'_>,
    ) {
        let tiling = Tiling::of(self.to, self.batch, M);
        let places = T * T;
        let (channels, filters) = (self.from.channels, self.to.channels);
        let columns_max = tiling.tiles(tiling.images);
        let mut inputs = scratch.take(places * channels * (columns_max + GAP));
        let mut products = scratch.take(places * (filters * columns_max + GAP));
        for images in blocks(self.batch, tiling.images) {
            let columns = tiling.tiles(images.len());
            let source = Source {
                planes: self.from,
                before: self.before,
                tiling,
                places,
                to_tiles: tiles::of_inputs::<S, M, T>,
            };
            source.transform(x, images.clone(), &mut inputs, each);
            let parts: Vec<_> = products.chunks_mut(filters * columns + GAP).take(places).map(Mutex::new).collect();
            each(places, &|place| {
                let layout = Layout { start: place * filters * channels, row: channels, column: 1 };
                let left = Matrix { elements: weights, layout };
                let right = Matrix { elements: &inputs, layout: row_of_tiles(place, columns, places) };
                let sizes = Sizes { rows: filters, inner: channels, columns };
                product(sizes, left, right, &mut alone(&parts[place]), Into::Replace);
            });
            drop(parts);
            let block = &mut y[images.start * self.to.elements()..images.end * self.to.elements()];
            self.gather::<S, M, T>(&products, columns, ending, block, each);
        }
        scratch.give_back(inputs);
        scratch.give_back(products);
    }

    /// From products to the planes of a block of images.
    fn gather<S: Scheme<M, T>, const M: usize, const T: usize>(
        &self,
        products: &[f32],
        columns: usize,
        ending: Ending<'_>,
        y: &mut [f32],
        each: InParallel<'_>,
    ) {
        let tiling = Tiling::of(self.to, self.batch, M);
        let (filters, size) = (self.to.channels, (self.to.height, self.to.width));
        let planes: Vec<_> = y.chunks_mut(self.to.plane()).map(Mutex::new).collect();
        each(filters, &|filter| {
            let row = |place: usize| &products[place * (filters * columns + GAP) + filter * columns..][..columns];
            let ending = ending.of(filter);
            let mut own: Vec<_> = planes.iter().skip(filter).step_by(filters).map(alone).collect();
            let mut scratch = Vec::new();
            vectorized(
                #[inline(always)]
                || tiles::to_outputs::<S, M, T>(row, ending, tiling, &mut scratch, &mut own, size),
            );
        })
    }
}

/// The row of every tile's number at a place, among the `places` of each channel.
fn row_of_tiles(place: usize, columns: usize, places: usize) -> Layout {
    Layout { start: place * (columns + GAP), row: places * (columns + GAP), column: 1 }
}

/// Planes on their way to tiles: `places` rows for each channel.
struct Source<F> {
    planes: Planes,
    before: [usize; 2],
    tiling: Tiling,
    /// Numbers that a tile becomes.
    places: usize,
    /// A type of its own for each transform, so that it is compiled for the processor's widest vectors.
    to_tiles: F,
}

impl<F: Fn(Images<'_>, Plane, Tiling, &mut Vec<f32>, &mut [f32], usize) + Sync> Source<F> {
    fn transform(&self, x: &[f32], images: Range<usize>, to: &mut [f32], each: InParallel<'_>) {
        let Self { planes, before: [top, left], tiling, places, to_tiles } = self;
        let length = tiling.tiles(images.len()) + GAP;
        let plane = Plane { width: planes.width, top: *top, left: *left };
        let parts: Vec<_> = to.chunks_mut(places * length).take(planes.channels).map(Mutex::new).collect();
        each(planes.channels, &|channel| {
            let numbers = &x[images.start * planes.elements() + channel * planes.plane()..];
            let images = Images { numbers, plane: planes.plane(), step: planes.elements(), count: images.len() };
            let (mut part, mut scratch) = (alone(&parts[channel]), Vec::new());
            vectorized(
                #[inline(always)]
                || to_tiles(images, plane, *tiling, &mut scratch, &mut part, length),
            );
        })
    }
}

/// The gradient at `w`: `G' (sum of (A dy A') (B' x B)) G`, summed in the order of the images.
pub fn weight_gradient(
    convolution: &Convolution,
    operands: (&[f32], &[f32]),
    dw: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    if is_for_large(convolution.output) {
        weight_gradient_by::<Large, 4, 6>(convolution, operands, dw, scratch, each);
    } else {
        weight_gradient_by::<Small, 2, 4>(convolution, operands, dw, scratch, each);
    }
}

fn weight_gradient_by<S: Scheme<M, T>, const M: usize, const T: usize>(
    convolution: &Convolution,
    (x, dy): (&[f32], &[f32]),
    dw: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, kernel, batch, .. } = convolution;
    let tiling = Tiling::of(*output, *batch, M);
    let (channels, filters, places) = (input.channels, output.channels, T * T);
    let block = places * (tiling.tiles(tiling.images) + GAP);
    let (mut inputs, mut gradients) = (scratch.take(channels * block), scratch.take(filters * block));
    let mut sums = scratch.take(places * filters * channels);
    let before = [kernel.pads[0], kernel.pads[1]];
    let source = Source { planes: *input, before, tiling, places, to_tiles: tiles::of_inputs::<S, M, T> };
    let seed = Source { planes: *output, before: [0, 0], tiling, places, to_tiles: tiles::of_gradients::<S, M, T> };
    for images in blocks(*batch, tiling.images) {
        let columns = tiling.tiles(images.len());
        source.transform(x, images.clone(), &mut inputs, each);
        seed.transform(dy, images.clone(), &mut gradients, each);
        let parts: Vec<_> = sums.chunks_mut(filters * channels).take(places).map(Mutex::new).collect();
        each(places, &|place| {
            let Layout { start, row, column } = row_of_tiles(place, columns, places);
            let left = Matrix { elements: &gradients, layout: Layout { start, row, column } };
            let right = Matrix { elements: &inputs, layout: Layout { start, row: column, column: row } };
            let sizes = Sizes { rows: filters, inner: columns, columns: channels };
            let into = if images.start == 0 { Into::Replace } else { Into::Add };
            product(sizes, left, right, &mut alone(&parts[place]), into);
        });
    }
    vectorized(
        #[inline(always)]
        || {
            let plane = filters * channels;
            along(plane, &mut ToKernels::<S, M, T> { scheme: PhantomData, sums: &sums, plane, dw: &mut *dw });
        },
    );
    for buffer in [inputs, gradients, sums] {
        scratch.give_back(buffer);
    }
}
