//! Elementwise functions of [`regatta_kernels`] as operators: `ReluGradient(dY, Y) -> dX`, in f32 and of one shape.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;
use regatta_kernels::relu_gradient;

use super::{in_parallel, tensor};

pub struct ReluGradient;

impl Operator for ReluGradient {
    type Kernel<'a> = ReluGradientKernel;

    fn name(&self) -> &str {
        "ReluGradient"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..2).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, _: &KernelContext<'a>) -> ort::Result<ReluGradientKernel> {
        Ok(ReluGradientKernel)
    }
}

pub struct ReluGradientKernel;

impl Kernel for ReluGradientKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (dy, y) = (tensor::input(context, 0)?, tensor::input(context, 1)?);
        let ((shape, dy), (y_shape, y)) = (tensor::elements(&dy)?, tensor::elements(&y)?);
        if shape != y_shape {
            return Err(ort::Error::new(format!("ReluGradient: {y_shape:?} is not of shape {shape:?}")));
        }
        let mut dx = tensor::output(context, 0, &shape)?;
        let dx = tensor::elements_mut(&mut dx)?;
        in_parallel(context, |each| relu_gradient(dy, y, dx, each))
    }
}
