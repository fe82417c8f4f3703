//! What tests of several operators share.

/// One number after the other, as [`InParallel`](crate::InParallel).
pub fn in_turn(count: usize, part: &(dyn Fn(usize) + Sync + Send)) {
    (0..count).for_each(part);
}

/// So many numbers of `-0.5 .. 0.5`, others for each seed.
pub fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 31 + seed * 1009) * 7919 % 10_007) as f32 / 10_007.0 - 0.5).collect()
}
