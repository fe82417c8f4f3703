//! Two samplers for one study: a careful one, and a quick one for as long as a fleet asks faster than the careful one thinks.
//!
//! The pace is that of the log, so that whoever read the same log has the same asked.

use std::collections::VecDeque;
use std::time::Duration;

use regatta_schemas::Params;

use super::Sampler;
use crate::news::News;
use crate::time::Time;

/// The latest proposals whose pace counts: a burst of fewer is thought about.
pub const LATEST: usize = 256;
/// When they were all made within this time, the next is the quick one's.
pub const HURRY: Duration = Duration::from_secs(16);

#[derive(Debug)]
pub struct Paced {
    careful: Box<dyn Sampler>,
    quick: Box<dyn Sampler>,
    /// When the latest configurations were proposed.
    latest: VecDeque<Time>,
    /// The number of the one after them.
    next: u64,
}

impl Paced {
    pub fn new(careful: Box<dyn Sampler>, quick: Box<dyn Sampler>) -> Self {
        Self { careful, quick, latest: VecDeque::with_capacity(LATEST), next: 0 }
    }

    fn is_in_a_hurry(&self) -> bool {
        match (self.latest.front(), self.latest.back()) {
            (Some(first), Some(last)) => self.latest.len() == LATEST && last.since(*first) < HURRY,
            _ => false,
        }
    }
}

impl Sampler for Paced {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        if self.is_in_a_hurry() { self.quick.propose(index, pending) } else { self.careful.propose(index, pending) }
    }

    fn observe(&mut self, news: News) {
        if let News::Proposed { index: Some(index), at, .. } = news
            && index >= self.next
        {
            self.next = index + 1;
            if self.latest.len() == LATEST {
                self.latest.pop_front();
            }
            self.latest.push_back(at);
        }
        self.careful.observe(news);
        self.quick.observe(news);
    }
}
