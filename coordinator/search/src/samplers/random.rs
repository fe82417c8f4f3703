//! Random search (Bergstra and Bengio, 2012): each configuration on its own, whatever was measured.
//!
//! Configuration k depends on (seed, k) alone. A duplicate of an earlier one is drawn again; since the earlier ones
//! too follow from the seed, that changes nothing of this.

use regatta_schemas::Params;

use super::Sampler;
use super::tried::Tried;
use crate::news::News;
use crate::random::{Purpose, word};
use crate::space::{Space, sample};

#[derive(Debug)]
pub struct Random {
    space: Space,
    seed: u64,
    tried: Tried,
}

impl Random {
    pub fn new(space: Space, seed: u64) -> Self {
        Self { tried: Tried::new(space.clone(), seed), space, seed }
    }

    fn draw(&self, index: u64, redraw: u64) -> Params {
        let seed = self.seed;
        self.space.configure(|name, domain| sample(domain, word(Purpose { study_seed: seed, name, index, redraw })))
    }
}

impl Sampler for Random {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        self.tried.first_new(index, pending, |redraw| self.draw(index, redraw))
    }

    fn observe(&mut self, news: News) {
        if let News::Proposed { index: Some(_), params, .. } = news {
            self.tried.insert(params);
        }
    }
}
