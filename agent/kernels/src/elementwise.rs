//! Functions of each element by itself that would take several passes over the memory.

use std::sync::Mutex;

use crate::{InParallel, alone, vectorized};

/// Elements that one thread takes at a time.
const PART: usize = 16_384;

/// `dx = dy` where `y` is positive, else zero. All have the same length.
pub fn relu_gradient(dy: &[f32], y: &[f32], dx: &mut [f32], each: InParallel<'_>) {
    let parts: Vec<_> = dx.chunks_mut(PART).zip(dy.chunks(PART).zip(y.chunks(PART))).map(Mutex::new).collect();
    each(parts.len(), &|at| {
        let mut part = alone(&parts[at]);
        let (dx, (dy, y)) = &mut *part;
        vectorized(
            #[inline(always)]
            || {
                for ((dx, dy), y) in dx.iter_mut().zip(*dy).zip(*y) {
                    *dx = if *y > 0.0 { *dy } else { 0.0 };
                }
            },
        );
    });
}
