//! The optimizer of a recipe: which settings each one has, and their bounds.

use super::reader::{Fields, Node, list_of};

const NAMES: [&str; 3] = ["sgd", "adam", "adamw"];
const SGD: [&str; 5] = ["name", "learning_rate", "momentum", "nesterov", "weight_decay"];
const ADAM: [&str; 6] = ["name", "learning_rate", "beta1", "beta2", "epsilon", "weight_decay"];

pub fn check(node: &Node) {
    let Some(fields) = node.fields() else { return };
    let name = fields.required("name", &format!("one of {}", list_of(NAMES.into_iter())));
    match name.and_then(|node| node.word(&NAMES)) {
        Some("sgd") => only(&fields, "sgd", &SGD),
        Some(adam) => only(&fields, adam, &ADAM),
        None => fields.only(&[SGD.as_slice(), ADAM.as_slice()].concat()),
    }
    if let Some(rate) = fields.required("learning_rate", "a number above 0, for example 0.001") {
        rate.number(|rate| rate > 0.0, "a number above 0");
    }
    let momentum = below_one(&fields, "momentum");
    below_one(&fields, "beta1");
    below_one(&fields, "beta2");
    if let Some(epsilon) = fields.optional("epsilon") {
        epsilon.number(|epsilon| epsilon > 0.0, "a number above 0");
    }
    if let Some(decay) = fields.optional("weight_decay") {
        decay.number(|decay| decay >= 0.0, "a number, at least 0");
    }
    if let Some(nesterov) = fields.optional("nesterov")
        && nesterov.bool() == Some(true)
        && momentum == Some(0.0)
    {
        nesterov.fault("is true while `momentum` is 0", "give a `momentum` above 0, or leave `nesterov` out");
    }
}

/// A setting of another optimizer gets a hint of its own.
fn only(fields: &Fields, name: &str, known: &[&'static str]) {
    let foreign = |key: &str| !known.contains(&key) && (SGD.contains(&key) || ADAM.contains(&key));
    for key in fields.map.keys().filter(|key| foreign(key)) {
        let help =
            format!("remove it, or give its parameter a `when`; `{name}` has {}", list_of(known.iter().copied()));
        fields.fault(key, format!("is not a setting of `{name}`"), help);
    }
    let tolerated: Vec<&str> = fields.map.keys().map(String::as_str).filter(|key| foreign(key)).collect();
    fields.only(&[known, &tolerated].concat());
}

fn below_one(fields: &Fields, key: &str) -> Option<f64> {
    match fields.optional(key) {
        Some(node) => node.number(|value| (0.0..1.0).contains(&value), "a number from 0 to below 1"),
        None => Some(0.0),
    }
}
