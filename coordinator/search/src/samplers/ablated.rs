//! The trials of an ablation: as many as it has, all without parameters. What each leaves out follows from its number.

use regatta_schemas::Params;

use super::Sampler;
use crate::news::News;

#[derive(Debug)]
pub struct Ablated {
    trials: u64,
}

impl Ablated {
    pub fn new(trials: u64) -> Self {
        Self { trials }
    }
}

impl Sampler for Ablated {
    fn propose(&self, index: u64, _pending: &[&Params]) -> Option<Params> {
        (index < self.trials).then(Params::new)
    }

    fn observe(&mut self, _news: News) {}
}
