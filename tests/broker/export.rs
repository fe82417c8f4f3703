//! A trained model taken out of a cluster as a file.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::path::{Path, PathBuf};

use regatta_agent::data::{Store, read};
use regatta_agent::runtime::{Array, Device, Interrupt, Runtime};
use regatta_agent::training::{Feature, Split, Target, Values};
use regatta_broker::Objects;
use regatta_schemas::recipe::Data;
use regatta_schemas::streams;
use regatta_tests::{Cluster, digits_study, repository, until};
use serde_json::{Value, json};

#[tokio::test]
async fn the_best_trials_model_gives_its_validation_accuracy_in_onnx_runtime() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let mut study = digits_study("take", 2, 2);
    // What is best by this is what was measured first.
    study["objective"] = json!({"metric": "validation_accuracy", "goal": "minimize"});
    // Only what is kept at the end; the average is what is measured.
    study["recipe"]["checkpoint"] = json!({"every_s": 1000.0});
    study["recipe"]["average"] = json!(0.9);
    let id = cluster.start_study(&study).await;
    cluster.until_concluded(&id).await;
    let id = id.as_str();

    let trials: Value = serde_json::from_str(&cluster.cli_ok(&["trial", "list", id, "--json"]).await).unwrap();
    let best = &trials[0];
    let number = best["trial"].to_string();
    let file = cluster.folder().join("model.onnx");
    let path = file.to_str().unwrap();
    let told = cluster.cli_ok(&["trial", "export", id, &number, "-o", path]).await;
    assert!(told.contains("finished, at epoch 1"), "{told}");

    let recipe: Data = serde_json::from_value(study["recipe"]["data"].clone()).unwrap();
    let bytes = std::fs::read(repository().join("examples/data/digits.npz")).unwrap();
    let data = read(&recipe, &Store::Memory(bytes)).unwrap();
    let measures = |wanted: &Value| {
        let (found, wanted) = (accuracy(&file, &data.validation), wanted.as_f64().unwrap());
        assert!((found - wanted).abs() < 1e-9, "{found} and not {wanted}: {best}");
    };
    measures(&best["best"]);

    refused(&cluster, &["trial", "export", id, &number, "-o", path], "--force").await;
    let told = cluster.cli_ok(&["trial", "export", id, &number, "-o", path, "--force", "--last", "--json"]).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    let last = &best["metrics"]["validation_accuracy"];
    measures(last);
    assert_ne!(last, &best["best"]);
    assert_eq!((&told["resource"], &told["value"], &told["best"]["value"]), (&json!(2), last, &best["best"]));
    refused(&cluster, &["trial", "export", id, "99", "-o", path], "no trial 99").await;
    refused(&cluster, &["trial", "export", "nobody", "0", "-o", path], "no study").await;
}

#[tokio::test]
async fn a_trial_that_stopped_getting_better_leaves_the_model_that_measured_best() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let mut study = digits_study("plateau", 2, 100_000);
    // What was measured first stays the best: each trial ends long before its resource.
    study["objective"] = json!({"metric": "validation_accuracy", "goal": "minimize"});
    study["stopper"] = json!({"name": "patience", "epochs": 3});
    study["recipe"]["checkpoint"] = json!({"every_s": 1000.0});
    let id = cluster.start_study(&study).await;
    cluster.until_concluded(&id).await;
    // The study is over when its trials are; what an agent still stores is waited for.
    let id = id.as_str();
    let trials: Value = serde_json::from_str(&cluster.cli_ok(&["trial", "list", id, "--json"]).await).unwrap();
    let file = cluster.folder().join("model.onnx");
    let path = file.to_str().unwrap();
    for trial in 0..2 {
        let number = trials[trial]["trial"].to_string();
        let told = cluster.cli_ok(&["trial", "export", id, &number, "-o", path, "--force", "--json"]).await;
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["value"], trials[trial]["best"], "{told}");
    }
}

#[tokio::test]
async fn a_trial_that_kept_nothing_has_no_model() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let mut study = digits_study("kept-nothing", 1, 1);
    study["recipe"]["checkpoint"] = json!({"every_s": 1000.0, "at_end": false});
    let id = cluster.start_study(&study).await;
    cluster.until_concluded(&id).await;
    let file = cluster.folder().join("model.onnx");
    refused(&cluster, &["trial", "export", id.as_str(), "0", "-o", file.to_str().unwrap()], "no checkpoint").await;
    assert!(!file.exists());
}

#[tokio::test]
async fn the_checkpoints_of_the_best_trials_are_kept_and_the_others_deleted() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let mut study = digits_study("keep-two", 6, 2);
    study["keep_checkpoints"] = json!(2);
    let id = cluster.start_study(&study).await;
    cluster.until_concluded(&id).await;
    let id = id.as_str();
    let objects = Objects::new(&cluster.link().await, streams::CHECKPOINTS_BUCKET);
    until("what is not kept is deleted", || async { (objects.list().await.unwrap().len() == 2).then_some(()) }).await;

    let trials: Value = serde_json::from_str(&cluster.cli_ok(&["trial", "list", id, "--json"]).await).unwrap();
    let file = cluster.folder().join("model.onnx");
    let path = file.to_str().unwrap();
    // The list begins with the best.
    for trial in 0..2 {
        let number = trials[trial]["trial"].to_string();
        cluster.cli_ok(&["trial", "export", id, &number, "-o", path, "--force"]).await;
    }
    for trial in 2..6 {
        let number = trials[trial]["trial"].to_string();
        refused(&cluster, &["trial", "export", id, &number, "-o", path, "--force"], "`keep_checkpoints`").await;
    }
}

async fn refused(cluster: &Cluster, args: &[&str], reason: &str) {
    let output = cluster.cli(args).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains(reason), "{args:?}: {told}");
}

/// The share of rows whose greatest output is at their class.
fn accuracy(model: &Path, split: &Split) -> f64 {
    let runtime = Runtime::load(&library(), Device::Cpu, 1).unwrap();
    let mut compiled = runtime.compile(&std::fs::read(model).unwrap()).unwrap();
    let (feature, rows) = (&split.features[0], split.rows());
    let values = numbers(feature);
    let Target::Classes { labels, classes, .. } = &split.target else { panic!("classes") };
    let mut bindings = compiled.bindings().unwrap();
    let shape = [&[rows], feature.shape.as_slice()].concat();
    bindings.input("features", &compiled.tensor(&shape, &Array::F32(values)).unwrap()).unwrap();
    let mut output = compiled.tensor(&[rows, *classes], &Array::F32(vec![0.0; rows * classes])).unwrap();
    bindings.output("output", &mut output).unwrap();
    compiled.run(&bindings, &Interrupt::new().unwrap()).unwrap();
    let Array::F32(logits) = output.read().unwrap() else { panic!("floats") };
    let is_right = |(logits, &label): (&[f32], &i64)| {
        let greatest = logits[usize::try_from(label).unwrap()];
        logits.iter().all(|logit| *logit <= greatest)
    };
    let right = logits.chunks(*classes).zip(labels).filter(|row| is_right(*row)).count();
    right as f64 / rows as f64
}

/// What a model sees of pixels.
fn numbers(feature: &Feature) -> Vec<f32> {
    let (Values::U8(pixels), Some(affine)) = (&feature.values, &feature.affine) else { panic!("normalised pixels") };
    let run = feature.width() / affine.offset.len();
    let number = |(at, pixel): (usize, &u8)| {
        let channel = at / run % affine.offset.len();
        (f32::from(*pixel) - affine.offset[channel]) * affine.factor[channel]
    };
    pixels.iter().enumerate().map(number).collect()
}

fn library() -> PathBuf {
    let beside = || repository().join(".regatta/lib/libonnxruntime.so");
    std::env::var_os("ORT_DYLIB_PATH").map_or_else(beside, PathBuf::from)
}
