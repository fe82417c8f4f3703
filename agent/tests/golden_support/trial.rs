//! A model in training: its gradients from ONNX Runtime, loss and optimizer on the host in double precision, written
//! down from PyTorch's documentation.

use std::collections::BTreeMap;
use std::sync::Arc;

use regatta_agent::model::imported;
use regatta_agent::runtime::{Array, Compiled, Device, Interrupt, Runtime};
use regatta_autodiff::backward::{Backward, backward};
use regatta_autodiff::export::export;
use regatta_autodiff::families::{Initial, Mode, Model};
use regatta_autodiff::graph::{Dtype, Provider};
use regatta_autodiff::import::{ModelFile, Settings};
use regatta_autodiff::step::Port as Input;

use super::library::{device, library};
use super::numbers::{File, Golden, Optimizer};

pub struct Trial {
    backward: Backward,
    compiled: Compiled,
    /// Parameters and running statistics.
    weights: BTreeMap<String, Vec<f64>>,
    statistics: Vec<String>,
}

/// What graphs are written for, and what runs them.
pub struct On {
    pub runtime: Runtime,
    pub provider: Provider,
    pub own_operators: bool,
}

impl On {
    /// ONNX Runtime, as the set-up of this repository fetched it, with operators of ours as agents have them.
    pub fn device() -> Self {
        let runtime = Runtime::load(&library(), device(), 1).expect("ONNX Runtime loads");
        let provider = if runtime.device() == Device::Cpu { Provider::Cpu } else { Provider::Cuda };
        let own_operators = runtime.has_own_operators();
        Self { runtime, provider, own_operators }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Trial {
    pub fn new(golden: &Golden, file: &File, mode: Mode, on: &On) -> Result<Self, String> {
        let On { runtime, provider, own_operators } = on;
        let rows: Vec<Vec<usize>> = golden.inputs.iter().map(|input| input.shape[1..].to_vec()).collect();
        let batch = golden.inputs[0].shape[0];
        let model = imported(runtime, &file.bytes(), &Settings::default(), &rows, &[batch]).map_err(text)?;
        let backward =
            backward(&Model::Imported(Arc::new(model)), mode, batch, (*provider, *own_operators)).map_err(text)?;
        let compiled = runtime.compile(&backward.graph.encode()).map_err(text)?;
        let mut weights = BTreeMap::new();
        for (parameter, _) in &backward.parameters {
            weights.insert(parameter.name.clone(), given(&parameter.initial));
        }
        for statistic in &backward.statistics {
            weights.insert(statistic.input.name.clone(), given(&statistic.initial));
        }
        let statistics = backward.statistics.iter().map(|statistic| statistic.input.name.clone()).collect();
        Ok(Self { backward, compiled, weights, statistics })
    }

    pub fn nodes(&self) -> usize {
        self.backward.graph.live_nodes().len()
    }

    pub fn take_weights(&mut self, other: &Self) {
        self.weights.clone_from(&other.weights);
    }

    pub fn statistics(&self) -> impl Iterator<Item = (String, &[f64])> {
        self.statistics.iter().map(|name| (name.clone(), self.weights[name].as_slice()))
    }

    pub fn output(&mut self, golden: &Golden, batch: usize) -> Result<Vec<f64>, String> {
        let zeros = vec![0.0; self.backward.cotangent.shape.iter().product()];
        let output = self.backward.output.name.clone();
        Ok(self.run(golden, batch, &zeros, &[output])?.remove(0))
    }

    /// The loss of a batch and the gradient of every parameter that trains; running statistics take their step.
    pub fn step(&mut self, golden: &Golden, batch: usize) -> Result<(f64, BTreeMap<String, Vec<f64>>), String> {
        let output = self.output(golden, batch)?;
        let target = golden.batch(&golden.target, "", batch);
        let (loss, cotangent) = loss(golden, &output, &self.backward.output.shape, &target);
        let trained: Vec<(String, String)> = self
            .backward
            .parameters
            .iter()
            .filter_map(|(parameter, gradient)| Some((parameter.name.clone(), gradient.clone()?)))
            .collect();
        let next: Vec<(String, String)> = self
            .backward
            .statistics
            .iter()
            .filter_map(|statistic| Some((statistic.input.name.clone(), statistic.next.clone()?)))
            .collect();
        let wanted: Vec<String> = trained.iter().chain(&next).map(|(_, output)| output.clone()).collect();
        let mut found = self.run(golden, batch, &cotangent, &wanted)?.into_iter();
        let gradients = trained.into_iter().map(|(name, _)| (name, found.next().unwrap())).collect();
        for (name, _) in next {
            self.weights.insert(name, found.next().unwrap());
        }
        Ok((loss, gradients))
    }

    /// The loss before each step.
    pub fn train(&mut self, golden: &Golden, optimizer: &Optimizer) -> Result<Vec<f64>, String> {
        let mut slots: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
        let mut losses = Vec::new();
        for step in 0..golden.steps {
            let (loss, gradients) = self.step(golden, step % golden.batches)?;
            losses.push(loss);
            for (name, gradient) in gradients {
                let weights = self.weights.get_mut(&name).unwrap();
                let zeros = || (vec![0.0; gradient.len()], vec![0.0; gradient.len()]);
                let (first, second) = slots.entry(name).or_insert_with(zeros);
                match optimizer.name.as_str() {
                    "momentum" => momentum(optimizer, weights, first, &gradient),
                    "adamw" => adamw(optimizer, step, weights, (first, second), &gradient),
                    other => return Err(format!("optimizer {other}")),
                }
            }
        }
        Ok(losses)
    }

    fn run(
        &mut self,
        golden: &Golden,
        batch: usize,
        cotangent: &[f64],
        wanted: &[String],
    ) -> Result<Vec<Vec<f64>>, String> {
        let mut bindings = self.compiled.bindings().map_err(text)?;
        let mut bind = |input: &Input, numbers: &[f64]| {
            let tensor = self.compiled.tensor(&input.shape, &array(input.dtype, numbers)).map_err(text)?;
            bindings.input(&input.name, &tensor).map_err(text)
        };
        for (input, port) in self.backward.features.iter().zip(&golden.inputs) {
            bind(input, &golden.batch(port, "input.", batch))?;
        }
        for (parameter, _) in &self.backward.parameters {
            let (name, shape) = (parameter.name.clone(), parameter.shape.clone());
            bind(&Input { name, dtype: Dtype::F32, shape }, &self.weights[&parameter.name])?;
        }
        for statistic in &self.backward.statistics {
            bind(&statistic.input, &self.weights[&statistic.input.name])?;
        }
        bind(&self.backward.cotangent, cotangent)?;
        let graph = &self.backward.graph;
        let mut tensors = Vec::new();
        for &value in graph.outputs() {
            let info = graph.info(value);
            let zeros = array(info.dtype, &vec![0.0; info.shape.iter().product()]);
            let mut tensor = self.compiled.tensor(&info.shape, &zeros).map_err(text)?;
            bindings.output(&info.name, &mut tensor).map_err(text)?;
            tensors.push((info.name.clone(), tensor));
        }
        self.compiled.run(&bindings, &Interrupt::new().map_err(text)?).map_err(text)?;
        wanted
            .iter()
            .map(|name| {
                let tensor = tensors.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor);
                let array = tensor.ok_or_else(|| format!("no output {name}"))?.read().map_err(text)?;
                let Array::F32(numbers) = array else { return Err(format!("{name} is no float")) };
                Ok(numbers.into_iter().map(f64::from).collect())
            })
            .collect()
    }
}

/// What the user's own file gives for the first batch, with the weights that were trained put into it.
#[expect(clippy::cast_possible_truncation, reason = "weights are single precision")]
pub fn exported_output(golden: &Golden, file: &File, trial: &Trial, size: usize) -> Result<Vec<f64>, String> {
    let single = |numbers: &Vec<f64>| numbers.iter().map(|&number| number as f32).collect();
    let weights: BTreeMap<String, Vec<f32>> =
        trial.weights.iter().map(|(name, numbers)| (name.clone(), single(numbers))).collect();
    let bytes = export(&file.bytes(), &weights).map_err(text)?;
    let read = ModelFile::read(&bytes, &Settings::default()).map_err(text)?;
    // A graph of shape arithmetic runs on the host in part.
    let runtime = Runtime::load(&library(), Device::Cpu, 1).map_err(text)?;
    let mut compiled = runtime.compile(&bytes).map_err(text)?;
    let mut bindings = compiled.bindings().map_err(text)?;
    for (input, port) in read.inputs().iter().zip(&golden.inputs) {
        let contents = array(input.dtype, &golden.batch(port, "input.", 0));
        let tensor = compiled.tensor(&port.shape, &contents).map_err(text)?;
        bindings.input(&input.name, &tensor).map_err(text)?;
    }
    let shape = &trial.backward.output.shape;
    let mut output = compiled.tensor(shape, &array(Dtype::F32, &vec![0.0; size])).map_err(text)?;
    bindings.output("output", &mut output).map_err(text)?;
    compiled.run(&bindings, &Interrupt::new().map_err(text)?).map_err(text)?;
    let Array::F32(numbers) = output.read().map_err(text)? else { return Err("the output is no float".into()) };
    Ok(numbers.into_iter().map(f64::from).collect())
}

fn given(initial: &Initial) -> Vec<f64> {
    let Initial::Given(numbers) = initial else { panic!("the weights of a file are given") };
    numbers.iter().map(|&number| f64::from(number)).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "tensors on the device are single precision or small integers")]
fn array(dtype: Dtype, numbers: &[f64]) -> Array {
    match dtype {
        Dtype::I64 => Array::I64(numbers.iter().map(|&number| number as i64).collect()),
        Dtype::F32 => Array::F32(numbers.iter().map(|&number| number as f32).collect()),
        other => panic!("{other:?}"),
    }
}

/// The loss, a mean over all that is predicted, and its gradient at the output.
fn loss(golden: &Golden, output: &[f64], shape: &[usize], target: &[f64]) -> (f64, Vec<f64>) {
    #[expect(clippy::cast_precision_loss, reason = "batches are small")]
    let count = target.len() as f64;
    let mut gradient = vec![0.0; output.len()];
    let mut sum = 0.0;
    match golden.loss.as_str() {
        "cross_entropy" => {
            let classes = shape[golden.class_axis];
            let inner: usize = shape[golden.class_axis + 1..].iter().product();
            for (position, &class) in target.iter().enumerate() {
                let at = |class: usize| (position / inner * classes + class) * inner + position % inner;
                let greatest = (0..classes).map(|class| output[at(class)]).fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = (0..classes).map(|class| (output[at(class)] - greatest).exp()).sum();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a class")]
                let right = class as usize;
                sum += greatest + total.ln() - output[at(right)];
                for class in 0..classes {
                    let probability = (output[at(class)] - greatest).exp() / total;
                    gradient[at(class)] = (probability - f64::from(u8::from(class == right))) / count;
                }
            }
        }
        "bce_with_logits" => {
            for (position, (&x, &y)) in output.iter().zip(target).enumerate() {
                sum += x.max(0.0) - x * y + (-x.abs()).exp().ln_1p();
                gradient[position] = (1.0 / (1.0 + (-x).exp()) - y) / count;
            }
        }
        "mse" => {
            for (position, (&x, &y)) in output.iter().zip(target).enumerate() {
                sum += (x - y) * (x - y);
                gradient[position] = 2.0 * (x - y) / count;
            }
        }
        other => panic!("loss {other}"),
    }
    (sum / count, gradient)
}

fn momentum(optimizer: &Optimizer, weights: &mut [f64], velocity: &mut [f64], gradient: &[f64]) {
    for ((w, v), g) in weights.iter_mut().zip(velocity).zip(gradient) {
        *v = optimizer.number("momentum") * *v + g + optimizer.number("weight_decay") * *w;
        *w -= optimizer.number("lr") * *v;
    }
}

fn adamw(
    optimizer: &Optimizer,
    step: usize,
    weights: &mut [f64],
    (first, second): (&mut [f64], &mut [f64]),
    gradient: &[f64],
) {
    let (lr, beta1, beta2) = (optimizer.number("lr"), optimizer.number("beta1"), optimizer.number("beta2"));
    let (epsilon, decay) = (optimizer.number("epsilon"), optimizer.number("weight_decay"));
    let steps = i32::try_from(step + 1).unwrap();
    for (((w, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(gradient) {
        *w -= lr * decay * *w;
        *m = beta1 * *m + (1.0 - beta1) * g;
        *v = beta2 * *v + (1.0 - beta2) * g * g;
        let (m_hat, v_hat) = (*m / (1.0 - beta1.powi(steps)), *v / (1.0 - beta2.powi(steps)));
        *w -= lr * m_hat / (v_hat.sqrt() + epsilon);
    }
}
