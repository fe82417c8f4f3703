//! Augmented and streamed minibatches on ONNX Runtime: repeatable, resumable, and refused where they do not fit.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use std::sync::Arc;

use library::{device, library};
use regatta_agent::training::{
    Activation, Adam, Augmentation, Dataset, Engine, Feature, Loss, ModelPlan, Norm, OptimizerPlan, Place, Plan, Pool,
    PositionNorm, Schedule, Source, Split, Stream, Target, Training, TrainingError, Values,
};
use regatta_checkpoint::Affine;

const ADAM: Adam = Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.02 };
const BATCH: usize = 8;

const ALL: [Augmentation; 4] = [
    Augmentation::Shift { pixels: 2 },
    Augmentation::Flip,
    Augmentation::Noise { deviation: 0.1 },
    Augmentation::Mixup { alpha: 0.4 },
];

#[test]
fn augmented_training_resumes_as_if_it_had_not_stopped() {
    let data = images(40, 16);
    for accumulate in [1, 2] {
        let plan = Plan { accumulate, ..plan(&ALL) };
        check_resumed(&plan, &Source::from(&data));
        check_resumed(&plan, &Source::from(&stream(&data)));
    }
}

/// Five steps an epoch: before any, within the first, between two, within the second.
fn check_resumed(plan: &Plan, source: &Source) {
    for stop in [0, 3, 5, 7] {
        let (mut whole_engine, mut other_engine) = (engine(), engine());
        let mut whole = whole_engine.start(plan, source, None).unwrap();
        assert_eq!(whole.steps_per_epoch(), 5);
        losses(&mut whole, stop);
        let checkpoint = whole.checkpoint().unwrap();
        let mut resumed = other_engine.start(plan, source, Some(&checkpoint)).unwrap();

        assert_eq!(resumed.train_metrics(), whole.train_metrics());
        assert_eq!(losses(&mut resumed, 13 - stop), losses(&mut whole, 13 - stop));
        assert_eq!(resumed.evaluate().unwrap(), whole.evaluate().unwrap());
        assert_eq!(resumed.checkpoint().unwrap(), whole.checkpoint().unwrap());
    }
}

#[test]
fn each_augmentation_changes_the_steps_and_is_drawn_by_the_seed() {
    let data = images(40, 16);
    let mut engine = engine();
    let mut train = |augment: &[Augmentation]| {
        // Without dropout, whose numbers are drawn after those of the augmentations.
        let plan = undropped(plan(augment));
        losses(&mut engine.start(&plan, &data, None).unwrap(), 6)
    };
    let plain = train(&[]);
    for augmentation in ALL {
        let augmented = train(&[augmentation]);
        assert_ne!(augmented, plain, "{augmentation:?}");
        assert_eq!(augmented, train(&[augmentation]), "{augmentation:?}");
        assert!(augmented.iter().all(|loss| loss.is_finite()));
    }
    assert!(close(&train(&[Augmentation::Noise { deviation: 1e-9 }]), &plain));
}

#[test]
fn trials_that_differ_in_the_numbers_of_augmentations_share_a_compiled_graph() {
    let data = images(40, 16);
    let mut engine = engine();
    for (deviation, alpha) in [(0.1, 0.2), (0.5, 1.0)] {
        let plan = plan(&[Augmentation::Noise { deviation }, Augmentation::Mixup { alpha }]);
        engine.start(&plan, &data, None).unwrap().train_step().unwrap();
    }
    assert_eq!(engine.compiled_count(), 1);
}

#[test]
fn a_checkpoint_of_other_augmentations_is_refused() {
    let data = images(40, 16);
    let mut engine = engine();
    let checkpoint = engine.start(&plan(&ALL), &data, None).unwrap().checkpoint().unwrap();
    let result = engine.start(&plan(&ALL[1..]), &data, Some(&checkpoint));
    assert!(matches!(result, Err(TrainingError::Checkpoint { .. })));
}

#[test]
fn augmentations_that_cannot_be_are_refused() {
    let data = images(40, 16);
    let mut engine = engine();
    let wrong = [
        vec![Augmentation::Shift { pixels: 0 }],
        vec![Augmentation::Shift { pixels: 6 }],
        vec![Augmentation::Noise { deviation: f64::NAN }],
        vec![Augmentation::Mixup { alpha: 0.0 }],
        vec![Augmentation::Flip, Augmentation::Flip],
    ];
    for augment in wrong {
        let result = engine.start(&plan(&augment), &data, None);
        assert!(matches!(result, Err(TrainingError::Configuration { .. })), "{augment:?}");
    }
    let flat = ModelPlan::Mlp { hidden: vec![8], norm: Norm::None, activation: Activation::Relu, dropout: 0.0 };
    let result = engine.start(&Plan { model: flat, ..plan(&[Augmentation::Flip]) }, &data, None);
    assert!(matches!(result, Err(TrainingError::Configuration { .. })));
}

#[test]
fn streamed_rows_train_as_the_same_minibatches_by_hand() {
    let data = images(44, 16);
    let stream = stream(&data);
    // Nothing in it depends on the place of a row in its minibatch, or on the number of the epoch.
    let plan = Plan { average: Some(0.9), schedule: Schedule::Constant, ..undropped(plan(&[])) };
    let (mut engine, mut other_engine) = (engine(), engine());
    let mut streamed = engine.start(&plan, &stream, None).unwrap();
    assert_eq!(streamed.steps_per_epoch(), 5);
    let mut batches = stream.batches(plan.seed, BATCH, Place::default()).unwrap();

    let (mut expected, mut checkpoint) = (Vec::new(), None);
    for _ in 0..12 {
        // Each minibatch as all of the data of a training that goes on from the one before.
        let data = Dataset { train: batches.next_batch().unwrap(), validation: data.validation.clone() };
        let mut one = other_engine.start(&plan, &Arc::new(data), checkpoint.as_deref()).unwrap();
        expected.push(one.train_step().unwrap().loss);
        checkpoint = Some(one.checkpoint().unwrap());
    }
    let found = losses(&mut streamed, 12);
    assert!(close(&found, &expected), "{found:?} against {expected:?}");
    assert_eq!((streamed.epoch(), streamed.step()), (2, 12));
    assert!(streamed.train_metrics()["train_accuracy"] <= 1.0);
}

#[test]
fn streamed_tokens_are_learnt() {
    let split = |rows: usize| {
        let tokens: Vec<i64> = (0..rows as i64).flat_map(|row| (0..6).map(move |at| (row + at) % 5)).collect();
        let labels = tokens.iter().map(|token| (token + 1) % 5).collect();
        let feature =
            Feature { values: Values::I64(tokens), vocabulary: vec![5], ..Feature::numbers("x", vec![6], Vec::new()) };
        Split { features: vec![feature], target: Target::classes(labels, vec![6], 5) }
    };
    let data = Arc::new(Dataset { train: split(48), validation: split(10) });
    let model = ModelPlan::Transformer {
        decoder: true,
        layers: 1,
        width: 16,
        heads: 2,
        ratio: 2,
        norm: PositionNorm::Layer,
        patch: None,
        vocabulary: None,
        activation: Activation::Gelu,
        dropout: 0.1,
    };
    let plan = Plan { model, ..plan(&[]) };
    let mut engine = engine();
    let mut training = engine.start(&plan, &stream(&data), None).unwrap();
    losses(&mut training, 60);
    let found = training.evaluate().unwrap();
    assert!(found["validation_accuracy"] > 0.9, "{found:?}");
}

#[test]
fn streamed_and_resident_rows_do_not_resume_each_other() {
    let data = images(40, 16);
    let stream = stream(&data);
    let mut engine = engine();
    for (one, other) in [(Source::from(&data), Source::from(&stream)), (Source::from(&stream), Source::from(&data))] {
        let mut training = engine.start(&plan(&[]), &one, None).unwrap();
        losses(&mut training, 2);
        let checkpoint = training.checkpoint().unwrap();
        drop(training);
        let result = engine.start(&plan(&[]), &other, Some(&checkpoint));
        assert!(matches!(result, Err(TrainingError::Checkpoint { .. })));
    }
}

/// Rows that do not fit the device come from memory, in the same order: what was trained with them there goes on with
/// them here.
#[test]
fn rows_that_do_not_fit_the_device_train_as_those_that_do() {
    let data = images(44, 16);
    for plan in [plan(&ALL), Plan { accumulate: 2, ..plan(&[]) }] {
        let (mut roomy, mut narrow) = (engine(), engine().with_data_limit(Some(1000)));
        let mut whole = roomy.start(&plan, &data, None).unwrap();
        let before = losses(&mut whole, 7);
        let checkpoint = whole.checkpoint().unwrap();
        let after = losses(&mut whole, 6);
        let mut hosted = narrow.start(&plan, &data, None).unwrap();

        assert_eq!(hosted.steps_per_epoch(), whole.steps_per_epoch());
        assert_eq!(losses(&mut hosted, 7), before);
        assert_eq!(hosted.checkpoint().unwrap(), checkpoint);
        drop(hosted);
        let mut resumed = narrow.start(&plan, &data, Some(&checkpoint)).unwrap();
        assert_eq!(losses(&mut resumed, 6), after);
        assert_eq!(resumed.evaluate().unwrap(), whole.evaluate().unwrap());
        assert_eq!((whole.is_resident(), resumed.is_resident()), (true, false));
    }
}

#[test]
fn a_block_that_cannot_be_read_or_trained_on_ends_a_training() {
    let data = images(40, 16);
    let broken = |damage: fn(&mut Split) -> Result<(), TrainingError>| {
        let (train, validation) = (data.train.clone(), data.validation.clone());
        let read = move |block: usize| {
            let mut split = part(&train, block);
            damage(&mut split).map(|()| split)
        };
        Arc::new(Stream::new(validation, (0..5).map(|block| (block, 8)).collect(), Box::new(read)))
    };
    let lost = broken(|_| Err(TrainingError::Data { reason: "lost".into() }));
    let wrong = broken(|split| {
        split.target = Target::classes(vec![3; 8], vec![], 3);
        Ok(())
    });
    let mut engine = engine();
    for stream in [lost, wrong] {
        let mut training = engine.start(&plan(&[]), &stream, None).unwrap();
        assert!(matches!(training.train_step(), Err(TrainingError::Data { .. })));
    }
}

fn plan(augment: &[Augmentation]) -> Plan {
    let model = ModelPlan::Cnn {
        channels: vec![4],
        layers: 1,
        kernel: 3,
        norm: Norm::Batch,
        activation: Activation::Relu,
        pool: Pool::Max,
        global_pool: false,
        hidden: vec![8],
        dropout: 0.1,
    };
    let plan = Plan::new(model, Loss::cross_entropy(), OptimizerPlan::AdamW(ADAM), BATCH, 5);
    Plan { augment: augment.to_vec(), schedule: Schedule::Cosine { floor: 0.5 }, epochs: 8, ..plan }
}

fn undropped(mut plan: Plan) -> Plan {
    if let ModelPlan::Cnn { dropout, .. } = &mut plan.model {
        *dropout = 0.0;
    }
    plan
}

/// Images of 6 x 6 pixels in eight bits, brighter on one side.
fn images(train: usize, validation: usize) -> Arc<Dataset> {
    let split = |rows: usize, salt: usize| {
        let labels: Vec<i64> = (0..rows as i64).map(|row| row % 3).collect();
        let pixel = |at: usize| {
            let (row, y) = (at / 36, at / 6 % 6);
            let light = if y / 2 == labels[row] as usize { 120 } else { 20 };
            light + ((at + salt) * 7919 % 101) as u8
        };
        let values = Values::U8((0..rows * 36).map(pixel).collect());
        let affine = Some(Affine { offset: vec![100.0], factor: vec![0.01] });
        let feature = Feature { values, affine, ..Feature::numbers("x", vec![1, 6, 6], Vec::new()) };
        Split { features: vec![feature], target: Target::classes(labels, vec![], 3) }
    };
    Arc::new(Dataset { train: split(train, 0), validation: split(validation, 977) })
}

/// The rows of a data set in blocks of eight, and what is left.
fn stream(data: &Arc<Dataset>) -> Arc<Stream> {
    let (train, rows) = (data.train.clone(), data.train.rows());
    let blocks = (0..rows.div_ceil(8)).map(|block| (block, 8.min(rows - block * 8))).collect();
    let read = move |block: usize| Ok(part(&train, block));
    Arc::new(Stream::new(data.validation.clone(), blocks, Box::new(read)))
}

fn part(train: &Split, block: usize) -> Split {
    let mut part = train.emptied();
    part.append(train, &(block * 8..train.rows().min(block * 8 + 8)).collect::<Vec<_>>());
    part
}

fn losses(training: &mut Training<'_>, steps: usize) -> Vec<f32> {
    (0..steps).map(|_| training.train_step().unwrap().loss).collect()
}

fn close(found: &[f32], expected: &[f32]) -> bool {
    found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= 1e-4 * expected.abs().max(0.1))
}

fn engine() -> Engine {
    Engine::new(&library(), device(), 1).expect("ONNX Runtime is where scripts/setup puts it")
}
