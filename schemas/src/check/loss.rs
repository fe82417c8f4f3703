//! The loss and the metrics of a recipe: their settings, and which of them a task has.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::limits::LIMITS;

use super::amounts::{above_zero, below_one};
use super::kinds::Kinds;
use super::reader::{Fields, Node, either, list_of};

const LOSSES: Kinds = Kinds {
    key: "name",
    shared: &[],
    own: &[
        ("cross_entropy", &["label_smoothing", "class_weights", "ignore_index"]),
        ("mean_squared_error", &[]),
        ("binary_cross_entropy", &[]),
        ("mean_absolute_error", &[]),
        ("huber", &["delta"]),
        ("kl_divergence", &[]),
        ("ctc", &[]),
    ],
};
/// Each metric that a recipe may ask for, and what it is reported as.
pub const METRICS: [(&str, &str); 9] = [
    ("top3_accuracy", "validation_top3_accuracy"),
    ("top5_accuracy", "validation_top5_accuracy"),
    ("top10_accuracy", "validation_top10_accuracy"),
    ("f1", "validation_f1"),
    ("auroc", "validation_auroc"),
    ("mean_absolute_error", "validation_mean_absolute_error"),
    ("r2", "validation_r2"),
    ("perplexity", "validation_perplexity"),
    ("label_error_rate", "validation_label_error_rate"),
];

/// The losses of a task.
fn losses(task: &str) -> &'static [&'static str] {
    match task {
        "regression" => &["mean_squared_error", "mean_absolute_error", "huber", "kl_divergence"],
        "multilabel" => &["binary_cross_entropy"],
        "transcription" => &["ctc"],
        _ => &["cross_entropy"],
    }
}

/// The metrics of a task, beside the loss and the accuracy.
fn metrics(task: &str) -> &'static [&'static str] {
    match task {
        "regression" => &["mean_absolute_error", "r2"],
        "multilabel" => &["f1", "auroc"],
        "language_model" => &["perplexity", "top3_accuracy", "top5_accuracy", "top10_accuracy"],
        "transcription" => &["label_error_rate"],
        _ => &["top3_accuracy", "top5_accuracy", "top10_accuracy", "f1", "auroc"],
    }
}

/// The name, where it could be read.
pub fn check(node: &Node, task: Option<&str>) -> Option<&'static str> {
    let names = LOSSES.names();
    if node.value.is_string() {
        let name = node.word(&names);
        fits(node, name, task);
        return name;
    }
    if !node.value.is_object() {
        node.wrong_value(format!("give one of {}, or a name with settings", list_of(names.into_iter())));
        return None;
    }
    let fields = node.fields()?;
    let name = LOSSES.kind(&fields);
    if let Some(node) = fields.optional("name") {
        fits(&node, name, task);
    }
    settings(&fields);
    name
}

fn fits(node: &Node, name: Option<&str>, task: Option<&str>) {
    let (Some(name), Some(task)) = (name, task) else { return };
    let fitting = losses(task);
    if !fitting.contains(&name) {
        let help = format!("write {}, or change `data.task`", either(fitting));
        node.fault(format!("is {name}, which does not fit the task `{task}`"), help);
    }
}

fn settings(fields: &Fields) {
    below_one(fields, "label_smoothing");
    above_zero(fields, "delta");
    if let Some(node) = fields.optional("ignore_index")
        && node.value.as_i64().is_none()
    {
        node.wrong_value("give a whole number, the class that does not count");
    }
    if let Some(node) = fields.optional("class_weights") {
        class_weights(&node);
    }
}

fn class_weights(node: &Node) {
    let Some(weights) = node.list() else { return };
    if weights.len() < 2 || weights.len() > LIMITS.vocabulary_max {
        node.wrong_value("give a number for each class");
    }
    let numbers: Option<Vec<f64>> =
        weights.iter().map(|weight| weight.number(|weight| weight >= 0.0, "a number, at least 0")).collect();
    if numbers.is_some_and(|numbers| !numbers.is_empty() && numbers.iter().all(|number| *number == 0.0)) {
        node.fault("has no weight above 0", "give at least one, or leave `class_weights` out");
    }
}

pub fn check_metrics(node: &Node, task: Option<&str>) {
    let mut seen = BTreeSet::new();
    for item in node.list().unwrap_or_default() {
        let Some(metric) = item.word(&METRICS.map(|(name, _)| name)) else { continue };
        if !seen.insert(metric) {
            item.fault(format!("is `{metric}`, which is in the list already"), "remove one of the two");
        }
        let Some(task) = task else { continue };
        let fitting = metrics(task);
        if !fitting.contains(&metric) {
            let help = format!("remove it; `{task}` has {}", list_of(fitting.iter().copied()));
            item.fault(format!("is `{metric}`, which does not fit the task `{task}`"), help);
        }
    }
}

/// What the metrics of a recipe's list are reported as; where one of them is searched for, all that there are.
pub fn reported(list: &Value) -> Vec<&'static str> {
    let names: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let is_searched = names.iter().any(|name| name.starts_with('$'));
    let asked = METRICS.iter().filter(|(name, _)| is_searched || names.contains(name));
    asked.map(|(_, reported)| *reported).collect()
}
