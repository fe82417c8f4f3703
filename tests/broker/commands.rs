//! The command line, on a cluster.

use std::process::Stdio;

use regatta_schemas::log::Record;
use regatta_schemas::reasons::StopReason;
use regatta_tests::{Cluster, PATIENCE, digits_study, program, until};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

fn endless_study(name: &str) -> Value {
    let mut study = digits_study(name, 50, 100_000);
    study["recipe"]["checkpoint"] = json!({"every_s": 1000.0});
    study
}

#[tokio::test]
async fn a_stopped_trial_frees_its_lane_between_two_steps() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let id = cluster.start_study(&endless_study("stop-trial")).await;
    cluster.until_log(&id, "trial 0 trains", |history| history.count("measured") >= 1).await;
    cluster.cli_ok(&["trial", "stop", id.as_str(), "0"]).await;
    let history = cluster.until_log(&id, "the lane takes the next", |history| history.count("accepted") >= 2).await;
    let stopped = history.0.iter().find_map(|entry| match &entry.record {
        Record::Stopped(stopped) => Some(&stopped.reason),
        _ => None,
    });
    assert!(matches!(stopped, Some(StopReason::Requested { .. })), "{stopped:?}");
    cluster.cli_ok(&["study", "stop", id.as_str()]).await;
    cluster.until_concluded(&id).await;
}

#[tokio::test]
async fn a_paused_study_proposes_nothing_until_it_is_resumed() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let id = cluster.start_study(&digits_study("pause", 3, 2)).await;
    cluster.cli_ok(&["study", "pause", id.as_str()]).await;
    let _agent = cluster.agent(&[]);
    until("the agent beats", || async {
        let fleet: Value = serde_json::from_str(&cluster.cli_ok(&["fleet", "--json"]).await).unwrap();
        (fleet["agents"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    assert_eq!(cluster.history(&id).await.count("proposed"), 0);
    let listed = cluster.cli_ok(&["study", "list"]).await;
    assert!(listed.contains("paused"), "{listed}");
    cluster.cli_ok(&["study", "resume", id.as_str()]).await;
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.count("finished"), 3);
}

#[tokio::test]
async fn a_study_without_agents_says_what_it_waits_for() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    cluster.start_study(&digits_study("lonely", 3, 2)).await;
    let listed: Value = serde_json::from_str(&cluster.cli_ok(&["study", "list", "--json"]).await).unwrap();
    let waits = listed["studies"][0]["waiting_for"].as_str().unwrap_or_default();
    assert!(waits.contains("agent"), "{listed}");
}

#[tokio::test]
async fn who_starts_a_study_without_a_coordinator_is_told_and_waits_for_one() {
    let cluster = Cluster::start().await;
    let file = cluster.folder().join("study.json");
    std::fs::write(&file, digits_study("early", 1, 1).to_string()).unwrap();
    let mut running = Command::new(program("regatta"))
        .args(["--nats", &cluster.url(), "run", "--detach"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut told = BufReader::new(running.stderr.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, told.next_line()).await.unwrap();
    assert!(line.unwrap().unwrap().contains("regatta serve"));
    let _coordinator = cluster.coordinator(&[]);
    let started = tokio::time::timeout(PATIENCE, running.wait_with_output()).await.unwrap().unwrap();
    assert!(started.status.success() && !started.stdout.is_empty());
}

#[tokio::test]
async fn results_are_exported_printed_and_deleted() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let id = cluster.start_study(&digits_study("export", 3, 2)).await;
    cluster.until_concluded(&id).await;
    let id = id.as_str();

    let csv = cluster.cli_ok(&["export", id]).await;
    assert_eq!(csv.lines().count(), 4, "{csv}");
    assert!(csv.starts_with("trial,status,best,"), "{csv}");
    let json: Value = serde_json::from_str(&cluster.cli_ok(&["export", id, "--format", "json"]).await).unwrap();
    assert_eq!(json["trials"].as_array().unwrap().len(), 3);
    assert_eq!(json["trials"][0]["points"].as_array().unwrap().len(), 2);

    let lines = cluster.cli_ok(&["logs", id, "0"]).await;
    assert!(lines.contains("epoch 2/2"), "{lines}");
    assert!(!cluster.cli(&["logs", "no-such-study"]).await.status.success());

    cluster.cli_ok(&["study", "delete", id]).await;
    assert!(!cluster.cli(&["study", "show", id]).await.status.success());
    let listed: Value = serde_json::from_str(&cluster.cli_ok(&["study", "list", "--json"]).await).unwrap();
    assert_eq!(listed["studies"], json!([]));
}

/// Of which no trial is stopped.
const STOPPER: &str = "{name: asha, eta: 4, min_resource: 2}";

#[tokio::test]
async fn following_prints_json_lines_and_a_summary_last() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let file = cluster.folder().join("study.json");
    std::fs::write(&file, digits_study("json", 2, 2).to_string()).unwrap();
    let printed = cluster.cli_ok(&["run", file.to_str().unwrap(), "--json", "--stopper", STOPPER]).await;
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["type"], "study_created");
    assert_eq!((&lines[0]["file"]["name"], &lines[0]["file"]["stopper"]["eta"]), (&json!("json"), &json!(4)));
    assert!(lines.iter().all(|line| line["study"] == lines[0]["study"] && line["study"].is_string()));
    let last = lines.last().unwrap();
    assert_eq!(last["type"], "summary");
    assert_eq!(last["trials"]["finished"], 2);
    assert!(last["best"]["params"]["rate"].is_number(), "{last}");
}

#[tokio::test]
async fn a_trial_of_ones_own_is_trained_or_refused_with_every_fault() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let id = cluster.start_study(&digits_study("own", 2, 2)).await;
    let printed = cluster.cli_ok(&["trial", "submit", id.as_str(), "rate=0.01", "--priority", "3", "--json"]).await;
    let submitted: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(submitted["trial"], 0);
    let refused = cluster.cli(&["trial", "submit", id.as_str(), "rate=7", "colour=red"]).await;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(text.contains("rate") && text.contains("colour"), "{text}");
    let _agent = cluster.agent(&[]);
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.count("finished"), 2, "the trial counts in the budget");
}

/// Answers each configuration with a curve that comes near its rate.
const CURVES: &str = r#"
import json, sys
for line in sys.stdin:
    question = json.loads(line)
    rate, epochs = question["params"]["rate"], range(1, question["resource"] + 1)
    curve = {"score": [rate * (1 - 0.5 ** n) for n in epochs], "elapsed_s": [n * question["pace"] for n in epochs]}
    print(json.dumps(curve), flush=True)
"#;

#[tokio::test]
async fn a_search_is_simulated_with_curves_from_a_program() {
    let cluster = Cluster::start().await;
    let (study, program) = (cluster.folder().join("study.yaml"), cluster.folder().join("curves.py"));
    std::fs::write(&program, CURVES).unwrap();
    let text = "name: played\nobjective: { metric: score, goal: maximize }\n\
        space: { rate: { type: float, low: 0.0, high: 1.0 } }\nstopper: { name: asha, mode: promote }\n\
        budget: { trials: 40, resource: 9 }\n";
    std::fs::write(&study, text).unwrap();
    let objective = format!("python3 '{}'", program.display());
    let ask = |more: &[&'static str]| {
        let mut asked = vec!["simulate", study.to_str().unwrap(), "--lanes", "4", "--objective", &objective, "--json"];
        asked.extend(more);
        asked.into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    let ran = |asked: Vec<String>| {
        let cluster = &cluster;
        async move { cluster.cli_ok(&asked.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let first = ran(ask(&["--send", r#"{"pace": 2.0}"#])).await;
    assert_eq!(first, ran(ask(&["--send", r#"{"pace": 2.0}"#])).await, "the same seed plays the same search");
    let outcome: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(outcome["trials"], 40);
    assert!(outcome["best"]["value"].as_f64().unwrap() > 0.8, "{outcome}");
    assert!(outcome["epochs"].as_u64().unwrap() < 40 * 9 / 2, "{outcome}");
    let seconds = outcome["seconds"].as_f64().unwrap();
    assert!(seconds >= 2.0 * outcome["epochs"].as_f64().unwrap() / 4.0, "{outcome}");

    let ended = cluster.cli(&ask(&[]).iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(!ended.status.success(), "the program misses `pace` and ends");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("curves.py"), "the message names it");
}

#[tokio::test]
async fn a_search_is_simulated_with_curves_from_a_table() {
    let cluster = Cluster::start().await;
    let (study, table) = (cluster.folder().join("study.yaml"), cluster.folder().join("curves.csv"));
    let text = "name: played\nobjective: { metric: score, goal: maximize }\n\
        space: { rate: { type: float, low: 0.0, high: 1.0 } }\nbudget: { trials: 40, resource: 2 }\n";
    std::fs::write(&study, text).unwrap();
    let row = |rate: u32, epoch: u32| {
        let rate = f64::from(rate) / 10.0;
        format!("{rate},{epoch},{},{}\n", rate * f64::from(epoch) / 2.0, 1.5 * f64::from(epoch))
    };
    let rows: String = (0..=10).flat_map(|rate| (1..=2).map(move |epoch| row(rate, epoch))).collect();
    let ask = async |rows: &str| {
        std::fs::write(&table, format!("rate,resource,score,elapsed_s\n{rows}")).unwrap();
        let (study, table) = (study.to_str().unwrap(), table.to_str().unwrap());
        cluster.cli(&["simulate", study, "--lanes", "4", "--objective", table, "--json"]).await
    };
    let outcome: Value = serde_json::from_slice(&ask(&rows).await.stdout).unwrap();
    assert_eq!((&outcome["trials"], &outcome["best"]["value"]), (&json!(40), &json!(1.0)), "{outcome}");
    assert!(
        (outcome["seconds"].as_f64().unwrap() - 30.0).abs() < 1.0,
        "ten times three seconds on each lane: {outcome}"
    );
    assert!(!ask(&rows.replace("0.5,2,", "0.5,1,")).await.status.success(), "an epoch is there twice");
}

#[tokio::test]
async fn a_study_begins_with_what_another_measured_or_an_export_of_it_says() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let first = cluster.start_study(&digits_study("first", 3, 2)).await;
    cluster.until_concluded(&first).await;
    let export = cluster.folder().join("first.json").display().to_string();
    cluster.cli_ok(&["export", first.as_str(), "--format", "json", "--output", &export]).await;
    let file = cluster.folder().join("second.json");
    std::fs::write(&file, digits_study("second", 1, 2).to_string()).unwrap();
    let file = file.display().to_string();
    for source in [first.as_str(), export.as_str()] {
        let second = cluster.cli_ok(&["run", &file, "--detach", "--earlier", source]).await;
        let shown: Value =
            serde_json::from_str(&cluster.cli_ok(&["study", "show", second.trim(), "--json"]).await).unwrap();
        let earlier = shown["file"]["earlier"].as_array().unwrap();
        assert_eq!(earlier.len(), 3, "{shown}");
        assert!(
            earlier.iter().all(|entry| entry["resource"] == 2 && entry["metrics"]["validation_accuracy"].is_number())
        );
    }
    let mut other = digits_study("other", 1, 2);
    other["space"] = json!({"rate": {"type": "float", "low": 0.2, "high": 0.9}});
    std::fs::write(&file, other.to_string()).unwrap();
    let refused = cluster.cli(&["run", &file, "--detach", "--earlier", first.as_str()]).await;
    assert!(!refused.status.success(), "nothing of it is of this space");
}
