//! How fast the core is: `time cargo run --release -p regatta-search --example speed [TRIALS [STOPPER]]` simulates a
//! study of so many random trials, 50 reports each, on 100 lanes, and tells what that came to.

use std::collections::BTreeMap;
use std::time::Duration;

use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, PoolId, check};
use regatta_search::Settings;
use regatta_search::simulator::{AgentPlan, Epoch, Faults, Plan, Simulator, study_id};
use serde_json::json;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let trials = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let stopper = arguments.next().unwrap_or_else(|| "none".to_owned());
    let agents = vec![AgentPlan { pool: PoolId::default(), lanes: 4, slowness: 1.0 }; 25];
    let plan = Plan {
        seed: 1,
        studies: vec![study(trials, &stopper)],
        agents,
        faults: Faults::none(),
        settings: Settings::default(),
        checkpoint_every: 10,
        beat_every: Duration::from_secs(1),
    };
    let mut simulator = Simulator::new(plan, &curve);
    let is_over = simulator.run(u64::MAX);
    let epochs: u64 = simulator
        .coordinator()
        .and_then(|coordinator| coordinator.study(&study_id(0)))
        .map_or(0, |study| study.state().trials.values().map(|trial| u64::from(trial.resource)).sum());
    println!(
        "over: {is_over}; {} records, {epochs} epochs, {:.0} s of virtual time",
        simulator.log().len(),
        simulator.elapsed().as_secs_f64()
    );
}

fn study(trials: u32, stopper: &str) -> StudyFile {
    let file = json!({
        "name": "speed",
        "objective": {"metric": "validation_loss", "goal": "minimize"},
        "space": {"x": {"type": "float", "low": 0.001, "high": 1.0}},
        "sampler": "random",
        "stopper": stopper,
        "budget": {"trials": trials, "resource": 50},
        "recipe": {
            "data": {"file": "digits.npz", "format": "npz", "task": "classification", "target": "y"},
            "model": {"family": "mlp", "hidden": [8]},
            "loss": "cross_entropy",
            "optimizer": {"name": "sgd", "learning_rate": "$x"},
            "batch_size": 32,
        },
    });
    check::study_file(&file).expect("the file is sound, and the stopper one of none, median, asha")
}

fn curve(params: &Params, epoch: u32) -> Epoch {
    let x = params.get("x").and_then(|value| value.as_f64()).unwrap_or(0.5);
    Epoch { metrics: BTreeMap::from([("validation_loss".to_owned(), x / f64::from(epoch))]), seconds: 1.0 }
}
