//! The optimizer of a recipe and how its learning rate runs: which settings each one has, and their bounds.

use crate::limits::LIMITS;

use super::amounts::{above_zero, below_one, between, from_zero, up_to_one, whole};
use super::kinds::Kinds;
use super::reader::{Fields, Node};

const ADAM: &[&str] = &["beta1", "beta2", "epsilon"];
const OPTIMIZERS: Kinds = Kinds {
    key: "name",
    shared: &["learning_rate", "weight_decay"],
    own: &[
        ("sgd", &["momentum", "nesterov"]),
        ("adam", ADAM),
        ("adamw", ADAM),
        ("rmsprop", &["alpha", "epsilon", "momentum"]),
        ("adagrad", &["epsilon"]),
        ("lamb", ADAM),
        ("lion", &["beta1", "beta2"]),
    ],
};
const SCHEDULES: Kinds = Kinds {
    key: "name",
    shared: &[],
    own: &[
        ("constant", &["warm_up"]),
        ("step", &["every", "factor", "warm_up"]),
        ("cosine", &["floor", "warm_up"]),
        ("linear", &["floor", "warm_up"]),
        ("one_cycle", &["rise", "start", "floor"]),
        ("exponential", &["factor", "warm_up"]),
        ("plateau", &["factor", "patience"]),
    ],
};

pub fn check(node: &Node) {
    let Some(fields) = node.fields() else { return };
    let name = OPTIMIZERS.kind(&fields);
    if let Some(rate) = fields.required("learning_rate", "a number above 0, for example 0.001") {
        rate.number(|rate| rate > 0.0, "a number above 0");
    }
    for key in ["momentum", "beta1", "beta2", "alpha"] {
        below_one(&fields, key);
    }
    above_zero(&fields, "epsilon");
    from_zero(&fields, "weight_decay");
    if name == Some("sgd") {
        nesterov(&fields);
    }
}

fn nesterov(fields: &Fields) {
    let is_still = fields.optional("momentum").is_none_or(|momentum| momentum.value.as_f64() == Some(0.0));
    if let Some(nesterov) = fields.optional("nesterov")
        && nesterov.bool() == Some(true)
        && is_still
    {
        nesterov.fault("is true while `momentum` is 0", "give a `momentum` above 0, or leave `nesterov` out");
    }
}

pub fn check_schedule(node: &Node) {
    if node.value.is_string() {
        return node.wrong_value("write its name as a key: {name: cosine}");
    }
    let Some(fields) = node.fields() else { return };
    let name = SCHEDULES.kind(&fields);
    if name == Some("step") {
        fields.required("every", "after how many epochs the learning rate changes");
    }
    if name == Some("exponential") {
        fields.required("factor", "what the learning rate is multiplied by after every epoch, for example 0.95");
    }
    whole(&fields, "every", 1..=LIMITS.resource_max);
    whole(&fields, "patience", 0..=LIMITS.resource_max);
    between(&fields, "rise", "0.3");
    below_one(&fields, "warm_up");
    if let Some(factor) = fields.optional("factor") {
        factor.number(|factor| factor > 0.0 && factor <= 1.0, "a number above 0, at most 1");
    }
    up_to_one(&fields, "start");
    up_to_one(&fields, "floor");
}
