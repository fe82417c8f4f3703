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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::operator::{ComputeContext, OperatorDomain};
use ort::session::Session;
use regatta_autodiff::graph::{Dtype, Graph, Provider};
use regatta_autodiff::own::DOMAIN;
use regatta_kernels::{InParallel, Scratch, alone};

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

/// Hands a computation the threads of the session. A panic of it or of a part, which must not reach ONNX Runtime (the process
/// would be aborted), is an error.
fn in_parallel(context: &ComputeContext, compute: impl FnOnce(InParallel<'_>)) -> ort::Result<()> {
    let failure = Mutex::new(None);
    let keep = |outcome: ort::Result<()>| {
        if let Err(error) = outcome {
            alone(&failure).get_or_insert(error);
        }
    };
    keep(caught(|| compute(&|count, part| keep(context.par_for(count, 0, |at| keep(caught(|| part(at))))))));
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// What a computation leaves half done when it panics is thrown away with the trial.
fn caught(compute: impl FnOnce()) -> ort::Result<()> {
    let reason = "a kernel of ours panicked, which is a fault of it: the agent's standard error says where";
    catch_unwind(AssertUnwindSafe(compute)).map_err(|_| ort::Error::new(reason))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ort::operator::{Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
    use ort::value::{Tensor, TensorElementType};

    use super::*;

    /// Panics in a part, or before there are parts.
    struct Panics {
        in_a_part: bool,
    }

    impl Operator for Panics {
        type Kernel<'a> = Self;

        fn name(&self) -> &str {
            "Panics"
        }

        fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
            [OperatorInput::required(TensorElementType::Float32)]
        }

        fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
            [OperatorOutput::required(TensorElementType::Float32)]
        }

        fn create_kernel<'a>(&self, _: &KernelContext<'a>) -> ort::Result<Self> {
            Ok(Self { ..*self })
        }
    }

    impl Kernel for Panics {
        fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
            drop(tensor::output(context, 0, &[1])?);
            in_parallel(context, |each| {
                assert!(self.in_a_part, "before there are parts");
                each(8, &|at| assert!(at < 5, "in part {at}"));
            })
        }
    }

    #[test]
    fn a_kernel_that_panics_is_an_error() {
        let library = std::env::var_os("ORT_DYLIB_PATH").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.regatta/lib/libonnxruntime.so")),
            PathBuf::from,
        );
        let environment = super::super::environment(&library).expect("scripts/setup was run");
        for in_a_part in [false, true] {
            let mut graph = Graph::new(Provider::Cpu);
            let x = graph.input("x", Dtype::F32, &[1]).expect("its name is free");
            let outputs = [(Dtype::F32, vec![1])];
            let y = graph.custom((DOMAIN, "Panics"), &[x], &[], &outputs).expect("it is well formed")[0];
            graph.output(y);
            let session = || {
                let domain = OperatorDomain::new(DOMAIN)?.add(Panics { in_a_part })?;
                let mut builder = Session::builder(&environment)?.with_intra_threads(2)?.with_operators(domain)?;
                builder.commit_from_memory(&graph.encode())
            };
            let mut session = session().expect("it compiles");
            for _ in 0..2 {
                let x = Tensor::from_array(([1], vec![0.0_f32])).expect("it has one element");
                let error = session.run(ort::inputs![x]).map(|_| ()).expect_err("it panicked");
                assert!(error.to_string().contains("panicked"), "{error}");
            }
        }
    }
}
