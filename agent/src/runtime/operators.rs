//! Operators of our own for graphs on the CPU: what ONNX's would do in many passes over the memory, in few.
//!
//! Each has a formulation in ONNX's operators, which is the reference, and what runs on every other device.

mod adamw;
mod attribute;
mod batch_norm;
mod convolution;
mod elementwise;
mod gelu;
mod layer_norm;
mod pooling;
mod softmax;
mod tensor;

use std::cell::RefCell;

use ort::operator::{ComputeContext, OperatorDomain};
use regatta_autodiff::own::DOMAIN;
use regatta_kernels::{InParallel, Scratch};

use adamw::AdamW;
use convolution::Conv;

pub(super) fn domain() -> ort::Result<OperatorDomain> {
    let scratch = Scratch::default();
    OperatorDomain::new(DOMAIN)?
        .add(AdamW)?
        .add(Conv::forward(&scratch))?
        .add(Conv::input_gradient(&scratch))?
        .add(Conv::weight_gradient(&scratch))?
        .add(batch_norm::Forward)?
        .add(batch_norm::Gradient)?
        .add(elementwise::ReluGradient)?
        .add(gelu::GeluGradient)?
        .add(layer_norm::LayerNormGradient)?
        .add(pooling::MaxPoolGradient)?
        .add(softmax::SoftmaxGradient)
}

/// Hands a computation the threads of the session.
fn in_parallel(context: &ComputeContext, compute: impl FnOnce(InParallel<'_>)) -> ort::Result<()> {
    let failure = RefCell::new(None);
    compute(&|count, part| {
        if let Err(error) = context.par_for(count, 0, part) {
            failure.replace(Some(error));
        }
    });
    failure.into_inner().map_or(Ok(()), Err)
}
