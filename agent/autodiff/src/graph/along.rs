//! Linear maps along one axis: exact, and the same on every provider.

use std::collections::BTreeMap;

use super::{Attribute, Constant, Elements, Graph, GraphError, Provider, Transposed, Value};

/// Elements of the largest matrix that a map is written as. Of more it would be mostly zeros.
const DENSE_MAX: usize = 1 << 22;

/// The most terms of an element, where a map is not written as a matrix.
const TERMS_MAX: usize = 64;

/// The most that are written so on CUDA whatever the size: kernels of ours take them up, where a product with one matrix
/// for all would have it repeated for each.
const CUDA_TERMS_MAX: usize = 8;

/// The most shares that a map is made of.
const SHARES_MAX: usize = 1 << 22;

/// Which share of each element along an axis goes to which element of the axis that results.
#[derive(Debug, Clone)]
pub(crate) struct LinearMap {
    /// Elements of the axis that results.
    to: usize,
    /// Elements of the axis that is mapped.
    from: usize,
    /// By (to, from).
    shares: BTreeMap<(usize, usize), f64>,
    has_more: bool,
}

impl LinearMap {
    /// The sum of shares, which are no more than are looked at.
    pub fn new(to: usize, from: usize, shares: impl Iterator<Item = (usize, usize, f64)>) -> Self {
        let mut map = Self { to, from, shares: BTreeMap::new(), has_more: false };
        let mut shares = shares.peekable();
        for (to, from, share) in shares.by_ref().take(SHARES_MAX) {
            *map.shares.entry((to, from)).or_default() += share;
        }
        map.has_more = shares.peek().is_some();
        map
    }

    fn is_dense(&self) -> bool {
        self.to.checked_mul(self.from).is_some_and(|elements| elements <= DENSE_MAX)
    }

    /// Why it is not to be written, where it is too large in any form.
    pub fn refusal(&self) -> Option<String> {
        let Self { to, from, .. } = self;
        if self.has_more {
            return Some(format!("{from} elements make {to} in more than {SHARES_MAX} shares"));
        }
        if self.is_dense() {
            return None;
        }
        let most = self.terms_max();
        let is_short = most <= TERMS_MAX && to.checked_mul(most).is_some_and(|shares| shares <= SHARES_MAX);
        (!is_short).then(|| {
            format!("up to {most} of {from} elements make one of {to}, and of axes this long at most {TERMS_MAX} may")
        })
    }

    /// How many terms any element has at most.
    fn terms_max(&self) -> usize {
        let by_element: Vec<usize> = self.shares.keys().map(|(to, _)| *to).collect();
        by_element.chunk_by(|one, other| one == other).map(<[usize]>::len).max().unwrap_or(0)
    }

    /// Row by row.
    fn matrix(&self) -> Elements {
        let mut elements = vec![0.0; self.to * self.from];
        for (&(to, from), &share) in &self.shares {
            elements[to * self.from + from] = share;
        }
        Elements::Float(elements)
    }

    /// Each element's n-th place on the axis that is mapped, and the share of it, for each n that any element has.
    fn terms(&self) -> Vec<(Vec<i64>, Vec<f64>)> {
        let mut terms: Vec<(Vec<i64>, Vec<f64>)> = Vec::new();
        let mut taken = vec![0; self.to];
        for (&(to, from), &share) in &self.shares {
            if taken[to] == terms.len() {
                terms.push((vec![0; self.to], vec![0.0; self.to]));
            }
            let (places, shares) = &mut terms[taken[to]];
            places[to] = i64::try_from(from).expect("a place on an axis fits in an i64");
            shares[to] = share;
            taken[to] += 1;
        }
        terms
    }
}

impl Graph {
    /// The map of what lies along an axis, of which nothing [is to be refused](LinearMap::refusal).
    pub(crate) fn along_axis(&mut self, value: Value, axis: usize, map: &LinearMap) -> Result<Value, GraphError> {
        let mut shape = self.shape(value).to_vec();
        let (outer, inner): (usize, usize) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
        let has_few_terms = self.provider() == Provider::Cuda && map.terms_max() <= CUDA_TERMS_MAX;
        let mapped = if !map.is_dense() || has_few_terms {
            self.by_terms(value, axis, map)?
        } else {
            let matrix = self.constant_like(value, &[map.to, map.from], map.matrix());
            if inner == 1 {
                let rows = self.reshape(value, &[outer, map.from])?;
                self.gemm(rows, matrix, Transposed { left: false, right: true })?
            } else {
                let blocks = self.reshape(value, &[outer, map.from, inner])?;
                self.matmul(matrix, blocks)?
            }
        };
        shape[axis] = map.to;
        self.reshape(mapped, &shape)
    }

    /// What is gathered for each term, times its shares.
    fn by_terms(&mut self, value: Value, axis: usize, map: &LinearMap) -> Result<Value, GraphError> {
        let mut wide = vec![1; self.shape(value).len() - axis];
        wide[0] = map.to;
        let mut sum = None;
        for (places, shares) in map.terms() {
            let places = self.int_vector(places);
            let attribute = Attribute::Int(i64::try_from(axis).expect("an axis fits in an i64"));
            let gathered = self.node("Gather", &[value, places], &[("axis", attribute)])?;
            let shares = self.constant_like(value, &wide, Elements::Float(shares));
            let term = self.mul(gathered, shares)?;
            sum = Some(match sum {
                Some(sum) => self.add(sum, term)?,
                None => term,
            });
        }
        match sum {
            Some(sum) => Ok(sum),
            None => {
                let mut shape = self.shape(value).to_vec();
                shape[axis] = map.to;
                self.zeros_like(value, &shape)
            }
        }
    }

    fn constant_like(&mut self, value: Value, shape: &[usize], elements: Elements) -> Value {
        self.constant(Constant { dtype: self.dtype(value), shape: shape.to_vec(), elements })
    }
}
