//! The recipe template: its references, and whether what the space may put there makes a right recipe.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::api::Fault;
use crate::params::{ParamValue, Params};
use crate::resolve::{fill, references};
use crate::study::{Domain, OneOrMany, Parameter};

use super::assignment::{condition, parents_first};
use super::command::COMMAND;
use super::reader::{Node, join, list_of, nearest};
use super::recipe::check_resolved;
use super::space::Space;

/// Assignments that are tried at most, and the product of discrete choices up to which all are tried together.
/// What lies beyond is found when the trial is proposed.
const ASSIGNMENTS_MAX: usize = 4_096;
const ASSIGNMENTS_MIN: usize = 16;
const PRODUCT_MAX: usize = 256;
/// Bounds the effort: values of the template and the space together, times assignments.
const VALUES_MAX: usize = 200_000;

pub fn check(node: &Node, space_path: &str, space: &Space) {
    let Some(template) = node.fields() else { return };
    let references = references(node.value, &node.path);
    check_references(node, space_path, space, &references);
    let ignored: BTreeSet<&str> = references
        .iter()
        .filter(|(_, name)| !space.parameters.contains_key(name.as_str()))
        .map(|(path, _)| path.as_str())
        .collect();
    let tried = Template { template: template.map, references: &references, space };
    let assignments = representatives(&space.parameters, VALUES_MAX / (size(node.value) + space.parameters.len()));
    let count = assignments.len();
    let mut found: BTreeMap<String, (Fault, usize)> = BTreeMap::new();
    for params in &assignments {
        for (path, fault) in tried.faults(params) {
            found.entry(path).or_insert((fault, 0)).1 += 1;
        }
    }
    for (path, (fault, times)) in found {
        if !ignored.contains(path.as_str()) {
            node.faults.extend([if times == count { without_context(fault) } else { fault }]);
        }
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

fn check_references(node: &Node, space_path: &str, space: &Space, references: &BTreeMap<String, String>) {
    let names = || space.names.iter().map(String::as_str);
    for (path, name) in references.iter().filter(|(_, name)| !space.names.contains(name.as_str())) {
        let help = match nearest(name, names()) {
            Some(near) => format!("did you mean `${near}`? A text that begins with $ is written $$"),
            None if space.names.is_empty() => {
                "define it in `space`; a text that begins with $ is written $$".to_owned()
            }
            None => {
                format!("define it in `space`, which has {}; a text that begins with $ is written $$", list_of(names()))
            }
        };
        node.faults.add(path.clone(), format!("refers to `${name}`, which is not in the space"), help);
    }
    if node.value.get(COMMAND).is_some_and(|command| !command.is_null()) {
        // Its program is handed all parameters, whether its arguments name them or not.
        return;
    }
    let referred: BTreeSet<&str> = references.values().map(String::as_str).collect();
    for name in names().filter(|name| !referred.contains(name) && !space.conditioning.contains(*name)) {
        let help = format!("remove it, or refer to it in the recipe as `${name}`");
        node.faults.add(join(space_path, name), "is not used by the recipe", help);
    }
}

/// A template to be tried with assignments.
struct Template<'a> {
    template: &'a Map<String, Value>,
    references: &'a BTreeMap<String, String>,
    space: &'a Space,
}

impl Template<'_> {
    /// The faults of the recipe that the assignment makes, by their path in the template.
    fn faults(&self, params: &Params) -> BTreeMap<String, Fault> {
        let filled = fill(self.template, params);
        let faults = check_resolved(&filled.value).err().unwrap_or_default();
        let place = |mut fault: Fault| {
            if let Some(path) = filled.moved.get(&fault.path) {
                fault.path.clone_from(path);
            }
            (fault.path.clone(), self.attributed(fault, params))
        };
        faults.into_iter().map(place).collect()
    }

    /// The fault, with the parameter that brings it about.
    fn attributed(&self, mut fault: Fault, params: &Params) -> Fault {
        let Some(name) = self.references.get(&fault.path) else { return self.in_context(fault, params) };
        if params.contains_key(name) {
            let Some(value) = fault.problem.strip_prefix("is ").filter(|rest| !rest.starts_with("not ")) else {
                return self.in_context(fault, params);
            };
            fault.problem = format!("can be {value}, by `${name}`");
        } else {
            let condition = self.space.parameters.get(name).map(condition).unwrap_or_default();
            fault.problem = format!("{} where `{name}` does not exist ({condition})", fault.problem);
        }
        fault.help = format!("{}; see `{}`", fault.help, join("space", name));
        fault
    }

    /// The fault, with the choices that stand beside it.
    fn in_context(&self, mut fault: Fault, params: &Params) -> Fault {
        let Some((parent, _)) = fault.path.rsplit_once('.') else { return fault };
        let beside = self.references.iter().filter(|(other, name)| {
            let key = other.strip_prefix(parent).and_then(|rest| rest.strip_prefix('.'));
            key.is_some_and(|key| !key.contains('.'))
                && self.space.parameters.get(*name).is_some_and(|parameter| is_discrete(&parameter.domain))
        });
        let choices: Vec<_> =
            beside.filter_map(|(_, name)| Some(format!("`${name}` = {}", params.get(name)?))).collect();
        if !choices.is_empty() {
            fault.problem = format!("{}{CONTEXT}{})", fault.problem, choices.join(", "));
        }
        fault
    }
}

/// Begins the part of a problem that names the choices beside it.
const CONTEXT: &str = " (with ";

/// The fault without the choices beside it, which have no part in it.
fn without_context(mut fault: Fault) -> Fault {
    if let Some((problem, _)) = fault.problem.rsplit_once(CONTEXT) {
        fault.problem = problem.to_owned();
    }
    fault
}

/// Assignments in which each choice occurs, each bound of a number, and, while they are few, each
/// combination of choices. All keep to the conditions.
fn representatives(space: &BTreeMap<String, Parameter>, count_max: usize) -> Vec<Params> {
    let count_max = count_max.clamp(ASSIGNMENTS_MIN, ASSIGNMENTS_MAX);
    let values_by_name: BTreeMap<&str, Vec<ParamValue>> =
        space.iter().map(|(name, parameter)| (name.as_str(), values(&parameter.domain))).collect();
    let first: Params = values_by_name
        .iter()
        .filter_map(|(name, values)| Some(((*name).to_owned(), values.first()?.clone())))
        .collect();
    let order = parents_first(space).0;
    let mut assignments = vec![active(space, &order, &first)];
    for (name, values) in &values_by_name {
        for value in values {
            if assignments.len() >= count_max {
                return assignments;
            }
            let mut chosen = first.clone();
            chosen.insert((*name).to_owned(), value.clone());
            make_active(space, &order, name, &mut chosen);
            assignments.push(active(space, &order, &chosen));
        }
    }
    let discrete = values_by_name.iter().filter(|(name, _)| is_discrete(&space[**name].domain));
    assignments.extend(product(discrete, &first).iter().map(|chosen| active(space, &order, chosen)));
    assignments.truncate(count_max);
    assignments
}

/// The first value and those at which a recipe may turn wrong.
fn values(domain: &Domain) -> Vec<ParamValue> {
    match domain {
        Domain::Float { low, high, .. } => vec![ParamValue::Float(*low), ParamValue::Float(*high)],
        Domain::Int { low, high, .. } => vec![ParamValue::Int(*low), ParamValue::Int(*high)],
        Domain::Categorical { choices } | Domain::Ordinal { choices } => choices.clone(),
        Domain::Bool => vec![ParamValue::Bool(false), ParamValue::Bool(true)],
    }
}

fn is_discrete(domain: &Domain) -> bool {
    match domain {
        Domain::Categorical { .. } | Domain::Ordinal { .. } | Domain::Bool => true,
        Domain::Float { .. } | Domain::Int { .. } => false,
    }
}

/// Every combination, or none where they are too many.
fn product<'a>(parts: impl Iterator<Item = (&'a &'a str, &'a Vec<ParamValue>)>, first: &Params) -> Vec<Params> {
    let mut all = vec![first.clone()];
    for (name, values) in parts {
        if all.len() * values.len() > PRODUCT_MAX {
            return Vec::new();
        }
        let with = |params: &Params, value: &ParamValue| {
            let mut params = params.clone();
            params.insert((*name).to_owned(), value.clone());
            params
        };
        all = all.iter().flat_map(|params| values.iter().map(move |value| with(params, value))).collect();
    }
    all
}

/// Gives those that `name` depends on a value with which it exists.
fn make_active(space: &BTreeMap<String, Parameter>, order: &[&str], name: &str, chosen: &mut Params) {
    let mut wanted = BTreeSet::from([name]);
    for child in order.iter().rev().filter_map(|name| space.get_key_value(*name)) {
        if !wanted.contains(child.0.as_str()) {
            continue;
        }
        for (parent, values) in &child.1.when {
            wanted.insert(parent);
            let fitting = match values {
                OneOrMany::One(value) => Some(value),
                OneOrMany::Many(values) => values.first(),
            };
            if let Some(value) = fitting
                && !chosen.get(parent).is_some_and(|now| values.contains(now))
            {
                chosen.insert(parent.clone(), value.clone());
            }
        }
    }
}

/// The assignment without the parameters that do not exist in it.
fn active(space: &BTreeMap<String, Parameter>, order: &[&str], chosen: &Params) -> Params {
    let mut params = Params::new();
    for name in order {
        if let Some(value) = chosen.get(*name)
            && space[*name].is_active(&params)
        {
            params.insert((*name).to_owned(), value.clone());
        }
    }
    params
}
