//! Models as PyTorch exports them, against PyTorch's own numbers: gradients, training and evaluation.

#[path = "golden_support/numbers.rs"]
mod numbers;
#[path = "golden_support/trial.rs"]
mod trial;

use numbers::{Golden, models};
use regatta_autodiff::families::Mode;
use trial::Trial;

/// Of the norm of a tensor.
const GRADIENT_ERROR_MAX: f64 = 1e-4;
const LOSS_ERROR_MAX: f64 = 1e-4;
const OUTPUT_ERROR_MAX: f64 = 1e-4;

/// All models of the folder, or those that the environment names while one of them is looked at.
fn golden() -> Vec<Golden> {
    models().into_iter().filter(|golden| !golden.optimizers.is_empty()).collect()
}

fn check(names: &[&str]) {
    let mut failures = Vec::new();
    for golden in golden().iter().filter(|golden| names.contains(&golden.name.as_str())) {
        for file in &golden.files {
            match one(golden, file) {
                Ok(row) => println!("{row}"),
                Err(reason) => failures.push(format!("{}: {reason}", file.name)),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn one(golden: &Golden, file: &numbers::File) -> Result<String, String> {
    let mut trial = Trial::new(golden, file, Mode::Training)?;
    let mut evaluation = Trial::new(golden, file, Mode::Evaluation)?;
    let output = evaluation.output(golden, 0)?;
    within("output.eval", &output, &golden.numbers("output.eval"), OUTPUT_ERROR_MAX)?;
    let (_, gradients) = trial.step(golden, 0)?;
    let mut worst: f64 = 0.0;
    for (name, gradient) in &gradients {
        let expected = file.gradient_by_parameter.get(name).ok_or_else(|| format!("{name} trains unexpectedly"))?;
        let expected = golden.numbers(expected);
        worst = worst.max(within(name, gradient, &expected, GRADIENT_ERROR_MAX)?);
    }
    let mut losses = (0.0, 0.0);
    for optimizer in &golden.optimizers {
        let mut trial = Trial::new(golden, file, Mode::Training)?;
        let curve = trial.train(golden, optimizer)?;
        let expected = golden.numbers(&format!("loss.{}", optimizer.name));
        for (step, (loss, expected)) in curve.iter().zip(&expected).enumerate() {
            if (loss - expected).abs() > LOSS_ERROR_MAX * expected.abs() {
                return Err(format!("{}: the loss of step {step} is {loss}, PyTorch's {expected}", optimizer.name));
            }
        }
        losses = (curve[0], curve[curve.len() - 1]);
        evaluation.take_weights(&trial);
        let output = evaluation.output(golden, 0)?;
        let expected = golden.numbers(&format!("output.{}", optimizer.name));
        within(&format!("output.{}", optimizer.name), &output, &expected, 10.0 * OUTPUT_ERROR_MAX)?;
        for (name, buffer) in trial.statistics() {
            let expected = golden.numbers(&format!("buffer.{}.{name}", optimizer.name));
            within(&name, buffer, &expected, 10.0 * OUTPUT_ERROR_MAX)?;
        }
    }
    Ok(format!(
        "| {} | {} | {} | {} | {} | {worst:.1e} | {:.4} -> {:.4} |",
        golden.name,
        file.exporter,
        file.opset,
        trial.nodes(),
        gradients.len(),
        losses.0,
        losses.1
    ))
}

/// The distance of two tensors by the norm of the expected one.
fn within(what: &str, found: &[f64], expected: &[f64], error_max: f64) -> Result<f64, String> {
    if found.len() != expected.len() {
        return Err(format!("{what}: {} numbers of {}", found.len(), expected.len()));
    }
    let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    let distance = norm(&mut found.iter().zip(expected).map(|(x, y)| x - y));
    let size = norm(&mut expected.iter().copied()).max(1e-6);
    let error = distance / size;
    // Written so that a NaN fails.
    if error <= error_max { Ok(error) } else { Err(format!("{what}: relative error {error:.2e}")) }
}

#[test]
fn multilayer_perceptrons_train_as_in_pytorch() {
    check(&["mlp", "regression", "tabular"]);
}

#[test]
fn convolutional_nets_train_as_in_pytorch() {
    check(&["resnet18", "resnet50", "mobilenet", "unet", "groupnorm", "convnext", "autoencoder", "conv1d", "conv3d"]);
}

#[test]
fn transformers_train_as_in_pytorch() {
    check(&["bert", "gpt", "vit", "encoder", "attention"]);
}

#[test]
fn recurrent_nets_train_as_in_pytorch() {
    check(&["lstm", "gru"]);
}

#[test]
fn every_model_of_the_index_belongs_to_a_test() {
    let tested = [
        "mlp", "regression", "tabular", "resnet18", "resnet50", "mobilenet", "unet", "groupnorm", "convnext",
        "autoencoder", "conv1d", "conv3d", "bert", "gpt", "vit", "encoder", "attention", "lstm", "gru",
    ];
    for golden in golden() {
        assert!(tested.contains(&golden.name.as_str()), "{}", golden.name);
    }
}
