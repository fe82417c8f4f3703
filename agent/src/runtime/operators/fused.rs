//! A region of a graph as one kernel on a CUDA device: see [`regatta_autodiff::fuse`].

use std::sync::Arc;

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext,
};
use ort::value::{Shape, SymbolicDimensions, TensorElementType, ValueType};
use regatta_autodiff::fuse::{FUSED, Together, WAITS_FOR};
use regatta_autodiff::graph::Dtype;

use super::tensor;
use crate::runtime::kernels::Kernels;

/// `Fused(inputs) -> outputs`, of any types. Attributes: `source`, what to compile; `elements`, and how
/// threads share in these, `together`; how many of the
/// last inputs are only waited for; and for the outputs `types` (ONNX's numbers), and `shapes`: of each its rank and its sizes.
pub struct Fused {
    pub kernels: Arc<dyn Kernels>,
    /// On a CUDA device; else on the host.
    pub is_on_cuda: bool,
}

impl Operator for Fused {
    type Kernel<'a> = FusedKernel;

    fn name(&self) -> &str {
        FUSED
    }

    fn execution_provider_type(&self) -> Option<&str> {
        self.is_on_cuda.then_some("CUDAExecutionProvider")
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::variadic(1)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::variadic(1)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<FusedKernel> {
        let ints = |name: &str| -> ort::Result<Vec<i64>> { context.get(name).ok_or_else(|| missing(name)) };
        let source: String = context.get("source").ok_or_else(|| missing("source"))?;
        let elements = ints("elements")?.first().copied().and_then(|count| usize::try_from(count).ok());
        let together = context.get::<i64>("together").and_then(Together::of);
        let waits_for = context.get::<i64>(WAITS_FOR).and_then(|count| usize::try_from(count).ok());
        Ok(FusedKernel {
            waits_for: waits_for.unwrap_or(0),
            is_on_cuda: self.is_on_cuda,
            number: self.kernels.add(source),
            kernels: Arc::clone(&self.kernels),
            elements: (elements.ok_or_else(|| missing("elements"))?, together.ok_or_else(|| missing("together"))?),
            shapes: shapes(&ints("shapes")?)?,
        })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let ints = |name: &str| context.attr::<Vec<i64>>(name);
        let (types, shapes) = (ints("types")?, shapes(&ints("shapes")?)?);
        for (at, (code, shape)) in types.into_iter().zip(shapes).enumerate() {
            let dimension_symbols = SymbolicDimensions::empty(shape.len());
            let of = ValueType::Tensor { ty: element_type(code)?, shape: Shape::new(shape), dimension_symbols };
            context.set_output(at, &of)?;
        }
        Ok(())
    }
}

pub struct FusedKernel {
    waits_for: usize,
    is_on_cuda: bool,
    kernels: Arc<dyn Kernels>,
    number: usize,
    elements: (usize, Together),
    /// Of the outputs.
    shapes: Vec<Vec<i64>>,
}

impl Kernel for FusedKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let mut pointers = Vec::with_capacity(context.num_inputs()? + self.shapes.len());
        for at in 0..context.num_inputs()?.saturating_sub(self.waits_for) {
            pointers.push(tensor::input(context, at)?.data_ptr().cast_mut());
        }
        for (at, shape) in self.shapes.iter().enumerate() {
            let output = context.output(at, shape.as_slice())?.ok_or_else(|| tensor::missing("output", at))?;
            let output: tensor::Output<'_> = output.downcast()?;
            pointers.push(output.data_ptr().cast_mut());
        }
        let stream = if self.is_on_cuda { context.stream()? } else { None };
        let stream = stream.map_or(std::ptr::null_mut(), std::ptr::NonNull::as_ptr);
        self.kernels.launch(self.number, self.elements, stream.cast(), &pointers).map_err(ort::Error::new)
    }
}

fn missing(name: &str) -> ort::Error {
    ort::Error::new(format!("{FUSED}: the attribute `{name}` is missing"))
}

/// Of each its rank and its sizes.
fn shapes(numbers: &[i64]) -> ort::Result<Vec<Vec<i64>>> {
    let mut rest = numbers;
    let mut shapes = Vec::new();
    while let Some((rank, others)) = rest.split_first() {
        let split = usize::try_from(*rank).ok().and_then(|rank| others.split_at_checked(rank));
        let (shape, others) = split.ok_or_else(|| missing("shapes"))?;
        shapes.push(shape.to_vec());
        rest = others;
    }
    Ok(shapes)
}

fn element_type(code: i64) -> ort::Result<TensorElementType> {
    let dtype = Dtype::of_code(code).ok_or_else(|| missing("types"))?;
    Ok(match dtype {
        Dtype::F16 => TensorElementType::Float16,
        Dtype::Bf16 => TensorElementType::Bfloat16,
        Dtype::F32 => TensorElementType::Float32,
        Dtype::F64 => TensorElementType::Float64,
        Dtype::U8 => TensorElementType::Uint8,
        Dtype::I32 => TensorElementType::Int32,
        Dtype::I64 => TensorElementType::Int64,
        Dtype::Bool => TensorElementType::Bool,
    })
}
