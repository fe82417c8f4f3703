//! An ablation: what a model is worth without a component of it, or of its data.
//!
//! It is a study whose trials are laid down beforehand: each set of components that is left out, once in each repeat.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is left out, how often, and in which combinations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ablation {
    /// Component name to what it is.
    pub components: BTreeMap<String, Component>,
    /// How often each set is trained. Trials of one repeat have one seed, so that they differ by what is left out alone.
    #[serde(default = "default_repeats")]
    pub repeats: u32,
    #[serde(default)]
    pub design: Design,
}

fn default_repeats() -> u32 {
    5
}

/// A part of the data, of the model or of the recipe; what it names is left out together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Component {
    /// Columns or arrays of the data, as in `recipe.without.features`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Layers of the model, as in `recipe.without.layers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// What the recipe becomes without it: a JSON merge patch (RFC 7386), in which null removes a key.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub patch: Map<String, Value>,
}

/// Which sets of components are left out. The whole, with nothing left out, is always one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Design {
    /// Each component by itself.
    #[default]
    LeaveOneOut,
    /// Each by itself, and each two together.
    Pairs,
    /// Every combination.
    Factorial,
}

impl Ablation {
    /// What is left out, set by set: nothing first, then by size, each in the order of the names.
    pub fn sets(&self) -> Vec<Vec<&str>> {
        let names: Vec<&str> = self.components.keys().map(String::as_str).collect();
        let size_max = match self.design {
            Design::LeaveOneOut => 1,
            Design::Pairs => 2,
            Design::Factorial => names.len(),
        };
        let mut sets: Vec<Vec<&str>> = vec![Vec::new()];
        let mut grown = sets.clone();
        for _ in 0..size_max {
            grown = grown
                .iter()
                .flat_map(|set| {
                    let after = set.last().map_or(0, |last| names.partition_point(|name| name <= last));
                    names[after..].iter().map(|name| [set.as_slice(), &[*name]].concat())
                })
                .collect();
            sets.extend(grown.iter().cloned());
        }
        sets
    }

    /// Trial number `index`: a whole repeat before the next. None beyond the last.
    pub fn trial(&self, index: u64) -> Option<(Vec<String>, u32)> {
        let sets = self.sets();
        let repeat = u32::try_from(index / sets.len() as u64).ok().filter(|repeat| *repeat < self.repeats)?;
        let set = &sets[(index % sets.len() as u64) as usize];
        Some((set.iter().map(|name| (*name).to_owned()).collect(), repeat))
    }

    /// The number of the trial; None: it is none of this ablation's.
    pub fn index(&self, without: &[String], repeat: u32) -> Option<u64> {
        let sets = self.sets();
        let place = sets.iter().position(|set| set.iter().eq(without.iter()))?;
        (repeat < self.repeats).then(|| u64::from(repeat) * sets.len() as u64 + place as u64)
    }

    /// How many trials it has.
    pub fn trials(&self) -> u64 {
        let count = self.components.len() as u32;
        let sets = match self.design {
            Design::LeaveOneOut => 1 + u64::from(count),
            Design::Pairs => 1 + u64::from(count) * (u64::from(count) + 1) / 2,
            Design::Factorial => 1_u64.checked_shl(count).unwrap_or(u64::MAX),
        };
        sets.saturating_mul(self.repeats.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ablation(names: &[&str], repeats: u32, design: Design) -> Ablation {
        let components = names.iter().map(|name| ((*name).to_owned(), Component::default())).collect();
        Ablation { components, repeats, design }
    }

    #[test]
    fn sets_are_by_size_and_then_by_name() {
        let rows: [(Design, &[&[&str]]); 3] = [
            (Design::LeaveOneOut, &[&[], &["a"], &["b"], &["c"]]),
            (Design::Pairs, &[&[], &["a"], &["b"], &["c"], &["a", "b"], &["a", "c"], &["b", "c"]]),
            (
                Design::Factorial,
                &[&[], &["a"], &["b"], &["c"], &["a", "b"], &["a", "c"], &["b", "c"], &["a", "b", "c"]],
            ),
        ];
        for (design, expected) in rows {
            assert_eq!(ablation(&["c", "a", "b"], 1, design).sets(), expected, "{design:?}");
        }
    }

    #[test]
    fn each_trial_has_its_number_and_there_are_no_others() {
        for design in [Design::LeaveOneOut, Design::Pairs, Design::Factorial] {
            let ablation = ablation(&["x", "y", "z", "w"], 3, design);
            for index in 0..ablation.trials() {
                let (without, repeat) = ablation.trial(index).unwrap();
                assert_eq!(ablation.index(&without, repeat), Some(index));
            }
            assert_eq!(ablation.trial(ablation.trials()), None);
            assert_eq!(ablation.index(&[], 3), None);
            assert_eq!(ablation.index(&["unknown".to_owned()], 0), None);
        }
    }
}
