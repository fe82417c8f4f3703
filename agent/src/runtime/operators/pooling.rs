//! `MaxPool(X) -> Y` of windows of 2x2 side by side, and `MaxPoolGradient(dY, X) -> dX` with the attributes `kernel_shape`,
//! `strides`, `dilations`, `begins`, which is how far planes are padded at their front, and `of_rectified`. X is f32
//! `[N, C, H, W]`, Y and dY are `[N, C, down, across]`.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::{attribute, in_parallel, tensor};

pub struct MaxPool;

impl Operator for MaxPool {
    type Kernel<'a> = MaxPoolKernel;

    fn name(&self) -> &str {
        "MaxPool"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, _: &KernelContext<'a>) -> ort::Result<MaxPoolKernel> {
        Ok(MaxPoolKernel)
    }
}

pub struct MaxPoolKernel;

impl Kernel for MaxPoolKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let x = tensor::input(context, 0)?;
        let (shape, x) = tensor::elements(&x)?;
        let &[images, channels, height, width] = &shape[..] else {
            return Err(ort::Error::new(format!("MaxPool: {shape:?} is not in two dimensions")));
        };
        let pool = regatta_kernels::MaxPool::quarters([height, width]);
        let [down, across] = pool.windows;
        let mut y = tensor::output(context, 0, &[images, channels, down, across])?;
        let y = tensor::elements_mut(&mut y)?;
        in_parallel(context, |each| pool.maxima(x, y, each))
    }
}

pub struct MaxPoolGradient;

impl Operator for MaxPoolGradient {
    type Kernel<'a> = MaxPoolGradientKernel;

    fn name(&self) -> &str {
        "MaxPoolGradient"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..2).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<MaxPoolGradientKernel> {
        Ok(MaxPoolGradientKernel {
            kernel: attribute::sizes(context, "kernel_shape", &[])?,
            strides: attribute::sizes(context, "strides", &[1, 1])?,
            dilations: attribute::sizes(context, "dilations", &[1, 1])?,
            before: attribute::sizes(context, "begins", &[0, 0])?,
            of_rectified: context.get::<i64>("of_rectified") == Some(1),
        })
    }
}

pub struct MaxPoolGradientKernel {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    before: [usize; 2],
    of_rectified: bool,
}

impl Kernel for MaxPoolGradientKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (dy, x) = (tensor::input(context, 0)?, tensor::input(context, 1)?);
        let ((windows, dy), (shape, x)) = (tensor::elements(&dy)?, tensor::elements(&x)?);
        let (&[images, channels, down, across], &[_, _, height, width]) = (&windows[..], &shape[..]) else {
            return Err(ort::Error::new(format!("MaxPoolGradient: {windows:?} of {shape:?} is not in two dimensions")));
        };
        if shape[..2] != [images, channels] {
            return Err(ort::Error::new(format!("MaxPoolGradient: {windows:?} does not belong to {shape:?}")));
        }
        let Self { kernel, strides, dilations, before, of_rectified } = *self;
        let (plane, windows) = ([height, width], [down, across]);
        let pool = regatta_kernels::MaxPool { plane, windows, kernel, strides, dilations, before, of_rectified };
        let mut dx = tensor::output(context, 0, &shape)?;
        let dx = tensor::elements_mut(&mut dx)?;
        in_parallel(context, |each| pool.gradient(x, dy, dx, each))
    }
}
