//! The study file's population: its size, its comparisons, and what its copies may change.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::changeable::changeable;
use crate::limits::LIMITS;
use crate::study::{default_population, default_quantile, pbt_interval};

use super::reader::{Fields, list_of};
use super::space::Space;

/// What each setting may be by itself.
pub fn settings(stopper: &Fields) {
    stopper.only(&["name", "population", "interval", "quantile", "perturb"]);
    if let Some(node) = stopper.optional("population") {
        node.whole(2..=LIMITS.trials_max.into());
    }
    if let Some(node) = stopper.optional("interval") {
        node.whole(1..=LIMITS.resource_max.into());
    }
    if let Some(node) = stopper.optional("quantile") {
        node.number(|share| share > 0.0 && share <= 0.5, "a number above 0, at most 0.5");
    }
    if let Some(node) = stopper.optional("perturb")
        && let Some(names) = node.list()
    {
        if names.is_empty() {
            node.fault("is empty", "name the parameters that a copy changes, or leave it out for all that may change");
        }
        for name in names {
            name.text();
        }
    }
}

/// What must fit the rest of the file. `resource`: the epochs of a trial, if they are known.
pub fn check(file: &Fields, resource: Option<u64>, space: &Space, template: Option<&Map<String, Value>>) {
    let Some(node) = file.optional("stopper") else { return };
    if node.value.get("name").unwrap_or(node.value) != "pbt" {
        return;
    }
    let setting = |key: &str| node.value.get(key).filter(|value| !value.is_null());
    let fault = |key: &str, problem: String, help: String| {
        let path = if node.value.is_string() { node.path.clone() } else { format!("{}.{key}", node.path) };
        node.faults.add(path, problem, help);
    };
    let population = setting("population").map_or(Some(default_population().into()), Value::as_u64);
    let quantile = setting("quantile").map_or(Some(default_quantile()), Value::as_f64);
    let trials = file.map.get("budget").and_then(|budget| budget.get("trials")).and_then(Value::as_u64);
    if let (Some(population), Some(trials)) = (population, trials)
        && population >= trials
    {
        let problem = format!("is {population}, and `budget.trials` {trials} leaves no copy to make");
        fault("population", problem, "the first trials and their copies together are `budget.trials`".to_owned());
    }
    if let (Some(population @ 2..), Some(quantile)) = (population, quantile)
        && (population as f64 * quantile) < 1.0
    {
        let problem = format!("is {quantile}, less than one of {population} trials");
        fault("quantile", problem, format!("give at least {:.3}, or a larger population", 1.0 / population as f64));
    }
    let interval = setting("interval").map_or(Some(None), |value| value.as_u64().map(Some));
    if let (Some(interval), Some(resource)) = (interval, resource) {
        let all = u32::try_from(resource).unwrap_or(u32::MAX);
        let between = interval.unwrap_or_else(|| pbt_interval(None, all).into());
        if between >= resource {
            let problem = format!("is {between}, and a trial ends after {resource}: nothing is ever compared");
            fault("interval", problem, "give less than `budget.resource`".to_owned());
        }
    }
    let no_recipe = Map::new();
    let may_change = changeable(template.unwrap_or(&no_recipe), &space.parameters);
    match setting("perturb").and_then(Value::as_array) {
        Some(names) => names.iter().enumerate().for_each(|(place, name)| {
            let Some(name) = name.as_str() else { return };
            if let Some((problem, help)) = unchangeable(name, space, &may_change) {
                fault(&format!("perturb[{place}]"), problem, help);
            }
        }),
        None if may_change.is_empty() => {
            let problem = "changes nothing: no parameter of the space may change during a training".to_owned();
            node.fault(problem, "search the learning rate, for example, or take another stopper");
        }
        None => {}
    }
}

fn unchangeable(name: &str, space: &Space, may_change: &BTreeSet<String>) -> Option<(String, String)> {
    if may_change.contains(name) {
        return None;
    }
    let those = match may_change.is_empty() {
        true => "no parameter of this space may".to_owned(),
        false => format!("{} may", list_of(may_change.iter().map(String::as_str))),
    };
    let problem = if !space.names.contains(name) {
        format!("is `{name}`, which is not in the space")
    } else if space.conditioning.contains(name) {
        format!("is `{name}`, which decides what other parameters there are")
    } else {
        format!("is `{name}`, which cannot change during a training: a checkpoint is of one value of it")
    };
    Some((problem, format!("name what may change ({those}); a copy inherits all else from its parent")))
}
