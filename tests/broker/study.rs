//! A study on a fleet where nothing goes wrong.

use regatta_schemas::log::Record;
use regatta_schemas::reasons::OfferReason;
use regatta_tests::{Cluster, check_history, digits_study};
use serde_json::{Value, json};

#[tokio::test]
async fn a_study_trains_every_trial_of_its_budget_and_finds_a_good_one() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let id = cluster.start_study(&digits_study("plain", 8, 5)).await;
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.proposed().len(), 8);
    assert_eq!(history.count("finished"), 8);
    for trial in history.proposed().keys() {
        let [offer] = history.offers(*trial)[..] else { panic!("trial {trial} was offered more than once") };
        let epochs: Vec<u32> = history.points(*trial, offer.attempt).iter().map(|point| point.resource).collect();
        assert_eq!(epochs, [1, 2, 3, 4, 5], "trial {trial}");
    }
    let shown: Value = serde_json::from_str(&cluster.cli_ok(&["study", "show", id.as_str(), "--json"]).await).unwrap();
    assert!(shown["best"]["value"].as_f64().unwrap() > 0.9, "{shown}");
    assert_eq!(shown["resource_spent"], 40);
    assert_eq!(shown["status"], "concluded");
}

#[tokio::test]
async fn a_configuration_is_drawn_only_once_a_lane_is_free() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&["--lanes", "2"]);
    let id = cluster.start_study(&digits_study("in-time", 10, 3)).await;
    let history = cluster.until_concluded(&id).await;
    let mut open = 0_i32;
    for entry in &history.0 {
        match entry.record {
            Record::Proposed(_) => open += 1,
            Record::Finished(_) => open -= 1,
            _ => {}
        }
        assert!(open <= 2, "a trial was proposed while both lanes were busy");
    }
}

#[tokio::test]
async fn early_stopping_frees_lanes_and_says_why() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let mut study = digits_study("early", 16, 27);
    study["stopper"] = serde_json::json!({"name": "asha", "min_resource": 1, "eta": 3});
    let id = cluster.start_study(&study).await;
    let history = cluster.until_concluded(&id).await;
    assert!(history.count("stopped") > 0, "nothing was stopped");
    assert!(history.count("released") > 0, "no stop was obeyed");
    let listed: Value = serde_json::from_str(&cluster.cli_ok(&["trial", "list", id.as_str(), "--json"]).await).unwrap();
    for trial in listed.as_array().unwrap() {
        if trial["status"] == "stopped" {
            let stop = &trial["stop"];
            assert_eq!(stop["rule"], "rung", "{trial}");
            assert!(stop["value"].as_f64().unwrap() < stop["threshold"].as_f64().unwrap(), "{trial}");
            assert!(trial["resource"].as_u64().unwrap() < 27, "{trial}");
        }
    }
}

#[tokio::test]
async fn random_search_draws_the_same_configurations_whatever_the_fleet() {
    let mut drawn = Vec::new();
    let mut study = digits_study("same", 6, 2);
    study["sampler"] = json!("random");
    for agents in [1, 3] {
        let cluster = Cluster::start().await;
        let _coordinator = cluster.coordinator(&[]);
        let _agents: Vec<_> = (0..agents).map(|_| cluster.agent(&[])).collect();
        let id = cluster.start_study(&study).await;
        let history = cluster.until_concluded(&id).await;
        let params: Vec<_> = history.proposed().values().map(|proposed| proposed.params.clone()).collect();
        drawn.push(params);
    }
    assert_eq!(drawn[0], drawn[1]);
}

#[tokio::test]
async fn two_studies_share_a_lane_fairly() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let one = cluster.start_study(&digits_study("one", 6, 4)).await;
    let other = cluster.start_study(&digits_study("other", 6, 4)).await;
    let _agent = cluster.agent(&["--lanes", "2"]);
    let (one, other) = tokio::join!(cluster.until_concluded(&one), cluster.until_concluded(&other));
    // With as many lanes as studies, each holds one: neither waits for the other to end.
    for history in [one, other] {
        check_history(&history);
        assert_eq!(history.count("finished"), 6);
    }
}

#[tokio::test]
async fn trials_set_aside_at_a_rung_go_on_from_their_checkpoints_on_any_agent() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agents: Vec<_> = (0..2).map(|_| cluster.agent(&[])).collect();
    let mut study = digits_study("promote", 9, 9);
    study["stopper"] = json!({"name": "asha", "eta": 3, "min_resource": 1, "mode": "promote"});
    let id = cluster.start_study(&study).await;
    let history = cluster.until_concluded(&id).await;
    check_history(&history);
    let offers: Vec<_> = history.proposed().keys().flat_map(|trial| history.offers(*trial)).collect();
    let promoted = offers.iter().filter_map(|offered| match offered.reason {
        OfferReason::Promoted { resource } => Some((resource, offered.resume.as_ref()?.resource)),
        _ => None,
    });
    let promoted: Vec<(u32, u32)> = promoted.collect();
    assert!(promoted.len() >= 3 && promoted.iter().all(|(rung, resumed)| rung == resumed), "{promoted:?}");
    let shown: Value = serde_json::from_str(&cluster.cli_ok(&["study", "show", id.as_str(), "--json"]).await).unwrap();
    // A trial that was ahead when it was promoted may be outrun later: how many reach the end depends on the fleet.
    let finished = history.count("finished");
    assert!((1..=3).contains(&finished), "{finished} trained to the end");
    let winner = cluster.cli_ok(&["trial", "show", id.as_str(), &shown["best"]["trial"].to_string(), "--json"]).await;
    let winner: Value = serde_json::from_str(&winner).unwrap();
    assert_eq!(winner["status"], "finished", "the winner is trained to the end: {winner}");
    let spent = shown["resource_spent"].as_u64().unwrap();
    assert!((9 + 8..9 * 9).contains(&spent), "{spent} epochs");

    let rows = cluster.cli_ok(&["replay", id.as_str(), "--stopper", "asha", "--stopper", "none", "--json"]).await;
    let rows: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows[1]["epochs"], 81, "{rows}");
    assert_eq!(rows[1]["unknown"], 9 - finished, "curves that were not finished end early: {rows}");
    assert!(rows[0]["epochs"].as_u64().unwrap() < 81, "{rows}");
}
