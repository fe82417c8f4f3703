//! `LayerNormGradient(dY, X, scale, mean, inverse) -> (dX, dscale, dbias)`, in f32. scale, dscale and dbias have the
//! shape of the last axes of X, which are normalised; the statistics an element for each position before them.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;
use regatta_kernels::LayerNorm;

use super::{in_parallel, tensor};

pub struct LayerNormGradient;

impl Operator for LayerNormGradient {
    type Kernel<'a> = LayerNormGradientKernel;

    fn name(&self) -> &str {
        "LayerNormGradient"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..5).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..3).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'a>(&self, _: &KernelContext<'a>) -> ort::Result<LayerNormGradientKernel> {
        Ok(LayerNormGradientKernel)
    }
}

pub struct LayerNormGradientKernel;

impl Kernel for LayerNormGradientKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = (0..5).map(|at| tensor::input(context, at)).collect::<ort::Result<Vec<_>>>()?;
        let (shape, dy) = tensor::elements(&inputs[0])?;
        let (x_shape, x) = tensor::elements(&inputs[1])?;
        let (columns, scale) = tensor::elements(&inputs[2])?;
        let (mean, inverse) = (tensor::elements(&inputs[3])?.1, tensor::elements(&inputs[4])?.1);
        let norm = LayerNorm { rows: mean.len(), width: scale.len() };
        let fits = x_shape == shape && shape.ends_with(&columns) && inverse.len() == norm.rows;
        if !fits || norm.rows * norm.width != dy.len() {
            let reason = format!("LayerNormGradient: {x_shape:?}, {columns:?} and {} rows of {shape:?}", norm.rows);
            return Err(ort::Error::new(reason));
        }
        let mut dx = tensor::output(context, 0, &shape)?;
        let mut dscale = tensor::output(context, 1, &columns)?;
        let mut dbias = tensor::output(context, 2, &columns)?;
        let dx = tensor::elements_mut(&mut dx)?;
        let sums = (tensor::elements_mut(&mut dscale)?, tensor::elements_mut(&mut dbias)?);
        in_parallel(context, |each| norm.gradient((dy, x, scale), (mean, inverse), dx, sums, each))
    }
}
