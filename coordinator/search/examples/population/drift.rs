//! An objective whose best learning rate falls while a trial trains, so that no constant one is good throughout, and
//! what a study finds on it with as many epochs as another.

use std::collections::BTreeMap;
use std::time::Duration;

use regatta_schemas::log::Record;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{PoolId, check};
use regatta_search::Settings;
use regatta_search::simulator::{AgentPlan, Epoch, Faults, Plan, Simulator, Stretch, study_id};
use serde_json::{Value, json};

pub const POPULATION: u32 = 16;
pub const RESOURCE: u32 = 60;
const LANES: u32 = 8;
const METRIC: &str = "progress";
/// The logarithm of the best learning rate at the beginning and at the end, and how far from it half of the gain is
/// lost.
const FIRST: f64 = -1.0;
const LAST: f64 = -3.0;
const REACH: f64 = 0.3;

/// The share of the whole way that a trial has come: each epoch brings it on, the more the better its rate is by then.
pub fn progress(stretches: &[Stretch], epoch: u32) -> Epoch {
    let gain = |done: u32| {
        let now = stretches.iter().rev().find(|stretch| stretch.after < done);
        let rate = now.and_then(|stretch| stretch.params["rate"].as_f64()).unwrap_or(1.0);
        let best = FIRST + (LAST - FIRST) * f64::from(done) / f64::from(RESOURCE);
        0.5_f64.powf(((rate.log10() - best) / REACH).powi(2))
    };
    let value = (1..=epoch).map(gain).sum::<f64>() / f64::from(RESOURCE);
    Epoch { metrics: BTreeMap::from([(METRIC.to_owned(), value)]), seconds: 1.0 }
}

/// The best value of a study with this stopper within the epochs that as many trials as a population take unstopped.
pub fn best(stopper: &Value, trials: u32, seed: u64) -> f64 {
    let plan = Plan {
        seed,
        studies: vec![file(stopper, trials, seed)],
        agents: vec![AgentPlan { pool: PoolId::default(), lanes: LANES, slowness: 1.0 }],
        faults: Faults::none(),
        settings: Settings::default(),
        checkpoint_every: 0,
        beat_every: Duration::from_secs(1),
    };
    let mut simulator = Simulator::along(plan, &progress);
    let (mut epochs, mut read) = (0, 0);
    while epochs < POPULATION * RESOURCE && !simulator.is_over() && simulator.step() {
        epochs +=
            simulator.log()[read..].iter().filter(|entry| matches!(entry.record, Record::Measured(_))).count() as u32;
        read = simulator.log().len();
    }
    let study = simulator.coordinator().and_then(|coordinator| coordinator.study(&study_id(0)));
    study.and_then(|study| study.state().best.as_ref()).map_or(0.0, |best| best.value)
}

fn file(stopper: &Value, trials: u32, seed: u64) -> StudyFile {
    let file = json!({
        "name": "drift",
        "objective": {"metric": METRIC, "goal": "maximize"},
        "space": {"rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": true}},
        "sampler": "random",
        "stopper": stopper,
        "budget": {"trials": trials, "resource": RESOURCE},
        "seed": seed,
        "recipe": {
            "data": {"file": "digits.npz", "format": "npz", "task": "classification", "target": "y"},
            "model": {"family": "mlp", "hidden": [8]},
            "loss": "cross_entropy",
            "optimizer": {"name": "sgd", "learning_rate": "$rate"},
            "batch_size": 32,
        },
    });
    check::simulated_study_file(&file).expect("the file is sound")
}

/// A population, with trials enough for all its copies.
pub fn population(seed: u64) -> f64 {
    best(&json!({"name": "pbt", "population": POPULATION, "interval": 3}), 1_000, seed)
}

/// As many trials at random, each with one rate for its life.
pub fn at_random(seed: u64) -> f64 {
    best(&json!("none"), POPULATION, seed)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}
