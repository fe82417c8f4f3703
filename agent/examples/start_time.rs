//! Prints how long a trial takes to start: the first of its shape, and the next.
//! `cargo run --release -p regatta-agent --example start_time`.
//! ONNX Runtime is found through `ORT_DYLIB_PATH`, else where scripts/setup puts it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use regatta_agent::runtime::Device;
use regatta_agent::training::{
    Activation, Adam, Dataset, Engine, Feature, Loss, ModelPlan, OptimizerPlan, Plan, Split, Target,
};

const TRIALS: u64 = 20;

fn main() -> anyhow::Result<()> {
    let library = std::env::var_os("ORT_DYLIB_PATH").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.regatta/lib/libonnxruntime.so")),
        PathBuf::from,
    );
    let adam = Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    println!("{:28} {:>14} {:>14} {:>14}", "model, adamw", "first ms", "median ms", "slowest ms");
    for (name, width, hidden) in [("64-64-10", 64, vec![64]), ("784-512-512-10", 784, vec![512, 512])] {
        let mut engine = Engine::new(&library, Device::Cpu, 1)?;
        let data = Arc::new(data(width));
        let mut times = Vec::new();
        for seed in 0..=TRIALS {
            let model = ModelPlan::Mlp { hidden: hidden.clone(), activation: Activation::Relu, dropout: 0.1 };
            let plan = Plan::new(model, Loss::cross_entropy(), OptimizerPlan::AdamW(adam), 32, seed);
            let begin = Instant::now();
            engine.start(&plan, &data, None)?.train_step()?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        let first = times.remove(0);
        times.sort_by(f64::total_cmp);
        println!("{name:28} {first:>14.1} {:>14.1} {:>14.1}", times[times.len() / 2], times[times.len() - 1]);
    }
    Ok(())
}

fn data(width: usize) -> Dataset {
    let split = |rows: usize| {
        let values = (0..rows * width).map(|at| (at * 7919 % 1000) as f32 / 1000.0 - 0.5).collect();
        let labels = (0..rows as i64).map(|row| row % 10).collect();
        Split {
            features: vec![Feature::numbers("x", vec![width], values)],
            target: Target::Classes { labels, shape: vec![], classes: 10 },
        }
    };
    Dataset { train: split(6400), validation: split(640) }
}
