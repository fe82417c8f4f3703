//! Whether values fit a space: bounds, choices, steps, conditions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::params::{ParamValue, Params};
use crate::study::{Domain, OneOrMany, Parameter};

use super::reader::{Node, list_of, nearest};

/// How far a value may lie from its step, as a share of the step.
const STEP_TOLERANCE: f64 = 1e-6;

/// `names`: of all parameters, those included that are faulty and thus not in the space; nothing is said of their values.
pub fn check(space: &BTreeMap<String, Parameter>, names: &BTreeSet<String>, node: &Node) -> Option<Params> {
    let empty = Value::Object(serde_json::Map::new());
    let node = if node.value.is_null() { Node { value: &empty, ..node.clone() } } else { node.clone() };
    let fields = node.fields()?;
    for (key, field) in fields.nodes().filter(|(key, _)| !names.contains(*key)) {
        let help = match nearest(key, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("remove it; the parameters are {}", list_of(names.iter().map(String::as_str))),
        };
        field.fault("is not a parameter of the space", help);
    }
    let mut params = Params::new();
    let mut unclear = Vec::new();
    for name in parents_first(space).0 {
        let parameter = &space[name];
        if parameter.when.keys().any(|parent| unclear.contains(&parent.as_str())) {
            unclear.push(name);
            continue;
        }
        let is_active = parameter.is_active(&params);
        match (is_active, fields.optional(name)) {
            (true, Some(value)) => match fit(&parameter.domain, value.value) {
                Ok(fitting) => drop(params.insert(name.to_owned(), fitting)),
                Err(help) => {
                    value.wrong_value(help);
                    unclear.push(name);
                }
            },
            (true, None) => {
                fields.fault(name, "is missing", format!("give {}", describe(&parameter.domain)));
                unclear.push(name);
            }
            (false, Some(value)) => {
                value.fault("is given though it does not exist here", condition(parameter));
            }
            (false, None) => {}
        }
    }
    Some(params)
}

/// The names in an order in which each comes after those that its condition names, and those that have no
/// such place because their conditions go round in a circle.
pub fn parents_first(space: &BTreeMap<String, Parameter>) -> (Vec<&str>, Vec<&str>) {
    let mut ordered: Vec<&str> = Vec::with_capacity(space.len());
    let mut children_by_parent: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut waiting_by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, parameter) in space {
        let parents = parameter.when.keys().filter(|parent| space.contains_key(*parent));
        let mut count = 0;
        for parent in parents {
            children_by_parent.entry(parent).or_default().push(name);
            count += 1;
        }
        waiting_by_name.insert(name, count);
        if count == 0 {
            ordered.push(name);
        }
    }
    let mut next = 0;
    while let Some(name) = ordered.get(next).copied() {
        next += 1;
        for child in children_by_parent.get(name).into_iter().flatten() {
            let waiting = waiting_by_name.entry(child).or_default();
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                ordered.push(child);
            }
        }
    }
    let circling = waiting_by_name.into_iter().filter(|(_, waiting)| *waiting > 0).map(|(name, _)| name).collect();
    (ordered, circling)
}

/// The value as its domain has it.
///
/// # Errors
/// What would fit.
pub fn fit(domain: &Domain, value: &Value) -> Result<ParamValue, String> {
    let fitting = match domain {
        Domain::Float { low, high, step, .. } => value
            .as_f64()
            .filter(|number| (*low..=*high).contains(number))
            .filter(|number| step.is_none_or(|step| is_on_step(number - low, step)))
            .map(ParamValue::Float),
        Domain::Int { low, high, step, .. } => whole(value)
            .filter(|number| (*low..=*high).contains(number))
            .filter(|number| {
                step.is_none_or(|step| step > 0 && (i128::from(*number) - i128::from(*low)) % i128::from(step) == 0)
            })
            .map(ParamValue::Int),
        Domain::Categorical { choices } | Domain::Ordinal { choices } => {
            choices.iter().find(|choice| is_same(choice, value)).cloned()
        }
        Domain::Bool => value.as_bool().map(ParamValue::Bool),
    };
    fitting.ok_or_else(|| format!("give {}{}", describe(domain), nearest_choice(domain, value)))
}

/// The domain in words.
pub fn describe(domain: &Domain) -> String {
    match domain {
        Domain::Float { low, high, step: None, .. } => format!("a number from {low} to {high}"),
        Domain::Float { low, high, step: Some(step), .. } => {
            format!("a number from {low} to {high} in steps of {step}")
        }
        Domain::Int { low, high, step: None | Some(1), .. } => format!("a whole number from {low} to {high}"),
        Domain::Int { low, high, step: Some(step), .. } => {
            format!("a whole number from {low} to {high} in steps of {step}")
        }
        Domain::Categorical { choices } | Domain::Ordinal { choices } => {
            let names: Vec<_> = choices.iter().map(ToString::to_string).collect();
            format!("one of {}", list_of(names.iter().map(String::as_str)))
        }
        Domain::Bool => "true or false".to_owned(),
    }
}

/// When the parameter exists, in words.
pub fn condition(parameter: &Parameter) -> String {
    let parts: Vec<_> = parameter
        .when
        .iter()
        .map(|(parent, values)| {
            let names: Vec<String> = match values {
                OneOrMany::One(value) => vec![value.to_string()],
                OneOrMany::Many(values) => values.iter().map(ToString::to_string).collect(),
            };
            format!("`{parent}` is {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or "))
        })
        .collect();
    format!("it exists only where {}", parts.join(" and "))
}

/// Whether a distance is a whole number of steps.
pub fn is_on_step(distance: f64, step: f64) -> bool {
    let steps = distance / step;
    (steps - steps.round()).abs() <= STEP_TOLERANCE * steps.abs().max(1.0)
}

/// A whole number, also when it was written with a point.
fn whole(value: &Value) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| {
        value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= EXACT_MAX).map(|number| number as i64)
    })
}

fn is_same(choice: &ParamValue, value: &Value) -> bool {
    match choice {
        ParamValue::Bool(choice) => value.as_bool() == Some(*choice),
        ParamValue::Int(choice) => whole(value) == Some(*choice),
        ParamValue::Float(choice) => value.as_f64() == Some(*choice),
        ParamValue::Text(choice) => value.as_str() == Some(choice),
    }
}

fn nearest_choice(domain: &Domain, value: &Value) -> String {
    let (Domain::Categorical { choices } | Domain::Ordinal { choices }, Value::String(text)) = (domain, value) else {
        return String::new();
    };
    let texts = choices.iter().filter_map(|choice| match choice {
        ParamValue::Text(text) => Some(text.as_str()),
        ParamValue::Bool(_) | ParamValue::Int(_) | ParamValue::Float(_) => None,
    });
    nearest(text, texts).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}
