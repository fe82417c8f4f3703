//! Convolutions in two dimensions, forward and back, for all images of a batch together.
//!
//! Sums are taken in one order, however many threads there are.

mod columns;
mod winograd;

use std::ops::Range;

use crate::{InParallel, Scratch};

/// Images of one size.
#[derive(Debug, Clone, Copy)]
pub struct Planes {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Planes {
    fn plane(self) -> usize {
        self.height * self.width
    }

    /// Of one image.
    fn elements(self) -> usize {
        self.channels * self.plane()
    }
}

/// How many images of a batch are worked on together, so that their columns are about as many as wanted.
fn images_together(columns: usize, of_an_image: usize, batch: usize) -> usize {
    (columns / of_an_image).clamp(1, batch)
}

/// A batch in blocks of so many images; the last one may have fewer.
fn blocks(batch: usize, images: usize) -> impl Iterator<Item = Range<usize>> {
    (0..batch).step_by(images).map(move |first| first..(first + images).min(batch))
}

/// Rows before columns, as everywhere here.
#[derive(Debug, Clone, Copy)]
pub struct Kernel2d {
    shape: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    /// Before the rows and the columns, then behind them.
    pads: [usize; 4],
}

/// Whether kernels are taken turned round and with their channels and filters swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flip {
    No,
    Yes,
}

impl Kernel2d {
    /// Where a kernel begins among all weights.
    fn position(&self, filter: usize, channel: usize, (filters, channels): (usize, usize), flip: Flip) -> usize {
        let kernel = match flip {
            Flip::No => filter * channels + channel,
            Flip::Yes => channel * filters + filter,
        };
        kernel * self.shape[0] * self.shape[1]
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Convolution {
    input: Planes,
    output: Planes,
    kernel: Kernel2d,
    batch: usize,
}

impl Convolution {
    /// The convolution of `x` `[N, C, H, W]` by `w` `[F, C, KH, KW]` that gives `y` `[N, F, OH, OW]`.
    ///
    /// # Errors
    /// The shapes do not belong together, or a step is zero.
    pub fn new(x: &[usize], w: &[usize], y: &[usize], settings: Settings) -> Result<Self, Unfit> {
        let (&[batch, channels, height, width], &[filters, depth, rows, columns], &[images, maps, down, across]) =
            (x, w, y)
        else {
            return Err(unfit(x, w, y));
        };
        let Settings { strides, dilations, pads } = settings;
        if strides.iter().chain(&dilations).any(|&step| step == 0) {
            return Err(unfit(x, w, y));
        }
        let shape = [rows, columns];
        let size = |axis: usize, length: usize| {
            let reach = (shape[axis].max(1) - 1) * dilations[axis] + 1;
            (length + pads[axis] + pads[axis + 2]).checked_sub(reach).map(|room| room / strides[axis] + 1)
        };
        let fits = images == batch && maps == filters && depth == channels;
        if !fits || size(0, height) != Some(down) || size(1, width) != Some(across) || x.contains(&0) || w.contains(&0)
        {
            return Err(unfit(x, w, y));
        }
        let input = Planes { channels, height, width };
        let output = Planes { channels: filters, height: down, width: across };
        Ok(Self { input, output, kernel: Kernel2d { shape, strides, dilations, pads }, batch })
    }
}

/// Shapes that do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a convolution of {x:?} by {w:?} does not give {y:?}")]
pub struct Unfit {
    x: Vec<usize>,
    w: Vec<usize>,
    y: Vec<usize>,
}

fn unfit(x: &[usize], w: &[usize], y: &[usize]) -> Unfit {
    Unfit { x: x.to_vec(), w: w.to_vec(), y: y.to_vec() }
}

/// How the kernels move over the inputs; rows before columns.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    /// Before the rows and the columns, then behind them.
    pub pads: [usize; 4],
}

impl Convolution {
    /// The number of filters.
    pub fn filters(&self) -> usize {
        self.output.channels
    }

    /// `y = x * w + bias`, with a bias for each filter.
    ///
    /// # Panics
    /// A slice has not as many elements as its shape; so for the two gradients.
    pub fn forward(
        &self,
        operands: (&[f32], &[f32], Option<&[f32]>),
        y: &mut [f32],
        scratch: &Scratch,
        each: InParallel<'_>,
    ) {
        let forward = if winograd::suits(self) { winograd::forward } else { columns::forward };
        forward(self, operands, y, scratch, each);
    }

    /// The gradient at `x`, from `dy` and `w`.
    pub fn input_gradient(&self, operands: (&[f32], &[f32]), dx: &mut [f32], scratch: &Scratch, each: InParallel<'_>) {
        let gradient = if winograd::suits(self) { winograd::input_gradient } else { columns::input_gradient };
        gradient(self, operands, dx, scratch, each);
    }

    /// The gradient at `w`, from `x` and `dy`.
    pub fn weight_gradient(&self, operands: (&[f32], &[f32]), dw: &mut [f32], scratch: &Scratch, each: InParallel<'_>) {
        let gradient = if winograd::suits(self) { winograd::weight_gradient } else { columns::weight_gradient };
        gradient(self, operands, dw, scratch, each);
    }
}
