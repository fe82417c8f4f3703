//! Models whose weights lie in files beside them, as PyTorch's exporter writes them.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;
use regatta_onnx::tensor_proto::DataLocation;
use regatta_onnx::{ModelProto, StringStringEntryProto, TensorProto};
use regatta_tests::{Cluster, digits_study, repository};
use serde_json::{Value, json};

#[tokio::test]
async fn weights_beside_a_model_train_as_those_in_it_do() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let whole = repository().join("examples/models/digits.onnx");
    let split = cluster.folder().join("split.onnx");
    let weights = write_split(&whole, &split);
    assert!(weights > 10_000, "{weights} bytes are no model's weights");

    let measured = measured(&cluster, &study_of(&whole)).await;
    assert_eq!(measured.len(), 2, "{measured:?}");
    assert_eq!(measured, self::measured(&cluster, &study_of(&split)).await);
}

#[tokio::test]
async fn a_model_without_the_file_beside_it_is_refused_before_anything_starts() {
    let cluster = Cluster::start().await;
    let split = cluster.folder().join("split.onnx");
    write_split(&repository().join("examples/models/digits.onnx"), &split);
    let file = cluster.folder().join("study.json");
    std::fs::write(&file, study_of(&split).to_string()).unwrap();
    let file = file.to_str().unwrap();
    cluster.cli_ok(&["check", file]).await;

    std::fs::remove_file(data_of(&split)).unwrap();

    // There is no coordinator: `run` would wait for one.
    for command in [["check", file].as_slice(), &["run", file], &["run", "--local", file]] {
        let refused = cluster.cli(command).await;
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && told.contains("split.onnx.data"), "{command:?}: {told}");
    }
}

fn study_of(model: &Path) -> Value {
    let mut study = digits_study("beside", 1, 2);
    study["recipe"]["data"]["shape"] = json!([1, 8, 8]);
    study["recipe"]["model"] = json!({"family": "onnx", "file": model, "weights": "file"});
    study
}

/// What a study's only trial measured at each epoch.
async fn measured(cluster: &Cluster, study: &Value) -> Vec<BTreeMap<String, f64>> {
    let id = cluster.start_study(study).await;
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.count("finished"), 1);
    let trial = *history.proposed().keys().next().unwrap();
    let attempt = history.offers(trial)[0].attempt;
    history.points(trial, attempt).iter().map(|point| point.metrics.clone()).collect()
}

fn data_of(model: &Path) -> std::path::PathBuf {
    model.with_added_extension("data")
}

/// Writes a model with its weights in one file beside it, and gives their bytes.
fn write_split(whole: &Path, split: &Path) -> usize {
    let mut model = ModelProto::decode(std::fs::read(whole).unwrap().as_slice()).unwrap();
    let mut data = Vec::new();
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        put_outside(tensor, data_of(split).file_name().unwrap().to_str().unwrap(), &mut data);
    }
    std::fs::write(split, model.encode_to_vec()).unwrap();
    std::fs::write(data_of(split), &data).unwrap();
    data.len()
}

fn put_outside(tensor: &mut TensorProto, location: &str, data: &mut Vec<u8>) {
    let Some(bytes) = tensor.raw_data.take() else { return };
    let (offset, length) = (data.len().to_string(), bytes.len().to_string());
    let entries = [("location", location), ("offset", &offset), ("length", &length)];
    let entry =
        |(key, value): (&str, &str)| StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) };
    tensor.external_data = entries.map(entry).into();
    tensor.data_location = Some(DataLocation::External as i32);
    data.extend(bytes);
}
