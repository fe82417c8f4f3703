//! Minibatches handed over several at once train as those handed over one by one: to the last bit, on every device.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use std::sync::Arc;

use library::{device, library};
use regatta_agent::training::{
    Activation, Adam, Augmentation, Dataset, Engine, Feature, Loss, Metrics, ModelPlan, Norm, OptimizerPlan, Plan,
    Precision, Schedule, Split, Target, Training, TrainingError,
};

const ADAM: Adam = Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.02 };
const EPOCHS: u32 = 3;

/// Eleven minibatches an epoch.
fn plan() -> Plan {
    let model = ModelPlan::Mlp { hidden: vec![12, 8], norm: Norm::None, activation: Activation::Tanh, dropout: 0.2 };
    Plan { epochs: EPOCHS, ..Plan::new(model, Loss::cross_entropy(), OptimizerPlan::AdamW(ADAM), 7, 3) }
}

fn plans() -> Vec<Plan> {
    let weighted = Loss::CrossEntropy {
        smoothing: 0.1,
        class_weights: Some(vec![1.0, 2.0, 0.5]),
        ignored: None,
        classes_last: false,
    };
    vec![
        plan(),
        Plan { accumulate: 4, average: Some(0.9), clip_norm: Some(0.5), ..plan() },
        Plan { schedule: Schedule::OneCycle { rise: 0.3, start: 0.04, floor: 1e-4 }, loss: weighted, ..plan() },
        Plan { augment: vec![Augmentation::Mixup { alpha: 0.4 }, Augmentation::Noise { deviation: 0.1 }], ..plan() },
        Plan { precision: Precision::Half, ..plan() },
    ]
}

fn data(shift: usize) -> Arc<Dataset> {
    const WIDTH: usize = 6;
    let number = |at: usize| ((at + shift) * 7919 % 1009) as f32 / 1009.0 - 0.5;
    let split = |rows: usize| Split {
        features: vec![Feature::numbers("x", vec![WIDTH], (0..rows * WIDTH).map(number).collect())],
        target: Target::classes((0..rows as i64).map(|row| row % 3).collect(), Vec::new(), 3),
    };
    Arc::new(Dataset { train: split(80), validation: split(20) })
}

fn engine(ahead: usize) -> Engine {
    Engine::new(&library(), device(), 1).unwrap().with_ahead(ahead)
}

/// What an epoch measures, for each, and the last checkpoint.
fn trained(training: &mut Training<'_>, stride: u64) -> (Vec<(Metrics, Metrics)>, Vec<u8>) {
    let mut measured = Vec::new();
    while training.epoch() < EPOCHS.into() {
        if training.train_steps(stride).unwrap().epoch_finished {
            measured.push((training.train_metrics(), training.evaluate().unwrap()));
        }
    }
    (measured, training.checkpoint().unwrap())
}

#[test]
fn minibatches_handed_over_at_once_train_as_one_by_one() {
    let data = data(0);
    for plan in plans() {
        let mut each = engine(1);
        let expected = trained(&mut each.start(&plan, &data, None).unwrap(), 1);
        for (ahead, stride) in [(16, 16), (16, 5), (3, 100), (16, 1)] {
            let mut engine = engine(ahead);
            let mut training = engine.start(&plan, &data, None).unwrap();
            assert_eq!(trained(&mut training, stride), expected, "{plan:?}, {stride} of {ahead}");
        }
    }
}

#[test]
fn trials_after_one_another_share_what_was_handed_over_and_nothing_else() {
    let (one, other) = (data(0), data(1));
    for plan in plans() {
        let mut shared = engine(16);
        let seeds = [(3, &one), (4, &one), (3, &other), (3, &one)];
        for (seed, data) in seeds {
            let mut plan = Plan { seed, ..plan.clone() };
            if seed == 4 {
                plan.optimizer = OptimizerPlan::AdamW(Adam { learning_rate: 0.02, beta1: 0.8, ..ADAM });
            }
            let found = trained(&mut shared.start(&plan, data, None).unwrap(), 16);
            let expected = trained(&mut engine(16).start(&plan, data, None).unwrap(), 16);
            assert_eq!(found, expected, "{plan:?}");
        }
        assert_eq!(shared.compiled_count(), 1);
    }
}

#[test]
fn resumes_in_the_middle_of_what_was_handed_over() {
    let data = data(0);
    for plan in plans() {
        let mut engine = engine(16);
        let mut training = engine.start(&plan, &data, None).unwrap();
        training.train_steps(13).unwrap();
        training.train_steps(4).unwrap();
        let kept = training.checkpoint().unwrap();
        let expected = trained(&mut training, 16);
        drop(training);

        let mut resumed = engine.start(&plan, &data, Some(&kept)).unwrap();
        assert_eq!(trained(&mut resumed, 16), expected, "{plan:?}");
    }
}

#[test]
fn the_first_loss_that_is_no_number_ends_a_training_wherever_it_was_handed_over() {
    let optimizer = OptimizerPlan::Sgd { learning_rate: 1e30, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let model = ModelPlan::Mlp { hidden: vec![12, 8], norm: Norm::None, activation: Activation::Relu, dropout: 0.0 };
    let plan = Plan { model, optimizer, ..plan() };
    let data = data(0);
    let diverged = |ahead, stride| {
        let mut engine = engine(ahead);
        let mut training = engine.start(&plan, &data, None).unwrap();
        let error = (0..100).find_map(|_| training.train_steps(stride).err());
        let Some(TrainingError::Diverged { step, .. }) = error else { panic!("{error:?}") };
        (step, training.checkpoint().is_ok())
    };
    let (step, _) = diverged(1, 1);
    assert_eq!(diverged(16, 11), (step, false), "more was trained than is known of");
}
