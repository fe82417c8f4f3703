//! Prints how long a trial takes to start, from a plan to a step that can begin: the first of its shape, and the next.
//! `cargo run --release -p regatta-agent --example start_time [-- --device cuda:0]`.
//! ONNX Runtime is found through `ORT_DYLIB_PATH`, else where scripts/setup puts it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use regatta_agent::runtime::Device;
use regatta_agent::training::{
    Activation, Adam, Dataset, Engine, Feature, Loss, ModelPlan, Norm, OptimizerPlan, Plan, Pool, Split, Target,
};

/// After the first one.
const TRIALS: u64 = 10;
const ROWS: usize = 640;

#[derive(Parser)]
struct Options {
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: Device,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let library = std::env::var_os("ORT_DYLIB_PATH").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.regatta/lib/libonnxruntime.so")),
        PathBuf::from,
    );
    let adam = Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    println!(
        "{:22} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "ms; adamw, batch 32", "first", "second", "median", "slowest", "a step"
    );
    for (name, shape, model) in models() {
        let mut engine = Engine::new(&library, options.device, 1)?;
        let data = Arc::new(data(&shape));
        let (mut times, mut step_ms) = (Vec::new(), 0.0);
        for seed in 0..=TRIALS {
            let plan = Plan::new(model.clone(), Loss::cross_entropy(), OptimizerPlan::AdamW(adam), 32, seed);
            let begin = Instant::now();
            let mut training = engine.start(&plan, &data, None)?;
            times.push(milliseconds(begin));
            let begin = Instant::now();
            training.train_step()?;
            step_ms = milliseconds(begin);
        }
        let (first, second) = (times.remove(0), times[0]);
        times.sort_by(f64::total_cmp);
        let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{name:22} {first:>10.1} {second:>10.1} {median:>10.1} {slowest:>10.1} {step_ms:>10.1}");
    }
    Ok(())
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Names, shapes of a row, and models.
fn models() -> Vec<(&'static str, Vec<usize>, ModelPlan)> {
    let activation = Activation::Relu;
    let mlp = |hidden: &[usize]| ModelPlan::Mlp { hidden: hidden.to_vec(), norm: Norm::None, activation, dropout: 0.1 };
    let cnn = ModelPlan::Cnn {
        channels: vec![32, 64, 128],
        layers: 1,
        kernel: 3,
        norm: Norm::Batch,
        activation,
        pool: Pool::Max,
        global_pool: false,
        hidden: vec![],
        dropout: 0.0,
    };
    let resnet18 = ModelPlan::Resnet {
        blocks: vec![2, 2, 2, 2],
        width: 64,
        bottleneck: false,
        kernel: 3,
        norm: Norm::Batch,
        activation,
        dropout: 0.0,
    };
    vec![
        ("64-64-10", vec![64], mlp(&[64])),
        ("784-512-512-10", vec![784], mlp(&[512, 512])),
        ("cnn 32-64-128", vec![3, 32, 32], cnn),
        ("resnet18", vec![3, 32, 32], resnet18),
    ]
}

fn data(shape: &[usize]) -> Dataset {
    let width: usize = shape.iter().product();
    let split = |rows: usize| {
        let values = (0..rows * width).map(|at| (at * 7919 % 1000) as f32 / 1000.0 - 0.5).collect();
        let labels = (0..rows as i64).map(|row| row % 10).collect();
        Split {
            features: vec![Feature::numbers("x", shape.to_vec(), values)],
            target: Target::classes(labels, vec![], 10),
        }
    };
    Dataset { train: split(ROWS), validation: split(ROWS) }
}
