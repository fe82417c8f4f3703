//! Prints the time of a training step for a few models: `cargo run --release -p regatta-agent --example step_time`.
//! ONNX Runtime is found through `ORT_DYLIB_PATH`, else where scripts/setup puts it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use regatta_agent::runtime::Device;
use regatta_agent::training::{
    Activation, Adam, Dataset, Engine, Feature, Loss, ModelPlan, Norm, OptimizerPlan, Plan, Split, Target,
};

const WARM_UP_STEPS: usize = 50;
const STEPS: usize = 500;

fn main() -> anyhow::Result<()> {
    let library = std::env::var_os("ORT_DYLIB_PATH").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.regatta/lib/libonnxruntime.so")),
        PathBuf::from,
    );
    let adam = Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    let adamw = OptimizerPlan::AdamW(adam);
    let momentum = OptimizerPlan::Sgd { learning_rate: 0.01, momentum: 0.9, nesterov: false, weight_decay: 0.0 };
    let cases = [
        ("784-512-512-10, batch 128, adamw", 784, vec![512, 512], 128, adamw, 0.0),
        ("the same with dropout 0.1", 784, vec![512, 512], 128, adamw, 0.1),
        ("784-512-512-10, batch 128, momentum", 784, vec![512, 512], 128, momentum, 0.0),
        ("64-64-10, batch 32, adamw", 64, vec![64], 32, adamw, 0.0),
        ("64-64-10, batch 32, momentum", 64, vec![64], 32, momentum, 0.0),
    ];
    println!("{:38} {:>7} {:>12} {:>12} {:>12}", "model", "threads", "median us", "p10 us", "p90 us");
    for (name, width, hidden, batch_size, optimizer, dropout) in cases {
        let model = ModelPlan::Mlp { hidden, norm: Norm::None, activation: Activation::Relu, dropout };
        let plan = Plan::new(model, Loss::cross_entropy(), optimizer, batch_size, 1);
        for threads in [1, 2] {
            let mut engine = Engine::new(&library, Device::Cpu, threads)?;
            let times = step_times(&mut engine, &plan, &Arc::new(data(width)))?;
            let at = |share: f64| times[(times.len() as f64 * share) as usize];
            println!("{name:38} {threads:>7} {:>12.1} {:>12.1} {:>12.1}", at(0.5), at(0.1), at(0.9));
        }
    }
    Ok(())
}

/// Microseconds, sorted.
fn step_times(engine: &mut Engine, plan: &Plan, data: &Arc<Dataset>) -> anyhow::Result<Vec<f64>> {
    let mut training = engine.start(plan, data, None)?;
    let mut times = Vec::with_capacity(STEPS);
    for step in 0..WARM_UP_STEPS + STEPS {
        let begin = Instant::now();
        training.train_step()?;
        if step >= WARM_UP_STEPS {
            times.push(begin.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn data(width: usize) -> Dataset {
    let split = |rows: usize| {
        let values = (0..rows * width).map(|at| (at * 7919 % 1000) as f32 / 1000.0 - 0.5).collect();
        let labels = (0..rows as i64).map(|row| row % 10).collect();
        Split {
            features: vec![Feature::numbers("x", vec![width], values)],
            target: Target::classes(labels, vec![], 10),
        }
    };
    Dataset { train: split(6400), validation: split(640) }
}
