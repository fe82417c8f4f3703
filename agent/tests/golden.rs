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
#[path = "golden_support/trained.rs"]
mod trained;
#[path = "golden_support/trial.rs"]
mod trial;

use std::sync::Arc;

use check::Outcome;
use host_kernels::host_kernels;
use library::{device, library};
use numbers::{Golden, models};
use regatta_agent::model::{ModelError, imported};
use regatta_agent::runtime::{Device, Runtime};
use regatta_agent::training::{Dataset, Engine, Feature, Loss, ModelPlan, OptimizerPlan, Plan, Split, Target};
use regatta_autodiff::graph::Provider;
use regatta_autodiff::import::{ImportError, Settings};
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
                Ok(Outcome { nodes, parameters, errors, losses: (first, last) }) => {
                    println!(
                        "{}: {nodes} nodes, {parameters} parameters, gradients within {:.1e}, losses within {:.1e}",
                        file.name, errors.gradient, errors.loss
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

const PERCEPTRONS: [&str; 7] = ["mlp", "regression", "tabular", "smoothed", "absolute", "huber", "distribution"];
const CONVOLUTIONAL: [&str; 11] = [
    "resnet18",
    "resnet50",
    "mobilenet",
    "unet",
    "groupnorm",
    "convnext",
    "autoencoder",
    "conv1d",
    "conv3d",
    "segmenter",
    "partly_still",
];
const TRANSFORMERS: [&str; 6] = ["bert", "gpt", "vit", "encoder", "attention", "llama"];
const OF_KINDS: [&str; 1] = ["kinds"];
const OF_FRAMES: [&str; 4] = ["lstm", "gru", "rnn", "transcripts"];

#[test]
fn multilayer_perceptrons_train_as_in_pytorch() {
    check(&PERCEPTRONS);
}

#[test]
fn convolutional_nets_train_as_in_pytorch() {
    check(&CONVOLUTIONAL);
}

#[test]
fn transformers_train_as_in_pytorch() {
    check(&TRANSFORMERS);
}

#[test]
fn what_its_exporter_calls_a_parameter_trains_as_in_pytorch() {
    check(&OF_KINDS);
}

#[test]
fn what_reads_and_gives_sequences_trains_as_in_pytorch() {
    check(&OF_FRAMES);
}

/// As they are written for CUDA, with the kernels that runs of operators become there.
#[test]
fn gradients_in_kernels_of_our_own_are_pytorchs() {
    let runtime = Runtime::load(&library(), Device::Cpu, 1).unwrap().with_host_kernels(host_kernels());
    check_gradients(&On { runtime, provider: Provider::Cuda, own_operators: true });
}

/// The reference that operators of ours are measured by.
#[test]
fn gradients_in_onnxs_operators_alone_are_pytorchs() {
    let runtime = Runtime::load(&library(), Device::Cpu, 1).unwrap();
    check_gradients(&On { runtime, provider: Provider::Cpu, own_operators: false });
}

fn check_gradients(on: &On) {
    let failures: Vec<String> = golden()
        .iter()
        .filter_map(|golden| check::gradient_error(golden, &golden.files[0], on).err().map(|e| (golden, e)))
        .map(|(golden, error)| format!("{}: {error}", golden.files[0].name))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_model_of_the_index_belongs_to_a_test() {
    let tested = [&PERCEPTRONS[..], &CONVOLUTIONAL, &TRANSFORMERS, &OF_KINDS, &OF_FRAMES].concat();
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

#[test]
fn dropouts_of_a_file_drop() {
    let mut engine = Engine::new(&library(), device(), 1).unwrap();
    let mut files = 0;
    for golden in models().iter().filter(|golden| golden.name.ends_with("dropouts")) {
        let data = images_of(golden);
        for file in &golden.files {
            let mut first_loss = |onnx: &[u8], dropout: Option<f32>| {
                let model = ModelPlan::File { onnx: Arc::new(onnx.to_vec()), settings: Settings::default(), dropout };
                let sgd = OptimizerPlan::Sgd { learning_rate: 0.01, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
                let plan = Plan::new(model, Loss::cross_entropy(), sgd, golden.inputs[0].shape[0], 3);
                engine.start(&plan, &data, None).and_then(|mut training| training.train_step()).map(|step| step.loss)
            };
            let whole = file.bytes();
            let kept = first_loss(&whole, Some(0.0)).unwrap();
            if file.name.contains("-eval") {
                assert_eq!(first_loss(&whole, None).unwrap(), kept, "{}", file.name);
                assert!(first_loss(&whole, Some(0.5)).is_err(), "{} has none", file.name);
                continue;
            }
            let exported = first_loss(&whole, None).unwrap();
            let apart = first_loss(&with_one_rate_changed(&whole), None).unwrap();
            assert_eq!(first_loss(&whole, Some(0.2)).unwrap(), exported, "{}", file.name);
            let losses = [kept, exported, apart, first_loss(&whole, Some(0.5)).unwrap()];
            let differ = |(at, loss): (usize, &f32)| losses[..at].iter().all(|other| other != loss);
            assert!(losses.iter().enumerate().all(differ), "{}: {losses:?}", file.name);
            files += 1;
        }
    }
    assert_eq!(files, 3);
}

#[test]
fn what_was_exported_for_a_batch_fits_another_or_says_so() {
    let (runtime, mut misfits) = (Runtime::load(&library(), Device::Cpu, 1).unwrap(), 0);
    for golden in models() {
        let rows: Vec<Vec<usize>> = golden.inputs.iter().map(|input| input.shape[1..].to_vec()).collect();
        let batch = golden.inputs[0].shape[0] + 1;
        for file in &golden.files {
            match imported(&runtime, &file.bytes(), &Settings::default(), &rows, &[batch]) {
                Ok(_) => {}
                Err(error @ (ModelError::Batch { .. } | ModelError::Import(ImportError::FixedBatch { .. }))) => {
                    assert!(error.to_string().contains("export it with a"), "{}: {error}", file.name);
                    misfits += 1;
                }
                Err(error) => panic!("{}: {error}", file.name),
            }
        }
    }
    assert!(misfits > 0);
}

/// The last rate of 0.2 becomes one of 0.4.
fn with_one_rate_changed(onnx: &[u8]) -> Vec<u8> {
    let mut changed = onnx.to_vec();
    let at = changed.windows(4).rposition(|bytes| bytes == 0.2_f32.to_le_bytes()).expect("the file has a rate");
    changed[at..at + 4].copy_from_slice(&0.4_f32.to_le_bytes());
    changed
}

/// The first batch, to train and to validate on.
fn images_of(golden: &Golden) -> Arc<Dataset> {
    let images = &golden.inputs[0];
    let pixels = golden.batch(images, "input.").into_iter().map(|pixel| pixel as f32).collect();
    let labels: Vec<i64> = golden.batch(&golden.target, "").into_iter().map(|class| class as i64).collect();
    let split = Split {
        features: vec![Feature::numbers(images.name.clone(), images.shape[1..].to_vec(), pixels)],
        target: Target::classes(labels, Vec::new(), 5),
    };
    Arc::new(Dataset { train: split.clone(), validation: split })
}
