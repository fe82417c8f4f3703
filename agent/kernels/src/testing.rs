//! What tests of several operators share.

/// One number after the other, as [`InParallel`](crate::InParallel).
pub fn in_turn(count: usize, part: &(dyn Fn(usize) + Sync + Send)) {
    (0..count).for_each(part);
}

/// So many numbers of `-0.5 .. 0.5` without a pattern (SplitMix64), others for each seed.
pub fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let mixed = |at: usize| {
        let state = ((seed << 40) + at + 1) as u64;
        let z = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 40
    };
    (0..count).map(|at| mixed(at) as f32 / 16_777_216.0 - 0.5).collect()
}
