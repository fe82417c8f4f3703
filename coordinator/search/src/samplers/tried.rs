//! The configurations that a sampler has proposed, so that none is tried twice.

use std::collections::BTreeSet;

use regatta_schemas::{ParamValue, Params};

use crate::hash::Fnv128;
use crate::news::News;
use crate::random::{Purpose, below, word};
use crate::space::Space;

/// Draws of one configuration before the unused ones of a finite space are listed instead.
const DRAWS_MAX: u64 = 64;

/// Chooses among what a finite space has left. The name is none that a parameter can have.
const LEFT: &str = "what is left";

#[derive(Debug)]
pub struct Tried {
    space: Space,
    seed: u64,
    /// How many configurations the space holds. None: never exhausted.
    cardinality: Option<u64>,
    keys: BTreeSet<u128>,
}

impl Tried {
    pub fn new(space: Space, seed: u64) -> Self {
        Self { cardinality: space.cardinality(), space, seed, keys: BTreeSet::new() }
    }

    /// Remembers what the sampler itself proposed; what came from outside may be tried again.
    pub fn observe(&mut self, news: News) {
        if let News::Proposed { index: Some(_), params, .. } = news {
            self.keys.insert(key(params));
        }
    }

    /// The first of `draw(0)`, `draw(1)`... that was not tried, and, where a finite space gives none soon, one of what
    /// it has left. None: nothing is left. An infinite space, nearly all of whose weight is on few configurations, gives
    /// one of these again.
    pub fn first_new(&self, index: u64, pending: &[&Params], draw: impl Fn(u64) -> Params) -> Option<Params> {
        let pending: BTreeSet<u128> = pending.iter().map(|params| key(params)).collect();
        let is_new = |params: &Params| {
            let key = key(params);
            !self.keys.contains(&key) && !pending.contains(&key)
        };
        if self.cardinality.is_some_and(|count| (self.keys.len() + pending.len()) as u64 >= count) {
            return None;
        }
        (0..DRAWS_MAX)
            .map(&draw)
            .find(&is_new)
            .or_else(|| self.pick_left(index, is_new))
            .or_else(|| self.cardinality.is_none().then(|| draw(0)))
    }

    /// One of the configurations that were not tried; None: there is none, or the space is not finite.
    fn pick_left(&self, index: u64, is_new: impl Fn(&Params) -> bool) -> Option<Params> {
        self.cardinality?;
        let mut left: Vec<Params> = self.space.full_lattice()?.configurations().filter(is_new).collect();
        if left.is_empty() {
            return None;
        }
        let bits = word(Purpose { study_seed: self.seed, name: LEFT, index, redraw: 0 });
        Some(left.swap_remove(below(bits, left.len() as u64) as usize))
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
