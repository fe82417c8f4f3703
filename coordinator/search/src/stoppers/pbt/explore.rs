//! What a copy changes of its parent's configuration: each value of the named parameters is, one time in four, drawn
//! anew, and else made a fifth larger or smaller, or moved to the next of its steps or ordered choices (Jaderberg et
//! al., 2017, section 4; Ray Tune's defaults). A choice without an order stays unless it is drawn anew.
//!
//! What is 0 stays 0 and nothing becomes 0: at 0 a part of the training may be left out, and a checkpoint is of one
//! with it or of one without.

use std::collections::BTreeSet;

use regatta_schemas::study::{Domain, StudyFile};
use regatta_schemas::{ParamValue, Params};

use crate::random::Stream;
use crate::space::{Space, sample};

/// How often a value is drawn anew.
const RESAMPLED: f64 = 0.25;
const SMALLER: f64 = 0.8;
const LARGER: f64 = 1.2;

#[derive(Debug)]
pub struct Explore {
    space: Space,
    perturbed: BTreeSet<String>,
}

impl Explore {
    pub fn new(study: &StudyFile) -> Self {
        Self { space: Space::new(&study.space), perturbed: study.perturbed() }
    }

    /// The parent's configuration, changed.
    pub fn changed(&self, parent: &Params, stream: &mut Stream) -> Params {
        let mut params = parent.clone();
        for (name, parameter) in self.space.parameters().filter(|(name, _)| self.perturbed.contains(*name)) {
            let Some(value) = params.get_mut(name) else { continue };
            let new = changed(&parameter.domain, value, stream);
            if is_zero(value) == is_zero(&new) {
                *value = new;
            }
        }
        params
    }
}

fn is_zero(value: &ParamValue) -> bool {
    value.as_f64() == Some(0.0)
}

fn changed(domain: &Domain, value: &ParamValue, stream: &mut Stream) -> ParamValue {
    let (drawn, is_drawn, is_larger) = (sample(domain, stream.word()), stream.unit() < RESAMPLED, stream.unit() < 0.5);
    if is_drawn {
        return drawn;
    }
    let factor = if is_larger { LARGER } else { SMALLER };
    match (domain, value) {
        (Domain::Float { low, high, step: None, .. }, value) => value
            .as_f64()
            .map_or_else(|| value.clone(), |number| ParamValue::Float((number * factor).clamp(*low, *high))),
        (Domain::Float { low, high, step: Some(step), .. }, value) => value.as_f64().map_or_else(
            || value.clone(),
            |number| {
                let last = ((high - low) / step + 1e-9).floor();
                let steps = |number: f64| ((number - low) / step).round();
                let moved = beside(steps(number), steps(number * factor), is_larger == (number >= 0.0));
                ParamValue::Float((low + moved.clamp(0.0, last) * step).min(*high))
            },
        ),
        (Domain::Int { low, high, step, .. }, ParamValue::Int(number)) => {
            let step = step.unwrap_or(1).max(1);
            let steps = |number: f64| ((number - *low as f64) / step as f64).round();
            let moved = beside(steps(*number as f64), steps(*number as f64 * factor), is_larger == (*number >= 0));
            let last = high.saturating_sub(*low) / step;
            ParamValue::Int(low + step * (moved as i64).clamp(0, last))
        }
        (Domain::Ordinal { choices }, value) => {
            let place = choices.iter().position(|choice| choice == value);
            let next = place.map(|place| if is_larger { place + 1 } else { place.saturating_sub(1) });
            next.map_or_else(|| value.clone(), |next| choices[next.min(choices.len() - 1)].clone())
        }
        (Domain::Int { .. } | Domain::Categorical { .. } | Domain::Bool, value) => value.clone(),
    }
}

/// The step to go to, the next one if that is the one it comes from.
fn beside(from: f64, to: f64, is_up: bool) -> f64 {
    if to != from { to } else { from + if is_up { 1.0 } else { -1.0 } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;
    use regatta_schemas::check;
    use serde_json::json;

    fn stream(index: u64) -> Stream {
        Stream::new(Purpose { study_seed: 1, name: "explore", index, redraw: 0 })
    }

    fn explore(parameters: serde_json::Value, perturbed: &[&str]) -> Explore {
        let space = Space::new(&serde_json::from_value(parameters).unwrap());
        Explore { space, perturbed: perturbed.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn a_copy_stays_in_the_space_and_keeps_what_it_may_not_change() {
        let parameters = json!({
            "rate": {"type": "float", "low": 1e-5, "high": 1.0, "log": true},
            "share": {"type": "float", "low": -0.9, "high": 0.9, "step": 0.3},
            "every": {"type": "int", "low": -3, "high": 9, "step": 4},
            "wide": {"type": "int", "low": 1, "high": 255, "log": true},
            "size": {"type": "ordinal", "choices": [16, 32, 64]},
            "kind": {"type": "categorical", "choices": ["a", "b"]},
            "extra": {"type": "bool", "when": {"kind": "a"}},
            "kept": {"type": "float", "low": 0.0, "high": 1.0},
        });
        let all = explore(parameters.clone(), &["rate", "share", "every", "wide", "size", "extra"]);
        let space = serde_json::from_value(parameters).unwrap();
        let mut parent: Params = serde_json::from_value(json!({
            "rate": 0.1, "share": 0.3, "every": 1, "wide": 17, "size": 32, "kind": "a", "extra": true, "kept": 0.5,
        }))
        .unwrap();
        for index in 0..500 {
            let child = all.changed(&parent, &mut stream(index));
            assert_eq!(check::params(&space, &serde_json::to_value(&child).unwrap()), Ok(child.clone()));
            assert_eq!((&child["kept"], &child["kind"]), (&parent["kept"], &parent["kind"]));
            assert_ne!(child, parent);
            parent = child;
        }
    }

    #[test]
    fn three_in_four_values_move_by_a_fifth_or_to_the_next() {
        let parameters = json!({
            "rate": {"type": "float", "low": 0.0, "high": 10.0},
            "size": {"type": "ordinal", "choices": [1, 2, 3, 4, 5, 6, 7, 8, 9]},
            "small": {"type": "int", "low": 0, "high": 100},
        });
        let all = explore(parameters, &["rate", "size", "small"]);
        let parent: Params = serde_json::from_value(json!({"rate": 1.0, "size": 5, "small": 2})).unwrap();
        let children: Vec<Params> = (0..400).map(|index| all.changed(&parent, &mut stream(index))).collect();
        for (name, near) in [("rate", [0.8, 1.2]), ("size", [4.0, 6.0]), ("small", [1.0, 3.0])] {
            let values: Vec<f64> = children.iter().map(|child| child[name].as_f64().unwrap()).collect();
            let count = |wanted: f64| values.iter().filter(|value| **value == wanted).count();
            assert!(near.iter().all(|wanted| (110..210).contains(&count(*wanted))), "{name}: {values:?}");
        }
    }

    #[test]
    fn what_is_zero_stays_and_nothing_becomes_zero() {
        let all = explore(json!({"decay": {"type": "float", "low": 0.0, "high": 0.3, "step": 0.1}}), &["decay"]);
        for (before, is_zero_after) in [(0.0, true), (0.1, false)] {
            let parent: Params = serde_json::from_value(json!({"decay": before})).unwrap();
            let after = (0..100).map(|index| all.changed(&parent, &mut stream(index))["decay"].as_f64().unwrap());
            assert!(after.into_iter().all(|value| (value == 0.0) == is_zero_after));
        }
    }
}
