//! The convolutions of [`regatta_kernels`] as operators.
//!
//! `Conv(X, W[, B]) -> Y`, `ConvInputGradient(dY, W) -> dX` and `ConvWeightGradient(X, dY) -> dW` with the attributes of
//! ONNX's `Conv`. X is f32 `[N, C, H, W]`, W `[F, C / group, KH, KW]`, Y `[N, F, OH, OW]`. Each names in `shape` the shape of
//! what it gives. Where a `Conv` `rectifies`, zero takes the place of what is below it.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;
use regatta_kernels::Scratch;
use regatta_kernels::convolution::{Convolution, Ending, Settings};

use super::{attribute, in_parallel, tensor};

fn settings(context: &KernelContext<'_>) -> ort::Result<Settings> {
    Ok(Settings {
        strides: attribute::sizes(context, "strides", &[1, 1])?,
        dilations: attribute::sizes(context, "dilations", &[1, 1])?,
        pads: attribute::sizes(context, "pads", &[0; 4])?,
        groups: attribute::size(context, "group", 1)?,
    })
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
        let shape = attribute::list(context, "shape", &[])?;
        let (way, scratch) = (self.way, self.scratch.clone());
        let rectifies = attribute::size(context, "rectifies", 0)? != 0;
        Ok(ConvKernel { way, settings: settings(context)?, rectifies, shape, scratch })
    }
}

pub struct ConvKernel {
    way: Way,
    settings: Settings,
    rectifies: bool,
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
        let Self { way, settings, rectifies, shape, scratch } = self;
        let (x, w, y) = match way {
            Way::Forward => (&left_shape, &right_shape, &*shape),
            Way::InputGradient => (&*shape, &right_shape, &left_shape),
            Way::WeightGradient => (&left_shape, &*shape, &right_shape),
        };
        let convolution = Convolution::new(x, w, y, *settings).map_err(|unfit| ort::Error::new(unfit.to_string()))?;
        if bias.is_some_and(|bias| bias.len() != convolution.filters()) {
            return Err(ort::Error::new("a convolution's bias has a number for each filter"));
        }
        let ending = Ending { bias, rectifies: *rectifies };
        in_parallel(context, |each| match way {
            Way::Forward => convolution.forward((left, right, ending), to, scratch, each),
            Way::InputGradient => convolution.input_gradient((left, right), to, scratch, each),
            Way::WeightGradient => convolution.weight_gradient((left, right), to, scratch, each),
        })
    }
}
