//! A model file in training against PyTorch's own numbers.

use std::collections::BTreeMap;

use regatta_agent::training::Precision;
use regatta_autodiff::families::Mode;

use super::numbers::{Errors, File, Golden, Settings};
use super::trained::Trained;
use super::trial::{On, Trial};

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
/// Of PyTorch's own errors in single precision, where these are greater: sums in another order fall on the other side of
/// other rectifiers' corners.
const SINGLE_TIMES_MAX: f64 = 4.0;
/// A norm that is no division by zero.
const TINY: f64 = 1e-12;

/// What a file's model came to.
pub struct Outcome {
    /// Of the graph of a step's gradients.
    pub nodes: usize,
    /// Numbers that train.
    pub parameters: usize,
    /// Of gradients by the norm of the parameter's, and of the losses of all steps.
    pub errors: Errors,
    /// Of the first batch, before the first step and before the last step on it, with the last optimizer of the index.
    pub losses: (f64, f64),
}

/// Gradients, every loss of the training, outputs and running statistics after it: all as in PyTorch.
///
/// # Errors
/// The first thing that is not.
pub fn train(golden: &Golden, file: &File) -> Result<Outcome, String> {
    let mut evaluation = Trial::new(golden, file, Mode::Evaluation, &On::device())?;
    let output = evaluation.output(golden)?;
    within("output.eval", &output, &golden.numbers("output.eval"), TINY, OUTPUT_ERROR_MAX)?;
    let mut trial = Trial::new(golden, file, Mode::Training, &On::device())?;
    let (parameters, gradient_error) = gradients(golden, file, &mut trial)?;
    let mut losses = (0.0, 0.0);
    let mut errors = Errors { gradient: gradient_error, ..Errors::default() };
    for optimizer in &golden.optimizers {
        let (found, found_losses) = steps(golden, file, optimizer, &mut evaluation)?;
        losses = found_losses;
        errors = Errors { loss: errors.loss.max(found.loss), trained: errors.trained.max(found.trained), ..errors };
    }
    Ok(Outcome { nodes: trial.nodes(), parameters, errors, losses })
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
    let gradients = trial.gradients(golden)?;
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
            within(name, gradient, expected, TINY, GRADIENT_ERROR_MAX.max(SINGLE_TIMES_MAX * golden.single.gradient))?
        };
        worst = worst.max(error);
    }
    Ok((gradients.values().map(Vec::len).sum(), worst))
}

/// The largest errors of losses and of what was trained; and the losses of the first batch, before the first step and
/// before the last step on it.
fn steps(
    golden: &Golden,
    file: &File,
    optimizer: &Settings,
    evaluation: &mut Trial,
) -> Result<(Errors, (f64, f64)), String> {
    let trained = Trained::train(golden, file, optimizer, Precision::Single)?;
    let curve = &trained.losses;
    let expected = golden.numbers(&format!("loss.{}", optimizer.name));
    let mut errors = Errors::default();
    for (step, (loss, expected)) in curve.iter().zip(&expected).enumerate() {
        let error = (loss - expected).abs() / expected.abs();
        errors.loss = errors.loss.max(error);
        if error > LOSS_ERROR_MAX.max(SINGLE_TIMES_MAX * golden.single.loss) {
            return Err(format!("{}: the loss of step {step} is {loss}, PyTorch's {expected}", optimizer.name));
        }
    }
    evaluation.take(&trained)?;
    let output = evaluation.output(golden)?;
    let error_max = TRAINED_ERROR_MAX.max(SINGLE_TIMES_MAX * golden.single.trained);
    let expected = golden.numbers(&format!("output.{}", optimizer.name));
    errors.trained = within(&format!("output.{}", optimizer.name), &output, &expected, TINY, error_max)?;
    // ONNX Runtime behind our interface takes no features of type bool.
    if golden.name != "attention" {
        let plain = trained.exported_output(golden, file)?;
        within("the exported file's output", &plain, &output, TINY, EXPORT_ERROR_MAX)?;
    }
    for (name, buffer) in evaluation.statistics() {
        let expected = golden.numbers(&format!("buffer.{}.{name}", optimizer.name));
        errors.trained = errors.trained.max(within(name, buffer, &expected, TINY, error_max)?);
    }
    let last = (curve.len() - 1) / golden.batches * golden.batches;
    Ok((errors, (curve[0], curve[last])))
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
