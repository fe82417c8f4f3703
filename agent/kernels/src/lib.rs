//! Loops over numbers that training on a CPU spends its time in.
//!
//! A crate of its own because it is compiled with every optimisation even where the rest is not. It knows slices only:
//! no graph, no runtime; threads are its caller's.

mod adamw;
mod batch_norm;
pub mod convolution;
mod elementwise;
mod gelu;
mod layer_norm;
mod normal;
mod pooling;
mod product;
mod scratch;
mod softmax;
mod sums;
#[cfg(test)]
mod testing;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use adamw::AdamW;
pub use batch_norm::{BatchNorm, Statistics};
pub use elementwise::relu_gradient;
pub use gelu::Gelu;
pub use layer_norm::LayerNorm;
pub use normal::{NORMALS, normal};
pub use pooling::MaxPool;
pub use product::MatrixProduct;
pub use scratch::Scratch;
pub use softmax::softmax_gradient;

/// Calls a function for every number below a count, on as many threads as its owner has, and returns after the last.
pub type InParallel<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Sync + Send));

/// A part that only one thread takes: the lock never waits, it shows the compiler that threads do not share.
pub fn alone<T: ?Sized>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What outputs are at least: zero where they are rectified.
fn floor(rectifies: bool) -> f32 {
    if rectifies { 0.0 } else { f32::NEG_INFINITY }
}

/// The floor in the place of what is below it; what is no number stays so.
#[inline(always)]
fn raised(number: f32, floor: f32) -> f32 {
    if number < floor { floor } else { number }
}

/// Calls a function that is compiled for each width of vectors, with the widest that the processor has.
/// Only what is inlined into it is.
fn vectorized<R>(function: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(function)
}
