//! A model file in training against PyTorch's own numbers.

use std::collections::BTreeMap;

use regatta_autodiff::families::Mode;

use super::numbers::{File, Golden, Optimizer};
use super::trial::{On, Trial, exported_output};

/// Of the norm of a tensor.
const GRADIENT_ERROR_MAX: f64 = 1e-4;
/// Of the norm of all gradients: what double precision leaves of a gradient that is zero.
const ZERO_MAX: f64 = 1e-12;
/// Of the norm of all gradients: what single precision leaves of it.
const CANCELLED_ERROR_MAX: f64 = 1e-6;
const LOSS_ERROR_MAX: f64 = 1e-4;
const OUTPUT_ERROR_MAX: f64 = 1e-4;
/// After fifty steps in single precision, whose rounding every step carries on; the losses on the way are the close check.
const TRAINED_ERROR_MAX: f64 = 5e-3;
const EXPORT_ERROR_MAX: f64 = 1e-5;
/// A norm that is no division by zero.
const TINY: f64 = 1e-12;

/// What a file's model came to.
pub struct Outcome {
    /// Of the graph of a step's gradients.
    pub nodes: usize,
    /// Numbers that train.
    pub parameters: usize,
    /// The largest of any parameter, relative to its norm.
    pub gradient_error: f64,
    /// Of the first batch, before the first step and before the last step on it, with the last optimizer of the index.
    pub losses: (f64, f64),
}

/// Gradients, every loss of the training, outputs and running statistics after it: all as in PyTorch.
///
/// # Errors
/// The first thing that is not.
pub fn train(golden: &Golden, file: &File) -> Result<Outcome, String> {
    let mut evaluation = Trial::new(golden, file, Mode::Evaluation, &On::device())?;
    let output = evaluation.output(golden, 0)?;
    within("output.eval", &output, &golden.numbers("output.eval"), TINY, OUTPUT_ERROR_MAX)?;
    let mut trial = Trial::new(golden, file, Mode::Training, &On::device())?;
    let (parameters, gradient_error) = gradients(golden, file, &mut trial)?;
    let mut losses = (0.0, 0.0);
    for optimizer in &golden.optimizers {
        losses = steps(golden, file, optimizer, &mut evaluation)?;
    }
    Ok(Outcome { nodes: trial.nodes(), parameters, gradient_error, losses })
}

/// The largest error of a gradient, elsewhere than on the device.
///
/// # Errors
/// One is not as in PyTorch.
#[allow(dead_code, reason = "the document is of the device alone")]
pub fn gradient_error(golden: &Golden, file: &File, on: &On) -> Result<f64, String> {
    Ok(gradients(golden, file, &mut Trial::new(golden, file, Mode::Training, on)?)?.1)
}

/// How many numbers train, and the largest error of a gradient.
fn gradients(golden: &Golden, file: &File, trial: &mut Trial) -> Result<(usize, f64), String> {
    let (_, gradients) = trial.step(golden, 0)?;
    let mut expected = BTreeMap::new();
    for name in gradients.keys() {
        let tensor = file.gradient_by_parameter.get(name).ok_or_else(|| format!("{name} trains unexpectedly"))?;
        expected.insert(name, golden.numbers(tensor));
    }
    let whole = norm(expected.values().flatten().copied());
    let mut worst: f64 = 0.0;
    for (name, gradient) in &gradients {
        let expected = &expected[name];
        // A bias that a softmax or a norm cancels has a gradient of zero, and rounding only: there is no relative error.
        let error = if norm(expected.iter().copied()) < ZERO_MAX * whole {
            within(name, gradient, expected, whole, CANCELLED_ERROR_MAX)?
        } else {
            within(name, gradient, expected, TINY, GRADIENT_ERROR_MAX)?
        };
        worst = worst.max(error);
    }
    Ok((gradients.values().map(Vec::len).sum(), worst))
}

/// The losses of the first batch, before the first step and before the last step on it.
fn steps(golden: &Golden, file: &File, optimizer: &Optimizer, evaluation: &mut Trial) -> Result<(f64, f64), String> {
    let mut trial = Trial::new(golden, file, Mode::Training, &On::device())?;
    let curve = trial.train(golden, optimizer)?;
    let expected = golden.numbers(&format!("loss.{}", optimizer.name));
    for (step, (loss, expected)) in curve.iter().zip(&expected).enumerate() {
        if (loss - expected).abs() > LOSS_ERROR_MAX * expected.abs() {
            return Err(format!("{}: the loss of step {step} is {loss}, PyTorch's {expected}", optimizer.name));
        }
    }
    evaluation.take_weights(&trial);
    let output = evaluation.output(golden, 0)?;
    let expected = golden.numbers(&format!("output.{}", optimizer.name));
    within(&format!("output.{}", optimizer.name), &output, &expected, TINY, TRAINED_ERROR_MAX)?;
    // ONNX Runtime behind our interface takes no features of type bool.
    if golden.name != "attention" {
        let plain = exported_output(golden, file, &trial, output.len())?;
        within("the exported file's output", &plain, &output, TINY, EXPORT_ERROR_MAX)?;
    }
    for (name, buffer) in trial.statistics() {
        let expected = golden.numbers(&format!("buffer.{}.{name}", optimizer.name));
        within(&name, buffer, &expected, TINY, TRAINED_ERROR_MAX)?;
    }
    let last = (curve.len() - 1) / golden.batches * golden.batches;
    Ok((curve[0], curve[last]))
}

fn norm(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(|x| x * x).sum::<f64>().sqrt()
}

/// The distance of two tensors by the norm of the expected one, or by `floor` where that is greater.
fn within(what: &str, found: &[f64], expected: &[f64], floor: f64, error_max: f64) -> Result<f64, String> {
    if found.len() != expected.len() {
        return Err(format!("{what}: {} numbers of {}", found.len(), expected.len()));
    }
    let distance = norm(found.iter().zip(expected).map(|(x, y)| x - y));
    let error = distance / norm(expected.iter().copied()).max(floor);
    // Written so that a NaN fails.
    if error <= error_max { Ok(error) } else { Err(format!("{what}: relative error {error:.2e}")) }
}
