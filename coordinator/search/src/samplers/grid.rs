//! Grid search: every combination of the parameters' values, each exactly once.
//!
//! Values with steps or choices are all taken; a range without a step gives `points` values. Where a parameter does
//! not exist its values are not counted through.

use regatta_schemas::Params;

use super::Sampler;
use crate::news::News;
use crate::space::{Cursor, Lattice, Space, values_for_grid};

#[derive(Debug)]
pub struct Grid {
    lattice: Lattice,
    /// The number of the configuration that `next` points at.
    next_index: u64,
    /// None: the grid is done.
    next: Option<Cursor>,
}

impl Grid {
    pub fn new(space: Space, points: u32) -> Self {
        let lattice = lattice(space, points);
        Self { next_index: 0, next: Some(lattice.first()), lattice }
    }

    /// The position of configuration number `index`.
    fn seek(&self, index: u64) -> Option<Cursor> {
        let (mut at, mut cursor) = match &self.next {
            _ if index < self.next_index => (0, self.lattice.first()),
            Some(cursor) => (self.next_index, cursor.clone()),
            None => return None,
        };
        while at < index {
            cursor = self.lattice.next(&cursor)?;
            at += 1;
        }
        Some(cursor)
    }
}

/// Every combination, where a range without a step has so many values.
pub fn lattice(space: Space, points: u32) -> Lattice {
    let values = space.parameters().map(|(_, parameter)| values_for_grid(&parameter.domain, points)).collect();
    Lattice::new(space, values)
}

impl Sampler for Grid {
    fn propose(&self, index: u64, _pending: &[&Params]) -> Option<Params> {
        Some(self.lattice.params(&self.seek(index)?))
    }

    fn observe(&mut self, news: News) {
        if let News::Proposed { index: Some(index), .. } = news
            && index >= self.next_index
        {
            self.next = self.seek(index + 1);
            self.next_index = index + 1;
        }
    }
}
