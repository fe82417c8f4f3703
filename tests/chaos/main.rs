//! Whole studies on real processes and sockets while parts are killed, paused and cut off at random from a seed.
//!
//! The seed is printed; `REGATTA_SEED=<seed>` strikes in the same order again. `REGATTA_CHAOS_TRIALS=<count>` makes the
//! study longer, and with it the storm.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod nodes;
mod proxy;
mod report;
mod storm;

use std::collections::BTreeMap;

use regatta_schemas::log::{Best, Place};
use regatta_schemas::reasons::Outcome;
use regatta_schemas::{StudyId, TrialId};
use regatta_search::study::{Phase, State};
use regatta_search::{Coordinator, Event, Settings, Time};
use regatta_tests::{Cluster, History, check_history, digits_study, until};
use serde_json::{Value, json};

use nodes::Nodes;
use storm::{COORDINATOR_ARGS, Storm};

const TRIALS: u32 = 60;
const EPOCHS: u32 = 4;

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Trials of about half a second, with a checkpoint after every epoch.
fn chaos_study(name: &str, trials: u32) -> Value {
    let mut study = digits_study(name, trials, EPOCHS);
    study["sampler"] = json!("random");
    study["recipe"]["model"] = json!({"family": "mlp", "hidden": [128]});
    study["recipe"]["batch_size"] = json!(8);
    study
}

/// A machine that has read the study's log from the beginning.
fn replay(id: &StudyId, history: &History) -> Coordinator {
    let mut machine = Coordinator::new(Settings::default());
    for entry in &history.0 {
        let place = Place { study: id.clone(), trial: entry.trial };
        let at = Time::from_micros(entry.at_us);
        machine.handle(Time::default(), Event::Logged { place, record: entry.record.clone(), at });
    }
    machine
}

fn state<'a>(machine: &'a Coordinator, id: &StudyId) -> &'a State {
    machine.study(id).expect("the study is in its log").state()
}

/// Of each trial its parameters, and after each epoch the bits of what it measured.
type Measured = BTreeMap<TrialId, (String, Vec<(u32, Vec<u64>)>)>;

/// What every trial measured, and with which parameters: nothing of it may depend on faults.
fn measured(state: &State) -> Measured {
    let points = |trial: &regatta_search::study::Trial| {
        let bits = |metrics: &BTreeMap<String, f64>| metrics.values().map(|value| value.to_bits()).collect();
        trial.points.iter().map(|point| (point.resource, bits(&point.metrics))).collect()
    };
    let params = |trial: &regatta_search::study::Trial| serde_json::to_string(&trial.proposed.params).unwrap();
    state.trials.iter().map(|(id, trial)| (*id, (params(trial), points(trial)))).collect()
}

/// What the study's trials measure, and which is the best, where nothing fails.
async fn without_faults(study: &Value) -> (Measured, Option<Best>) {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&COORDINATOR_ARGS);
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let id = cluster.start_study(study).await;
    let machine = replay(&id, &cluster.until_concluded(&id).await);
    (measured(state(&machine, &id)), state(&machine, &id).best.clone())
}

/// What the coordinator answers about the study and its trials.
async fn shown(cluster: &Cluster, id: &StudyId) -> Vec<Value> {
    let mut shown = Vec::new();
    for args in [["study", "show", id.as_str(), "--json"], ["trial", "list", id.as_str(), "--json"]] {
        let text = until("the coordinator answers", || async {
            let output = cluster.cli(&args).await;
            output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
        })
        .await;
        shown.push(serde_json::from_str(&text).unwrap());
    }
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_study_ends_as_without_faults_whatever_is_killed_paused_or_cut_off() {
    let seed = asked("REGATTA_SEED").unwrap_or_else(|| storm::now_us() % 1_000_000);
    let trials = asked("REGATTA_CHAOS_TRIALS").map_or(TRIALS, |trials| u32::try_from(trials).unwrap());
    println!("chaos: REGATTA_SEED={seed}, {trials} trials");
    let study = chaos_study("chaos", trials);
    let calm = without_faults(&study).await;

    let mut storm = Storm::begin(seed).await;
    let id = storm.cluster().start_study(&study).await;
    let ended = |history: &History| history.count("finished") >= trials as usize * 9 / 10;
    while !ended(&storm.cluster().history(&id).await) {
        storm.strike().await;
    }
    storm.end();
    let history = storm.cluster().until_concluded(&id).await;
    check_history(&history);

    let before = shown(storm.cluster(), &id).await;
    storm.replace_coordinators();
    let after = shown(storm.cluster(), &id).await;
    assert_eq!(before, after, "a coordinator that reads the log afresh knows the same");

    let machine = replay(&id, &history);
    let state = state(&machine, &id);
    report::print(seed, &storm.injected, &history, state, EPOCHS);
    assert_eq!(before[0]["trials"]["finished"], trials);
    assert_eq!(before[0]["resource_spent"], trials * EPOCHS, "nothing lost, nothing counted twice");
    assert_eq!((measured(state), state.best.clone()), calm, "bit for bit what a study without faults measures");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_study_goes_on_while_each_of_three_servers_is_lost_in_turn() {
    let mut nodes = Nodes::start().await;
    let cluster = Cluster::on_servers(nodes.urls());
    let _coordinator = cluster.coordinator(&["--replicas", "3"]);
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let study = chaos_study("three-servers", 24);
    until("the coordinator is ready", || async {
        cluster.cli(&["study", "list"]).await.status.success().then_some(())
    })
    .await;
    let id = cluster.start_study(&study).await;
    for (node, ended) in [(0, 3), (1, 8), (2, 13)] {
        let is_so = |history: &History| history.count("finished") >= ended;
        cluster.until_log(&id, "trials have finished", is_so).await;
        nodes.kill_node(node);
        let is_so = |history: &History| history.count("finished") >= ended + 3;
        cluster.until_log(&id, "trials finish without that server", is_so).await;
        nodes.start_node(node);
    }
    let history = cluster.until_concluded(&id).await;
    let machine = replay(&id, &history);
    assert_eq!(state(&machine, &id).trials.len(), 24);
    for (trial, followed) in &state(&machine, &id).trials {
        let epochs: Vec<u32> = followed.points.iter().map(|point| point.resource).collect();
        assert_eq!(epochs, (1..=EPOCHS).collect::<Vec<_>>(), "trial {trial}");
        assert_eq!(followed.phase, Phase::Ended(Outcome::Finished));
    }
}
