//! Everything random in a training, each as a function of a seed and of what it is for: ChaCha8, one stream each.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use regatta_kernels::NORMALS;

/// What numbers are drawn for. Each purpose has generators of its own.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Order = 1,
    Weights = 2,
    Noise = 3,
    Shares = 4,
}

/// The rows of an epoch in the order of training.
pub fn permutation(seed: u64, epoch: u64, rows: usize) -> Vec<i64> {
    let mut generator = generator(seed, Purpose::Order, epoch);
    let mut order: Vec<i64> = (0..).take(rows).collect();
    for last in (1..rows).rev() {
        order.swap(last, below(&mut generator, last + 1));
    }
    order
}

/// Initial weights of the parameter at `position`: uniform in `-bound .. bound`.
pub fn weights(seed: u64, position: u64, bound: f64, to: &mut [f32]) {
    draw(generator(seed, Purpose::Weights, position), to, 1, WORDS_OF_UNIT, |generator, part| {
        #[expect(clippy::cast_possible_truncation, reason = "weights are single precision")]
        part.fill_with(|| (bound * (2.0 * unit(generator) - 1.0)) as f32);
    });
}

/// Initial weights of the parameter at `position`: normal with mean 0.
pub fn normal(seed: u64, position: u64, deviation: f64, to: &mut [f32]) {
    /// Normal numbers that are made at once.
    const BLOCK: usize = 16 * NORMALS;

    #[expect(clippy::cast_possible_truncation, reason = "weights are single precision")]
    let deviation = deviation as f32;
    draw(generator(seed, Purpose::Weights, position), to, BLOCK, 1, |generator, part| {
        let (mut words, mut numbers) = ([0; BLOCK], [0.0; BLOCK]);
        for part in part.chunks_mut(BLOCK) {
            words.fill_with(|| generator.next_u32());
            regatta_kernels::normal(&words, deviation, &mut numbers);
            part.copy_from_slice(&numbers[..part.len()]);
        }
    });
}

/// Draws numbers that take so many words of the generator each, by all processors, whole blocks by each: the same as one
/// after the other.
fn draw(
    generator: ChaCha8Rng,
    numbers: &mut [f32],
    block: usize,
    words: u128,
    draw: impl Fn(&mut ChaCha8Rng, &mut [f32]) + Sync,
) {
    /// So many are drawn before another thread would have begun.
    const ALONE: usize = 1 << 15;

    let count = numbers.len();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count / ALONE).max(1);
    let share = count.div_ceil(threads).next_multiple_of(block).max(block);
    let fill = |at: usize, part: &mut [f32]| {
        let mut generator = generator.clone();
        generator.set_word_pos(at as u128 * words);
        draw(&mut generator, part);
    };
    let (own, others) = numbers.split_at_mut(share.min(count));
    let left: Vec<usize> = std::thread::scope(|scope| {
        let begin = |(position, part)| {
            let at = share * (position + 1);
            let begun = std::thread::Builder::new().spawn_scoped(scope, move || fill(at, part));
            begun.is_err().then_some(at)
        };
        let left = others.chunks_mut(share).enumerate().filter_map(begin).collect();
        fill(0, own);
        left
    });
    // Where the system has no more threads.
    for at in left {
        fill(at, &mut numbers[at..count.min(at + share)]);
    }
}

/// The noise pool of a width, the same for all trials: a trial's seed chooses rows of it.
pub fn noise(width: usize, count: usize) -> Vec<f32> {
    let mut generator = generator(0, Purpose::Noise, width as u64);
    // 24 bits, so that no number rounds up to one.
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
    let number = |_| (generator.next_u32() >> 8) as f32 / (1 << 24) as f32;
    (0..count).map(number).collect()
}

/// A number from the Beta distribution with both parameters `alpha`, for this step.
///
/// Of two gamma variates, as logarithms: for a small `alpha` both may be too small for any other form.
pub fn beta(seed: u64, step: u64, alpha: f64) -> f64 {
    let mut generator = generator(seed, Purpose::Shares, step);
    let one = gamma_logarithm(&mut generator, alpha);
    let other = gamma_logarithm(&mut generator, alpha);
    1.0 / (1.0 + (other - one).exp())
}

/// The logarithm of a gamma variate (Marsaglia and Tsang, 2000).
fn gamma_logarithm(generator: &mut ChaCha8Rng, shape: f64) -> f64 {
    // Their method is for shapes above one; a smaller one is one more, times a power of a uniform number.
    let d = shape + 1.0 - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = standard_normal(generator);
        let v = (1.0 + c * x).powi(3);
        let uniform = 1.0 - unit(generator);
        if v > 0.0 && uniform.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln() + (1.0 - unit(generator)).ln() / shape;
        }
    }
}

/// Of two uniform numbers (Box and Muller, 1958), in double precision.
fn standard_normal(generator: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(generator)).ln()).sqrt();
    let angle = 2.0 * std::f64::consts::PI * unit(generator);
    radius * angle.cos()
}

fn generator(seed: u64, purpose: Purpose, stream: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = purpose as u8;
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(stream);
    generator
}

/// What `unit` takes of a generator.
const WORDS_OF_UNIT: u128 = 2;

fn unit(generator: &mut ChaCha8Rng) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let number = (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    number
}

/// A position below `bound`; the bias is below 2^-40 for any data that fits in memory.
fn below(generator: &mut ChaCha8Rng, bound: usize) -> usize {
    let wide = u128::from(generator.next_u64()) * bound as u128;
    usize::try_from(wide >> 64).expect("the product's high half is below the bound")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_holds_every_row_once_and_differs_by_epoch_and_seed() {
        let order = permutation(7, 0, 100);
        let mut sorted = order.clone();
        sorted.sort_unstable();

        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_eq!(order, permutation(7, 0, 100));
        assert_ne!(order, permutation(7, 1, 100));
        assert_ne!(order, permutation(8, 0, 100));
    }

    #[test]
    fn shares_are_of_the_beta_distribution() {
        for alpha in [0.1, 1.0, 4.0] {
            let shares: Vec<f64> = (0..20_000).map(|step| beta(3, step, alpha)).collect();
            assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
            let mean = shares.iter().sum::<f64>() / 20_000.0;
            let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / 20_000.0;
            // Of a distribution with both parameters alpha: 1 / 2 and 1 / (8 alpha + 4).
            assert!((mean - 0.5).abs() < 0.01, "{alpha}: {mean}");
            assert!((variance * (8.0 * alpha + 4.0) - 1.0).abs() < 0.05, "{alpha}: {variance}");
        }
        assert!((0..1000).all(|step| (0.0..=1.0).contains(&beta(3, step, 1e-6))));
    }

    #[test]
    fn many_weights_are_the_same_as_one_after_the_other() {
        let count: usize = 300_001;
        let mut one = generator(5, Purpose::Weights, 3);
        let mut words = vec![0; count.next_multiple_of(NORMALS)];
        words.fill_with(|| one.next_u32());
        let mut expected = vec![f32::NAN; words.len()];
        regatta_kernels::normal(&words, 0.5, &mut expected);
        expected.truncate(count);
        let mut found = vec![f32::NAN; count];
        normal(5, 3, 0.5, &mut found);
        assert!(found == expected);
        let mut one = generator(5, Purpose::Weights, 4);
        let expected: Vec<f32> = (0..count).map(|_| (0.25 * (2.0 * unit(&mut one) - 1.0)) as f32).collect();
        weights(5, 4, 0.25, &mut found);
        assert!(found == expected);
        weights(5, 4, 0.25, &mut []);
    }

    #[test]
    fn normal_weights_are_of_the_normal_distribution() {
        let count = 1 << 20;
        let mut numbers = vec![f32::NAN; count];
        normal(5, 3, 2.0, &mut numbers);
        let numbers: Vec<f64> = numbers.iter().map(|number| f64::from(number / 2.0)).collect();
        let moment = |power: i32| numbers.iter().map(|number| number.powi(power)).sum::<f64>() / count as f64;
        for (power, expected) in [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0), (6, 15.0)] {
            let tolerance = 0.005 * f64::from(power * power);
            assert!((moment(power) - expected).abs() < tolerance, "{power}: {}", moment(power));
        }
        let neighbours: f64 = numbers.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / count as f64;
        assert!(neighbours.abs() < 0.005, "{neighbours}");
        let beyond = |limit: f64| numbers.iter().filter(|number| number.abs() > limit).count() as f64 / count as f64;
        for (limit, share) in [(1.0, 0.31731), (2.0, 0.04550), (3.0, 0.00270)] {
            assert!((beyond(limit) / share - 1.0).abs() < 0.1, "{limit}: {}", beyond(limit));
        }
    }

    #[test]
    fn draws_stay_in_their_ranges() {
        let mut drawn = [f32::NAN; 1000];
        weights(1, 0, 0.25, &mut drawn);
        assert!(drawn.iter().all(|weight| weight.abs() <= 0.25));
        assert!(noise(10, 1000).iter().all(|number| (0.0..1.0).contains(number)));
    }
}
