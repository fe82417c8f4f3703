//! Study files for the tests, and what else they share.

use std::collections::BTreeMap;

use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, check};
use regatta_search::simulator::Epoch;
use serde_json::{Value, json};

pub const METRIC: &str = "validation_accuracy";

/// A sound study file with these fields in place of its own.
pub fn study_json(changes: Value) -> Value {
    let mut file = json!({
        "name": "test",
        "objective": {"metric": METRIC, "goal": "maximize"},
        "space": {"x": {"type": "float", "low": 0.001, "high": 1.0}},
        "sampler": "random",
        "budget": {"trials": 8, "resource": 4},
        "seed": 7,
        "recipe": recipe_json("$x".into()),
    });
    for (key, value) in changes.as_object().expect("changes are an object") {
        file[key] = value.clone();
    }
    file
}

pub fn recipe_json(learning_rate: Value) -> Value {
    json!({
        "data": {"file": "digits.npz", "format": "npz", "task": "classification", "target": "y"},
        "model": {"family": "mlp", "hidden": [8]},
        "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "learning_rate": learning_rate},
        "batch_size": 32,
    })
}

pub fn study(changes: Value) -> StudyFile {
    check::study_file(&study_json(changes)).expect("the test's study file is sound")
}

/// A trial improves towards `x`, its only parameter, and takes a second an epoch.
pub fn towards_x(params: &Params, epoch: u32) -> Epoch {
    let x = params.get("x").and_then(|value| value.as_f64()).unwrap_or(0.5);
    let value = x * (1.0 - (-f64::from(epoch) / 3.0).exp());
    Epoch { metrics: BTreeMap::from([(METRIC.to_owned(), value)]), seconds: 1.0 }
}
