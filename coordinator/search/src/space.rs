//! The space that a study searches: its parameters, parents first, and what configurations it holds.
//!
//! It knows no sampler. Conditions are evaluated in dependency order, so that chains of them work.

mod coordinates;
mod domain;
mod lattice;
mod prior;

use std::collections::BTreeMap;

use regatta_schemas::ParamValue;
use regatta_schemas::Params;
use regatta_schemas::study::{Domain, Parameter};

use crate::random::unit;

pub use coordinates::{Axis, Coordinate, edges, locate, value_at};
pub use domain::{sample, values_for_grid};
pub use lattice::{Cursor, Lattice};
pub use prior::Belief;

/// A space in the order in which its parameters are decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    parameters: Vec<(String, Parameter)>,
    /// Of the parameters that have a prior.
    beliefs: BTreeMap<String, Belief>,
}

impl Space {
    /// Checked before (`regatta_schemas::check`): parameters whose conditions go round in a circle never exist.
    pub fn new(parameters: &BTreeMap<String, Parameter>) -> Self {
        let beliefs = parameters.iter().filter_map(|(name, parameter)| Some((name.clone(), Belief::of(parameter)?)));
        let beliefs = beliefs.collect();
        let mut ordered: Vec<(String, Parameter)> = Vec::with_capacity(parameters.len());
        let mut left: Vec<(&String, &Parameter)> = parameters.iter().collect();
        loop {
            let before = left.len();
            left.retain(|(name, parameter)| {
                let is_ready = parameter.when.keys().all(|parent| ordered.iter().any(|(placed, _)| placed == parent));
                if is_ready {
                    ordered.push(((*name).clone(), (*parameter).clone()));
                }
                !is_ready
            });
            if left.len() == before {
                return Self { parameters: ordered, beliefs };
            }
        }
    }

    /// Parents before those whose condition names them.
    pub fn parameters(&self) -> impl ExactSizeIterator<Item = (&str, &Parameter)> {
        self.parameters.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// A configuration: `choose` gives the value of each parameter that exists.
    pub fn configure(&self, mut choose: impl FnMut(&str, &Domain) -> ParamValue) -> Params {
        let mut params = Params::new();
        for (name, parameter) in &self.parameters {
            if parameter.is_active(&params) {
                params.insert(name.clone(), choose(name, &parameter.domain));
            }
        }
        params
    }

    /// Whether any parameter has a prior.
    pub fn has_priors(&self) -> bool {
        !self.beliefs.is_empty()
    }

    /// Where a parameter's good values are expected; None: anywhere.
    pub fn belief(&self, name: &str) -> Option<&Belief> {
        self.beliefs.get(name)
    }

    /// The value that these bits select by the parameter's prior; uniform where it has none.
    pub fn sample_believed(&self, name: &str, domain: &Domain, word: u64) -> ParamValue {
        match self.belief(name) {
            Some(belief) => value_at(domain, belief.coordinate(unit(word))),
            None => sample(domain, word),
        }
    }

    /// ln of how probable its priors make a configuration, relative to the uniform density. Of a point with an entry for
    /// each parameter.
    pub fn log_belief(&self, point: &[Option<Coordinate>]) -> f64 {
        let of =
            |((name, _), at): (&(String, Parameter), &Option<Coordinate>)| Some(self.belief(name)?.log_ratio((*at)?));
        if self.has_priors() { self.parameters.iter().zip(point).filter_map(of).sum() } else { 0.0 }
    }

    /// How many configurations it holds; None: more than a study may try, or infinitely many.
    pub fn cardinality(&self) -> Option<u64> {
        self.full_lattice()?.count()
    }

    /// Every value of every parameter, where each has finitely many.
    pub fn full_lattice(&self) -> Option<Lattice> {
        let values: Option<Vec<_>> =
            self.parameters().map(|(_, parameter)| domain::all_values(&parameter.domain)).collect();
        values.map(|values| Lattice::new(self.clone(), values))
    }

    fn is_parent(&self, name: &str) -> bool {
        self.parameters.iter().any(|(_, parameter)| parameter.when.contains_key(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn space(value: serde_json::Value) -> Space {
        Space::new(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn conditions_are_decided_after_what_they_name_along_chains() {
        let space = space(json!({
            "a": {"type": "bool", "when": {"b": 1}},
            "b": {"type": "int", "low": 0, "high": 1, "when": {"c": "x"}},
            "c": {"type": "categorical", "choices": ["x", "y"]},
        }));
        assert_eq!(space.parameters().map(|(name, _)| name).collect::<Vec<_>>(), ["c", "b", "a"]);
        assert_eq!(space.cardinality(), Some(4), "y; x,0; x,1,false; x,1,true");
    }

    #[test]
    fn cardinality_is_exact_where_it_is_small_and_absent_where_it_is_not() {
        for (value, expected) in [
            (json!({}), Some(1)),
            (json!({"a": {"type": "bool"}, "b": {"type": "int", "low": 1, "high": 5}}), Some(10)),
            (json!({"a": {"type": "int", "low": 0, "high": 10, "step": 5}}), Some(3)),
            (json!({"a": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.1}}), Some(11)),
            (json!({"a": {"type": "float", "low": 1.0, "high": 1.0}}), Some(1)),
            (json!({"a": {"type": "float", "low": 0.0, "high": 1.0}}), None),
            (json!({"a": {"type": "int", "low": 0, "high": 9_000_000_000_i64}}), None),
        ] {
            assert_eq!(space(value.clone()).cardinality(), expected, "{value}");
        }
    }
}
