//! `Gemm(A, B[, C]) -> Y` with the attributes `transA` and `transB`, and `shape`, which is that of Y. A and Y are f32 of any
//! number of axes, the last of which are columns and all others rows (A turned: two); B is f32 of two axes, C `[columns]`.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;
use regatta_kernels::MatrixProduct;

use super::{attribute, in_parallel, tensor};

pub struct Gemm {
    /// Of the session.
    pub threads: usize,
}

impl Operator for Gemm {
    type Kernel<'a> = GemmKernel;

    fn name(&self) -> &str {
        "Gemm"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let bias = OperatorInput::optional(TensorElementType::Float32);
        (0..2).map(|_| OperatorInput::required(TensorElementType::Float32)).chain([bias])
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<GemmKernel> {
        Ok(GemmKernel {
            is_left_turned: attribute::size(context, "transA", 0)? != 0,
            is_right_turned: attribute::size(context, "transB", 0)? != 0,
            shape: attribute::list(context, "shape", &[])?,
            threads: self.threads,
        })
    }
}

pub struct GemmKernel {
    is_left_turned: bool,
    is_right_turned: bool,
    /// Of what it gives.
    shape: Vec<usize>,
    threads: usize,
}

impl Kernel for GemmKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (left, right) = (tensor::input(context, 0)?, tensor::input(context, 1)?);
        let bias = tensor::optional_input(context, 2)?;
        let mut output = tensor::output(context, 0, &self.shape)?;
        let ((left_shape, left), (right_shape, right)) = (tensor::elements(&left)?, tensor::elements(&right)?);
        let bias = bias.as_ref().map(tensor::elements).transpose()?.map(|(_, bias)| bias);
        let to = tensor::elements_mut(&mut output)?;
        let Self { is_left_turned, is_right_turned, ref shape, threads } = *self;
        let unfit = || ort::Error::new(format!("a product of {left_shape:?} and {right_shape:?} is not {shape:?}"));
        let (Some((&columns, all_rows)), &[first, second]) = (shape.split_last(), right_shape.as_slice()) else {
            return Err(unfit());
        };
        let (inner, right_columns) = if is_right_turned { (second, first) } else { (first, second) };
        let rows = all_rows.iter().product();
        let left_fits = match left_shape.as_slice() {
            _ if left.len() != rows * inner => false,
            &[first, _] if is_left_turned => first == inner,
            [.., last] => !is_left_turned && *last == inner,
            [] => false,
        };
        if !left_fits || right_columns != columns || bias.is_some_and(|bias| bias.len() != columns) {
            return Err(unfit());
        }
        let product = MatrixProduct { rows, inner, columns, is_left_turned, is_right_turned };
        in_parallel(context, |each| product.compute((left, right, bias), to, threads, each))
    }
}
