//! Trials whose gradients compute values again rather than keep them, on ONNX Runtime on the CPU: the same numbers.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;
#[path = "support/models.rs"]
mod models;

use library::{device, library};
use models::{data, models};
use regatta_agent::training::{
    Activation, Adam, Engine, Loss, ModelPlan, Norm, OptimizerPlan, Plan, Precision, TrainingError,
};

const ADAM: Adam = Adam { learning_rate: 0.003, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
const STEPS: usize = 12;

fn engine() -> Engine {
    Engine::new(&library(), device(), 1).unwrap()
}

#[test]
fn recomputed_gradients_train_as_kept_ones_do() {
    for precision in [Precision::Single, Precision::Half] {
        for (model, shape) in models() {
            let data = data(&shape);
            let train = |recompute| {
                let plan = Plan::new(model.clone(), Loss::cross_entropy(), OptimizerPlan::AdamW(ADAM), 10, 3);
                let mut engine = engine();
                let mut training = engine.start(&Plan { precision, recompute, ..plan }, &data, None).unwrap();
                let losses: Vec<f32> = (0..STEPS).map(|_| training.train_step().unwrap().loss).collect();
                (losses, training.evaluate().unwrap())
            };
            let (kept, recomputed) = (train(false), train(true));
            assert_eq!(kept, recomputed, "{precision:?} {model:?}");
        }
    }
}

#[test]
fn a_trial_may_go_on_with_values_kept_that_were_recomputed() {
    let (model, shape) = models().remove(3);
    let (data, mut engine) = (data(&shape), engine());
    let plan = Plan::new(model, Loss::cross_entropy(), OptimizerPlan::AdamW(ADAM), 10, 3);
    let mut training = engine.start(&Plan { recompute: true, ..plan.clone() }, &data, None).unwrap();
    training.train_step().unwrap();
    let checkpoint = training.checkpoint().unwrap();
    let next = training.train_step().unwrap();
    drop(training);
    assert_eq!(engine.start(&plan, &data, Some(&checkpoint)).unwrap().train_step().unwrap(), next);
}

#[test]
fn models_without_parts_are_refused() {
    let model = ModelPlan::Mlp { hidden: vec![8], norm: Norm::None, activation: Activation::Relu, dropout: 0.0 };
    let plan = Plan::new(model, Loss::cross_entropy(), OptimizerPlan::AdamW(ADAM), 10, 3);
    let started = engine().start(&Plan { recompute: true, ..plan }, &data(&[12]), None).map(|_| ());
    assert!(matches!(started, Err(TrainingError::Configuration { .. })));
}
