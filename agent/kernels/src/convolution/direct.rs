//! Convolutions with neither transforms nor a matrix of columns: each tap of a kernel sees a slice of a plane with zeros
//! around it, and sums are those of such slices. What would lie between two rows of outputs is computed with them.

mod padded;
mod sums;

use std::sync::Mutex;

use pulp::Arch;

use super::{Convolution, Ending, Kernel2d, Planes, blocks};
use crate::{InParallel, Scratch, alone};
use padded::Padded;
use sums::{FILTERS, Gradients, LANES, Outputs};

/// Elements behind padded planes that are read, whatever comes of it.
const BEYOND: usize = LANES;

/// Elements of padded planes that are laid before gradients of weights are summed over them: what a cache holds.
const LAID: usize = 1 << 18;

/// Elements of them that are read time and again meanwhile: what the nearest cache holds.
const NEAR: usize = 6 << 10;

/// Elements of the vectors that gradients of weights are summed up in at a time: what a cache holds.
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

/// Filters that are summed up together, where each group has so many: all blocks of several groups are full.
fn together(filters: usize, groups: usize) -> usize {
    if groups == 1 { filters.next_power_of_two().min(FILTERS) } else { 1 << filters.trailing_zeros().min(3) }
}

/// Elements from the first output to the last, of so many rows and columns, and what fills up the last vector.
fn length([rows, columns]: [usize; 2], wide: usize) -> usize {
    ((rows - 1) * wide + columns).next_multiple_of(LANES)
}

/// Whether at least half of what is computed counts, where so many filters are, and the sums of weights' gradients stay in
/// a cache.
pub fn pays(convolution: &Convolution, filters: usize) -> bool {
    let Convolution { output, kernel, .. } = convolution;
    let wide = output.width + kernel.extent()[1];
    let length = length([output.height, output.width], wide);
    let computed = filters.next_multiple_of(together(filters, 1)) * length;
    let sums = output.channels.next_multiple_of(FILTERS) * convolution.taps() * LANES;
    computed <= 2 * filters * output.plane() && sums <= SUMS
}

/// The inputs, in which a kernel moves by one.
fn padded_inputs(Convolution { output, kernel, .. }: &Convolution) -> Padded {
    let [down, across] = kernel.extent();
    Padded::new([kernel.pads[0], kernel.pads[1]], kernel.strides, output.height + down, output.width + across)
}

/// Where each tap of each channel of a group sees the inputs.
fn places(convolution: &Convolution, padded: Padded) -> Vec<usize> {
    let kernel = convolution.kernel;
    let channels = (0..convolution.depth()).map(|channel| channel * padded.plane);
    let of_channel = |plane| kernel.each_tap().map(move |tap| plane + padded.position(kernel.offset(tap)));
    channels.flat_map(of_channel).collect()
}

/// Sums that give every so many rows and columns of an image's planes.
struct Lattice {
    /// For each block of filters, the last filled up with zeros: for each place the weights of all of them.
    weights: Vec<f32>,
    /// In the planes that a group sees.
    places: Vec<usize>,
    /// Filters of a block.
    together: usize,
    /// Blocks of a group, and elements from what it sees to what the next one does.
    blocks: usize,
    group: usize,
    /// From one row of outputs to the next there are so many elements.
    wide: usize,
    first: [usize; 2],
    steps: [usize; 2],
    /// How many rows and columns it gives.
    size: [usize; 2],
}

impl Lattice {
    fn length(&self) -> usize {
        length(self.size, self.wide)
    }

    /// The outputs of one image.
    fn compute(&self, laid: &[f32], ending: Ending<'_>, (y, planes): (&mut [f32], Planes), sums: &mut [f32]) {
        let (filters, length) = (self.together, self.length());
        let of_block = filters * self.places.len();
        let ([top, left], [down, across]) = (self.first, self.steps);
        for (block, y) in y.chunks_mut(filters * planes.plane()).enumerate() {
            let from = &laid[block / self.blocks * self.group..];
            let weights = &self.weights[block * of_block..][..of_block];
            Arch::new().dispatch(Outputs { from, places: &self.places, filters, weights, to: &mut *sums, length });
            let rows = y.chunks_exact_mut(planes.plane()).zip(sums.chunks_exact(length)).enumerate();
            for (at, (plane, sums)) in rows {
                let filter = block * filters + at;
                let rows = plane.chunks_exact_mut(planes.width).skip(top).step_by(down);
                for (row, sums) in rows.zip(sums.chunks(self.wide)) {
                    let (row, sums) = (&mut row[left..], sums.iter().copied());
                    if across == 1 {
                        ending.end(filter, row.iter_mut().zip(sums));
                    } else {
                        ending.end(filter, row.iter_mut().step_by(across).zip(sums));
                    }
                }
            }
        }
    }
}

/// For each block of so many filters: the weights of all of them for each place.
fn in_blocks(together: usize, filters: usize, places: usize, weight: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut blocks = vec![0.0; filters.next_multiple_of(together) * places];
    for filter in 0..filters {
        for at in 0..places {
            blocks[(filter / together * places + at) * together + filter % together] = weight(filter, at);
        }
    }
    blocks
}

/// `y = x * w`, and the ending.
pub fn forward(
    convolution: &Convolution,
    (x, w, ending): (&[f32], &[f32], Ending<'_>),
    y: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, groups, .. } = *convolution;
    let padded = padded_inputs(convolution);
    let places = places(convolution, padded);
    let filters = output.channels / groups;
    let together = together(filters, groups);
    let lattice = Lattice {
        weights: in_blocks(together, output.channels, places.len(), |filter, at| w[filter * places.len() + at]),
        places,
        together,
        blocks: filters.div_ceil(together),
        group: convolution.depth() * padded.plane,
        wide: padded.wide,
        first: [0, 0],
        steps: [1, 1],
        size: [output.height, output.width],
    };
    solve(padded, &[lattice], (x, input), ending, (y, output), scratch, each);
}

/// The gradient at `x`: each step of the kernel apart, the sums over the taps that see those rows and columns.
pub fn input_gradient(
    convolution: &Convolution,
    (dy, w): (&[f32], &[f32]),
    dx: &mut [f32],
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let Convolution { input, output, kernel, groups, .. } = *convolution;
    let (strides, extent, lengths) = (kernel.strides, kernel.extent(), [input.height, input.width]);
    let before = [0, 1].map(|axis| extent[axis].saturating_sub(kernel.pads[axis] / strides[axis]));
    let steps = [0, 1].map(|axis| (lengths[axis] - 1 + kernel.pads[axis]) / strides[axis] + 1);
    let [rows, wide] = [0, 1].map(|axis| steps[axis].max([output.height, output.width][axis]) + before[axis]);
    let padded = Padded::new(before, [1, 1], rows, wide);
    let (channels, filters) = (convolution.depth(), output.channels / groups);
    let together = together(channels, groups);
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
        let taps: Vec<_> = (0..filters).flat_map(|filter| seeing.iter().map(move |tap| (filter, *tap))).collect();
        let weight = |channel: usize, at: usize| {
            let (filter, [row, column]) = taps[at];
            let of_filter = (channel / channels * filters + filter) * channels + channel % channels;
            w[(of_filter * kernel.shape[0] + row) * kernel.shape[1] + column]
        };
        (!size.contains(&0)).then(|| Lattice {
            weights: in_blocks(together, input.channels, taps.len(), weight),
            places: taps.iter().map(|(filter, tap)| filter * padded.plane + place(*tap)).collect(),
            together,
            blocks: channels.div_ceil(together),
            group: filters * padded.plane,
            wide,
            first,
            steps: strides,
            size,
        })
    };
    let parts = (0..strides[0]).flat_map(|row| (0..strides[1]).map(move |column| [row, column]));
    let lattices: Vec<Lattice> = parts.filter_map(lattice).collect();
    solve(padded, &lattices, (dy, output), Ending::default(), (dx, input), scratch, each);
}

/// What lattices give, from padded planes, for one image after the other.
fn solve(
    padded: Padded,
    lattices: &[Lattice],
    (x, from): (&[f32], Planes),
    ending: Ending<'_>,
    (y, to): (&mut [f32], Planes),
    scratch: &Scratch,
    each: InParallel<'_>,
) {
    let images: Vec<_> = y.chunks_mut(to.elements()).map(Mutex::new).collect();
    let sums = lattices.iter().map(|lattice| lattice.together * lattice.length()).max().unwrap_or(0);
    let laid = from.channels * padded.plane + BEYOND;
    each(images.len(), &|image| {
        let (mut laid_buffer, mut sums_buffer) = (scratch.take(laid), scratch.take(sums));
        let (laid, sums) = (&mut laid_buffer[..laid], &mut sums_buffer[..sums]);
        padded.lay(&x[image * from.elements()..][..from.elements()], from, laid);
        let mut y = alone(&images[image]);
        for lattice in lattices {
            lattice.compute(laid, ending, (&mut y, to), sums);
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
    let Convolution { input, output, batch, groups, .. } = *convolution;
    let of_x = padded_inputs(convolution);
    let places = places(convolution, of_x);
    let length = length([output.height, output.width], of_x.wide);
    let mut of_dy = Padded::new([0, 0], [1, 1], output.height, of_x.wide);
    of_dy.plane = of_dy.plane.next_multiple_of(LANES);
    let filters = together(output.channels / groups, groups);
    let block_count = output.channels.div_ceil(filters);
    let of_group = convolution.depth() * of_x.plane;
    let (x_image, dy_image) = (input.channels * of_x.plane, block_count * filters * of_dy.plane);
    let images_laid = (LAID / (x_image + dy_image)).clamp(1, batch);
    let images_near = (NEAR / (filters * of_dy.plane + of_x.plane)).max(1);
    let mut laid = scratch.take(images_laid * x_image + BEYOND);
    let mut seeds_buffer = scratch.take(images_laid * dy_image + LANES);
    let aligned = seeds_buffer.as_ptr().align_offset(LINE).min(LANES);
    let seeds = &mut seeds_buffer[aligned..];
    let of_block = filters * places.len();
    let blocks_together = (SUMS / (of_block * LANES)).clamp(1, block_count);
    let mut sums_buffer = scratch.take(blocks_together * of_block * LANES);
    for filter_blocks in blocks(block_count, blocks_together) {
        let (sums, _) = sums_buffer[..filter_blocks.len() * of_block * LANES].as_chunks_mut::<LANES>();
        sums.fill([0.0; LANES]);
        for images in blocks(batch, images_laid) {
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
            let parts: Vec<_> = sums.chunks_mut(of_block).map(Mutex::new).collect();
            each(filter_blocks.len(), &|at| {
                let mut sums = alone(&parts[at]);
                let block = filter_blocks.start + at;
                let group = block * groups / block_count;
                for images in blocks(images.len(), images_near) {
                    let seeds = |image| &seeds[image * dy_image + block * filters * of_dy.plane..];
                    let seeds: Vec<&[f32]> = images.clone().map(seeds).collect();
                    Arch::new().dispatch(Gradients {
                        from: &laid[images.start * x_image + group * of_group..],
                        image: x_image,
                        places: &places,
                        filters,
                        seeds: &seeds,
                        row: of_dy.plane,
                        length,
                        sums: &mut sums,
                    });
                }
            });
        }
        let dw = dw[filter_blocks.start * of_block..].chunks_exact_mut(places.len());
        for (filter, to) in dw.enumerate().take(filter_blocks.len() * filters) {
            let sums = sums[filter / filters * of_block..][filter % filters..].iter().step_by(filters);
            to.iter_mut().zip(sums).for_each(|(to, sums)| *to = sums.iter().sum());
        }
    }
    for buffer in [laid, seeds_buffer, sums_buffer] {
        scratch.give_back(buffer);
    }
}
