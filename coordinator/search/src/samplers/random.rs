//! Random search (Bergstra and Bengio, 2012): each configuration on its own, whatever was measured.
//!
//! Configuration k depends on (seed, k) alone. A duplicate of an earlier one is drawn again; since the earlier ones
//! too follow from the seed, that changes nothing of this.

use std::collections::BTreeSet;

use regatta_schemas::{ParamValue, Params};

use super::Sampler;
use crate::hash::Fnv128;
use crate::random::{Purpose, below, word};
use crate::space::{Space, sample};

/// Draws of one configuration before the unused ones of a finite space are listed instead.
const DRAWS_MAX: u64 = 64;

/// Chooses among what a finite space has left. The name is none that a parameter can have.
const LEFT: &str = "what is left";

#[derive(Debug)]
pub struct Random {
    space: Space,
    seed: u64,
    /// None: never exhausted.
    cardinality: Option<u64>,
    tried: BTreeSet<u128>,
}

impl Random {
    pub fn new(space: Space, seed: u64) -> Self {
        Self { cardinality: space.cardinality(), space, seed, tried: BTreeSet::new() }
    }

    fn draw(&self, index: u64, redraw: u64) -> Params {
        let seed = self.seed;
        self.space.configure(|name, domain| sample(domain, word(Purpose { study_seed: seed, name, index, redraw })))
    }

    /// One of the configurations that were not tried; None: there is none, or the space is not finite.
    fn pick_left(&self, index: u64, is_tried: impl Fn(&Params) -> bool) -> Option<Params> {
        self.cardinality?;
        let mut left: Vec<Params> =
            self.space.full_lattice()?.configurations().filter(|params| !is_tried(params)).collect();
        if left.is_empty() {
            return None;
        }
        let bits = word(Purpose { study_seed: self.seed, name: LEFT, index, redraw: 0 });
        Some(left.swap_remove(below(bits, left.len() as u64) as usize))
    }
}

impl Sampler for Random {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        let pending: BTreeSet<u128> = pending.iter().map(|params| key(params)).collect();
        if self.cardinality.is_some_and(|count| (self.tried.len() + pending.len()) as u64 >= count) {
            return None;
        }
        let is_tried = |params: &Params| {
            let key = key(params);
            self.tried.contains(&key) || pending.contains(&key)
        };
        (0..DRAWS_MAX)
            .map(|redraw| self.draw(index, redraw))
            .find(|params| !is_tried(params))
            .or_else(|| self.pick_left(index, is_tried))
            // An infinite space, nearly all of whose weight is on few configurations: one of these again.
            .or_else(|| self.cardinality.is_none().then(|| self.draw(index, 0)))
    }

    fn observe(&mut self, _index: u64, params: &Params) {
        self.tried.insert(key(params));
    }
}

/// The same for equal configurations, and for no others.
fn key(params: &Params) -> u128 {
    let mut hash = Fnv128::default();
    for (name, value) in params {
        hash.write(name.as_bytes());
        match value {
            ParamValue::Bool(value) => hash.write(&[0, u8::from(*value)]),
            ParamValue::Int(value) => {
                hash.write(&[1]);
                hash.write(&value.to_le_bytes());
            }
            ParamValue::Float(value) => {
                hash.write(&[2]);
                hash.write(&value.to_bits().to_le_bytes());
            }
            ParamValue::Text(value) => {
                hash.write(&[3]);
                hash.write(value.as_bytes());
            }
        }
        hash.write(&[0xff]);
    }
    hash.finish()
}
