//! The gradient of a convolution's kernel on a CUDA device, by cuDNN:
//! `ConvWeightGradient(image, response) -> kernel`, all of f32 or all of f16, `[N, C, H, W]`, `[N, M, H', W']` and `[M, C, h, w]`.
//!
//! Attributes: `strides`, `dilations`, `pads` (as many after as before), and `shape`, the kernel's.

use std::ffi::c_void;
use std::sync::Arc;

use ort::ep::cuda::resource::CuDNNHandle;
use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext,
};
use ort::value::{Shape, SymbolicDimensions, TensorElementType, ValueType};

use super::{attribute, tensor};
use crate::runtime::nvidia::{Convolution, KernelGradient, Nvidia};

pub struct ConvWeightGradient {
    pub nvidia: Arc<Nvidia>,
    pub tf32: bool,
}

impl Operator for ConvWeightGradient {
    type Kernel<'a> = ConvWeightGradientKernel;

    fn name(&self) -> &str {
        "ConvWeightGradient"
    }

    fn execution_provider_type(&self) -> Option<&str> {
        Some("CUDAExecutionProvider")
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::variadic(2)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::variadic(1)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<ConvWeightGradientKernel> {
        let [top, left, _, _] = attribute::sizes(context, "pads", &[0; 4])?;
        let of = Convolution {
            image: [0; 4],
            response: [0; 4],
            kernel: attribute::sizes(context, "shape", &[])?,
            pads: [top, left],
            strides: attribute::sizes(context, "strides", &[1, 1])?,
            dilations: attribute::sizes(context, "dilations", &[1, 1])?,
            is_half: false,
            tf32: self.tf32,
        };
        Ok(ConvWeightGradientKernel { nvidia: Arc::clone(&self.nvidia), of, gradient: None })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let shape = context.attr::<Vec<i64>>("shape")?;
        let dimension_symbols = SymbolicDimensions::empty(shape.len());
        let ty = match context.inputs().first() {
            Some(ValueType::Tensor { ty, .. }) => *ty,
            _ => TensorElementType::Float32,
        };
        let of = ValueType::Tensor { ty, shape: Shape::new(shape), dimension_symbols };
        context.set_output(0, &of)
    }
}

pub struct ConvWeightGradientKernel {
    nvidia: Arc<Nvidia>,
    /// With type, images and responses of the last run.
    of: Convolution,
    gradient: Option<KernelGradient>,
}

impl Kernel for ConvWeightGradientKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let handle: *mut c_void = context.resource(CuDNNHandle)?.cast_mut().cast();
        let (image, response) = (tensor::input(context, 0)?, tensor::input(context, 1)?);
        let is_half = *image.data_type() == TensorElementType::Float16;
        let given = (is_half, tensor::sizes(&image)?, tensor::sizes(&response)?);
        if self.gradient.is_none() || (self.of.is_half, self.of.image, self.of.response) != given {
            (self.of.is_half, self.of.image, self.of.response) = given;
            self.gradient = Some(self.nvidia.kernel_gradient(handle, &self.of).map_err(ort::Error::new)?);
        }
        let gradient = self.gradient.as_ref().ok_or_else(|| tensor::missing("gradient", 0))?;
        let kernel = tensor::output(context, 0, &self.of.kernel)?;
        let allocator = context.allocator(kernel.memory_info())?;
        // It goes back at once, and the stream's next kernels may take it: they run after this one.
        let workspace = match gradient.workspace_bytes {
            0 => None,
            bytes => Some(allocator.alloc::<u8>(bytes)?),
        };
        let memory = workspace.as_ref().map_or(std::ptr::null_mut(), |block| block.as_ptr().cast_mut());
        let operands = (image.data_ptr().cast(), response.data_ptr().cast());
        gradient.compute(handle, operands, memory.cast(), kernel.data_ptr().cast_mut().cast()).map_err(ort::Error::new)
    }
}
