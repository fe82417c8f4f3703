//! An ablation on a fleet: it finds what was planted, and says why a component could not be left out.

use std::collections::BTreeMap;

use regatta_schemas::log::Lineage;
use regatta_tests::{Cluster, digits_study, repository};
use serde_json::{Value, json};

/// The last line that `regatta ablate --json` printed, and the picture that it drew.
async fn findings(cluster: &Cluster, file: &str, plot: &str) -> (Value, String) {
    let plot = cluster.folder().join(plot);
    let printed = cluster.cli_ok(&["ablate", file, "--json", "--plot", &plot.display().to_string()]).await;
    let findings: Value = serde_json::from_str(printed.lines().last().unwrap_or_default()).expect("JSON lines");
    assert_eq!(findings["type"], "findings");
    (findings, std::fs::read_to_string(plot).expect("the plot is drawn"))
}

fn effect<'f>(findings: &'f Value, name: &str) -> &'f Value {
    let effects = findings["effects"].as_array().expect("a list");
    effects.iter().find(|effect| effect["of"] == json!([name])).unwrap_or_else(|| panic!("{name}: {findings}"))
}

fn interval(effect: &Value) -> (f64, f64) {
    let end = |place: usize| effect["interval"][place].as_f64().unwrap_or_else(|| panic!("{effect}"));
    (end(0), end(1))
}

#[tokio::test]
async fn the_example_finds_the_useless_pixels_and_the_vital_layers() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let file = repository().join("examples/ablation.yaml");
    let (findings, plot) = findings(&cluster, &file.display().to_string(), "ablation.svg").await;
    let (low, high) = interval(effect(&findings, "blank"));
    assert!(low <= 0.0 && 0.0 <= high, "the useless pixels: {findings}");
    for vital in ["hidden", "middle"] {
        let (_, high) = interval(effect(&findings, vital));
        assert!(high < 0.0, "{vital}: {findings}");
    }
    assert!(findings["mean_whole"].as_f64().unwrap() > 0.95, "{findings}");
    assert_eq!(plot.matches("<circle").count(), findings["effects"].as_array().unwrap().len());
}

#[tokio::test]
async fn trials_of_a_repeat_share_a_seed_and_a_component_that_cannot_be_left_out_says_why() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let mut study = digits_study("pairs", 1, 2);
    study["space"] = json!({});
    study["recipe"]["optimizer"]["learning_rate"] = 0.01.into();
    study["budget"] = json!({"resource": 2});
    study["ablation"] = json!({
        "components": {
            "hidden": {"layers": ["layers.0"]},
            "nowhere": {"layers": ["layers.7"]},
            "top": {"features": ["x[0:8]"]},
        },
        "repeats": 2,
        "design": "pairs",
    });
    let id = cluster.start_study(&study).await;
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.proposed().len(), 14, "two repeats of one whole, three without one and three without two");
    let mut seeds: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for proposed in history.proposed().values() {
        let Lineage::Ablated { repeat, .. } = proposed.lineage else { panic!("{proposed:?}") };
        seeds.entry(repeat).or_default().push(proposed.seed);
    }
    seeds.values_mut().for_each(Vec::dedup);
    assert!(seeds[&0].len() == 1 && seeds[&1].len() == 1 && seeds[&0] != seeds[&1], "{seeds:?}");
    assert_eq!(history.count("finished"), 8, "those without `nowhere` fail");
    let shown = cluster.cli_ok(&["study", "show", id.as_str()]).await;
    assert!(shown.contains("layers.7") && shown.contains("hidden and top"), "{shown}");
}

#[tokio::test]
async fn parts_of_an_onnx_model_are_cut_out_or_refused() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&["--lanes", "2"]);
    let mut study = digits_study("onnx", 1, 2);
    study["space"] = json!({});
    study["budget"] = json!({"resource": 2});
    study["recipe"]["optimizer"]["learning_rate"] = 0.003.into();
    study["recipe"]["data"]["shape"] = json!([1, 8, 8]);
    let file = repository().join("examples/models/digits.onnx");
    study["recipe"]["model"] = json!({"family": "onnx", "file": file, "weights": "xavier"});
    study["ablation"] = json!({
        "components": {
            "relu": {"layers": ["relu3"]},
            "tail": {"layers": ["drop", "relu3"]},
            "convolution": {"layers": ["conv2"]},
            "middle": {"features": ["x[16:48]"]},
        },
        "repeats": 2,
    });
    let path = cluster.folder().join("onnx.json");
    std::fs::write(&path, study.to_string()).unwrap();
    let (findings, _) = findings(&cluster, &path.display().to_string(), "onnx.svg").await;
    for measured in ["relu", "tail", "middle"] {
        assert_eq!(effect(&findings, measured)["repeats"], 2, "{findings}");
    }
    let refused = effect(&findings, "convolution");
    assert!(refused.get("difference").is_none(), "what follows it does not take its input: {findings}");
    assert!(refused["failures"][0].as_str().is_some_and(|failure| failure.contains("dense")), "{findings}");
}
