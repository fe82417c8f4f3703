//! The recipe: keys, types, bounds, and what must fit together.

use serde_json::Value;

use crate::api::Fault;
use crate::limits::LIMITS;
use crate::recipe::Recipe;

use super::amounts::{above_zero, between, bool, texts, whole};
use super::reader::{Faults, Fields, Node};
use super::{ablation, augment, command, data, loss, model, optimizer};

const KEYS: [&str; 19] = [
    "data",
    "model",
    "loss",
    "optimizer",
    "schedule",
    "batch_size",
    "accumulate",
    "clip_norm",
    "clip_value",
    "undecayed",
    "average",
    "precision",
    "recompute",
    "augment",
    "metrics",
    "checkpoint",
    "keep_best",
    "time_limit_s",
    "without",
];

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
    if let Some(node) = fields.optional(command::COMMAND) {
        return command::check(&fields, &node, &KEYS);
    }
    fields.only(&KEYS);
    let data = fields.required("data", "where the data is, for example {file: digits.npz, format: npz, ...}");
    let task = data.and_then(|node| data::check(&node));
    if let Some(node) = fields.required("model", "for example {family: mlp, layers: 2, width: 64}") {
        model::check(&node, task);
    }
    let loss = fields.required("loss", "for example `cross_entropy`, or `mean_squared_error` for a regression");
    let loss = loss.and_then(|node| loss::check(&node, task));
    if let Some(node) = fields.optional("augment") {
        augment::check(&node, task, loss);
    }
    if let Some(node) = fields.optional("metrics") {
        loss::check_metrics(&node, task);
    }
    updates(&fields);
    checkpoint_and_time_limit(&fields);
    if let Some(without) = fields.optional("without").and_then(|node| node.fields()) {
        without.only(&["features", "layers"]);
        ablation::without_of(&without);
    }
}

/// What both kinds of recipe have.
pub fn checkpoint_and_time_limit(fields: &Fields) {
    if let Some(checkpoint) = fields.optional("checkpoint").and_then(|node| node.fields()) {
        checkpoint.only(&["every_s", "at_end"]);
        if let Some(node) = checkpoint.optional("every_s") {
            node.number(|seconds| seconds >= 0.0, "seconds, at least 0");
        }
        bool(&checkpoint, "at_end");
    }
    if let Some(node) = fields.optional("time_limit_s") {
        node.number(|seconds| seconds > 0.0, "seconds, above 0, or leave it out");
    }
}

/// What one update of the weights is.
fn updates(fields: &Fields) {
    if let Some(node) = fields.required("optimizer", "for example {name: adamw, learning_rate: 0.001}") {
        optimizer::check(&node);
    }
    if let Some(node) = fields.optional("schedule") {
        optimizer::check_schedule(&node);
    }
    if let Some(node) = fields.required("batch_size", "the rows of a training step, for example 64") {
        node.whole(1..=LIMITS.batch_size_max.into());
    }
    whole(fields, "accumulate", 1..=LIMITS.batch_size_max);
    above_zero(fields, "clip_norm");
    above_zero(fields, "clip_value");
    texts(fields, "undecayed");
    between(fields, "average", "0.999");
    precision(fields);
    bool(fields, "recompute");
    bool(fields, "keep_best");
}

fn precision(fields: &Fields) {
    let Some(node) = fields.optional("precision") else { return };
    let elsewhere =
        [("float16", "half"), ("fp16", "half"), ("bf16", "bfloat16"), ("float32", "single"), ("fp32", "single")];
    match elsewhere.iter().find(|(name, _)| node.value.as_str() == Some(name)) {
        Some((_, ours)) => node.wrong_value(format!("its name is `{ours}` here")),
        None => drop(node.word(&["single", "half", "bfloat16"])),
    }
}
