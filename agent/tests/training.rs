//! Trials trained for real on ONNX Runtime, on the CPU and where there is a device with CUDA: numbers, repeatability, resuming, interrupts, refusals.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;
#[path = "support/reference.rs"]
mod reference;
#[path = "support/transcripts.rs"]
mod transcripts;

use std::sync::Arc;

use library::{device, library};
use reference::{Matrix, Reference, Truth};
use regatta_agent::runtime::{Device, RuntimeError};
use regatta_agent::training::{
    Activation, Adam, Dataset, Engine, Feature, Loss, ModelPlan, Norm, OptimizerPlan, Plan, Schedule, Split, Target,
    Training, TrainingError, Values,
};
use safetensors::SafeTensors;

const ADAM: Adam = Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.02 };
const MOMENTUM: OptimizerPlan =
    OptimizerPlan::Sgd { learning_rate: 0.05, momentum: 0.9, nesterov: false, weight_decay: 0.01 };

const RMSPROP: OptimizerPlan =
    OptimizerPlan::Rmsprop { learning_rate: 0.01, alpha: 0.9, epsilon: 1e-8, momentum: 0.5, weight_decay: 0.02 };
const LION: OptimizerPlan = OptimizerPlan::Lion { learning_rate: 0.002, beta1: 0.9, beta2: 0.99, weight_decay: 0.02 };

fn engine() -> Engine {
    Engine::new(&library(), device(), 1).unwrap()
}

#[test]
fn every_activation_and_optimizer_agrees_with_a_reference_in_double_precision() {
    check_every_row(&mut engine());
}

#[test]
fn the_same_rows_hold_with_cuda() {
    match Engine::new(&library(), Device::Cuda(0), 1) {
        Ok(mut engine) => check_every_row(&mut engine),
        Err(reason) => eprintln!("skipped: no device ({reason})"),
    }
}

fn check_every_row(engine: &mut Engine) {
    let sgd =
        |momentum, nesterov, weight_decay| OptimizerPlan::Sgd { learning_rate: 0.1, momentum, nesterov, weight_decay };
    let optimizers = [
        sgd(0.0, false, 0.0),
        sgd(0.0, false, 0.05),
        sgd(0.9, false, 0.0),
        sgd(0.9, true, 0.05),
        OptimizerPlan::Adam(ADAM),
        OptimizerPlan::AdamW(ADAM),
        OptimizerPlan::AdamW(Adam { weight_decay: 0.0, ..ADAM }),
        RMSPROP,
        OptimizerPlan::Adagrad { learning_rate: 0.05, epsilon: 1e-10, weight_decay: 0.02 },
    ];
    for activation in [Activation::Relu, Activation::Tanh, Activation::Sigmoid, Activation::Gelu] {
        for optimizer in optimizers {
            for (loss, data) in [(Loss::cross_entropy(), classes(32, 600)), (Loss::MeanSquaredError, values(32, 600))] {
                for clip_norm in [None, Some(0.05)] {
                    let model = ModelPlan::Mlp { hidden: vec![16, 8], norm: Norm::None, activation, dropout: 0.0 };
                    let plan = Plan { clip_norm, ..Plan::new(model, loss.clone(), optimizer, 32, 3) };
                    check_against_reference(engine, &plan, &data);
                }
            }
        }
    }
}

/// One minibatch is the whole split, so the order of rows does not matter.
fn check_against_reference(engine: &mut Engine, plan: &Plan, data: &Arc<Dataset>) {
    let ModelPlan::Mlp { activation, .. } = plan.model else { panic!("the reference is of a perceptron") };
    let mut training = engine.start(plan, data, None).unwrap();
    let weights = weights(&training.checkpoint().unwrap(), 3);
    let mut reference = Reference::new(weights, activation);
    let (features, truth) = matrices(&data.train);
    for step in 1..=5 {
        let found = f64::from(training.train_step().unwrap().loss);
        let expected = reference.step(&features, &truth, &plan.optimizer, plan.clip_norm.map(f64::from));
        assert!(close(found, expected, 1e-4), "{plan:?}, step {step}: {found} against {expected}");
    }
    let (features, truth) = matrices(&data.validation);
    let found = training.evaluate().unwrap()["validation_loss"];
    let (expected, _) = reference.loss_and_gradients(&features, &truth);
    assert!(close(found, expected, 1e-4), "{plan:?}, validation: {found} against {expected}");
}

#[test]
fn separable_classes_are_learnt() {
    let mut engine = engine();
    let data = classes(640, 700);
    let mut training = engine.start(&plan(OptimizerPlan::AdamW(ADAM), 0.1), &data, None).unwrap();
    let before = training.evaluate().unwrap();

    while training.epoch() < 20 {
        training.train_step().unwrap();
    }

    let after = training.evaluate().unwrap();
    assert!(after["validation_accuracy"] > 0.95, "{after:?}");
    assert!(after["validation_loss"] < before["validation_loss"]);
    let train = training.train_metrics();
    assert!(train["train_accuracy"] > 0.9 && train["train_loss"].is_finite(), "{train:?}");
}

#[test]
fn labels_in_order_are_learnt() {
    let mut engine = engine();
    let data = transcripts::rows();
    let mut training = engine.start(&transcripts::plan(), &data, None).unwrap();
    let before = training.evaluate().unwrap();
    assert!(before["validation_label_error_rate"] > 0.5, "{before:?}");

    while training.epoch() < 40 {
        training.train_step().unwrap();
    }

    let after = training.evaluate().unwrap();
    assert!(after["validation_label_error_rate"] < 0.05 && after["validation_accuracy"] > 0.9, "{after:?}");
    assert!(after["validation_loss"] < 0.1 * before["validation_loss"], "{before:?} {after:?}");
    assert_eq!(training.train_metrics().keys().collect::<Vec<_>>(), [&"train_loss"]);
}

#[test]
fn labels_that_the_frames_of_a_model_cannot_tell_are_refused() {
    let mut data = Dataset::clone(&transcripts::rows());
    let Target::Classes { labels, shape, .. } = &mut data.train.target else { panic!("labels") };
    // Seven equal labels of a row of twelve frames need six blanks between them.
    let rows = labels.len() / shape[0];
    *shape = vec![7];
    *labels = vec![0; 7 * rows];
    labels[7 * 3..7 * 4].fill(2);
    let Target::Classes { labels, shape, .. } = &mut data.validation.target else { panic!("labels") };
    (*labels, *shape) = (vec![1; 7 * labels.len() / shape[0]], vec![7]);
    let error = engine().start(&transcripts::plan(), &Arc::new(data), None).err();
    let Some(TrainingError::Data { reason }) = &error else { panic!("{error:?}") };
    assert!(reason.starts_with("row 3 has 7 labels, which take 13 frames, and the model gives 12"), "{reason}");
}

#[test]
fn values_are_learnt_without_an_accuracy() {
    let mut engine = engine();
    let model = ModelPlan::Mlp { hidden: vec![16], norm: Norm::None, activation: Activation::Tanh, dropout: 0.0 };
    let plan = Plan { model, loss: Loss::MeanSquaredError, ..plan(OptimizerPlan::Adam(ADAM), 0.0) };
    let mut training = engine.start(&plan, &values(320, 100), None).unwrap();
    let before = training.evaluate().unwrap();

    for _ in 0..200 {
        training.train_step().unwrap();
    }

    let after = training.evaluate().unwrap();
    assert!(after["validation_loss"] < 0.2 * before["validation_loss"], "{before:?} {after:?}");
    assert_eq!(after.keys().copied().collect::<Vec<_>>(), ["validation_loss"]);
    assert_eq!(training.train_metrics().keys().copied().collect::<Vec<_>>(), ["train_loss"]);
}

#[test]
fn same_seed_gives_the_same_bits_and_another_seed_others() {
    for threads in [1, 2] {
        let mut engine = Engine::new(&library(), device(), threads).unwrap();
        let data = classes(320, 64);
        let mut train = |seed| {
            let plan = Plan { seed, ..plan(OptimizerPlan::AdamW(ADAM), 0.2) };
            let mut training = engine.start(&plan, &data, None).unwrap();
            (losses(&mut training, 23), training.checkpoint().unwrap())
        };

        assert_eq!(train(1), train(1));
        assert_ne!(train(1).0, train(2).0);
    }
}

#[test]
fn a_trial_takes_nothing_over_from_the_trial_before_it() {
    let (data, others) = (classes(320, 64), classes(352, 32));
    let nesterov =
        |learning_rate| OptimizerPlan::Sgd { learning_rate, momentum: 0.9, nesterov: true, weight_decay: 0.0 };
    let whole = Plan { accumulate: 2, average: Some(0.9), seed: 1, ..plan(nesterov(0.05), 0.2) };
    let train = |engine: &mut Engine, resume: Option<&[u8]>| {
        let mut training = engine.start(&whole, &data, resume).unwrap();
        let losses = losses(&mut training, 13);
        (losses, training.evaluate().unwrap(), training.checkpoint().unwrap())
    };
    let first = train(&mut engine(), None);
    let resumed = train(&mut engine(), Some(&first.2));
    let mut lane = engine();
    // Of the same shape: one that diverged, one broken off within an accumulation, one on other data.
    for (learning_rate, steps, data) in [(1e30, 20, &data), (0.3, 5, &data), (0.3, 4, &others), (0.3, 3, &data)] {
        let plan = Plan { seed: 7, average: Some(0.1), optimizer: nesterov(learning_rate), ..whole.clone() };
        let mut training = lane.start(&plan, data, None).unwrap();
        let outcome = (0..steps).try_for_each(|_| training.train_step().map(drop));
        assert_eq!(outcome.is_err(), learning_rate > 1.0, "{outcome:?}");
        drop(training);
        assert_eq!(train(&mut lane, None), first);
        assert_eq!(train(&mut lane, Some(&first.2)), resumed);
    }
}

#[test]
fn trials_of_one_shape_share_a_compiled_graph() {
    let mut engine = engine();
    let data = classes(64, 64);
    for (learning_rate, dropout, seed) in [(0.1, 0.1, 1), (0.01, 0.5, 2), (0.001, 0.9, 3)] {
        let optimizer = OptimizerPlan::AdamW(Adam { learning_rate, ..ADAM });
        let plan = Plan { seed, ..plan(optimizer, dropout) };
        engine.start(&plan, &data, None).unwrap().train_step().unwrap();
    }

    assert_eq!(engine.compiled_count(), 1);
}

#[test]
fn resumed_training_equals_the_uninterrupted_one_bit_for_bit() {
    let nesterov = OptimizerPlan::Sgd { learning_rate: 0.05, momentum: 0.9, nesterov: true, weight_decay: 0.0 };
    let data = classes(330, 64);
    for optimizer in [OptimizerPlan::AdamW(ADAM), MOMENTUM, nesterov, OptimizerPlan::Adam(ADAM)] {
        // Ten steps an epoch: before any, within the first, between two, within the second.
        for stop in [0, 7, 10, 13] {
            let plan = Plan { clip_norm: Some(1.0), ..plan(optimizer, 0.3) };
            let mut whole_engine = engine();
            let mut whole = whole_engine.start(&plan, &data, None).unwrap();
            assert_eq!(whole.steps_per_epoch(), 10);
            losses(&mut whole, stop);
            let checkpoint = whole.checkpoint().unwrap();
            let mut other_engine = engine();
            let mut resumed = other_engine.start(&plan, &data, Some(&checkpoint)).unwrap();

            assert_eq!(resumed.train_metrics(), whole.train_metrics());
            assert_eq!((resumed.step(), resumed.epoch()), (whole.step(), whole.epoch()));
            assert_eq!(losses(&mut resumed, 25 - stop), losses(&mut whole, 25 - stop));
            assert_eq!(resumed.evaluate().unwrap(), whole.evaluate().unwrap());
            assert_eq!(resumed.checkpoint().unwrap(), whole.checkpoint().unwrap());
        }
    }
}

#[test]
fn resumed_training_goes_on_with_its_schedule_average_and_accumulation() {
    let data = classes(330, 64);
    let schedules = [
        Schedule::Step { every: 1, factor: 0.5 },
        Schedule::Cosine { floor: 0.1 },
        Schedule::OneCycle { rise: 0.3, start: 0.1, floor: 0.0 },
        Schedule::Plateau { factor: 0.5, patience: 1 },
    ];
    let lamb = OptimizerPlan::Lamb(ADAM);
    for (schedule, optimizer) in schedules.into_iter().zip([OptimizerPlan::AdamW(ADAM), RMSPROP, LION, lamb]) {
        // Within an update, between two, within the second epoch.
        for stop in [4, 6, 20, 25] {
            let plan = Plan {
                schedule,
                warm_up: 0.25,
                epochs: 4,
                average: Some(0.9),
                accumulate: 3,
                undecayed: vec!["*.bias".into()],
                clip_value: Some(0.5),
                ..plan(optimizer, 0.3)
            };
            let (mut whole_engine, mut other_engine) = (engine(), engine());
            let mut whole = whole_engine.start(&plan, &data, None).unwrap();
            validated_losses(&mut whole, stop);
            let checkpoint = whole.checkpoint().unwrap();
            let mut resumed = other_engine.start(&plan, &data, Some(&checkpoint)).unwrap();

            assert_eq!(validated_losses(&mut resumed, 40 - stop), validated_losses(&mut whole, 40 - stop));
            assert_eq!(resumed.evaluate().unwrap(), whole.evaluate().unwrap());
            assert_eq!(resumed.checkpoint().unwrap(), whole.checkpoint().unwrap());
        }
    }
}

/// Losses of steps, with a validation after each epoch.
fn validated_losses(training: &mut Training<'_>, steps: usize) -> Vec<f32> {
    let step = |training: &mut Training<'_>| {
        let outcome = training.train_step().unwrap();
        if outcome.epoch_finished {
            training.evaluate().unwrap();
        }
        outcome.loss
    };
    (0..steps).map(|_| step(training)).collect()
}

#[test]
fn schedule_changes_the_steps_and_accumulation_joins_minibatches() {
    let data = classes(320, 64);
    let base = Plan { epochs: 2, ..plan(MOMENTUM, 0.0) };
    let mut engine = engine();
    let mut train = |plan: &Plan| losses(&mut engine.start(plan, &data, None).unwrap(), 12);
    let plain = train(&base);

    let still = Plan { schedule: Schedule::OneCycle { rise: 0.5, start: 0.0, floor: 0.0 }, ..base.clone() };
    assert_eq!(train(&still)[0], plain[0]);
    assert_ne!(train(&still)[1..], plain[1..]);
    // Ten steps, of which the first has a half of the rate.
    let warmed = train(&Plan { warm_up: 0.2, ..base.clone() });
    assert_eq!(warmed[0], plain[0]);
    assert_ne!(warmed[1], plain[1]);
    let joined = train(&Plan { accumulate: 4, ..base.clone() });
    assert_eq!(joined[0], plain[0]);
    assert_ne!(joined[1..], plain[1..]);
}

#[test]
fn average_is_what_is_evaluated() {
    let data = classes(320, 64);
    let base = plan(MOMENTUM, 0.0);
    let mut engine = engine();
    let mut evaluated = |average: Option<f64>| {
        let mut training = engine.start(&Plan { average, ..base.clone() }, &data, None).unwrap();
        let before = training.evaluate().unwrap()["validation_loss"];
        losses(&mut training, 30);
        (before, training.evaluate().unwrap()["validation_loss"])
    };
    let (weights, kept, none) = (evaluated(None), evaluated(Some(0.999_999)), evaluated(Some(0.0)));

    assert_eq!(weights.0, kept.0);
    assert_eq!(weights, none);
    assert!((kept.1 - kept.0).abs() < 1e-3 * kept.0, "{kept:?}");
    assert!(weights.1 < 0.8 * weights.0, "{weights:?}");
}

#[test]
fn interrupted_training_can_be_resumed_from_its_last_whole_step() {
    let data = classes(320, 64);
    let plan = plan(OptimizerPlan::AdamW(ADAM), 0.1);
    let (mut engine, mut other_engine) = (engine(), engine());
    let mut training = engine.start(&plan, &data, None).unwrap();
    losses(&mut training, 4);
    let handle = training.interrupt_handle();
    std::thread::spawn(move || handle.raise().unwrap()).join().unwrap();

    assert!(matches!(training.train_step(), Err(TrainingError::Interrupted)));
    assert!(matches!(training.evaluate(), Err(TrainingError::Interrupted)));
    let checkpoint = training.checkpoint().unwrap();
    drop(training);
    let mut resumed = engine.start(&plan, &data, Some(&checkpoint)).unwrap();
    let mut whole = other_engine.start(&plan, &data, None).unwrap();
    assert_eq!(losses(&mut resumed, 3), losses(&mut whole, 7)[4..]);
}

#[test]
fn interrupt_from_another_thread_ends_a_training_under_way() {
    let mut engine = engine();
    let mut training = engine.start(&plan(MOMENTUM, 0.0), &classes(320, 64), None).unwrap();
    let handle = training.interrupt_handle();
    let (started, begun) = std::sync::mpsc::channel();
    let stopper = std::thread::spawn(move || {
        begun.recv().unwrap();
        handle.raise().unwrap();
    });
    training.train_step().unwrap();
    started.send(()).unwrap();

    let error = loop {
        if let Err(error) = training.train_step() {
            break error;
        }
    };

    stopper.join().unwrap();
    assert!(matches!(error, TrainingError::Interrupted));
    // Whether the interrupt came between two steps or broke one off, no half written state gets out.
    assert!(matches!(training.checkpoint(), Ok(_) | Err(TrainingError::Interrupted)));
}

#[test]
fn loss_that_is_no_number_is_divergence() {
    let mut engine = engine();
    let optimizer = OptimizerPlan::Sgd { learning_rate: 1e30, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let mut training = engine.start(&plan(optimizer, 0.0), &classes(64, 64), None).unwrap();

    let error = (0..20).find_map(|_| training.train_step().err()).expect("it diverges within a few steps");

    assert!(matches!(error, TrainingError::Diverged { loss, .. } if !loss.is_finite()));
}

#[test]
fn damaged_and_foreign_checkpoints_are_refused() {
    let mut engine = engine();
    let data = classes(64, 64);
    let good = plan(OptimizerPlan::AdamW(ADAM), 0.1);
    let mut training = engine.start(&good, &data, None).unwrap();
    losses(&mut training, 3);
    let bytes = training.checkpoint().unwrap();
    drop(training);
    let mut refuses = |plan: &Plan, bytes: &[u8]| {
        matches!(engine.start(plan, &data, Some(bytes)), Err(TrainingError::Checkpoint { .. }))
    };

    assert!(!refuses(&good, &bytes));
    assert!((0..bytes.len()).step_by(97).all(|length| refuses(&good, &bytes[..length])));
    assert!(refuses(&good, b"not a checkpoint at all"));
    assert!(refuses(&Plan { seed: 99, ..good.clone() }, &bytes));
    assert!(refuses(&Plan { batch_size: 16, ..good.clone() }, &bytes));
    assert!(refuses(&plan(MOMENTUM, 0.1), &bytes));
    assert!(refuses(&Plan { clip_norm: Some(1.0), ..good.clone() }, &bytes));
    let text = String::from_utf8_lossy(&bytes[..2000]).into_owned();
    for (field, length) in [("step_in_epoch", 13), ("regatta.checkpoint", 18), ("F32", 3), ("shape", 5)] {
        let mut damaged = bytes.clone();
        let at = text.rfind(field).unwrap();
        damaged[at + length / 2] ^= 1;
        assert!(refuses(&good, &damaged), "{field}");
    }
}

#[test]
fn plans_and_data_that_cannot_be_trained_are_refused_at_the_start() {
    let mut engine = engine();
    let data = classes(64, 64);
    let good = plan(OptimizerPlan::AdamW(ADAM), 0.1);
    let mlp = |hidden: usize| ModelPlan::Mlp {
        hidden: vec![hidden],
        norm: Norm::None,
        activation: Activation::Relu,
        dropout: 0.0,
    };
    let bad_plans = [
        Plan { batch_size: 0, ..good.clone() },
        Plan { clip_norm: Some(0.0), ..good.clone() },
        Plan { loss: Loss::MeanSquaredError, ..good.clone() },
        Plan { model: mlp(0), ..good.clone() },
        Plan { clip_value: Some(f32::NAN), ..good.clone() },
        Plan { accumulate: 0, ..good.clone() },
        Plan { average: Some(1.0), ..good.clone() },
        Plan { warm_up: 1.0, ..good.clone() },
        Plan { schedule: Schedule::Step { every: 0, factor: 0.1 }, ..good.clone() },
        plan(OptimizerPlan::Lion { learning_rate: 0.1, beta1: 0.9, beta2: 1.0, weight_decay: 0.0 }, 0.0),
        plan(OptimizerPlan::AdamW(ADAM), 1.0),
        plan(OptimizerPlan::AdamW(Adam { beta2: 1.0, ..ADAM }), 0.0),
        plan(OptimizerPlan::Sgd { learning_rate: f64::NAN, momentum: 0.0, nesterov: false, weight_decay: 0.0 }, 0.0),
        plan(OptimizerPlan::Sgd { learning_rate: 0.1, momentum: 0.0, nesterov: true, weight_decay: 0.0 }, 0.0),
    ];
    for bad in bad_plans {
        let error = engine.start(&bad, &data, None).err();
        assert!(matches!(error, Some(TrainingError::Configuration { .. })), "{bad:?}: {error:?}");
    }
    let damaged = |damage: fn(&mut Dataset)| {
        let mut data = Dataset::clone(&data);
        damage(&mut data);
        Arc::new(data)
    };
    let bad_data = [
        damaged(|data| data.train.features[0].values = Values::F32(vec![f32::NAN; 64 * 6])),
        damaged(|data| data.validation.features[0].values = Values::F32(vec![0.0; 63 * 6])),
        damaged(|data| data.train.target = Target::classes(vec![3; 64], vec![], 3)),
        damaged(|data| data.train.target = Target::classes(vec![0; 60], vec![], 3)),
        damaged(|data| data.validation.target = Target::classes(vec![0; 64], vec![], 4)),
    ];
    for bad in bad_data {
        assert!(matches!(engine.start(&good, &bad, None), Err(TrainingError::Data { .. })));
    }
}

#[test]
fn small_split_is_one_minibatch() {
    let mut engine = engine();
    let mut training = engine.start(&plan(MOMENTUM, 0.0), &classes(10, 5), None).unwrap();

    assert_eq!(training.steps_per_epoch(), 1);
    assert!(training.train_step().unwrap().epoch_finished);
}

#[test]
fn missing_device_is_an_error_and_never_the_cpu() {
    let error = Engine::new(&library(), Device::Cuda(9_999), 1).err();

    assert!(matches!(error, Some(RuntimeError::DeviceUnavailable { .. })), "{error:?}");
}

#[test]
fn missing_library_is_an_error() {
    let error = Engine::new("no/such/library.so".as_ref(), Device::Cpu, 1).err();

    assert!(matches!(error, Some(RuntimeError::Library { .. })), "{error:?}");
}

fn plan(optimizer: OptimizerPlan, dropout: f32) -> Plan {
    let model = ModelPlan::Mlp { hidden: vec![24, 16], norm: Norm::None, activation: Activation::Relu, dropout };
    Plan::new(model, Loss::cross_entropy(), optimizer, 32, 5)
}

fn losses(training: &mut Training<'_>, steps: usize) -> Vec<f32> {
    (0..steps).map(|_| training.train_step().unwrap().loss).collect()
}

/// Three clouds of points around three corners.
fn classes(train: usize, validation: usize) -> Arc<Dataset> {
    let split = |rows: usize, salt: u64| {
        let labels: Vec<i64> = (0..rows as i64).map(|row| row % 3).collect();
        let point = |at: usize| {
            let centre = if at % 6 == labels[at / 6] as usize * 2 { 1.5 } else { 0.0 };
            centre + noise(salt + at as u64)
        };
        let features = vec![Feature::numbers("x", vec![6], (0..rows * 6).map(point).collect())];
        Split { features, target: Target::classes(labels, vec![], 3) }
    };
    Arc::new(Dataset { train: split(train, 0), validation: split(validation, 1 << 32) })
}

/// Two smooth functions of six numbers.
fn values(train: usize, validation: usize) -> Arc<Dataset> {
    let split = |rows: usize, salt: u64| {
        let features: Vec<f32> = (0..rows * 6).map(|at| 2.0 * noise(salt + at as u64)).collect();
        let targets = features.chunks(6).flat_map(|x| [x[0] - x[1] + 0.5, x[2] * 0.5 + x[3].sin()]).collect();
        Split {
            features: vec![Feature::numbers("x", vec![6], features)],
            target: Target::Values { values: targets, shape: vec![2] },
        }
    };
    Arc::new(Dataset { train: split(train, 0), validation: split(validation, 1 << 32) })
}

/// In `-0.5 .. 0.5`, a function of its place (SplitMix64).
fn noise(place: u64) -> f32 {
    let mut z = place.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
}

fn matrices(split: &Split) -> (Matrix, Truth) {
    let matrix = |values: &[f32], width: usize| -> Matrix {
        values.chunks(width).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
    };
    let truth = match &split.target {
        Target::Classes { labels, .. } => Truth::Classes(labels.iter().map(|label| *label as usize).collect()),
        Target::Values { values, .. } => Truth::Values(matrix(values, split.target.width())),
    };
    let [Feature { values: Values::F32(values), .. }] = split.features.as_slice() else {
        panic!("one feature of numbers")
    };
    (matrix(values, 6), truth)
}

/// The model's parameters in a checkpoint, as the reference holds them.
fn weights(checkpoint: &[u8], layers: usize) -> Vec<Matrix> {
    let tensors = SafeTensors::deserialize(checkpoint).unwrap();
    let matrix = |name: String| {
        let tensor = tensors.tensor(&name).unwrap();
        let width = *tensor.shape().last().unwrap();
        let numbers: Vec<f64> =
            tensor.data().chunks(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))).collect();
        numbers.chunks(width).map(<[f64]>::to_vec).collect()
    };
    (0..layers).flat_map(|layer| ["weight", "bias"].map(|kind| matrix(format!("layers.{layer}.{kind}")))).collect()
}

fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs().max(1e-3)
}
