//! What training takes of the host's memory, in a process of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use std::sync::Arc;

use library::library;
use regatta_agent::runtime::Device;
use regatta_agent::training::{
    Activation, Adam, Dataset, Engine, Feature, Loss, ModelPlan, Norm, OptimizerPlan, Plan, Split, Target,
};

const GROWTH_BYTES_MAX: u64 = 1 << 20;

#[test]
fn neither_ten_thousand_steps_nor_a_hundred_trials_make_the_process_grow() {
    let mut engine = Engine::new(&library(), Device::Cpu, 1).unwrap();
    let data = data();
    let mut train = |steps: usize| {
        let mut training = engine.start(&plan(), &data, None).unwrap();
        for _ in 0..steps {
            training.train_step().unwrap();
        }
        training.evaluate().unwrap();
        training.checkpoint().unwrap();
        resident_bytes()
    };
    let begin = (0..10).map(|_| train(100)).max().unwrap();

    let steps = train(10_000);
    assert!(steps < begin + GROWTH_BYTES_MAX, "{begin} bytes before 10,000 steps, {steps} after");
    let trials = (0..100).map(|_| train(10)).max().unwrap();
    assert!(trials < begin + GROWTH_BYTES_MAX, "{begin} bytes before 100 trials, {trials} after");
}

/// Of this process, now.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

fn plan() -> Plan {
    let adam = Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    let model = ModelPlan::Mlp { hidden: vec![64], norm: Norm::None, activation: Activation::Relu, dropout: 0.1 };
    Plan { clip_norm: Some(1.0), ..Plan::new(model, Loss::cross_entropy(), OptimizerPlan::AdamW(adam), 32, 1) }
}

fn data() -> Arc<Dataset> {
    let split = |rows: usize| Split {
        features: vec![Feature::numbers("x", vec![64], vec![0.5; rows * 64])],
        target: Target::classes((0..rows as i64).map(|row| row % 10).collect(), vec![], 10),
    };
    Arc::new(Dataset { train: split(640), validation: split(64) })
}
