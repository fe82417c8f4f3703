//! Operators of our own: what ONNX's would do in many passes over the memory, in few.
//!
//! Each has a formulation in ONNX's operators, which is the reference. Those of the CPU are each a computation; on CUDA
//! runs of operators are compiled into a kernel, and cuDNN computes what ONNX Runtime has no operator for.

mod adamw;
mod attribute;
mod batch_norm;
mod convolution;
mod elementwise;
mod fused;
mod gelu;
mod kernel_gradient;
mod layer_norm;
mod pooling;
mod product;
mod softmax;
mod tensor;

use std::cell::RefCell;
use std::sync::Arc;

use ort::environment::Environment;
use ort::operator::{ComputeContext, OperatorDomain};
use ort::session::Session;
use regatta_autodiff::graph::{Dtype, Graph, Provider};
use regatta_autodiff::own::DOMAIN;
use regatta_kernels::{InParallel, Scratch};

use super::kernels::Kernels;
use super::nvidia::{DeviceKernels, Nvidia};
use super::{RuntimeError, refused, unset};
use adamw::AdamW;
use convolution::Conv;

/// Of a graph on a CUDA device.
pub(super) fn cuda_domain(nvidia: &Arc<Nvidia>, tf32: bool) -> ort::Result<OperatorDomain> {
    let kernels = Arc::new(DeviceKernels::new(Arc::clone(nvidia)));
    OperatorDomain::new(DOMAIN)?
        .add(fused::Fused { kernels, is_on_cuda: true })?
        .add(kernel_gradient::ConvWeightGradient { nvidia: Arc::clone(nvidia), tf32 })
}

/// Of a graph on the CPU, for a session of so many threads; with kernels of the host's, where there are such.
pub(super) fn domain(kernels: Option<Arc<dyn Kernels>>, threads: usize) -> ort::Result<OperatorDomain> {
    let domain = match kernels {
        Some(kernels) => OperatorDomain::new(DOMAIN)?.add(fused::Fused { kernels, is_on_cuda: false })?,
        None => OperatorDomain::new(DOMAIN)?,
    };
    let scratch = Scratch::default();
    domain
        .add(AdamW)?
        .add(Conv::forward(&scratch))?
        .add(Conv::input_gradient(&scratch))?
        .add(Conv::weight_gradient(&scratch))?
        .add(batch_norm::Forward)?
        .add(batch_norm::Gradient)?
        .add(elementwise::ReluGradient)?
        .add(gelu::GeluGradient)?
        .add(layer_norm::LayerNormGradient)?
        .add(pooling::MaxPool)?
        .add(pooling::MaxPoolGradient)?
        .add(product::Gemm { threads })?
        .add(softmax::SoftmaxGradient)
}

/// Compiles a first graph with the operators, to be called before a second thread has the environment.
///
/// ONNX Runtime writes the name of a domain into a table of the whole process when a first session brings it, without a
/// lock: where two sessions are the first, one is refused (onnxruntime's issue 26366).
pub(super) fn announce(environment: &Environment) -> Result<(), RuntimeError> {
    let mut graph = Graph::new(Provider::Cpu);
    let one = graph.scalar(Dtype::F32, 1.0);
    graph.output(one);
    Session::builder(environment)?
        .with_intra_threads(1)
        .map_err(unset)?
        .with_operators(domain(None, 1)?)
        .map_err(unset)?
        .commit_from_memory(&graph.encode())
        .map_err(refused)?;
    Ok(())
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
