//! Random numbers that depend on what they are for, and on nothing else: not on how many were drawn before.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use regatta_schemas::TrialId;

use crate::hash::fnv64;

/// What a number is drawn for.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    pub study_seed: u64,
    /// Numbers of different names are independent.
    pub name: &'a str,
    /// Which one of a series.
    pub index: u64,
    /// Which try at it.
    pub redraw: u64,
}

/// 64 uniform bits. ChaCha8, its stream the index, its key the rest.
pub fn word(purpose: Purpose) -> u64 {
    generator(purpose).next_u64()
}

fn generator(purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&purpose.study_seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv64(purpose.name.as_bytes()).to_le_bytes());
    key[16..24].copy_from_slice(&purpose.redraw.to_le_bytes());
    let mut stream = ChaCha8Rng::from_seed(key);
    stream.set_stream(purpose.index);
    stream
}

/// The seed of everything random inside a trial. The name is none that a parameter can have.
pub fn trial_seed(study_seed: u64, trial: TrialId) -> u64 {
    word(Purpose { study_seed, name: "seed of a trial", index: u64::from(trial.0), redraw: 0 })
}

/// The seed of all trials of one repeat of an ablation. The name is none that a parameter can have.
pub fn repeat_seed(study_seed: u64, repeat: u32) -> u64 {
    word(Purpose { study_seed, name: "seed of a repeat", index: repeat.into(), redraw: 0 })
}

/// 53 of the bits as a number in [0, 1).
pub fn unit(word: u64) -> f64 {
    (word >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// A number below `count`, uniform to within 2^-64.
pub fn below(word: u64, count: u64) -> u64 {
    ((u128::from(word) * u128::from(count)) >> 64) as u64
}

/// Which of the shares, of whatever sum, a number in [0, 1) falls on.
pub fn pick(shares: &[f64], unit: f64) -> usize {
    let mut left = unit * shares.iter().sum::<f64>();
    let found = shares.iter().position(|share| {
        left -= share;
        left < 0.0
    });
    found.unwrap_or(shares.len().saturating_sub(1))
}

/// As many numbers as are wanted for one purpose.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    pub fn new(purpose: Purpose) -> Self {
        Self(generator(purpose))
    }

    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        unit(self.word())
    }

    /// A whole number below `count`, which is above 0.
    pub fn below(&mut self, count: usize) -> usize {
        below(self.word(), count as u64) as usize
    }

    /// Standard normal (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.unit(), self.unit());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}
