//! `GeluGradient(dY, X) -> dX`, in f32 and of one shape, with ONNX's attribute `approximate` of `Gelu`.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;
use regatta_kernels::Gelu;

use super::{in_parallel, tensor};

pub struct GeluGradient;

impl Operator for GeluGradient {
    type Kernel<'a> = GeluGradientKernel;

    fn name(&self) -> &str {
        "GeluGradient"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..2).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<GeluGradientKernel> {
        let approximation: String = context.get("approximate").unwrap_or_else(|| "none".to_owned());
        match approximation.as_str() {
            "none" => Ok(GeluGradientKernel { gelu: Gelu::Exact }),
            "tanh" => Ok(GeluGradientKernel { gelu: Gelu::Tanh }),
            _ => Err(ort::Error::new(format!("GeluGradient: no approximation {approximation:?}"))),
        }
    }
}

pub struct GeluGradientKernel {
    gelu: Gelu,
}

impl Kernel for GeluGradientKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (dy, x) = (tensor::input(context, 0)?, tensor::input(context, 1)?);
        let ((shape, dy), (x_shape, x)) = (tensor::elements(&dy)?, tensor::elements(&x)?);
        if shape != x_shape {
            return Err(ort::Error::new(format!("GeluGradient: {x_shape:?} is not of shape {shape:?}")));
        }
        let mut dx = tensor::output(context, 0, &shape)?;
        let dx = tensor::elements_mut(&mut dx)?;
        in_parallel(context, |each| self.gelu.gradient(dy, x, dx, each))
    }
}
