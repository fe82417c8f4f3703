//! Models as PyTorch exports them, against PyTorch's own numbers: gradients, training and evaluation.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "golden_support/check.rs"]
mod check;
#[path = "support/host_kernels.rs"]
mod host_kernels;
#[path = "support/library.rs"]
mod library;
#[path = "golden_support/numbers.rs"]
mod numbers;
#[path = "golden_support/trial.rs"]
mod trial;

use check::Outcome;
use host_kernels::host_kernels;
use library::library;
use numbers::{Golden, models};
use regatta_agent::runtime::{Device, Runtime};
use regatta_autodiff::graph::Provider;
use trial::On;

/// The models that train.
fn golden() -> Vec<Golden> {
    models().into_iter().filter(|golden| !golden.optimizers.is_empty()).collect()
}

fn check(names: &[&str]) {
    let mut failures = Vec::new();
    for golden in golden().iter().filter(|golden| names.contains(&golden.name.as_str())) {
        for file in &golden.files {
            match check::train(golden, file) {
                Ok(Outcome { nodes, parameters, gradient_error, losses: (first, last) }) => {
                    println!(
                        "{}: {nodes} nodes, {parameters} parameters, gradients within {gradient_error:.1e}",
                        file.name
                    );
                    if last >= first {
                        failures.push(format!("{}: the loss goes from {first} to {last}", file.name));
                    }
                }
                Err(reason) => failures.push(format!("{}: {reason}", file.name)),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
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

/// As they are written for CUDA, with the kernels that runs of operators become there.
#[test]
fn gradients_in_kernels_of_our_own_are_pytorchs() {
    let runtime = Runtime::load(&library(), Device::Cpu, 1).unwrap().with_host_kernels(host_kernels());
    let on = On { runtime, provider: Provider::Cuda, own_operators: true };
    let failures: Vec<String> = golden()
        .iter()
        .filter_map(|golden| check::gradient_error(golden, &golden.files[0], &on).err().map(|e| (golden, e)))
        .map(|(golden, error)| format!("{}: {error}", golden.files[0].name))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_model_of_the_index_belongs_to_a_test() {
    let tested = [
        "mlp",
        "regression",
        "tabular",
        "resnet18",
        "resnet50",
        "mobilenet",
        "unet",
        "groupnorm",
        "convnext",
        "autoencoder",
        "conv1d",
        "conv3d",
        "bert",
        "gpt",
        "vit",
        "encoder",
        "attention",
        "lstm",
        "gru",
    ];
    for golden in golden() {
        assert!(tested.contains(&golden.name.as_str()), "{}", golden.name);
    }
}

#[test]
fn document_of_models_has_the_files_of_the_index() {
    let written = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/MODELS.md")).unwrap();
    let cells = |line: &str| line.split(" | ").take(4).map(|cell| cell.trim_start_matches("| ").to_owned()).collect();
    let rows: Vec<Vec<String>> = written.lines().filter(|line| line.starts_with("| ")).skip(2).map(cells).collect();

    let mut expected = Vec::new();
    for golden in models() {
        for file in &golden.files {
            expected.push(vec![golden.name.clone(), file.name.clone(), file.exporter.clone(), file.opset.to_string()]);
        }
    }
    assert_eq!(rows, expected, "write it again: cargo run --release -p regatta-agent --example write_models");
}
