//! Population-based training with real agents: copies go on from their parents' checkpoints.

use regatta_schemas::log::{Lineage, Record};
use regatta_tests::{Cluster, check_history, digits_study};
use serde_json::{Value, json};

#[tokio::test]
async fn a_copy_goes_on_where_its_parent_was_with_other_values() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let mut study = digits_study("population", 14, 8);
    study["stopper"] = json!({"name": "pbt", "population": 4, "interval": 2});
    let id = cluster.start_study(&study).await;
    let history = cluster.until_concluded(&id).await;
    check_history(&history);
    let proposed = history.proposed();
    assert_eq!(proposed.len(), 14, "the budget is exact");
    let mut copies = 0;
    for (trial, copy) in &proposed {
        let Lineage::Inherited { parent, checkpoint, replaced, reason } = &copy.lineage else { continue };
        copies += 1;
        assert_eq!(copy.seed, proposed[parent].seed);
        let is_the_parents = |record: &Record| match record {
            Record::Checkpointed(record) => record.checkpoint == *checkpoint,
            _ => false,
        };
        let is_of_the_line = matches!(&proposed[parent].lineage,
            Lineage::Inherited { checkpoint: inherited, .. } if inherited == checkpoint);
        assert!(history.of_trial(*parent).any(is_the_parents) || is_of_the_line, "trial {trial}");
        let stopped = history.of_trial(*replaced).any(|record| match record {
            Record::Stopped(stopped) => stopped.reason == *reason,
            _ => false,
        });
        assert!(stopped, "trial {replaced} made way for trial {trial}");
        let first = history.offers(*trial)[0];
        assert_eq!(first.resume.as_ref(), Some(checkpoint));
        let points = history.points(*trial, first.attempt);
        if let Some(point) = points.first() {
            assert_eq!(point.resource, checkpoint.resource + 1, "trial {trial} goes on from its parent");
            assert!(point.step > checkpoint.step, "trial {trial}: {point:?}");
        }
    }
    assert!(copies >= 1, "nobody was copied");
    let has_trained = |trial: &Value| trial["resource"].as_u64() > trial["lineage"]["checkpoint"]["resource"].as_u64();
    let listed: Value = serde_json::from_str(&cluster.cli_ok(&["trial", "list", id.as_str(), "--json"]).await).unwrap();
    let inherited = |trial: &&Value| trial["lineage"]["from"] == "inherited";
    let shown: Vec<&Value> = listed.as_array().unwrap().iter().filter(inherited).collect();
    assert_eq!(shown.len(), copies);
    let grown = shown.iter().find(|trial| has_trained(trial)).expect("a copy was trained");
    assert!(grown["lineage"]["parent"].is_u64() && grown["lineage"]["replaced"].is_u64(), "{grown}");
    let summary = cluster.cli_ok(&["study", "show", id.as_str(), "--json"]).await;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let best = &listed[summary["best"]["trial"].as_u64().unwrap() as usize];
    assert_eq!(summary["ancestors"][0]["trial"], best["lineage"]["parent"], "{summary}");
    let points = history.0.iter().map(|entry| match &entry.record {
        Record::Measured(measured) => measured.points.len() as u64,
        _ => 0,
    });
    let epochs: u64 = points.sum();
    assert_eq!(summary["resource_spent"], epochs, "what a copy inherits it did not train");
}
