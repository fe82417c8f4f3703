//! The ablation of a study file: its components, and whether the recipe is right without each of them.

use serde_json::{Map, Value};

use crate::ablation::{Ablation, Design};
use crate::limits::LIMITS;
use crate::recipe::FeatureName;
use crate::resolve::without;

use super::amounts::texts;
use super::reader::{Fields, Node};
use super::recipe::{check_resolved, without_nulls};

const DESIGNS: [&str; 3] = ["leave_one_out", "pairs", "factorial"];

/// The ablation, where all of it could be read.
pub fn check(node: &Node, recipe: Option<&Map<String, Value>>) -> Option<Ablation> {
    let fields = node.fields()?;
    fields.only(&["components", "repeats", "design"]);
    let example = "for example {no_dropout: {patch: {model: {dropout: 0}}}}";
    let components = fields.required("components", example).and_then(|node| node.fields());
    if let Some(components) = &components {
        if components.map.is_empty() {
            fields.fault("components", "is empty", example);
        }
        components.nodes().for_each(|(name, node)| component(name, &node));
    }
    if let Some(node) = fields.optional("repeats") {
        node.whole(1..=LIMITS.repeats_max.into());
    }
    if let Some(node) = fields.optional("design") {
        node.word(&DESIGNS);
    }
    if !node.faults.is_empty() {
        return None;
    }
    let ablation = read(node)?;
    check_size(&fields, &ablation);
    if let Some(recipe) = recipe {
        check_recipes(&components?, &ablation, recipe);
    }
    Some(ablation)
}

/// A patch keeps its nulls: there they say something.
fn read(node: &Node) -> Option<Ablation> {
    let mut value = without_nulls(node.value);
    let components = value.get_mut("components").and_then(Value::as_object_mut)?;
    for (name, component) in components {
        if let Some(patch) = node.value.pointer("/components").and_then(|all| all.get(name)?.get("patch"))
            && !patch.is_null()
        {
            component["patch"] = patch.clone();
        }
    }
    serde_json::from_value(value).map_err(|error| node.fault(error.to_string(), "write it as the README has it")).ok()
}

fn component(name: &str, node: &Node) {
    if name.trim().is_empty() || name.chars().count() > LIMITS.id_chars_max || name.chars().any(char::is_control) {
        node.fault("has no fitting name", format!("give a name of 1 to {} characters", LIMITS.id_chars_max));
    }
    let Some(fields) = node.fields() else { return };
    fields.only(&["features", "layers", "patch"]);
    without_of(&fields);
    if let Some(patch) = fields.optional("patch") {
        patch.fields();
    }
    if ["features", "layers", "patch"].iter().all(|key| fields.optional(key).is_none()) {
        node.fault("names nothing", "give `features`, `layers` or a `patch` of the recipe");
    }
}

/// What is left out, as components and recipes name it.
pub fn without_of(fields: &Fields) {
    for key in ["features", "layers"] {
        let named = texts(fields, key);
        if named.is_empty() && fields.optional(key).is_some_and(|node| node.value.is_array()) {
            fields.fault(key, "is an empty list", "name at least one, or leave it out");
        }
        if key == "features" {
            for node in named {
                if node.value.as_str().is_some_and(|text| FeatureName::read(text).is_none()) {
                    node.wrong_value("write a name, or positions of an array: x[3], x[0:8], x[0:64:8]");
                }
            }
        }
    }
}

fn check_size(fields: &Fields, ablation: &Ablation) {
    let count = ablation.components.len();
    let (count_max, what) = match ablation.design {
        Design::Factorial => (LIMITS.factors_max, "of a factorial design, whose trials each of them doubles"),
        Design::LeaveOneOut | Design::Pairs => (LIMITS.components_max, "of an ablation"),
    };
    if count > count_max {
        let help = format!("give at most {count_max} {what}");
        fields.fault("components", format!("has {count} components"), help);
    } else if ablation.trials() > u64::from(LIMITS.trials_max) {
        let problem = format!("makes {} trials", ablation.trials());
        fields.fault("repeats", problem, format!("give fewer: a study has at most {} trials", LIMITS.trials_max));
    }
}

/// Faults that the recipe has only without a component are the component's.
fn check_recipes(components: &Fields, ablation: &Ablation, recipe: &Map<String, Value>) {
    let faults = |left_out: &[String]| check_resolved(&without(recipe, ablation, left_out)).err().unwrap_or_default();
    let whole = faults(&[]);
    for name in ablation.components.keys() {
        for fault in faults(std::slice::from_ref(name)) {
            if !whole.contains(&fault) {
                let problem = format!("without it, `{}` {}", fault.path, fault.problem);
                components.fault(name, problem, fault.help);
            }
        }
    }
}
