//! Convolutions with neither transforms nor a matrix of columns: each tap of a kernel sees a slice of a plane with zeros
//! around it, and sums are those of such slices. What would lie between two rows of outputs is computed with them.

mod padded;
mod sums;

use std::sync::Mutex;

use pulp::Arch;

use super::{Convolution, Kernel2d, Planes, blocks};
use crate::{InParallel, Scratch, alone};
use padded::Padded;
use sums::{FILTERS, Gradients, LANES, Outputs};

/// Elements behind padded planes that are read, whatever comes of it.
const BEYOND: usize = LANES;

/// Elements of padded planes that are laid before gradients of weights are summed over them: what a cache holds.
const LAID: usize = 1 << 18;

/// Elements of them that are read time and again meanwhile: what the nearest cache holds.
const NEAR: usize = 6 << 10;

/// Elements of the vectors that gradients of weights are summed up in.
const SUMS: usize = 1 << 21;

/// Bytes between which the processor reads at once.
const LINE: usize = 64;

/// A place of a kernel: a row and a column.
type Tap = [usize; 2];

impl Kernel2d {
    fn each_tap(&self) -> impl Iterator<Item = Tap> + use<> {
        let [rows, columns] = self.shape;
        (0..rows).flat_map(move |row| (0..columns).map(move |column| [row, column]))
    }

    /// How far the rows and columns that a tap sees are from those that the first one sees.
    fn offset(&self, tap: Tap) -> [usize; 2] {
        [0, 1].map(|axis| tap[axis] * self.dilations[axis])
    }

    /// The offset of the last tap, in steps of the kernel.
    fn extent(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.shape[axis] - 1) * self.dilations[axis] / self.strides[axis])
    }
}

/// Whether this way computes the convolution.
pub fn suits(convolution: &Convolution) -> bool {
    let Convolution { kernel, .. } = convolution;
    let extent = kernel.extent();
    [0, 1].iter().all(|&axis| kernel.pads[axis] / kernel.strides[axis] <= extent[axis])
}

/// Whether at least half of what is computed counts, where planes are of so many filters, and the sums of their gradients
/// stay in a cache.
pub fn pays(convolution: &Convolution, filters: usize) -> bool {
    let Convolution { input, output, kernel, .. } = convolution;
    let wide = output.width + kernel.extent()[1];
    let computed =
        filters.next_multiple_of(FILTERS) * ((output.height - 1) * wide + output.width).next_multiple_of(LANES);
    let sums = output.channels.next_multiple_of(FILTERS) * input.channels * kernel.shape[0] * kernel.shape[1] * LANES;
    suits(convolution) && computed <= 2 * filters * output.plane() && sums <= SUMS
}

/// The inputs, in which a kernel moves by one.
fn padded_inputs(Convolution { output, kernel, .. }: &Convolution) -> Padded {
    let [down, across] = kernel.extent();
    Padded::new([kernel.pads[0], kernel.pads[1]], kernel.strides, output.height + down, output.width + across)
}

/// Where each tap of each channel sees the inputs.
fn places(Convolution { input, kernel, .. }: &Convolution, padded: Padded) -> Vec<usize> {
    let channels = (0..input.channels).map(|channel| channel * padded.plane);
    let of_channel = |plane| kernel.each_tap().map(move |tap| plane + padded.position(kernel.offset(tap)));
    channels.flat_map(of_channel).collect()
}

/// Sums that give every so many rows and columns of an image's planes.
struct Lattice {
    /// For each block of filters, of which the last is filled up with zeros: the weights of every place.
    weights: Vec<[f32; FILTERS]>,
    places: Vec<usize>,
    /// From one row of outputs to the next there are so many elements.
    wide: usize,
    first: [usize; 2],
    steps: [usize; 2],
    /// How many rows and columns it gives.
    size: [usize; 2],
}

impl Lattice {
    /// Elements from the first output to the last, and what fills up the last vector.
    fn length(&self) -> usize {
        let [rows, columns] = self.size;
        ((rows - 1) * self.wide + columns).next_multiple_of(LANES)
    }

    /// The outputs of one image, and biases.
    fn compute(&self, laid: &[f32], bias: Option<&[f32]>, (y, planes): (&mut [f32], Planes), sums: &mut [f32]) {
        let (count, length) = (self.places.len(), self.length());
        let ([top, left], [down, across]) = (self.first, self.steps);
        for (block, y) in y.chunks_mut(FILTERS * planes.plane()).enumerate() {
            let weights = &self.weights[block * count..][..count];
            Arch::new().dispatch(Outputs { from: laid, places: &self.places, weights, to: &mut *sums, length });
            let filters = y.chunks_exact_mut(planes.plane()).zip(sums.chunks_exact(length)).enumerate();
            for (at, (plane, sums)) in filters {
                let bias = bias.map_or(0.0, |bias| bias[block * FILTERS + at]);
                let rows = plane.chunks_exact_mut(planes.width).skip(top).step_by(down);
                for (row, sums) in rows.zip(sums.chunks(self.wide)) {
                    let row = &mut row[left..];
                    if across == 1 {
                        row.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum + bias);
                    } else {
                        row.iter_mut().step_by(across).zip(sums).for_each(|(y, sum)| *y = sum + bias);
                    }
                }
            }
        }
    }
}

/// For each block of filters the weights of all of them for each place.
fn in_blocks(filters: usize, places: usize, weight: impl Fn(usize, usize) -> f32) -> Vec<[f32; FILTERS]> {
    let mut blocks = vec![[0.0; FILTERS]; filters.div_ceil(FILTERS) * places];
    for filter in 0..filters {
        for at in 0..places {
            blocks[filter / FILTERS * places + at][filter % FILTERS] = weight(filter, at);
        }
    }
    blocks
}

/// `y = x * w + bias`.
pub fn forward(
    convolution: &Convolution,
    (x, w, bias): (&[f32], &[f32], Option<&[f32]>),
    y: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, .. } = *convolution;
    let padded = padded_inputs(convolution);
    let places = places(convolution, padded);
    let lattice = Lattice {
        weights: in_blocks(output.channels, places.len(), |filter, at| w[filter * places.len() + at]),
        places,
        wide: padded.wide,
        first: [0, 0],
        steps: [1, 1],
        size: [output.height, output.width],
    };
    solve(padded, &[lattice], (x, input), bias, (y, output), scratch, each);
}

/// The gradient at `x`: each step of the kernel apart, the sums over the taps that see those rows and columns.
pub fn input_gradient(
    convolution: &Convolution,
    (dy, w): (&[f32], &[f32]),
    dx: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, kernel, .. } = convolution;
    let (strides, extent, lengths) = (kernel.strides, kernel.extent(), [input.height, input.width]);
    let before = [0, 1].map(|axis| extent[axis] - kernel.pads[axis] / strides[axis]);
    let steps = [0, 1].map(|axis| (lengths[axis] - 1 + kernel.pads[axis]) / strides[axis] + 1);
    let [rows, wide] = [0, 1].map(|axis| steps[axis].max([output.height, output.width][axis]) + before[axis]);
    let padded = Padded::new(before, [1, 1], rows, wide);
    let lattice = |part: [usize; 2]| {
        // Steps of the kernel before the first row and column of this part that are not among the pads.
        let step = [0, 1].map(|axis| kernel.pads[axis].saturating_sub(part[axis]).div_ceil(strides[axis]));
        let first = [0, 1].map(|axis| step[axis] * strides[axis] + part[axis] - kernel.pads[axis]);
        let size = [0, 1].map(|axis| lengths[axis].saturating_sub(first[axis]).div_ceil(strides[axis]));
        let sees = |tap: &Tap| [0, 1].iter().all(|&axis| kernel.offset(*tap)[axis] % strides[axis] == part[axis]);
        let seeing: Vec<Tap> = kernel.each_tap().filter(sees).collect();
        let place = |tap: Tap| {
            let offset = kernel.offset(tap);
            padded.position([0, 1].map(|axis| step[axis] + before[axis] - offset[axis] / strides[axis]))
        };
        let taps: Vec<_> =
            (0..output.channels).flat_map(|filter| seeing.iter().map(move |tap| (filter, *tap))).collect();
        let weight = |channel: usize, at: usize| {
            let (filter, [row, column]) = taps[at];
            w[((filter * input.channels + channel) * kernel.shape[0] + row) * kernel.shape[1] + column]
        };
        let weights = in_blocks(input.channels, taps.len(), weight);
        let places = taps.iter().map(|(filter, tap)| filter * padded.plane + place(*tap)).collect();
        (!size.contains(&0)).then_some(Lattice { weights, places, wide, first, steps: strides, size })
    };
    let parts = (0..strides[0]).flat_map(|row| (0..strides[1]).map(move |column| [row, column]));
    let lattices: Vec<Lattice> = parts.filter_map(lattice).collect();
    solve(padded, &lattices, (dy, *output), None, (dx, *input), scratch, each);
}

/// What lattices give, from padded planes, for one image after the other.
fn solve(
    padded: Padded,
    lattices: &[Lattice],
    (x, from): (&[f32], Planes),
    bias: Option<&[f32]>,
    (y, to): (&mut [f32], Planes),
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let images: Vec<_> = y.chunks_mut(to.elements()).map(Mutex::new).collect();
    let sums = FILTERS * lattices.iter().map(Lattice::length).max().unwrap_or(0);
    let laid = from.channels * padded.plane + BEYOND;
    each(images.len(), &|image| {
        let (mut laid_buffer, mut sums_buffer) = (scratch.take(laid), scratch.take(sums));
        let (laid, sums) = (&mut laid_buffer[..laid], &mut sums_buffer[..sums]);
        padded.lay(&x[image * from.elements()..][..from.elements()], from, laid);
        let mut y = alone(&images[image]);
        for lattice in lattices {
            lattice.compute(laid, bias, (&mut y, to), sums);
        }
        scratch.give_back(laid_buffer);
        scratch.give_back(sums_buffer);
    })
}

/// The gradient at `w`, summed in the order of the images.
pub fn weight_gradient(
    convolution: &Convolution,
    (x, dy): (&[f32], &[f32]),
    dw: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, batch, .. } = *convolution;
    let of_x = padded_inputs(convolution);
    let places = places(convolution, of_x);
    let length = ((output.height - 1) * of_x.wide + output.width).next_multiple_of(LANES);
    let mut of_dy = Padded::new([0, 0], [1, 1], output.height, of_x.wide);
    of_dy.plane = of_dy.plane.next_multiple_of(LANES);
    let filter_blocks = output.channels.div_ceil(FILTERS);
    let (x_image, dy_image) = (input.channels * of_x.plane, filter_blocks * FILTERS * of_dy.plane);
    let together = (LAID / (x_image + dy_image)).clamp(1, batch);
    let near = (NEAR / (FILTERS * of_dy.plane + of_x.plane)).max(1);
    let mut laid = scratch.take(together * x_image + BEYOND);
    let mut seeds_buffer = scratch.take(together * dy_image + LANES);
    let aligned = seeds_buffer.as_ptr().align_offset(LINE).min(LANES);
    let seeds = &mut seeds_buffer[aligned..];
    let mut sums = vec![[[0.0; LANES]; FILTERS]; filter_blocks * places.len()];
    for images in blocks(batch, together) {
        let parts = laid.chunks_mut(x_image).zip(seeds.chunks_mut(dy_image)).take(images.len());
        let parts: Vec<_> = parts.map(Mutex::new).collect();
        each(images.len(), &|at| {
            let (to_x, to_dy) = &mut *alone(&parts[at]);
            let image = images.start + at;
            of_x.lay(&x[image * input.elements()..][..input.elements()], input, to_x);
            of_dy.lay(&dy[image * output.elements()..][..output.elements()], output, to_dy);
        });
        drop(parts);
        laid[images.len() * x_image..][..BEYOND].fill(0.0);
        let parts: Vec<_> = sums.chunks_mut(places.len()).map(Mutex::new).collect();
        each(filter_blocks, &|block| {
            let mut sums = alone(&parts[block]);
            for images in blocks(images.len(), near) {
                let seeds = |image| &seeds[image * dy_image + block * FILTERS * of_dy.plane..];
                let seeds: Vec<&[f32]> = images.clone().map(seeds).collect();
                Arch::new().dispatch(Gradients {
                    from: &laid[images.start * x_image..],
                    image: x_image,
                    places: &places,
                    seeds: &seeds,
                    row: of_dy.plane,
                    length,
                    sums: &mut sums,
                });
            }
        });
    }
    for (filter, to) in dw.chunks_exact_mut(places.len()).enumerate() {
        let sums = &sums[filter / FILTERS * places.len()..][..places.len()];
        to.iter_mut().zip(sums).for_each(|(to, sums)| *to = sums[filter % FILTERS].iter().sum());
    }
    scratch.give_back(laid);
    scratch.give_back(seeds_buffer);
}
