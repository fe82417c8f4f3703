//! Programs of the operator's train, on real agents: killed in the middle, killing their agents, allowed here and not there.

use std::collections::BTreeMap;

use regatta_schemas::log::{Checkpointed, Record};
use regatta_schemas::reasons::{FailCause, OfferReason};
use regatta_schemas::{AgentId, Attempt, StudyId, TrialId};
use regatta_tests::{Cluster, History, repository, until};
use serde_json::{Value, json};

/// The example's program on the wines; an epoch takes a fifth of a second.
pub fn wines(trials: u32) -> Value {
    json!({
        "name": "wines",
        "objective": {"metric": "validation_loss", "goal": "minimize"},
        "space": {"rate": {"type": "float", "low": 1e-3, "high": 1e-1, "log": true}},
        "stopper": {"name": "asha", "eta": 3, "min_resource": 1},
        "budget": {"trials": trials, "resource": 9},
        "seed": 7,
        "recipe": {
            "command": {
                "program": "train",
                "arguments": ["--rate", "$rate", "--pause", "0.2"],
                "files": {"wine.csv": {"file": repository().join("examples/data/wine.csv")}},
            },
            "checkpoint": {"every_s": 0},
        },
    })
}

pub fn allowed() -> String {
    format!("train={}", repository().join("examples/command/train.py").display())
}

/// Trial and attempt of each program of the study that runs on this machine.
fn running(study: &StudyId) -> Vec<(String, String)> {
    let processes = std::fs::read_dir("/proc").expect("processes are listed").flatten();
    let environments = processes.filter_map(|process| std::fs::read(process.path().join("environ")).ok());
    let environments = environments.map(|bytes| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
    });
    let ours = environments.filter(|names| names.get("REGATTA_STUDY").is_some_and(|name| *name == study.to_string()));
    ours.map(|names| (names["REGATTA_TRIAL"].clone(), names["REGATTA_ATTEMPT"].clone())).collect()
}

/// A trial that the agent trains, past its last rung and with a checkpoint of that.
fn held_with_checkpoint(history: &History, agent: &AgentId) -> Option<(TrialId, Attempt)> {
    history.accepted().filter(|(_, accepted)| accepted.agent == *agent).find_map(|(trial, accepted)| {
        let records: Vec<_> = history.of_trial(trial).collect();
        let kept = records.iter().rev().find_map(|record| match record {
            Record::Checkpointed(Checkpointed { checkpoint, .. }) => Some(checkpoint.resource),
            _ => None,
        })?;
        let ends = ["finished", "failed", "released", "stopped"];
        let has_ended = records.iter().any(|record| ends.contains(&record.kind()));
        (!has_ended && (4..7).contains(&kept)).then_some((trial, accepted.attempt))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_whose_agent_is_killed_goes_on_elsewhere_from_its_checkpoint() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&["--lease-timeout-s", "1"]);
    let args = ["--lanes", "1", "--allow", &allowed()];
    let mut first = cluster.agent(&args);
    let study = cluster.start_study(&wines(8)).await;
    let history = cluster.until_log(&study, "a trial is accepted", |history| history.accepted().next().is_some()).await;
    let killed = history.accepted().next().expect("one was").1.agent.clone();
    let _second = cluster.agent(&args);

    let is_held = |history: &History| held_with_checkpoint(history, &killed).is_some();
    let history = cluster.until_log(&study, "the first agent keeps a trial beyond its rungs", is_held).await;
    let (trial, attempt) = held_with_checkpoint(&history, &killed).expect("one was");
    first.kill();
    let program = (trial.to_string(), attempt.to_string());
    until("the killed agent's program is gone", || async { (!running(&study).contains(&program)).then_some(()) }).await;

    let history = cluster.until_concluded(&study).await;
    let offers = history.offers(trial);
    let offer = offers.iter().find(|offer| offer.attempt == attempt.next()).expect("it was offered again");
    assert!(matches!(&offer.reason, OfferReason::LeaseLost { agent, .. } if *agent == killed));
    let resumed = offer.resume.as_ref().expect("from its checkpoint").resource;
    assert!(history.points(trial, attempt.next()).iter().all(|point| point.resource > resumed));
    assert!(history.of_trial(trial).any(|record| matches!(record, Record::Finished(_))));
    assert_eq!(history.count("failed"), 0);
    until("no program is left", || async { running(&study).is_empty().then_some(()) }).await;
    let printed = cluster.cli_ok(&["logs", &study.to_string(), &trial.to_string()]).await;
    assert!(printed.contains(&format!("resumed after epoch {resumed}")), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_keeps_a_checkpoint_when_its_agent_drains() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let args = ["--lanes", "1", "--allow", &allowed()];
    let mut first = cluster.agent(&args);
    let mut study = wines(1);
    study["stopper"] = "none".into();
    study["recipe"]["checkpoint"]["every_s"] = 1_000.into();
    let study = cluster.start_study(&study).await;
    let trial = TrialId(0);
    let is_under_way = |history: &History| history.points(trial, Attempt(1)).len() >= 2;
    cluster.until_log(&study, "the program has measured twice", is_under_way).await;
    first.terminate();
    assert!(first.ended().await.success());
    let _second = cluster.agent(&args);
    let history = cluster.until_concluded(&study).await;
    let offers = history.offers(trial);
    assert!(matches!(offers[1].reason, OfferReason::Released { .. }));
    let resumed = offers[1].resume.as_ref().expect("it was kept while its agent drained").resource;
    assert!(resumed >= 2);
    let resources: Vec<_> = history.points(trial, Attempt(2)).iter().map(|point| point.resource).collect();
    assert_eq!(resources, (resumed + 1..=9).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_set_aside_at_a_rung_and_promoted_from_its_checkpoint() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agents = [(); 2].map(|()| cluster.agent(&["--lanes", "1", "--allow", &allowed()]));
    let mut study = wines(4);
    study["stopper"]["mode"] = "promote".into();
    let study = cluster.start_study(&study).await;
    let history = cluster.until_concluded(&study).await;
    let promoted: Vec<_> = history
        .proposed()
        .into_keys()
        .flat_map(|trial| history.offers(trial).into_iter().map(move |offer| (trial, offer)))
        .filter_map(|(trial, offer)| match offer.reason {
            OfferReason::Promoted { resource } => Some((trial, offer, resource)),
            _ => None,
        })
        .collect();
    assert!(!promoted.is_empty());
    for (trial, offer, resource) in promoted {
        assert_eq!(offer.resume.as_ref().map(|checkpoint| checkpoint.resource), Some(resource));
        assert_eq!(history.points(trial, offer.attempt).first().map(|point| point.resource), Some(resource + 1));
    }
    assert_eq!((history.count("finished"), history.count("failed")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_kills_its_agents_is_set_aside_and_the_study_ends() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&["--lease-timeout-s", "1"]);
    let agents: Vec<_> = (0..4).map(|_| cluster.agent(&["--lanes", "1", "--allow", "sh=/bin/sh"])).collect();
    let script = r#"[ "$1" = good ] || kill -KILL $PPID; echo '{"resource": 1, "metrics": {"loss": 1}}'"#;
    let study = json!({
        "name": "poison",
        "objective": {"metric": "loss", "goal": "minimize"},
        "space": {"kind": {"type": "categorical", "choices": ["poison", "good"]}},
        "sampler": "grid",
        "budget": {"trials": 2, "resource": 1},
        "recipe": {"command": {"program": "sh", "arguments": ["-c", script, "sh", "$kind"]}},
    });
    let study = cluster.start_study(&study).await;
    let history = cluster.until_concluded(&study).await;
    let cause_of = |record: &Record| match record {
        Record::Concluded(concluded) => concluded.cause,
        _ => None,
    };
    let failed: Vec<_> = history.0.iter().filter_map(|entry| Some((entry.trial?, cause_of(&entry.record)?))).collect();
    assert_eq!(failed.iter().map(|(_, cause)| *cause).collect::<Vec<_>>(), [FailCause::AgentLost]);
    assert_eq!(history.offers(failed[0].0).len(), 3);
    assert_eq!(history.count("finished"), 1);
    let alive = agents.into_iter().map(|mut agent| agent.is_running()).filter(|is_running| *is_running).count();
    assert_eq!(alive, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_where_it_is_allowed_and_its_trial_fails_where_nobody_allows_it() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _without = cluster.agent(&["--lanes", "2"]);
    let study = cluster.start_study(&wines(1)).await;
    let history = cluster.until_concluded(&study).await;
    let causes: Vec<_> = history
        .0
        .iter()
        .filter_map(|entry| match &entry.record {
            Record::Failed(failed) => Some(failed.cause),
            _ => None,
        })
        .collect();
    assert_eq!(causes, [FailCause::Configuration]);

    let _with = cluster.agent(&["--lanes", "2", "--allow", &allowed()]);
    let study = cluster.start_study(&wines(3)).await;
    let history = cluster.until_concluded(&study).await;
    assert_eq!((history.count("failed"), history.count("finished") + history.count("stopped")), (0, 3));
}
