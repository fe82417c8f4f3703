//! A copy goes on from its parent's checkpoint with values that may change during a training, and from none that is of
//! another shape: the agent's side of `regatta_schemas::changeable`.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/thread.rs"]
mod thread;

use std::sync::Arc;
use std::time::Duration;

use regatta_agent::agent::{Ending, Lane};
use regatta_agent::lane::{Assignment, LaneThread, Material, Report};
use regatta_agent::training::{Dataset, Feature, Source, Split, Target};
use regatta_schemas::changeable::changeable;
use regatta_schemas::reasons::FailCause;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// A lane, and what it says.
struct Floor {
    lane: LaneThread,
    reports: mpsc::Receiver<(Lane, Report)>,
}

/// What came of two epochs.
struct Told {
    losses: Vec<f64>,
    checkpoint: Option<Vec<u8>>,
    ending: Ending,
}

impl Floor {
    fn new() -> Self {
        let (sender, reports) = mpsc::channel(100);
        let lane = thread::lane(sender);
        Self { lane, reports }
    }

    /// Of four epochs the first two, or the last two from a checkpoint.
    fn train(&mut self, recipe: &Value, resume: Option<&Vec<u8>>) -> Told {
        let offer = json!({
            "type": "offer", "study": "s", "trial": 1, "attempt": 1, "params": {}, "recipe": recipe,
            "resource": 4, "until": if resume.is_some() { Value::Null } else { 2.into() }, "seed": 3,
        });
        let is_of_classes = recipe["data"]["task"] == "classification";
        let material = Material::Training { data: Source::from(&rows(is_of_classes)), model: None };
        let offer = Box::new(serde_json::from_value(offer).unwrap());
        let resume = resume.map(|bytes| (bytes.clone(), Duration::ZERO));
        assert!(self.lane.assign(Assignment { offer, material, resume }));
        let (mut losses, mut checkpoint) = (Vec::new(), None);
        loop {
            match self.reports.blocking_recv().unwrap().1 {
                Report::Line(_) => {}
                Report::Measured(point) => losses.push(point.metrics["validation_loss"]),
                Report::Checkpoint(snapshot) => checkpoint = Some(snapshot.bytes),
                Report::Ended(ending) => return Told { losses, checkpoint, ending },
            }
        }
    }
}

fn recipe(changes: &Value) -> Value {
    let mut recipe = json!({
        "data": {"file": "rows.npz", "format": "npz", "task": "classification", "target": "y"},
        "model": {"family": "mlp", "hidden": [8]},
        "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "batch_size": 8,
    });
    for (key, value) in changes.as_object().unwrap() {
        recipe[key] = value.clone();
    }
    recipe
}

/// The changes with the value in the place of `$value`.
fn with(changes: &Value, value: &Value) -> Value {
    match changes {
        Value::String(text) if text == "$value" => value.clone(),
        Value::Object(fields) => fields.iter().map(|(key, field)| (key.clone(), with(field, value))).collect(),
        Value::Array(items) => items.iter().map(|item| with(item, value)).collect(),
        other => other.clone(),
    }
}

/// Whether a parameter of this place may change.
fn may_change(changes: &Value) -> bool {
    let Value::Object(template) = recipe(changes) else { unreachable!("a recipe is an object") };
    let space = json!({"value": {"type": "float", "low": 0.1, "high": 0.9}});
    !changeable(&template, &serde_json::from_value(space).unwrap()).is_empty()
}

#[test]
fn a_copy_goes_on_with_each_value_that_may_change() {
    let (adam, rate) = (|field: &str| json!({"name": "adam", "learning_rate": 0.01, field: "$value"}), 0.1);
    let sgd = |field: &str| json!({"optimizer": {"name": "sgd", "learning_rate": rate, field: "$value"}});
    let regression = json!({"file": "rows.npz", "format": "npz", "task": "regression", "target": "y"});
    let rows = [
        (json!({"optimizer": {"name": "sgd", "learning_rate": "$value"}}), json!([0.1, 0.2])),
        (sgd("momentum"), json!([0.9, 0.5])),
        (sgd("weight_decay"), json!([0.1, 0.2])),
        (json!({"optimizer": adam("beta1")}), json!([0.9, 0.5])),
        (json!({"optimizer": adam("beta2")}), json!([0.999, 0.9])),
        (json!({"optimizer": adam("epsilon")}), json!([1e-8, 0.1])),
        (json!({"optimizer": {"name": "rmsprop", "learning_rate": 0.01, "alpha": "$value"}}), json!([0.99, 0.5])),
        (json!({"schedule": {"name": "step", "factor": 0.5, "every": "$value"}}), json!([1, 3])),
        (json!({"schedule": {"name": "exponential", "factor": "$value"}}), json!([0.5, 0.9])),
        (json!({"schedule": {"name": "cosine", "floor": "$value"}}), json!([0.1, 0.9])),
        (json!({"schedule": {"name": "constant", "warm_up": "$value"}}), json!([0.4, 0.8])),
        (json!({"schedule": {"name": "one_cycle", "rise": "$value"}}), json!([0.3, 0.8])),
        (json!({"schedule": {"name": "one_cycle", "rise": 0.8, "start": "$value"}}), json!([0.1, 0.9])),
        (json!({"schedule": {"name": "plateau", "factor": "$value", "patience": 1}}), json!([0.5, 0.1])),
        (json!({"schedule": {"name": "plateau", "patience": "$value"}}), json!([1, 5])),
        (json!({"loss": {"name": "cross_entropy", "label_smoothing": "$value"}}), json!([0.1, 0.4])),
        (json!({"data": regression, "loss": {"name": "huber", "delta": "$value"}}), json!([1.0, 0.1])),
        (json!({"model": {"family": "mlp", "hidden": [8], "dropout": "$value"}}), json!([0.1, 0.5])),
        (json!({"clip_norm": "$value"}), json!([0.1, 0.01])),
        (json!({"clip_value": "$value"}), json!([0.1, 0.001])),
        (json!({"average": "$value"}), json!([0.9, 0.1])),
        (json!({"augment": [{"name": "noise", "deviation": "$value"}]}), json!([0.1, 0.9])),
        (json!({"augment": [{"name": "mixup", "alpha": "$value"}]}), json!([0.2, 0.9])),
    ];
    let mut floor = Floor::new();
    for (changes, values) in rows {
        assert!(may_change(&changes), "{changes}");
        let parent = recipe(&with(&changes, &values[0]));
        let checkpoint = floor.train(&parent, None).checkpoint.unwrap();
        let same = floor.train(&parent, Some(&checkpoint));
        let copy = floor.train(&recipe(&with(&changes, &values[1])), Some(&checkpoint));
        assert!(matches!(copy.ending, Ending::Finished { resource: 4, .. }), "{changes}: {:?}", copy.ending);
        assert_eq!((same.losses.len(), copy.losses.len()), (2, 2), "{changes}");
        // A plateau that nothing has reached yet is the same with another patience.
        let is_plateau = changes["schedule"]["name"] == "plateau";
        assert!(is_plateau || same.losses != copy.losses, "{changes}: the new value counts");
    }
}

#[test]
fn a_checkpoint_of_another_shape_is_refused() {
    let rows = [
        (json!({"model": {"family": "mlp", "hidden": ["$value"]}}), json!([8, 9])),
        (json!({"model": {"family": "mlp", "hidden": [8], "activation": "$value"}}), json!(["relu", "tanh"])),
        (json!({"optimizer": {"name": "$value", "learning_rate": 0.01}}), json!(["adam", "adamw"])),
        (json!({"batch_size": "$value"}), json!([8, 16])),
        (json!({"accumulate": "$value"}), json!([2, 3])),
    ];
    let mut floor = Floor::new();
    for (changes, values) in rows {
        assert!(!may_change(&changes), "{changes}");
        let checkpoint = floor.train(&recipe(&with(&changes, &values[0])), None).checkpoint.unwrap();
        let told = floor.train(&recipe(&with(&changes, &values[1])), Some(&checkpoint));
        assert!(
            matches!(told.ending, Ending::Failed { cause: FailCause::Checkpoint, .. }),
            "{changes}: {:?}",
            told.ending
        );
    }
}

/// Rows of six numbers whose sum decides.
fn rows(is_of_classes: bool) -> Arc<Dataset> {
    let split = |rows: usize, salt: usize| {
        let number = |at: usize| ((at + salt) * 7919 % 1009) as f32 / 504.5 - 1.0;
        let features: Vec<f32> = (0..rows * 6).map(number).collect();
        let sums: Vec<f32> = features.chunks(6).map(|row| row.iter().sum()).collect();
        let target = match is_of_classes {
            true => {
                let labels = sums.iter().map(|sum| i64::from(*sum > 0.0)).collect();
                Target::classes(labels, vec![], 2)
            }
            false => Target::Values { values: sums.iter().map(|sum| 3.0 * sum).collect(), shape: vec![1] },
        };
        Split { features: vec![Feature::numbers("x", vec![6], features)], target }
    };
    Arc::new(Dataset { train: split(64, 0), validation: split(32, 5_000) })
}
