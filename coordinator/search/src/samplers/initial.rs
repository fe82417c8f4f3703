//! Configurations that somebody wants tried first, then those of a sampler.
//!
//! The sampler learns of them as of any trial from outside.

use regatta_schemas::Params;

use super::Sampler;
use crate::news::News;

#[derive(Debug)]
pub struct Initial {
    configurations: Vec<Params>,
    then: Box<dyn Sampler>,
}

impl Initial {
    pub fn new(configurations: Vec<Params>, then: Box<dyn Sampler>) -> Self {
        Self { configurations, then }
    }

    /// The number that the sampler knows a configuration by.
    fn number(&self, index: u64) -> Option<u64> {
        index.checked_sub(self.configurations.len() as u64)
    }
}

impl Sampler for Initial {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        match self.number(index) {
            Some(number) => self.then.propose(number, pending),
            None => self.configurations.get(index as usize).cloned(),
        }
    }

    fn observe(&mut self, news: News) {
        let news = match news {
            News::Proposed { trial, index: Some(index), params, at } => {
                News::Proposed { trial, index: self.number(index), params, at }
            }
            News::Proposed { .. } | News::Measured(_) | News::Ended { .. } => news,
        };
        self.then.observe(news);
    }
}
