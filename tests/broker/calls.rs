//! Trials that are trained by whoever asks for them, over a real server.

use std::time::Duration;

use regatta_schemas::reasons::OfferReason;
use regatta_schemas::roles::Role;
use regatta_schemas::{StudyId, TrialId};
use regatta_tests::{Cluster, digits_study, until};
use serde_json::{Value, json};

/// A study of a pool without agents, which a person's own loop trains.
fn own_study(trials: u32) -> Value {
    let mut study = digits_study("own-loop", trials, 3);
    study["pool"] = json!("nobody");
    study["sampler"] = json!("random");
    study
}

async fn suggest(cluster: &Cluster, id: &StudyId, lease_s: &str) -> Value {
    let printed = cluster.cli_ok(&["trial", "suggest", id.as_str(), "--lease-s", lease_s, "--json"]).await;
    serde_json::from_str(&printed).expect("JSON is printed")
}

/// What a report was answered.
async fn observe(cluster: &Cluster, held: &Value, args: &[&str]) -> Value {
    let study = held["study"].as_str().expect("a study");
    let (trial, attempt) = (held["trial"].to_string(), held["attempt"].to_string());
    let first = ["trial", "observe", study, &trial, &attempt, "--json"];
    let printed = cluster.cli_ok(&[&first, args].concat()).await;
    serde_json::from_str(&printed).expect("JSON is printed")
}

#[tokio::test]
async fn somebody_with_a_publisher_s_key_trains_a_study_by_the_command_line() {
    let cluster = Cluster::start_secured(&[]).await;
    let _coordinator = cluster.coordinator(&[]);
    let id = cluster.start_study(&own_study(2)).await;
    for accuracy in ["0.5", "0.75"] {
        let held = suggest(&cluster, &id, "600").await;
        assert!(held["params"]["rate"].as_f64().is_some_and(|rate| rate > 0.0), "{held}");
        for epoch in ["1", "2"] {
            let answer = observe(&cluster, &held, &["--epoch", epoch, "validation_accuracy=0.25"]).await;
            assert_eq!(answer["stop"], Value::Null);
        }
        let metric = format!("validation_accuracy={accuracy}");
        observe(&cluster, &held, &["--epoch", "3", &metric, "--end", "done"]).await;
    }
    let history = cluster.until_concluded(&id).await;
    assert_eq!((history.count("finished"), history.count("measured")), (2, 6));
    let shown: Value = serde_json::from_str(&cluster.cli_ok(&["study", "show", id.as_str(), "--json"]).await).unwrap();
    assert_eq!((&shown["best"]["trial"], &shown["best"]["value"]), (&json!(1), &json!(0.75)));
    let refused = cluster.cli_as(Role::Viewer, &["trial", "suggest", id.as_str()]).await;
    assert!(!refused.status.success());
}

#[tokio::test]
async fn a_lease_outlives_a_coordinator_and_ends_by_silence() {
    let cluster = Cluster::start().await;
    let mut first = cluster.coordinator(&[]);
    let id = cluster.start_study(&own_study(1)).await;
    let held = suggest(&cluster, &id, "3").await;
    observe(&cluster, &held, &["--epoch", "1", "validation_accuracy=0.25"]).await;
    first.kill();
    let _second = cluster.coordinator(&[]);
    let answer = observe(&cluster, &held, &["--epoch", "2", "validation_accuracy=0.5"]).await;
    assert_eq!(answer["stop"], Value::Null);
    // Nobody reports any more: sooner or later it is given to whoever asks.
    let again = until("the lease ends", || async {
        let output = cluster.cli(&["trial", "suggest", id.as_str(), "--json"]).await;
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).expect("JSON is printed"))
    })
    .await;
    assert_eq!((&again["trial"], &again["attempt"]), (&json!(0), &json!(2)));
    let answer = observe(&cluster, &held, &["--epoch", "3", "validation_accuracy=0.9"]).await;
    assert_eq!(answer["stop"], json!({"rule": "superseded"}));
    observe(&cluster, &again, &["--epoch", "3", "validation_accuracy=0.75", "--end", "done"]).await;
    let history = cluster.until_concluded(&id).await;
    let offers = history.offers(TrialId(0));
    assert!(matches!(&offers[1].reason, OfferReason::LeaseLost { silent_ms, .. }
        if Duration::from_millis(*silent_ms) >= Duration::from_secs(3)));
    assert_eq!(history.count("finished"), 1);
}
