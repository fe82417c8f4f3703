//! The recipe: keys, types, bounds, and what must fit together.

use serde_json::Value;

use crate::api::Fault;
use crate::limits::LIMITS;
use crate::recipe::Recipe;

use super::reader::{Faults, Fields, Node};
use super::{data, optimizer};

const KEYS: [&str; 8] = ["data", "model", "loss", "optimizer", "batch_size", "clip_norm", "checkpoint", "time_limit_s"];

pub fn check_resolved(value: &Value) -> Result<Recipe, Vec<Fault>> {
    let faults = Faults::default();
    check(&Node::new(value, "recipe", &faults));
    let recipe = if faults.is_empty() { read(value, &faults) } else { None };
    faults.or(recipe)
}

fn read(value: &Value, faults: &Faults) -> Option<Recipe> {
    serde_json::from_value(without_nulls(value)).map_err(|error| faults.add("recipe", error.to_string(), "")).ok()
}

/// The value without the keys that are null; they count as absent.
pub fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let given = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn check(node: &Node) {
    let Some(fields) = node.fields() else { return };
    fields.only(&KEYS);
    let data = fields.required("data", "where the data is, for example {file: digits.npz, format: npz, ...}");
    let task = data.and_then(|node| data::check(&node));
    if let Some(node) = fields.required("model", "for example {family: mlp, layers: 2, width: 64}") {
        model(&node);
    }
    if let Some(node) = fields.required("loss", "`cross_entropy` or `mean_squared_error`") {
        loss(&node, task);
    }
    if let Some(node) = fields.required("optimizer", "for example {name: adamw, learning_rate: 0.001}") {
        optimizer::check(&node);
    }
    if let Some(node) = fields.required("batch_size", "the rows of a training step, for example 64") {
        node.whole(1..=LIMITS.batch_size_max.into());
    }
    if let Some(node) = fields.optional("clip_norm") {
        node.number(|norm| norm > 0.0, "a number above 0, or leave it out");
    }
    if let Some(node) = fields.optional("time_limit_s") {
        node.number(|seconds| seconds > 0.0, "seconds, above 0, or leave it out");
    }
    if let Some(checkpoint) = fields.optional("checkpoint").and_then(|node| node.fields()) {
        checkpoint.only(&["every_s", "at_end"]);
        if let Some(node) = checkpoint.optional("every_s") {
            node.number(|seconds| seconds >= 0.0, "seconds, at least 0");
        }
        if let Some(node) = checkpoint.optional("at_end") {
            node.bool();
        }
    }
}

fn loss(node: &Node, task: Option<&str>) {
    let loss = node.word(&["cross_entropy", "mean_squared_error"]);
    let fitting = match (task, loss) {
        (Some("classification"), Some("mean_squared_error")) => "cross_entropy",
        (Some("regression"), Some("cross_entropy")) => "mean_squared_error",
        _ => return,
    };
    let task = task.unwrap_or_default();
    let problem = format!("is {}, which does not fit the task `{task}`", node.value.as_str().unwrap_or_default());
    node.fault(problem, format!("write `{fitting}`, or change `data.task`"));
}

fn model(node: &Node) {
    let Some(fields) = node.fields() else { return };
    if let Some(family) = fields.required("family", "`mlp`") {
        family.word(&["mlp"]);
    }
    fields.only(&["family", "hidden", "layers", "width", "activation", "dropout"]);
    shape(&fields);
    if let Some(node) = fields.optional("activation") {
        node.word(&["relu", "tanh", "sigmoid", "gelu"]);
    }
    if let Some(node) = fields.optional("dropout") {
        node.number(|share| (0.0..1.0).contains(&share), "a number from 0 to below 1");
    }
}

fn shape(fields: &Fields) {
    let (hidden, layers, width) = (fields.optional("hidden"), fields.optional("layers"), fields.optional("width"));
    match (&hidden, &layers, &width) {
        (Some(hidden), None, None) => hidden_widths(hidden),
        (None, Some(_), Some(_)) => {}
        (Some(hidden), _, _) => {
            hidden.fault("is given together with `layers` or `width`", "give either `hidden`, or `layers` and `width`");
        }
        (None, Some(_), None) => fields.fault("width", "is missing", "add `width`: the units of each hidden layer"),
        (None, None, Some(_)) => fields.fault("layers", "is missing", "add `layers`: the number of hidden layers"),
        (None, None, None) => {
            fields.fault("hidden", "is missing", "add `hidden`: a list of widths; or `layers` and `width`");
        }
    }
    if let Some(node) = layers {
        node.whole(0..=LIMITS.layers_max.into());
    }
    if let Some(node) = width {
        node.whole(1..=LIMITS.width_max.into());
    }
}

fn hidden_widths(node: &Node) {
    let Some(widths) = node.list() else { return };
    if widths.len() > LIMITS.layers_max as usize {
        node.fault(format!("has {} layers", widths.len()), format!("give at most {}", LIMITS.layers_max));
    }
    for width in widths {
        width.whole(1..=LIMITS.width_max.into());
    }
}
