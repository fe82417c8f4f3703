//! How many multiplications a thread does each second when it never waits for the memory: what no program can train
//! faster than. Prints GFLOP/s (a multiplication and an addition are two operations), the best and the median of 20 tries.
//!
//!     cargo run --release -p regatta-kernels --example multiply_rate

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};

const ROUNDS: usize = 5_000_000;
/// Chains that do not depend on each other: as many as hide how long one multiplication takes.
const CHAINS: usize = 12;

struct Chains;

impl WithSimd for Chains {
    /// The number of operations.
    type Output = usize;

    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let factor = simd.splat_f32s(black_box(0.999));
        let term = simd.splat_f32s(black_box(0.001));
        let mut chains = [simd.splat_f32s(1.0); CHAINS];
        for _ in 0..ROUNDS {
            for chain in &mut chains {
                *chain = simd.mul_add_f32s(*chain, factor, term);
            }
        }
        for chain in chains {
            black_box(simd.reduce_sum_f32s(chain));
        }
        2 * ROUNDS * CHAINS * S::F32_LANES
    }
}

fn main() {
    let mut rates: Vec<f64> = (0..20)
        .map(|_| {
            let start = Instant::now();
            #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
            let operations = Arch::new().dispatch(Chains) as f64;
            operations / start.elapsed().as_secs_f64() / 1e9
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    println!("best {:.0} GFLOP/s, median {:.0} GFLOP/s", rates[rates.len() - 1], rates[rates.len() / 2]);
}
