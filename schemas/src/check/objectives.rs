//! What a study seeks: its objective, those beside it, and the bounds that its trials must keep.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::limits::LIMITS;

use super::command::COMMAND;
use super::loss;
use super::reader::{Fields, Node, list_of};
use super::study::Measured;

/// What is reported without being asked for.
fn always(task: Option<&str>) -> &'static [&'static str] {
    match task {
        Some("regression") => &["train_loss", "validation_loss"],
        // A minibatch's answers are looked at for classes alone.
        Some("multilabel" | "transcription") => &["train_loss", "validation_loss", "validation_accuracy"],
        _ => &["train_loss", "validation_loss", "train_accuracy", "validation_accuracy"],
    }
}

/// How many there are beside the first.
pub fn check(fields: &Fields, recipe: Option<&Value>, measured: Measured) -> usize {
    let metrics = Metrics::of(recipe, measured);
    let example = "for example {metric: validation_loss, goal: minimize}";
    let mut sought = BTreeSet::new();
    if let Some(node) = fields.required("objective", example) {
        objective(&node, &metrics, &mut sought);
    }
    if let Some(nodes) = list(fields, "further_objectives", LIMITS.further_objectives_max) {
        nodes.iter().for_each(|node| objective(node, &metrics, &mut sought));
        constraints(fields, &metrics);
        return nodes.len();
    }
    constraints(fields, &metrics);
    0
}

fn objective(node: &Node, metrics: &Metrics, sought: &mut BTreeSet<String>) {
    let Some(objective) = node.fields() else { return };
    objective.only(&["metric", "goal"]);
    if let Some(node) = objective.required("metric", &metrics.words()) {
        metrics.check(&node);
        if node.value.as_str().is_some_and(|metric| !sought.insert(metric.to_owned())) {
            node.fault("is sought already", "name each metric once");
        }
    }
    if let Some(node) = objective.required("goal", "`maximize` or `minimize`") {
        node.word(&["maximize", "minimize"]);
    }
}

fn constraints(fields: &Fields, metrics: &Metrics) {
    for node in list(fields, "constraints", LIMITS.constraints_max).unwrap_or_default() {
        let Some(constraint) = node.fields() else { continue };
        constraint.only(&["metric", "min", "max"]);
        if let Some(node) = constraint.required("metric", &metrics.words()) {
            metrics.check(&node);
        }
        let bound = |key| constraint.optional(key).map(|node| node.number(|_| true, "a number, or leave it out"));
        match (bound("min"), bound("max")) {
            (None, None) => node.fault("bounds nothing", "add `max`, `min` or both"),
            (Some(Some(min)), Some(Some(max))) if min > max => {
                constraint.fault("min", format!("is {min}, above `max` ({max})"), "exchange the two");
            }
            _ => {}
        }
    }
}

fn list<'a>(fields: &Fields<'a>, key: &str, count_max: usize) -> Option<Vec<Node<'a>>> {
    let node = fields.optional(key)?;
    let nodes = node.list()?;
    if nodes.len() > count_max {
        node.fault(format!("has {} entries", nodes.len()), format!("give at most {count_max}"));
        return None;
    }
    Some(nodes)
}

/// The metrics that can be asked for.
struct Metrics {
    /// None: whatever the simulation measures, or the program reports.
    known: Option<Vec<&'static str>>,
}

impl Metrics {
    fn of(recipe: Option<&Value>, measured: Measured) -> Self {
        let is_of_program = recipe.is_some_and(|recipe| recipe.get(COMMAND).is_some_and(|command| !command.is_null()));
        let task = recipe.and_then(|recipe| recipe.pointer("/data/task")?.as_str());
        let asked = recipe.and_then(|recipe| recipe.get("metrics")).map(loss::reported).unwrap_or_default();
        let known = always(task).iter().copied().chain(asked).collect();
        Self { known: (measured == Measured::ByAgents && !is_of_program).then_some(known) }
    }

    fn words(&self) -> String {
        self.known
            .as_ref()
            .map_or_else(|| "a metric".to_owned(), |known| format!("one of {}", list_of(known.iter().copied())))
    }

    fn check(&self, node: &Node) {
        let Some(metrics) = &self.known else {
            node.text();
            return;
        };
        let named = node.value.as_str().unwrap_or_default();
        if !metrics.contains(&named) && always(None).contains(&named) {
            node.wrong_value(format!("this task reports {}", list_of(metrics.iter().copied())));
        } else if !metrics.contains(&named)
            && let Some((metric, _)) = loss::METRICS.iter().find(|(_, reported)| *reported == named)
        {
            node.wrong_value(format!("add `{metric}` to `recipe.metrics`, so that it is measured"));
        } else {
            node.word(metrics);
        }
    }
}
