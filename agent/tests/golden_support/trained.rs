//! A model file in training as agents train: loss and update in the graph, batches by index from data on the device.

use std::sync::Arc;

use regatta_agent::runtime::{Array, Device, Interrupt, Runtime};
use regatta_agent::training::{
    Adam, Dataset, Engine, Feature, Loss, ModelPlan, OptimizerPlan, Plan, Precision, Split, Target, Values, permutation,
};
use regatta_autodiff::graph::Dtype;
use regatta_autodiff::import::{self, ModelFile};
use regatta_checkpoint::Trained as Exported;
use safetensors::SafeTensors;

use super::library::{device, library};
use super::numbers::{File, Golden, Port, Settings};
use super::trial::{array, text};

const SEED: u64 = 3;

/// What a training led to.
pub struct Trained {
    /// Before each step.
    pub losses: Vec<f64>,
    checkpoint: Vec<u8>,
}

impl Trained {
    /// The steps of a golden training, over its batches in turn.
    pub fn train(golden: &Golden, file: &File, optimizer: &Settings, precision: Precision) -> Result<Self, String> {
        let onnx = Arc::new(file.bytes());
        let model = ModelPlan::File { onnx, settings: import::Settings::default(), dropout: None };
        let plan = Plan::new(model, loss(golden), plan_of(optimizer), golden.inputs[0].shape[0], SEED);
        let plan = Plan { precision, ..plan };
        let data = Arc::new(data(golden, file)?);
        let mut engine = Engine::new(&library(), device(), 1).map_err(text)?;
        let mut training = engine.start(&plan, &data, None).map_err(text)?;
        let mut losses = Vec::new();
        for _ in 0..golden.steps {
            losses.push(f64::from(training.train_step().map_err(text)?.loss));
        }
        Ok(Self { losses, checkpoint: training.checkpoint().map_err(text)? })
    }

    /// A parameter or running statistic.
    pub fn numbers(&self, name: &str) -> Result<Vec<f64>, String> {
        let tensors = SafeTensors::deserialize(&self.checkpoint).map_err(text)?;
        let tensor = tensors.tensor(name).map_err(|error| format!("{name} in the checkpoint: {error}"))?;
        let numbers = tensor.data().as_chunks().0.iter();
        Ok(numbers.map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect())
    }

    /// What the user's own file gives for the first batch, with what was trained put into it.
    pub fn exported_output(&self, golden: &Golden, file: &File) -> Result<Vec<f64>, String> {
        let onnx = Exported::read(&self.checkpoint).and_then(|trained| trained.onnx(Some(&file.bytes())));
        let onnx = onnx.map_err(text)?;
        let read = ModelFile::read(&onnx, &import::Settings::default()).map_err(text)?;
        // A graph of shape arithmetic runs on the host in part.
        let runtime = Runtime::load(&library(), Device::Cpu, 1).map_err(text)?;
        let mut compiled = runtime.compile(&onnx).map_err(text)?;
        let mut bindings = compiled.bindings().map_err(text)?;
        for (input, port) in read.inputs().iter().zip(&golden.inputs) {
            let contents = array(input.dtype, &golden.batch(port, "input."));
            let tensor = compiled.tensor(&port.shape, &contents).map_err(text)?;
            bindings.input(&input.name, &tensor).map_err(text)?;
        }
        let shape = golden.output_shape();
        let zeros = array(Dtype::F32, &vec![0.0; shape.iter().product()]);
        let mut output = compiled.tensor(&shape, &zeros).map_err(text)?;
        bindings.output("output", &mut output).map_err(text)?;
        compiled.run(&bindings, &Interrupt::new().map_err(text)?).map_err(text)?;
        let Array::F32(numbers) = output.read().map_err(text)? else { return Err("the output is no float".into()) };
        Ok(numbers.into_iter().map(f64::from).collect())
    }
}

fn loss(golden: &Golden) -> Loss {
    let settings = &golden.loss;
    match settings.name.as_str() {
        "cross_entropy" => Loss::CrossEntropy {
            smoothing: settings.get("label_smoothing").unwrap_or(0.0),
            class_weights: settings.list("weight"),
            ignored: settings.integer("ignore_index"),
            classes_last: false,
        },
        "bce_with_logits" => Loss::BinaryCrossEntropy,
        "mse" => Loss::MeanSquaredError,
        "l1" => Loss::MeanAbsoluteError,
        "huber" => Loss::Huber { delta: settings.number("delta") },
        "kl" => Loss::KlDivergence,
        "ctc" => Loss::Ctc,
        other => panic!("loss {other}"),
    }
}

fn plan_of(optimizer: &Settings) -> OptimizerPlan {
    let number = |name| optimizer.number(name);
    let (learning_rate, weight_decay) = (number("lr"), number("weight_decay"));
    let adam = || Adam {
        learning_rate,
        beta1: number("beta1"),
        beta2: number("beta2"),
        epsilon: number("epsilon"),
        weight_decay,
    };
    match optimizer.name.as_str() {
        name @ ("momentum" | "nesterov") => {
            let nesterov = name == "nesterov";
            OptimizerPlan::Sgd { learning_rate, momentum: number("momentum"), nesterov, weight_decay }
        }
        "adam" => OptimizerPlan::Adam(adam()),
        "adamw" => OptimizerPlan::AdamW(adam()),
        "rmsprop" => {
            let (alpha, momentum, epsilon) = (number("alpha"), number("momentum"), number("epsilon"));
            OptimizerPlan::Rmsprop { learning_rate, alpha, epsilon, momentum, weight_decay }
        }
        "adagrad" => OptimizerPlan::Adagrad { learning_rate, epsilon: number("epsilon"), weight_decay },
        other => panic!("optimizer {other}"),
    }
}

/// One epoch that trains on the golden batches in turn, one row behind the other: laid out against the order in which
/// the engine draws it.
fn data(golden: &Golden, file: &File) -> Result<Dataset, String> {
    let batch = golden.inputs[0].shape[0];
    let mut row_of = vec![0; golden.steps * batch];
    for (place, drawn) in permutation(SEED, 0, row_of.len()).into_iter().enumerate() {
        row_of[usize::try_from(drawn).map_err(text)?] = place % (golden.batches * batch);
    }
    let model = ModelFile::read(&file.bytes(), &import::Settings::default()).map_err(text)?;
    let features = model.inputs().iter().zip(&golden.inputs);
    let features = features.map(|(input, port)| feature(port, input.dtype, golden.all(port, "input.")));
    let all = Split { features: features.collect(), target: target(golden) };
    let (mut train, mut validation) = (all.emptied(), all.emptied());
    train.append(&all, &row_of);
    validation.append(&all, &(0..batch).collect::<Vec<_>>());
    Ok(Dataset { train, validation })
}

#[expect(clippy::cast_possible_truncation, reason = "data are single precision or small integers")]
fn feature(port: &Port, dtype: Dtype, numbers: Vec<f64>) -> Feature {
    let values = match dtype {
        Dtype::F32 => Values::F32(numbers.iter().map(|&number| number as f32).collect()),
        // What is true or false is taken as a whole number, too.
        _ => Values::I64(numbers.iter().map(|&number| number as i64).collect()),
    };
    let vocabulary = match &values {
        Values::I64(values) => vec![usize::try_from(values.iter().max().map_or(0, |most| most + 1)).unwrap()],
        _ => Vec::new(),
    };
    Feature { values, vocabulary, ..Feature::numbers(port.name.clone(), port.shape[1..].to_vec(), Vec::new()) }
}

#[expect(clippy::cast_possible_truncation, reason = "data are single precision or small integers")]
fn target(golden: &Golden) -> Target {
    let (numbers, shape) = (golden.all(&golden.target, ""), golden.target.shape[1..].to_vec());
    let classes = match golden.loss.name.as_str() {
        "cross_entropy" => golden.output_shape().get(golden.class_axis).copied(),
        "ctc" => golden.output_shape().last().copied(),
        _ => None,
    };
    if let Some(classes) = classes {
        return Target::classes(numbers.iter().map(|&class| class as i64).collect(), shape, classes);
    }
    // As data have it, one number is a row of one.
    let shape = if shape.is_empty() { vec![1] } else { shape };
    Target::Values { values: numbers.iter().map(|&number| number as f32).collect(), shape }
}
