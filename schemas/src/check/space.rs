//! The space of a study file: domains, choices, conditions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::limits::LIMITS;
use crate::params::ParamValue;
use crate::study::{Domain, OneOrMany, Parameter};

use super::assignment::{fit, is_on_step, parents_first};
use super::prior;
use super::reader::{Fields, Node, list_of, nearest};

/// Beyond this a whole number is not exact as a float, which samplers count in.
const INT_MAX: i64 = 1 << 53;

const TYPES: [&str; 5] = ["float", "int", "categorical", "ordinal", "bool"];

/// What could be read of a space.
#[derive(Default)]
pub struct Space {
    /// Every name, those of faulty parameters as well.
    pub names: BTreeSet<String>,
    /// Every name that a condition names, faulty conditions as well.
    pub conditioning: BTreeSet<String>,
    /// The parameters that are right. Conditions that are not have been left out.
    pub parameters: BTreeMap<String, Parameter>,
}

pub fn check(node: &Node) -> Option<Space> {
    let fields = node.fields()?;
    if fields.map.len() > LIMITS.parameters_max {
        node.fault(
            format!("has {} parameters", fields.map.len()),
            format!("at most {} are searched", LIMITS.parameters_max),
        );
    }
    let mut space = Space::default();
    for (name, parameter) in fields.nodes() {
        space.names.insert(name.to_owned());
        check_name(name, &parameter);
        if let Some(fields) = parameter.fields()
            && let Some(domain) = domain(&fields)
        {
            let prior = fields.optional("prior").and_then(|node| prior::check(&node, &domain));
            space.parameters.insert(name.to_owned(), Parameter { domain, when: BTreeMap::new(), prior });
        }
    }
    for (name, parameter) in fields.nodes() {
        let Some(when) = parameter.value.get("when").filter(|when| !when.is_null()) else { continue };
        space.conditioning.extend(when.as_object().into_iter().flat_map(|when| when.keys().cloned()));
        let when = conditions(name, &Node::new(when, format!("{}.when", parameter.path), node.faults), &space);
        if let Some(parameter) = space.parameters.get_mut(name) {
            parameter.when = when;
        }
    }
    break_circles(&fields, &mut space);
    Some(space)
}

fn check_name(name: &str, node: &Node) {
    let is_good = (1..=LIMITS.id_chars_max).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if !is_good {
        let help = format!("use 1 to {} of the characters a-z A-Z 0-9 _ -", LIMITS.id_chars_max);
        node.fault("is not a name for a parameter", help);
    }
}

fn domain(fields: &Fields) -> Option<Domain> {
    let types = format!("one of {}", list_of(TYPES.into_iter()));
    let Some(kind) = fields.required("type", &types).and_then(|node| node.word(&TYPES)) else {
        fields.only(&["type", "when", "prior", "low", "high", "log", "step", "choices"]);
        return None;
    };
    match kind {
        "float" => float(fields),
        "int" => int(fields),
        "bool" => {
            fields.only(&["type", "when", "prior"]);
            Some(Domain::Bool)
        }
        ordered_or_not => {
            fields.only(&["type", "when", "prior", "choices"]);
            let choices = choices(&fields.required("choices", "a list of values")?)?;
            Some(match ordered_or_not {
                "ordinal" => Domain::Ordinal { choices },
                _ => Domain::Categorical { choices },
            })
        }
    }
}

fn float(fields: &Fields) -> Option<Domain> {
    fields.only(&["type", "when", "prior", "low", "high", "log", "step"]);
    let bound = |key, what| fields.required(key, what)?.number(|_| true, "a number");
    let (low, high) = (bound("low", "the lowest value"), bound("high", "the highest value"));
    let (log, step_node) = (log(fields), fields.optional("step"));
    let step = step_node.as_ref().map(|node| node.number(|step| step > 0.0, "a number above 0"));
    let (low, high, log) = (low?, high?, log?);
    let mut is_right = check_bounds(fields, low, high, log);
    if is_right && !(high - low).is_finite() {
        fields.fault("high", format!("is too far from `low` ({low})"), "bring them closer together");
        is_right = false;
    }
    let step = step.map_or(Some(None), |step| step.map(Some))?;
    if is_right && let (Some(step), Some(node)) = (step, step_node) {
        is_right = check_step(&node, low, high, step, log);
    }
    is_right.then_some(Domain::Float { low, high, log, step })
}

fn int(fields: &Fields) -> Option<Domain> {
    fields.only(&["type", "when", "prior", "low", "high", "log", "step"]);
    let bound = |key, what| whole(&fields.required(key, what)?, -INT_MAX);
    let (low, high) = (bound("low", "the lowest value"), bound("high", "the highest value"));
    let (log, step_node) = (log(fields), fields.optional("step"));
    let step = step_node.as_ref().map(|node| whole(node, 1));
    let (low, high, log) = (low?, high?, log?);
    let mut is_right = check_bounds(fields, low as f64, high as f64, log);
    let step = step.map_or(Some(None), |step| step.map(Some))?;
    if is_right && let (Some(step), Some(node)) = (step, step_node) {
        is_right = check_step(&node, low as f64, high as f64, step as f64, log && step != 1);
    }
    is_right.then_some(Domain::Int { low, high, log, step })
}

fn whole(node: &Node, low: i64) -> Option<i64> {
    let number = node.value.as_i64().filter(|number| (low..=INT_MAX).contains(number));
    if number.is_none() {
        let hint = match node.value {
            Value::Number(number) if number.is_f64() => "; `type: float` takes fractions",
            _ => "",
        };
        node.wrong_value(match low {
            1 => format!("give a whole number, at least 1{hint}"),
            _ => format!("give a whole number{hint}"),
        });
    }
    number
}

fn log(fields: &Fields) -> Option<bool> {
    fields.optional("log").map_or(Some(false), |node| node.bool())
}

fn check_bounds(fields: &Fields, low: f64, high: f64, log: bool) -> bool {
    if low > high {
        fields.fault("low", format!("is {low}, above `high` ({high})"), "give the lower bound here");
        return false;
    }
    if log && low <= 0.0 {
        let help = "a log scale needs a number above 0; or leave `log` out";
        fields.fault("low", format!("is {low} on a log scale"), help);
        return false;
    }
    true
}

fn check_step(node: &Node, low: f64, high: f64, step: f64, log: bool) -> bool {
    if log {
        node.fault("is given with a log scale", "leave out `step` or `log`");
        return false;
    }
    if is_on_step(high - low, step) && step <= (high - low).max(f64::MIN_POSITIVE) {
        return true;
    }
    let last = low + ((high - low) / step).floor() * step;
    let help = if last > low {
        format!("choose one that does, or set `high` to {last}")
    } else {
        format!("give at most {}", high - low)
    };
    node.fault(format!("is {step}, which does not lead from {low} to {high}"), help);
    false
}

fn choices(node: &Node) -> Option<Vec<ParamValue>> {
    let items = node.list()?;
    if items.is_empty() || items.len() > LIMITS.choices_max {
        node.fault(format!("has {} choices", items.len()), format!("give 1 to {}", LIMITS.choices_max));
        return None;
    }
    let mut index_by_key = BTreeMap::new();
    let mut choices = Vec::new();
    let mut is_right = true;
    for (index, item) in items.iter().enumerate() {
        let Some(choice) = choice(item) else {
            is_right = false;
            continue;
        };
        if let Some(first) = index_by_key.insert(key(&choice), index) {
            item.fault(format!("is {choice}, which choice [{first}] is already"), "remove one of the two");
            is_right = false;
        }
        choices.push(choice);
    }
    is_right.then_some(choices)
}

fn choice(node: &Node) -> Option<ParamValue> {
    match node.value {
        Value::Bool(value) => Some(ParamValue::Bool(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Some(ParamValue::Int(whole)),
            None => node.number(|_| true, "a number").map(ParamValue::Float),
        },
        Value::String(_) => node.text().map(|text| ParamValue::Text(text.to_owned())),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            node.wrong_value("a choice is a number, a text, true or false");
            None
        }
    }
}

/// Equal for values that nobody could tell apart.
fn key(choice: &ParamValue) -> (u8, String) {
    match choice {
        ParamValue::Bool(value) => (0, value.to_string()),
        ParamValue::Int(value) => (1, (*value as f64).to_string()),
        ParamValue::Float(value) => (1, value.to_string()),
        ParamValue::Text(value) => (2, value.clone()),
    }
}

fn conditions(name: &str, node: &Node, space: &Space) -> BTreeMap<String, OneOrMany> {
    let Some(fields) = node.fields() else { return BTreeMap::new() };
    let mut when = BTreeMap::new();
    for (parent, values) in fields.nodes() {
        if parent == name {
            values.fault("names the parameter itself", "name another parameter");
        } else if !space.names.contains(parent) {
            let others = || space.names.iter().map(String::as_str).filter(|other| *other != name);
            let help = match nearest(parent, others()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the other parameters are {}", list_of(others())),
            };
            values.fault("is not a parameter of the space", help);
        } else if let Some(parameter) = space.parameters.get(parent)
            && let Some(values) = condition_values(&values, &parameter.domain)
        {
            when.insert(parent.to_owned(), values);
        }
    }
    when
}

/// The values as the domain of the parameter that they belong to has them.
fn condition_values(node: &Node, domain: &Domain) -> Option<OneOrMany> {
    let fitting = |node: &Node| {
        fit(domain, node.value)
            .map_err(|help| node.fault(format!("is {}, which it never is", super::reader::show(node.value)), help))
            .ok()
    };
    if !node.value.is_array() {
        return fitting(node).map(OneOrMany::One);
    }
    let items = node.list()?;
    if items.is_empty() || items.len() > LIMITS.choices_max {
        node.fault(format!("is a list of {}", items.len()), format!("name 1 to {} values", LIMITS.choices_max));
        return None;
    }
    let values: Vec<_> = items.iter().map(fitting).collect();
    values.into_iter().collect::<Option<Vec<_>>>().map(OneOrMany::Many)
}

/// Conditions that go round in a circle are a fault; they are left out of what is tried further.
fn break_circles(fields: &Fields, space: &mut Space) {
    while let Some(circle) = first_circle(&space.parameters) {
        let path = format!("{}.when", fields.path_of(&circle[0]));
        let round = circle.iter().chain([&circle[0]]).map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let problem = format!("goes round in a circle: {}", round.join(" needs "));
        fields.faults.add(path, problem, "remove one of these conditions");
        for name in circle {
            if let Some(parameter) = space.parameters.get_mut(&name) {
                parameter.when.clear();
            }
        }
    }
}

/// A circle, beginning with its first name in the alphabet.
fn first_circle(parameters: &BTreeMap<String, Parameter>) -> Option<Vec<String>> {
    let circling = parents_first(parameters).1;
    let mut walked: Vec<&str> = vec![circling.first()?];
    loop {
        let parents = &parameters.get(walked[walked.len() - 1])?.when;
        let next = circling.iter().find(|name| parents.contains_key(**name))?;
        if let Some(start) = walked.iter().position(|name| name == next) {
            let mut circle: Vec<String> = walked[start..].iter().map(|name| (*name).to_owned()).collect();
            let first = circle.iter().enumerate().min_by_key(|(_, name)| *name).map_or(0, |(index, _)| index);
            circle.rotate_left(first);
            return Some(circle);
        }
        walked.push(next);
    }
}
