//! Prints what 10,000 steps of training take of the host's memory:
//! `cargo run --release -p regatta-agent --example memory [-- --device cuda:0]`. Linux only. ONNX Runtime is found through
//! `ORT_DYLIB_PATH`, else where scripts/setup puts it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use regatta_agent::runtime::Device;
use regatta_agent::training::{
    Activation, Adam, Dataset, Engine, Feature, Loss, ModelPlan, Norm, OptimizerPlan, Plan, Split, Target,
};

const STEPS: usize = 10_000;
const STEPS_PER_LINE: usize = 1_000;
const WIDTH: usize = 784;

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
    let model = ModelPlan::Mlp { hidden: vec![512, 512], norm: Norm::None, activation: Activation::Relu, dropout: 0.1 };
    let plan = Plan::new(model, Loss::cross_entropy(), OptimizerPlan::AdamW(adam), 128, 1);
    let mut engine = Engine::new(&library, options.device, 1)?;
    let data = Arc::new(data());
    println!("784-512-512-10, batch 128, adamw, 6,400 rows (19.1 MiB); MiB of memory");
    println!("{:>12} {:>9} {:>9}", "steps", "now", "peak");
    print("none yet")?;
    let mut training = engine.start(&plan, &data, None)?;
    print("compiled")?;
    for step in 1..=STEPS {
        training.train_step()?;
        if step == 1 || step % STEPS_PER_LINE == 0 {
            print(&step.to_string())?;
        }
    }
    training.evaluate()?;
    print("evaluated")?;
    training.checkpoint()?;
    print("checkpoint")
}

fn print(moment: &str) -> anyhow::Result<()> {
    println!("{moment:>12} {:>9.1} {:>9.1}", memory_mib("VmRSS:")?, memory_mib("VmHWM:")?);
    Ok(())
}

/// A figure of this process: what is resident now, or at its most.
fn memory_mib(name: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("the process's own status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the figure is missing")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn data() -> Dataset {
    let split = |rows: usize| Split {
        features: vec![Feature::numbers("x", vec![WIDTH], vec![0.5; rows * WIDTH])],
        target: Target::classes((0..rows as i64).map(|row| row % 10).collect(), vec![], 10),
    };
    Dataset { train: split(6400), validation: split(640) }
}
