//! Results of earlier trials: configurations of the space, with what the study would have measured.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::limits::LIMITS;
use crate::study::Earlier;

use super::assignment;
use super::reader::{Fields, Node};
use super::space::Space;

pub fn check(fields: &Fields, space: &Space) -> Vec<Earlier> {
    let Some(node) = fields.optional("earlier") else { return Vec::new() };
    let Some(nodes) = node.list() else { return Vec::new() };
    if nodes.len() > LIMITS.earlier_max {
        node.fault(format!("has {} entries", nodes.len()), format!("give at most {}", LIMITS.earlier_max));
        return Vec::new();
    }
    let wanted = wanted_metrics(fields);
    nodes.iter().filter_map(|node| entry(node, space, &wanted)).collect()
}

/// The metrics that judge a trial: of objectives and of constraints.
fn wanted_metrics<'a>(fields: &Fields<'a>) -> Vec<&'a str> {
    let metric = |value: &'a Value| value.get("metric").and_then(Value::as_str);
    let objective = fields.optional("objective").and_then(|node| metric(node.value));
    let lists = ["further_objectives", "constraints"].into_iter().filter_map(|key| fields.optional(key));
    let listed = lists.filter_map(|node| node.value.as_array()).flatten().filter_map(metric);
    objective.into_iter().chain(listed).collect()
}

fn entry(node: &Node, space: &Space, wanted: &[&str]) -> Option<Earlier> {
    let fields = node.fields()?;
    fields.only(&["params", "metrics", "resource"]);
    let params = fields.required("params", "the configuration that was measured")?;
    let params = assignment::check(&space.parameters, &space.names, &params);
    let metrics = fields.required("metrics", "what it measured, by name")?.fields()?;
    for name in wanted.iter().filter(|name| metrics.optional(name).is_none()) {
        metrics.fault(name, "is missing", "give what was measured, or leave the entry out");
    }
    let number = |(name, node): (&str, Node)| Some((name.to_owned(), node.number(|_| true, "a number")?));
    let metrics: BTreeMap<String, f64> = metrics.nodes().filter_map(number).collect();
    let resource = match fields.optional("resource") {
        Some(node) => Some(u32::try_from(node.whole(1..=LIMITS.resource_max.into())?).ok()?),
        None => None,
    };
    Some(Earlier { params: params?, metrics, resource })
}
