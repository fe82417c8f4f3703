//! Convolutions in two dimensions, forward and back, for all images of a batch together.
//!
//! `Conv(X, W[, B]) -> Y`, `ConvInputGradient(dY, W) -> dX` and `ConvWeightGradient(X, dY) -> dW` with the attributes of
//! ONNX's `Conv` and one group. X is f32 `[N, C, H, W]`, W `[F, C, KH, KW]`, Y `[N, F, OH, OW]`. Each names in
//! `shape` the shape of what it gives. Sums are taken in one order, however many threads there are.

mod columns;
mod winograd;

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::{Scratch, in_parallel_of, tensor};

/// Images of one size.
#[derive(Debug, Clone, Copy)]
struct Planes {
    channels: usize,
    height: usize,
    width: usize,
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

/// Rows before columns, as everywhere here.
#[derive(Debug, Clone, Copy)]
struct Kernel2d {
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
struct Convolution {
    input: Planes,
    output: Planes,
    kernel: Kernel2d,
    batch: usize,
}

impl Convolution {
    /// # Errors
    /// The shapes do not belong together.
    fn new(x: &[usize], w: &[usize], y: &[usize], settings: &Settings) -> ort::Result<Self> {
        let (&[batch, channels, height, width], &[filters, depth, rows, columns], &[images, maps, down, across]) =
            (x, w, y)
        else {
            return Err(unfit(x, w, y));
        };
        let Settings { strides, dilations, pads } = *settings;
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

fn unfit(x: &[usize], w: &[usize], y: &[usize]) -> ort::Error {
    ort::Error::new(format!("a convolution of {x:?} by {w:?} does not give {y:?}"))
}

/// The attributes that the three operators share.
#[derive(Debug, Clone, Copy)]
struct Settings {
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
}

impl Settings {
    fn read(context: &KernelContext<'_>) -> ort::Result<Self> {
        let list = |name: &str, default: &[i64]| sizes(context.get(name).unwrap_or_else(|| default.to_vec()));
        let strides = list("strides", &[1, 1])?;
        let dilations = list("dilations", &[1, 1])?;
        if strides.iter().chain(&dilations).any(|&step| step == 0) {
            return Err(ort::Error::new("a convolution's strides and dilations are at least 1"));
        }
        Ok(Self {
            strides: of_length(&strides)?,
            dilations: of_length(&dilations)?,
            pads: of_length(&list("pads", &[0; 4])?)?,
        })
    }
}

fn sizes(numbers: Vec<i64>) -> ort::Result<Vec<usize>> {
    let size = |number| usize::try_from(number).map_err(|_| ort::Error::new(format!("{number} is no size")));
    numbers.into_iter().map(size).collect()
}

fn of_length<const LENGTH: usize>(numbers: &[usize]) -> ort::Result<[usize; LENGTH]> {
    numbers.try_into().map_err(|_| ort::Error::new(format!("{numbers:?} has not {LENGTH} numbers")))
}

/// Which of the three an operator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    InputGradient,
    WeightGradient,
}

/// One of the three operators.
pub struct Conv {
    way: Way,
    scratch: Scratch,
}

impl Conv {
    pub fn forward(scratch: &Scratch) -> Self {
        Self { way: Way::Forward, scratch: scratch.clone() }
    }

    pub fn input_gradient(scratch: &Scratch) -> Self {
        Self { way: Way::InputGradient, scratch: scratch.clone() }
    }

    pub fn weight_gradient(scratch: &Scratch) -> Self {
        Self { way: Way::WeightGradient, scratch: scratch.clone() }
    }
}

impl Operator for Conv {
    type Kernel<'a> = ConvKernel;

    fn name(&self) -> &str {
        match self.way {
            Way::Forward => "Conv",
            Way::InputGradient => "ConvInputGradient",
            Way::WeightGradient => "ConvWeightGradient",
        }
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let bias = (self.way == Way::Forward).then(|| OperatorInput::optional(TensorElementType::Float32));
        (0..2).map(|_| OperatorInput::required(TensorElementType::Float32)).chain(bias)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<ConvKernel> {
        let shape = sizes(context.get("shape").unwrap_or_default())?;
        Ok(ConvKernel { way: self.way, settings: Settings::read(context)?, shape, scratch: self.scratch.clone() })
    }
}

pub struct ConvKernel {
    way: Way,
    settings: Settings,
    /// Of what it gives.
    shape: Vec<usize>,
    scratch: Scratch,
}

impl Kernel for ConvKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (left, right) = (tensor::input(context, 0)?, tensor::input(context, 1)?);
        let bias = if self.way == Way::Forward { tensor::optional_input(context, 2)? } else { None };
        let mut output = tensor::output(context, 0, &self.shape)?;
        let (left_shape, left) = tensor::elements(&left)?;
        let (right_shape, right) = tensor::elements(&right)?;
        let bias = bias.as_ref().map(tensor::elements).transpose()?.map(|(_, bias)| bias);
        let to = tensor::elements_mut(&mut output)?;
        let (scratch, each) = (&self.scratch, in_parallel_of(context));
        let Self { way, settings, shape, .. } = self;
        match way {
            Way::Forward => {
                let convolution = Convolution::new(&left_shape, &right_shape, shape, settings)?;
                if bias.is_some_and(|bias| bias.len() != convolution.output.channels) {
                    return Err(ort::Error::new("a convolution's bias has a number for each filter"));
                }
                let forward = if winograd::suits(&convolution) { winograd::forward } else { columns::forward };
                forward(&convolution, (left, right, bias), to, scratch, &each)
            }
            Way::InputGradient => {
                let convolution = Convolution::new(shape, &right_shape, &left_shape, settings)?;
                let suits = winograd::suits(&convolution);
                let gradient = if suits { winograd::input_gradient } else { columns::input_gradient };
                gradient(&convolution, (left, right), to, scratch, &each)
            }
            Way::WeightGradient => {
                let convolution = Convolution::new(&left_shape, shape, &right_shape, settings)?;
                let suits = winograd::suits(&convolution);
                let gradient = if suits { winograd::weight_gradient } else { columns::weight_gradient };
                gradient(&convolution, (left, right), to, scratch, &each)
            }
        }
    }
}
