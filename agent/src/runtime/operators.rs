//! Operators of our own for graphs on the CPU: what ONNX's would do in many passes over the memory, in few.
//!
//! Each has a formulation in ONNX's operators, which is the reference, and what runs on every other device.

mod adamw;
mod convolution;
mod product;
mod scratch;
mod tensor;

use std::sync::{Mutex, MutexGuard, PoisonError};

use ort::operator::{ComputeContext, OperatorDomain};
use regatta_autodiff::own::DOMAIN;

use adamw::AdamW;
use convolution::Conv;
use scratch::Scratch;

pub(super) fn domain() -> ort::Result<OperatorDomain> {
    let scratch = Scratch::default();
    OperatorDomain::new(DOMAIN)?
        .add(AdamW)?
        .add(Conv::forward(&scratch))?
        .add(Conv::input_gradient(&scratch))?
        .add(Conv::weight_gradient(&scratch))
}

/// Calls a function for every number below a count, on the threads of the session.
type InParallel<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Sync + Send)) -> ort::Result<()>;

fn in_parallel_of(context: &ComputeContext) -> impl Fn(usize, &(dyn Fn(usize) + Sync + Send)) -> ort::Result<()> {
    |count, part| context.par_for(count, 0, part)
}

/// A part that only one thread takes: the lock never waits, it shows the compiler that threads do not share.
fn alone<T: ?Sized>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls a function that is compiled for each width of vectors, with the widest that the processor has.
/// Only what is inlined into it is.
fn vectorized<R>(function: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(function)
}
