//! Batch normalisation of [`regatta_kernels`] as operators, in f32 and with X of shape `[N, C, ...]`.
//!
//! `BatchNorm(X, scale, bias) -> (Y, mean, variance, inverse)` with the attribute `epsilon`, and `rectifies` where zero takes
//! the place of what is below it in Y; the variance is the unbiased one, `inverse` one over the standard deviation.
//! `BatchNormGradient(dY, X, scale, mean, inverse) -> (dX, dscale, dbias)`.
//! All but X and Y, and their gradients, have shape `[C]`.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;
use regatta_kernels::{BatchNorm, Statistics};

use super::{attribute, in_parallel, tensor};

pub struct Forward;
pub struct Gradient;

impl Operator for Forward {
    type Kernel<'a> = ForwardKernel;

    fn name(&self) -> &str {
        "BatchNorm"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..3).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..4).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<ForwardKernel> {
        let epsilon = context.get("epsilon").ok_or_else(|| ort::Error::new("BatchNorm needs an epsilon"))?;
        Ok(ForwardKernel { epsilon, rectifies: attribute::size(context, "rectifies", 0)? != 0 })
    }
}

pub struct ForwardKernel {
    epsilon: f32,
    rectifies: bool,
}

impl Kernel for ForwardKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (x, scale, bias) = (tensor::input(context, 0)?, tensor::input(context, 1)?, tensor::input(context, 2)?);
        let (shape, x) = tensor::elements(&x)?;
        let form = form(&shape)?;
        let (scale, bias) = (channel(&scale, form)?, channel(&bias, form)?);
        let mut y = tensor::output(context, 0, &shape)?;
        let mut kept = Vec::with_capacity(3);
        for at in 1..4 {
            kept.push(tensor::output(context, at, &[form.channels])?);
        }
        let [mean, variance, inverse] = &mut kept[..] else {
            return Err(ort::Error::new("BatchNorm has three statistics"));
        };
        let statistics = Statistics {
            mean: tensor::elements_mut(mean)?,
            variance: tensor::elements_mut(variance)?,
            inverse: tensor::elements_mut(inverse)?,
        };
        let y = tensor::elements_mut(&mut y)?;
        let how = (self.epsilon, self.rectifies);
        in_parallel(context, |each| form.forward((x, scale, bias), how, y, statistics, each))
    }
}

impl Operator for Gradient {
    type Kernel<'a> = GradientKernel;

    fn name(&self) -> &str {
        "BatchNormGradient"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..5).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..3).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'a>(&self, _: &KernelContext<'a>) -> ort::Result<GradientKernel> {
        Ok(GradientKernel)
    }
}

pub struct GradientKernel;

impl Kernel for GradientKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = (0..5).map(|at| tensor::input(context, at)).collect::<ort::Result<Vec<_>>>()?;
        let (shape, dy) = tensor::elements(&inputs[0])?;
        let (x_shape, x) = tensor::elements(&inputs[1])?;
        let form = form(&shape)?;
        if x_shape != shape {
            return Err(ort::Error::new(format!("BatchNormGradient: {x_shape:?} is not of shape {shape:?}")));
        }
        let scale = channel(&inputs[2], form)?;
        let statistics = (channel(&inputs[3], form)?, channel(&inputs[4], form)?);
        let mut dx = tensor::output(context, 0, &shape)?;
        let mut dscale = tensor::output(context, 1, &[form.channels])?;
        let mut dbias = tensor::output(context, 2, &[form.channels])?;
        let dx = tensor::elements_mut(&mut dx)?;
        let sums = (tensor::elements_mut(&mut dscale)?, tensor::elements_mut(&mut dbias)?);
        in_parallel(context, |each| form.gradient((dy, x, scale), statistics, dx, sums, each))
    }
}

fn form(shape: &[usize]) -> ort::Result<BatchNorm> {
    match shape {
        [images, channels, plane @ ..] if !shape.contains(&0) => {
            Ok(BatchNorm { images: *images, channels: *channels, plane: plane.iter().product() })
        }
        _ => Err(ort::Error::new(format!("{shape:?} has no channels to normalise"))),
    }
}

fn channel<'a>(input: &'a tensor::Input<'_>, form: BatchNorm) -> ort::Result<&'a [f32]> {
    let (shape, elements) = tensor::elements(input)?;
    if shape == [form.channels] {
        Ok(elements)
    } else {
        Err(ort::Error::new(format!("{shape:?} has not a number for each of {} channels", form.channels)))
    }
}
