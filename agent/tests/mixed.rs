//! Trials trained in 16 bits on ONNX Runtime on the CPU: beside single precision, over overflows, resumed.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use std::collections::BTreeMap;
use std::sync::Arc;

use library::{device, library};
use regatta_agent::runtime::Device;
use regatta_agent::training::{
    Activation, Adam, Dataset, Engine, Feature, Loss, ModelPlan, Norm, OptimizerPlan, Plan, Pool, PositionNorm,
    Precision, Split, Target, Training, TrainingError,
};
use regatta_autodiff::import::Settings;
use regatta_checkpoint::Trained;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

const CLASSES: usize = 3;
const SCALE: &str = "regatta.loss_scale";
const CALM: &str = "regatta.updates_since_overflow";
const ADAM: Adam = Adam { learning_rate: 0.003, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };

fn engine() -> Engine {
    Engine::new(&library(), device(), 1).unwrap()
}

/// Rows whose classes can be told by which of their numbers are greater.
fn data(shape: &[usize]) -> Arc<Dataset> {
    let width: usize = shape.iter().product();
    let split = |rows: usize, salt: usize| {
        let number = |at: usize| {
            let noise = ((at * 7919 + salt) % 1009) as f32 / 1009.0 - 0.5;
            noise + if at % width % CLASSES == at / width % CLASSES { 0.5 } else { 0.0 }
        };
        let labels = (0..rows).map(|row| (row % CLASSES) as i64).collect();
        Split {
            features: vec![Feature::numbers("x", shape.to_vec(), (0..rows * width).map(number).collect())],
            target: Target::classes(labels, Vec::new(), CLASSES),
        }
    };
    Arc::new(Dataset { train: split(60, 0), validation: split(30, 500) })
}

fn plan(model: ModelPlan) -> Plan {
    Plan::new(model, Loss::cross_entropy(), OptimizerPlan::AdamW(ADAM), 10, 3)
}

fn mlp() -> ModelPlan {
    ModelPlan::Mlp { hidden: vec![16, 16], norm: Norm::None, activation: Activation::Relu, dropout: 0.1 }
}

fn half(model: ModelPlan) -> Plan {
    Plan { precision: Precision::Half, ..plan(model) }
}

fn losses(training: &mut Training<'_>, steps: usize) -> Vec<f32> {
    (0..steps).map(|_| training.train_step().unwrap().loss).collect()
}

#[test]
fn losses_in_half_precision_keep_beside_those_in_single_precision() {
    let activation = Activation::Gelu;
    let cnn = ModelPlan::Cnn {
        channels: vec![4, 8],
        layers: 2,
        kernel: 3,
        norm: Norm::Batch,
        activation: Activation::Relu,
        pool: Pool::Max,
        global_pool: false,
        hidden: vec![8],
        dropout: 0.0,
    };
    let transformer = ModelPlan::Transformer {
        decoder: false,
        layers: 2,
        width: 16,
        heads: 2,
        ratio: 2,
        norm: PositionNorm::Layer,
        patch: None,
        vocabulary: None,
        activation,
        dropout: 0.1,
    };
    // Batch normalisation of so few rows carries a difference on and enlarges it; CUDA also adds in halves.
    let enlarged = if device() == Device::Cpu { 0.06 } else { 0.15 };
    let rows = [(mlp(), vec![12], 0.01), (cnn, vec![1, 8, 8], enlarged), (transformer, vec![6, 3], 0.02)];
    for (model, shape, tolerance) in rows {
        let data = data(&shape);
        let train = |plan: &Plan| {
            let mut engine = engine();
            let mut training = engine.start(plan, &data, None).unwrap();
            let losses = losses(&mut training, 60);
            (losses, training.evaluate().unwrap()["validation_loss"])
        };
        let (single, single_end) = train(&plan(model.clone()));
        let (halves, half_end) = train(&half(model.clone()));
        assert_ne!(single, halves, "{model:?}: half precision rounds more");
        for (step, (single, half)) in single.iter().zip(&halves).enumerate() {
            assert!((single - half).abs() < tolerance, "{model:?} step {step}: {half} beside {single}");
        }
        assert!((single_end - half_end).abs() < f64::from(tolerance), "{model:?}: {half_end} beside {single_end}");
        assert!(halves[59] < 0.9 * halves[0], "{model:?}: it learns: {halves:?}");
    }
}

#[test]
fn a_file_of_ones_own_trains_in_half_precision_too() {
    let (data, mut engine) = (data(&[12]), engine());
    let mut training = engine.start(&plan(mlp()), &data, None).unwrap();
    let onnx = Trained::read(&training.checkpoint().unwrap()).unwrap().onnx(None).unwrap();
    drop(training);
    let file = ModelPlan::File { onnx: Arc::new(onnx), settings: Settings::default(), dropout: None };
    let single = losses(&mut engine.start(&plan(file.clone()), &data, None).unwrap(), 30);
    let halves = losses(&mut engine.start(&half(file), &data, None).unwrap(), 30);
    assert_ne!(single, halves);
    assert!(single.iter().zip(&halves).all(|(single, half)| (single - half).abs() < 0.01), "{single:?} {halves:?}");
}

#[test]
fn an_update_whose_gradients_overflow_is_skipped_and_the_scale_is_halved() {
    for accumulate in [1, 2] {
        let plan = Plan { accumulate, average: Some(0.9), ..half(mlp()) };
        let (data, mut engine) = (data(&[12]), engine());
        let mut training = engine.start(&plan, &data, None).unwrap();
        losses(&mut training, 4);
        let kept = with(&training.checkpoint().unwrap(), SCALE, &16_777_216f32.to_le_bytes());
        drop(training);

        let mut training = engine.start(&plan, &data, Some(&kept)).unwrap();
        losses(&mut training, accumulate as usize);
        let (before, after) = (tensors(&kept), tensors(&training.checkpoint().unwrap()));
        assert_eq!(single(&after[SCALE]), 8_388_608.0);
        for (name, bytes) in &before {
            let goes_on = [SCALE, CALM, "regatta.step"].contains(&name.as_str()) || name.ends_with("/gradient_sum");
            assert_eq!(bytes == &after[name], !goes_on, "{name} at {accumulate}");
        }

        // It goes on as soon as the scale fits.
        losses(&mut training, 16 * accumulate as usize);
        let later = tensors(&training.checkpoint().unwrap());
        assert!(single(&later[SCALE]) < 8_388_608.0);
        let weights = "layers.0.weight";
        assert_ne!(later[weights], before[weights]);
        let is_finite = |bytes: &[u8]| bytes.as_chunks().0.iter().all(|bytes| f32::from_le_bytes(*bytes).is_finite());
        assert!(later.iter().all(|(name, bytes)| name.starts_with("regatta.") || is_finite(bytes)));
    }
}

#[test]
fn the_scale_doubles_after_many_updates_without_an_overflow() {
    let (plan, data, mut engine) = (half(mlp()), data(&[12]), engine());
    let mut training = engine.start(&plan, &data, None).unwrap();
    losses(&mut training, 3);
    let kept = with(&training.checkpoint().unwrap(), CALM, &1998i64.to_le_bytes());
    drop(training);

    let mut training = engine.start(&plan, &data, Some(&kept)).unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        losses(&mut training, 1);
        let states = tensors(&training.checkpoint().unwrap());
        seen.push((single(&states[SCALE]), i64::from_le_bytes(states[CALM].as_slice().try_into().unwrap())));
    }
    assert_eq!(seen, [(65_536.0, 1999), (131_072.0, 0), (131_072.0, 1)]);
}

#[test]
fn training_resumed_in_half_precision_equals_the_uninterrupted_one_bit_for_bit() {
    let (plan, data, mut engine) = (Plan { accumulate: 2, ..half(mlp()) }, data(&[12]), engine());
    let mut training = engine.start(&plan, &data, None).unwrap();
    losses(&mut training, 7);
    let kept = training.checkpoint().unwrap();
    let rest = losses(&mut training, 9);
    let end = training.checkpoint().unwrap();
    drop(training);

    let mut resumed = engine.start(&plan, &data, Some(&kept)).unwrap();
    assert_eq!(losses(&mut resumed, 9), rest);
    assert_eq!(resumed.checkpoint().unwrap(), end);
    drop(resumed);
    let other = Plan { precision: Precision::Single, ..plan };
    assert!(matches!(engine.start(&other, &data, Some(&kept)), Err(TrainingError::Checkpoint { .. })));
}

#[test]
fn bfloat16_is_refused_on_the_cpu() {
    let plan = Plan { precision: Precision::Bfloat16, ..plan(mlp()) };
    let mut engine = Engine::new(&library(), Device::Cpu, 1).unwrap();
    assert!(matches!(engine.start(&plan, &data(&[12]), None), Err(TrainingError::Configuration { .. })));
}

fn single(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().unwrap())
}

fn tensors(checkpoint: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let tensors = SafeTensors::deserialize(checkpoint).unwrap();
    tensors.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect()
}

/// The checkpoint with one tensor's bytes changed.
fn with(checkpoint: &[u8], name: &str, bytes: &[u8]) -> Vec<u8> {
    let (_, header) = SafeTensors::read_metadata(checkpoint).unwrap();
    let tensors = SafeTensors::deserialize(checkpoint).unwrap();
    let changed = tensors.iter().map(|(known, tensor)| {
        let bytes = if known == name { bytes } else { tensor.data() };
        (known.to_owned(), TensorView::new(tensor.dtype(), tensor.shape().to_vec(), bytes).unwrap())
    });
    safetensors::serialize(changed.collect::<BTreeMap<_, _>>(), header.metadata().clone()).unwrap()
}
