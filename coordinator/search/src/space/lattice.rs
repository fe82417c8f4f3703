//! Finitely many values for each parameter, and the configurations made of them, each exactly once.
//!
//! The configurations form a tree, a level for each parameter, parents first. A parameter that does not exist
//! under its parents' values has one empty branch, so conditions cause no duplicates.

use regatta_schemas::limits::LIMITS;
use regatta_schemas::{ParamValue, Params};

use super::Space;

/// A space whose parameters take listed values.
#[derive(Debug, Clone, PartialEq)]
pub struct Lattice {
    space: Space,
    /// In the order of the space's parameters.
    values: Vec<Vec<ParamValue>>,
}

/// One configuration of a lattice: for each parameter which value, or None where it does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Vec<Option<usize>>);

impl Lattice {
    /// One list of values for each of the space's parameters, in their order; none is empty.
    pub fn new(space: Space, values: Vec<Vec<ParamValue>>) -> Self {
        debug_assert_eq!(space.parameters().len(), values.len());
        Self { space, values }
    }

    pub fn first(&self) -> Cursor {
        self.completed(Vec::with_capacity(self.values.len()))
    }

    /// The configuration after this one; the last parameter turns fastest.
    pub fn next(&self, cursor: &Cursor) -> Option<Cursor> {
        let turning = (0..self.values.len())
            .rev()
            .find(|level| cursor.0[*level].is_some_and(|position| position + 1 < self.values[*level].len()))?;
        let mut positions = cursor.0[..turning].to_vec();
        positions.push(cursor.0[turning].map(|position| position + 1));
        Some(self.completed(positions))
    }

    pub fn params(&self, cursor: &Cursor) -> Params {
        self.params_of(&cursor.0)
    }

    /// Every configuration, in order.
    pub fn configurations(&self) -> impl Iterator<Item = Params> {
        std::iter::successors(Some(self.first()), |cursor| self.next(cursor)).map(|cursor| self.params(&cursor))
    }

    /// How many configurations there are; None: more than a study may try.
    pub fn count(&self) -> Option<u64> {
        let count = self.count_below(0, &mut Params::new());
        (count <= u64::from(LIMITS.trials_max)).then_some(count)
    }

    /// Stops counting soon after the limit.
    fn count_below(&self, level: usize, params: &mut Params) -> u64 {
        let Some((name, parameter)) = self.space.parameters.get(level) else { return 1 };
        if !parameter.is_active(params) {
            return self.count_below(level + 1, params);
        }
        let values = &self.values[level];
        if !self.space.is_parent(name) {
            return (values.len() as u64).saturating_mul(self.count_below(level + 1, params));
        }
        let mut count: u64 = 0;
        for value in values {
            params.insert(name.clone(), value.clone());
            count = count.saturating_add(self.count_below(level + 1, params));
            params.remove(name);
            if count > u64::from(LIMITS.trials_max) {
                break;
            }
        }
        count
    }

    /// Goes on from the first levels' positions with the first value of each further parameter that exists.
    fn completed(&self, mut positions: Vec<Option<usize>>) -> Cursor {
        let mut params = self.params_of(&positions);
        for level in positions.len()..self.values.len() {
            let (name, parameter) = &self.space.parameters[level];
            let is_active = parameter.is_active(&params);
            if is_active {
                params.insert(name.clone(), self.values[level][0].clone());
            }
            positions.push(is_active.then_some(0));
        }
        Cursor(positions)
    }

    fn params_of(&self, positions: &[Option<usize>]) -> Params {
        let levels = positions.iter().zip(self.space.parameters()).zip(&self.values);
        levels
            .filter_map(|((position, (name, _)), values)| position.map(|n| (name.to_owned(), values[n].clone())))
            .collect()
    }
}
