//! Convolutions in two dimensions, forward and back, for all images of a batch together.
//!
//! Sums are taken in one order, however many threads there are.

mod columns;
mod direct;
mod winograd;

use std::ops::Range;

use crate::{InParallel, Scratch, floor, raised};

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
    /// Channels and filters are dealt out to so many groups, of which each sees its own.
    groups: usize,
}

impl Convolution {
    /// The convolution of `x` `[N, C, H, W]` by `w` `[F, C / groups, KH, KW]` that gives `y` `[N, F, OH, OW]`.
    ///
    /// # Errors
    /// The shapes do not belong together, or a step is zero, or there are no groups.
    pub fn new(x: &[usize], w: &[usize], y: &[usize], settings: Settings) -> Result<Self, Unfit> {
        let (&[batch, channels, height, width], &[filters, depth, rows, columns], &[images, maps, down, across]) =
            (x, w, y)
        else {
            return Err(unfit(x, w, y));
        };
        let Settings { strides, dilations, pads, groups } = settings;
        if strides.iter().chain(&dilations).chain([&groups]).any(|&number| number == 0) {
            return Err(unfit(x, w, y));
        }
        let shape = [rows, columns];
        let size = |axis: usize, length: usize| {
            let reach = (shape[axis].max(1) - 1) * dilations[axis] + 1;
            (length + pads[axis] + pads[axis + 2]).checked_sub(reach).map(|room| room / strides[axis] + 1)
        };
        let fits = images == batch && maps == filters && depth * groups == channels && filters % groups == 0;
        if !fits || size(0, height) != Some(down) || size(1, width) != Some(across) || x.contains(&0) || w.contains(&0)
        {
            return Err(unfit(x, w, y));
        }
        let input = Planes { channels, height, width };
        let output = Planes { channels: filters, height: down, width: across };
        Ok(Self { input, output, kernel: Kernel2d { shape, strides, dilations, pads }, batch, groups })
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
    pub groups: usize,
}

impl Convolution {
    /// The number of filters.
    pub fn filters(&self) -> usize {
        self.output.channels
    }

    /// Channels that a filter sees.
    fn depth(&self) -> usize {
        self.input.channels / self.groups
    }

    /// Products that a position of one filter sums.
    fn taps(&self) -> usize {
        self.depth() * self.kernel.shape[0] * self.kernel.shape[1]
    }

    /// `y = x * w`, and the ending.
    ///
    /// # Panics
    /// A slice has not as many elements as its shape; so for the two gradients.
    pub fn forward(
        &self,
        operands: (&[f32], &[f32], Ending<'_>),
        y: &mut [f32],
        scratch: &Scratch,
        each: InParallel<'_>,
    ) {
        let forward = match self.way(self.output.channels) {
            Way::Columns => columns::forward,
            Way::Direct => direct::forward,
            Way::Winograd => winograd::forward,
        };
        forward(self, operands, y, scratch, each);
    }

    /// The gradient at `x`, from `dy` and `w`.
    pub fn input_gradient(&self, operands: (&[f32], &[f32]), dx: &mut [f32], scratch: &Scratch, each: InParallel<'_>) {
        let gradient = match self.way(self.input.channels) {
            Way::Columns => columns::input_gradient,
            Way::Direct => direct::input_gradient,
            Way::Winograd => winograd::input_gradient,
        };
        gradient(self, operands, dx, scratch, each);
    }

    /// The gradient at `w`, from `x` and `dy`.
    pub fn weight_gradient(&self, operands: (&[f32], &[f32]), dw: &mut [f32], scratch: &Scratch, each: InParallel<'_>) {
        let gradient = match self.way(self.output.channels) {
            Way::Columns => columns::weight_gradient,
            Way::Direct => direct::weight_gradient,
            Way::Winograd => winograd::weight_gradient,
        };
        gradient(self, operands, dw, scratch, each);
    }

    /// The fastest way where so many filters, or channels at the gradient of the inputs, are computed. The limits were
    /// measured with the instructions of AVX-512 and without.
    fn way(&self, filters: usize) -> Way {
        let Self { input, output, kernel, .. } = self;
        let channels_min = input.channels.min(output.channels);
        let (many, instead) = if winograd::suits(self) && channels_min >= 8 && output.height.min(output.width) >= 2 {
            (64, Way::Winograd)
        } else {
            (128, Way::Columns)
        };
        let is_direct = channels_min < many && kernel.shape != [1, 1] && direct::pays(self, filters);
        if is_direct || self.groups > 1 { Way::Direct } else { instead }
    }
}

/// What is done to the outputs of a convolution.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ending<'a> {
    /// Added to each filter's outputs.
    pub bias: Option<&'a [f32]>,
    /// Whether zero then takes the place of what is below it.
    pub rectifies: bool,
}

impl Ending<'_> {
    /// A filter's outputs from their sums.
    #[inline(always)]
    fn end<'y>(&self, filter: usize, outputs: impl Iterator<Item = (&'y mut f32, f32)>) {
        let (bias, floor) = self.of(filter);
        outputs.for_each(|(y, sum)| *y = raised(sum + bias, floor));
    }

    /// A filter's bias, and what its outputs are at least.
    fn of(&self, filter: usize) -> (f32, f32) {
        (self.bias.map_or(0.0, |bias| bias[filter]), floor(self.rectifies))
    }
}

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Columns,
    Direct,
    Winograd,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{in_turn, numbers};

    struct Row {
        /// Images, channels, filters, height and width.
        sizes: [usize; 5],
        kernel: [usize; 2],
        settings: Settings,
    }

    /// With nothing around planes.
    fn row(sizes: [usize; 5], kernel: usize) -> Row {
        let settings = Settings { strides: [1, 1], dilations: [1, 1], pads: [0; 4], groups: 1 };
        Row { sizes, kernel: [kernel; 2], settings }
    }

    impl Row {
        fn pads(mut self, pads: [usize; 4]) -> Self {
            self.settings.pads = pads;
            self
        }

        fn strides(mut self, strides: [usize; 2]) -> Self {
            self.settings.strides = strides;
            self
        }

        fn dilations(mut self, dilations: [usize; 2]) -> Self {
            self.settings.dilations = dilations;
            self
        }

        fn groups(mut self, groups: usize) -> Self {
            self.settings.groups = groups;
            self
        }

        fn output(&self) -> [usize; 2] {
            let Settings { strides, dilations, pads, .. } = self.settings;
            [0, 1].map(|axis| {
                let reach = (self.kernel[axis] - 1) * dilations[axis] + 1;
                (self.sizes[3 + axis] + pads[axis] + pads[axis + 2] - reach) / strides[axis] + 1
            })
        }

        /// Of x, w and y.
        fn shapes(&self) -> [[usize; 4]; 3] {
            let ([images, channels, filters, height, width], [down, across]) = (self.sizes, self.output());
            let depth = channels / self.settings.groups;
            [
                [images, channels, height, width],
                [filters, depth, self.kernel[0], self.kernel[1]],
                [images, filters, down, across],
            ]
        }

        /// What each product of an input and a weight belongs to: calls with indices into x, w and y.
        fn products(&self, mut each: impl FnMut(usize, usize, usize)) {
            let Settings { strides, dilations, pads, groups } = self.settings;
            let ([images, channels, filters, height, width], [down, across]) = (self.sizes, self.output());
            let (depth, [rows, columns]) = (channels / groups, self.kernel);
            for image in 0..images {
                for filter in 0..filters {
                    for place in 0..down * across {
                        for tap in 0..depth * rows * columns {
                            let (channel, tap) = (tap / (rows * columns), tap % (rows * columns));
                            let y = (place / across * strides[0] + tap / columns * dilations[0]).wrapping_sub(pads[0]);
                            let x = (place % across * strides[1] + tap % columns * dilations[1]).wrapping_sub(pads[1]);
                            if y < height && x < width {
                                let seen = image * channels + filter * groups / filters * depth + channel;
                                each(
                                    (seen * height + y) * width + x,
                                    (filter * depth + channel) * rows * columns + tap,
                                    (image * filters + filter) * down * across + place,
                                );
                            }
                        }
                    }
                }
            }
        }

        /// Whether each way computes this; what it gives is compared.
        fn check(&self) -> [bool; 3] {
            let (shapes, settings) = (self.shapes(), self.settings);
            let convolution = Convolution::new(&shapes[0], &shapes[1], &shapes[2], settings).expect("the shapes fit");
            let [x, w, dy] = [0, 1, 2].map(|at| numbers(shapes[at].iter().product(), at));
            let (bias, scratch) = (numbers(shapes[1][0], 3), Scratch::default());
            let plane = shapes[2][2] * shapes[2][3];
            let [mut to_x, mut to_w, mut sums] = [&x, &w, &dy].map(|of| vec![Sum::default(); of.len()]);
            sums.iter_mut().enumerate().for_each(|(at, sum)| sum.add(bias[at / plane % bias.len()], 1.0));
            self.products(|at_x, at_w, at_y| {
                sums[at_y].add(x[at_x], w[at_w]);
                to_x[at_x].add(dy[at_y], w[at_w]);
                to_w[at_w].add(x[at_x], dy[at_y]);
            });
            WAYS.each_ref().map(|way| {
                if !(way.suits)(&convolution) {
                    return false;
                }
                // What was there before, in buffers too, does not matter.
                scratch.give_back(vec![f32::NAN; 1 << 20]);
                let [mut dx, mut dw, mut y] = [&x, &w, &dy].map(|of| vec![f32::NAN; of.len()]);
                let mut rectified = y.clone();
                let ending = Ending { bias: Some(&bias), rectifies: false };
                (way.forward)(&convolution, (&x, &w, ending), &mut y, &scratch, &in_turn);
                let ending = Ending { rectifies: true, ..ending };
                (way.forward)(&convolution, (&x, &w, ending), &mut rectified, &scratch, &in_turn);
                (way.input_gradient)(&convolution, (&dy, &w), &mut dx, &scratch, &in_turn);
                (way.weight_gradient)(&convolution, (&x, &dy), &mut dw, &scratch, &in_turn);
                let what = format!("{}, {shapes:?}, {settings:?}", way.name);
                assert_close(&y, &sums, &format!("{what}, y"));
                assert!(rectified.iter().zip(&y).all(|(rectified, y)| *rectified == y.max(0.0)), "{what}, rectified");
                assert_close(&dx, &to_x, &format!("{what}, dx"));
                assert_close(&dw, &to_w, &format!("{what}, dw"));
                true
            })
        }
    }

    /// Of products, and of their sizes.
    #[derive(Clone, Copy, Default)]
    struct Sum {
        sum: f64,
        size: f64,
    }

    impl Sum {
        fn add(&mut self, a: f32, b: f32) {
            let product = f64::from(a) * f64::from(b);
            self.sum += product;
            self.size += product.abs();
        }
    }

    /// To what products that cancel out leave of them, no difference is small.
    fn assert_close(found: &[f32], expected: &[Sum], what: &str) {
        let size: f64 = expected.iter().map(|number| number.size.powi(2)).sum();
        let off: f64 = found.iter().zip(expected).map(|(found, of)| (f64::from(*found) - of.sum).powi(2)).sum();
        assert!(off.sqrt() <= 1e-6 * size.sqrt(), "{what}: off by {:.1e} of the products", (off / size).sqrt());
    }

    type Operands<'a> = (&'a [f32], &'a [f32], Ending<'a>);
    type Gradient = fn(&Convolution, (&[f32], &[f32]), &mut [f32], &Scratch, InParallel<'_>);

    struct AWay {
        name: &'static str,
        suits: fn(&Convolution) -> bool,
        forward: fn(&Convolution, Operands<'_>, &mut [f32], &Scratch, InParallel<'_>),
        input_gradient: Gradient,
        weight_gradient: Gradient,
    }

    const WAYS: [AWay; 3] = [
        AWay {
            name: "columns",
            suits: |convolution| convolution.groups == 1,
            forward: columns::forward,
            input_gradient: columns::input_gradient,
            weight_gradient: columns::weight_gradient,
        },
        AWay {
            name: "direct",
            suits: |_| true,
            forward: direct::forward,
            input_gradient: direct::input_gradient,
            weight_gradient: direct::weight_gradient,
        },
        AWay {
            name: "winograd",
            suits: winograd::suits,
            forward: winograd::forward,
            input_gradient: winograd::input_gradient,
            weight_gradient: winograd::weight_gradient,
        },
    ];

    #[test]
    fn every_way_gives_what_plain_loops_give_in_double_precision() {
        let rows = [
            row([3, 8, 9, 8, 8], 3).pads([1; 4]),
            row([2, 9, 8, 7, 5], 3).pads([1; 4]),
            row([2, 8, 8, 34, 47], 3),
            row([2, 8, 8, 5, 9], 3).pads([2, 0, 1, 2]),
            row([70, 8, 8, 4, 8], 3).pads([1; 4]),
            row([90, 3, 20, 12, 13], 3).pads([1; 4]),
            row([2, 3, 8, 9, 8], 3).pads([1; 4]).strides([2, 2]),
            row([2, 3, 8, 9, 8], 3).pads([0, 2, 1, 0]).strides([2, 1]),
            row([2, 3, 4, 19, 18], 7).pads([3; 4]).strides([2, 2]),
            row([2, 3, 4, 11, 12], 2).strides([3, 3]),
            row([2, 3, 4, 11, 12], 3).pads([2; 4]).dilations([2, 2]),
            row([2, 3, 2, 15, 12], 3).pads([3, 1, 2, 4]).strides([2, 3]).dilations([3, 1]),
            row([2, 8, 9, 6, 7], 2).pads([0, 1, 1, 0]),
            row([2, 3, 4, 5, 5], 1),
            row([2, 3, 4, 5, 5], 1).pads([1, 2, 0, 1]),
            row([2, 3, 1, 5, 6], 2).pads([4, 3, 2, 5]).strides([2, 1]),
            row([9, 12, 12, 14, 15], 3).pads([1; 4]).groups(12),
            row([3, 12, 12, 7, 8], 5).pads([2; 4]).strides([2, 2]).groups(12),
            row([2, 6, 12, 7, 8], 3).pads([1; 4]).groups(6),
            row([2, 12, 6, 7, 8], 3).pads([1; 4]).groups(6),
            row([2, 6, 9, 7, 8], 3).pads([1; 4]).groups(3),
            row([2, 8, 24, 7, 8], 3).pads([2; 4]).dilations([2, 2]).groups(2),
            row([2, 32, 32, 7, 8], 1).groups(2),
            row([2, 128, 260, 4, 5], 3).pads([1; 4]).groups(2),
            row([1, 130, 260, 4, 5], 3).pads([1; 4]),
            row([2, 3, 4, 2, 3], 3).pads([6; 4]).dilations([6, 6]),
            row([2, 3, 4, 3, 2], 3).pads([5; 4]).dilations([5, 5]).strides([2, 3]),
            row([2, 3, 4, 3, 2], 1).pads([9, 8, 0, 0]),
        ];
        let mut computed = [0; 3];
        for row in rows {
            for (way, computed) in row.check().into_iter().zip(&mut computed) {
                *computed += usize::from(way);
            }
        }
        assert_eq!(computed, [20, 28, 7]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_convolution_gives_what_plain_loops_give(
            images in 1..4_usize,
            groups in 1..4_usize,
            depths in [1..5_usize, 1..5],
            plane in [1..10_usize, 1..10],
            kernel in [1..5_usize, 1..5],
            strides in [1..4_usize, 1..4],
            dilations in [1..10_usize, 1..10],
            pads in [0..12_usize, 0..12, 0..12, 0..12],
        ) {
            let [height, width] = [0, 1].map(|axis| {
                let reach = (kernel[axis] - 1) * dilations[axis] + 1;
                plane[axis].max(reach.saturating_sub(pads[axis] + pads[axis + 2]))
            });
            let sizes = [images, depths[0] * groups, depths[1] * groups, height, width];
            Row { sizes, kernel, settings: Settings { strides, dilations, pads, groups } }.check();
        }
    }
}
