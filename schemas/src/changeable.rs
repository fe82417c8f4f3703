//! Which parameters of a study may change while a trial trains: what a population changes in a copy.
//!
//! The numbers of the optimizer, its schedule, the loss, the noise and the clipping are inputs of the step that an agent
//! runs. Everything else is what a checkpoint is of: another shape of the model, another batch size or another optimizer
//! could not go on from it. (`agent/tests/inherited.rs` holds the agent to this list.)

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::resolve::references;
use crate::study::{Parameter, RecipeTemplate, Stopper, StudyFile};

/// Places in a recipe whose numbers may change, `[]` for any place in a list.
///
/// At 0 some of them leave a part of the step out; a copy therefore keeps what is 0 and lets nothing become it.
const CHANGEABLE: [&str; 22] = [
    "optimizer.learning_rate",
    "optimizer.momentum",
    "optimizer.weight_decay",
    "optimizer.beta1",
    "optimizer.beta2",
    "optimizer.epsilon",
    "optimizer.alpha",
    "schedule.every",
    "schedule.factor",
    "schedule.floor",
    "schedule.rise",
    "schedule.start",
    "schedule.patience",
    "schedule.warm_up",
    "loss.label_smoothing",
    "loss.delta",
    "model.dropout",
    "clip_norm",
    "clip_value",
    "average",
    "augment[].deviation",
    "augment[].alpha",
];

/// The parameters that may change, by name. A program may take any; so may a simulation, which has no recipe. A parameter
/// that decides which others exist never may.
pub fn changeable(template: &RecipeTemplate, space: &BTreeMap<String, Parameter>) -> BTreeSet<String> {
    let deciding: BTreeSet<&String> = space.values().flat_map(|parameter| parameter.when.keys()).collect();
    let is_opaque = template.is_empty() || template.get("command").is_some_and(|command| !command.is_null());
    let used: Vec<(String, String)> = references(&Value::Object(template.clone()), "")
        .into_iter()
        .map(|(path, name)| (any_place(&path), name))
        .collect();
    let may_change = |name: &&String| {
        let mut places = used.iter().filter(|(_, of)| of == *name).peekable();
        let is_input = places.peek().is_some() && places.all(|(path, _)| CHANGEABLE.contains(&path.as_str()));
        !deciding.contains(*name) && (is_opaque || is_input)
    };
    space.keys().filter(may_change).cloned().collect()
}

/// The path with `[]` for each `[3]`.
fn any_place(path: &str) -> String {
    let mut is_within = false;
    let mut kept = String::with_capacity(path.len());
    for letter in path.chars() {
        is_within &= letter != ']';
        if !is_within {
            kept.push(letter);
        }
        is_within |= letter == '[';
    }
    kept
}

impl StudyFile {
    /// The parameters whose values a copy changes; none where no stopper makes copies.
    pub fn perturbed(&self) -> BTreeSet<String> {
        match &self.stopper {
            Stopper::Pbt { perturb: Some(names), .. } => names.iter().cloned().collect(),
            Stopper::Pbt { perturb: None, .. } => changeable(&self.recipe, &self.space),
            _ => BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(template: Value, space: Value) -> Vec<String> {
        let Value::Object(template) = template else { panic!("a template is an object") };
        changeable(&template, &serde_json::from_value(space).unwrap()).into_iter().collect()
    }

    #[test]
    fn what_the_step_takes_as_a_number_may_change_and_its_shape_may_not() {
        let number = json!({"type": "float", "low": 0.1, "high": 0.5});
        let space = json!({
            "rate": number, "width": number, "noise": number, "shift": number, "twice": number, "batch": number,
            "kind": {"type": "categorical", "choices": ["sgd", "adam"]},
            "beta": {"type": "float", "low": 0.1, "high": 0.5, "when": {"kind": "adam"}},
        });
        let template = json!({
            "optimizer": {"name": "$kind", "learning_rate": "$rate", "beta1": "$beta"},
            "model": {"width": "$width", "dropout": "$twice"},
            "augment": [{"name": "shift", "pixels": "$shift"}, {"name": "noise", "deviation": "$noise"}],
            "batch_size": "$batch",
            "clip_norm": "$twice",
            "accumulate": "$twice",
        });
        assert_eq!(names(template, space), ["beta", "noise", "rate"]);
    }

    #[test]
    fn a_program_and_a_simulation_may_change_all_that_decides_no_other() {
        let space = json!({
            "a": {"type": "bool"},
            "b": {"type": "bool", "when": {"a": true}},
            "c": {"type": "float", "low": 0.0, "high": 1.0},
        });
        assert_eq!(names(json!({"command": {"program": "p", "args": ["$a"]}}), space.clone()), ["b", "c"]);
        assert_eq!(names(json!({}), space), ["b", "c"]);
    }
}
