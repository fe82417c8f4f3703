//! Random search (Bergstra and Bengio, 2012): each configuration on its own, whatever was measured.
//!
//! Where parameters have priors, every second configuration is drawn from these, and the others from the whole space.
//! Configuration k depends on (seed, k) alone. A duplicate of an earlier one is drawn again; since the earlier ones
//! too follow from the seed, that changes nothing of this.

use regatta_schemas::study::Domain;
use regatta_schemas::{ParamValue, Params};

use super::Sampler;
use super::tried::Tried;
use crate::news::News;
use crate::random::{Purpose, word};
use crate::space::{Space, sample};

/// Configurations that are uniform over a space, or every second one by its priors.
#[derive(Debug, Clone)]
pub struct Draws {
    space: Space,
    seed: u64,
}

impl Draws {
    pub fn new(space: Space, seed: u64) -> Self {
        Self { space, seed }
    }

    pub fn space(&self) -> &Space {
        &self.space
    }

    pub fn params(&self, index: u64, redraw: u64) -> Params {
        self.space.configure(|name, domain| self.value(name, domain, index, redraw))
    }

    /// One parameter's value, independent of the others'.
    pub fn value(&self, name: &str, domain: &Domain, index: u64, redraw: u64) -> ParamValue {
        let word = word(Purpose { study_seed: self.seed, name, index, redraw });
        if is_by_prior(&self.space, index) {
            self.space.sample_believed(name, domain, word)
        } else {
            sample(domain, word)
        }
    }
}

/// Whether configuration number `index` is one of those that a space's priors make: half of them, so that wrong ones
/// take no more than half of what is drawn.
pub fn is_by_prior(space: &Space, index: u64) -> bool {
    space.has_priors() && index.is_multiple_of(2)
}

#[derive(Debug)]
pub struct Random {
    draws: Draws,
    tried: Tried,
}

impl Random {
    pub fn new(space: Space, seed: u64) -> Self {
        Self { tried: Tried::new(space.clone(), seed), draws: Draws::new(space, seed) }
    }
}

impl Sampler for Random {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        self.tried.first_new(index, pending, |redraw| self.draws.params(index, redraw))
    }

    fn observe(&mut self, news: News) {
        self.tried.observe(news);
    }
}
