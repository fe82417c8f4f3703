//! `SoftmaxGradient(dY, Y) -> dX` along the last axis, in f32 and of one shape.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;
use regatta_kernels::softmax_gradient;

use super::{in_parallel, tensor};

pub struct SoftmaxGradient;

impl Operator for SoftmaxGradient {
    type Kernel<'a> = SoftmaxGradientKernel;

    fn name(&self) -> &str {
        "SoftmaxGradient"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..2).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, _: &KernelContext<'a>) -> ort::Result<SoftmaxGradientKernel> {
        Ok(SoftmaxGradientKernel)
    }
}

pub struct SoftmaxGradientKernel;

impl Kernel for SoftmaxGradientKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (dy, y) = (tensor::input(context, 0)?, tensor::input(context, 1)?);
        let ((shape, dy), (y_shape, y)) = (tensor::elements(&dy)?, tensor::elements(&y)?);
        if shape != y_shape {
            return Err(ort::Error::new(format!("SoftmaxGradient: {y_shape:?} is not of shape {shape:?}")));
        }
        let width = shape.last().copied().unwrap_or(1);
        let mut dx = tensor::output(context, 0, &shape)?;
        let dx = tensor::elements_mut(&mut dx)?;
        in_parallel(context, |each| softmax_gradient(dy, y, width, dx, each))
    }
}
