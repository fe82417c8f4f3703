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
    let is_best = |trial: &&Value| trial["trial"] == summary["best"]["trial"];
    let best = listed.as_array().unwrap().iter().find(is_best).unwrap();
    assert_eq!(summary["ancestors"][0]["trial"], best["lineage"]["parent"], "{summary}");
    let points = history.0.iter().map(|entry| match &entry.record {
        Record::Measured(measured) => measured.points.len() as u64,
        _ => 0,
    });
    let epochs: u64 = points.sum();
    assert_eq!(summary["resource_spent"], epochs, "what a copy inherits it did not train");
    let replayed = cluster.cli(&["replay", id.as_str()]).await;
    assert!(!replayed.status.success(), "a copy's curve says nothing of its configuration");
}

/// Answers with the rate of each epoch, and keeps the questions.
const CURVES: &str = r#"
import json, sys
for line in sys.stdin:
    with open(sys.argv[1], "a") as asked:
        asked.write(line)
    question = json.loads(line)
    rates = []
    for parent in question.get("before", []):
        rates += [parent["params"]["rate"]] * (parent["until"] - len(rates))
    rates += [question["params"]["rate"]] * (question["resource"] - len(rates))
    print(json.dumps({"score": rates, "elapsed_s": list(range(1, len(rates) + 1))}), flush=True)
"#;

#[tokio::test]
async fn a_simulated_copy_is_asked_for_with_what_its_parents_were_trained_with() {
    let cluster = Cluster::start().await;
    let [study, program, asked] = ["study.yaml", "curves.py", "asked.jsonl"].map(|name| cluster.folder().join(name));
    std::fs::write(&program, CURVES).unwrap();
    let text = "name: played\nobjective: { metric: score, goal: maximize }\n\
        space: { rate: { type: float, low: 0.1, high: 1.0 } }\nstopper: { name: pbt, population: 6, interval: 2 }\n\
        budget: { trials: 20, resource: 10 }\n";
    std::fs::write(&study, text).unwrap();
    let objective = format!("python3 '{}' '{}'", program.display(), asked.display());
    let command = ["simulate", study.to_str().unwrap(), "--lanes", "3", "--objective", &objective, "--json"];
    let outcome: Value = serde_json::from_str(&cluster.cli_ok(&command).await).unwrap();
    assert_eq!(outcome["trials"], 20);
    let questions = std::fs::read_to_string(&asked).unwrap();
    let questions: Vec<Value> = questions.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let copies: Vec<&Value> = questions.iter().filter(|question| question.get("before").is_some()).collect();
    assert!(!copies.is_empty() && copies.len() < questions.len(), "{questions:?}");
    for copy in copies {
        let untils: Vec<u64> =
            copy["before"].as_array().unwrap().iter().map(|parent| parent["until"].as_u64().unwrap()).collect();
        assert!(untils.is_sorted_by(|a, b| a < b) && untils.iter().all(|until| until % 2 == 0), "{copy}");
    }
}
