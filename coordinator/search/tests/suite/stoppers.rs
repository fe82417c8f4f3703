//! What every stopper must keep.

use std::collections::BTreeMap;

use regatta_schemas::log::Checkpoint;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::{ParamValue, Params, TrialId};
use regatta_search::news::Measurement;
use regatta_search::stoppers::{Chances, Parent, Stopper, stopper_for};
use serde_json::{Value, json};

use crate::files::{METRIC, study};

/// The row of each stopper in the conformance suite.
pub fn every_stopper() -> Vec<Value> {
    vec![
        json!("none"),
        json!({"name": "median", "es_min": 3, "grace": 1}),
        json!({"name": "asha", "eta": 3, "min_resource": 1}),
        json!({"name": "asha", "eta": 2, "min_resource": 2, "brackets": 2}),
        json!({"name": "asha", "eta": 3, "min_resource": 1, "mode": "promote"}),
        json!({"name": "asha", "eta": 2, "min_resource": 1, "brackets": 2, "mode": "promote"}),
        json!({"name": "percentile", "percentile": 25.0, "es_min": 3}),
        json!({"name": "threshold", "lower": 0.2, "grace": 2}),
        json!({"name": "patience", "epochs": 2, "min_delta": 0.02}),
        json!({"name": "curve"}),
        json!({"name": "hyperband", "eta": 3}),
        json!({"name": "hyperband", "eta": 2, "mode": "promote"}),
        json!({"name": "pasha", "eta": 3}),
        json!({"name": "halving", "eta": 3}),
        json!({"name": "stages", "size": 5}),
        json!({"name": "stages", "size": 5, "early_stopping": "global"}),
        json!({"name": "pbt", "population": 4, "interval": 2}),
        json!({"name": "pbt", "population": 6, "interval": 1, "quantile": 0.5}),
    ]
}

/// Whether no curve of this suite can make it stop a trial.
fn stops_nobody(choice: &Value) -> bool {
    *choice == json!("none") || *choice == json!({"name": "stages", "size": 5})
}

/// The same choice, for a metric whose sign is turned.
fn mirrored(choice: &Value) -> Value {
    let mut mirrored = choice.clone();
    if let Some(lower) = choice.get("lower").and_then(Value::as_f64) {
        mirrored["lower"] = Value::Null;
        mirrored["upper"] = json!(-lower);
    }
    mirrored
}

const RESOURCE: u32 = 9;

pub fn stopper(choice: &Value, goal: &str) -> Box<dyn Stopper> {
    let objective = json!({"metric": METRIC, "goal": goal});
    let budget = json!({"trials": 100, "resource": RESOURCE});
    stopper_for(&study(json!({"stopper": choice, "objective": objective, "budget": budget})))
}

/// Tells of a value measured.
pub fn measure(stopper: &mut dyn Stopper, trial: u32, resource: u32, value: f64) -> Option<StopReason> {
    let metrics = BTreeMap::from([(METRIC.to_owned(), value)]);
    stopper.measured(Measurement { trial: TrialId(trial), resource, value, ranked: value, metrics: &metrics })
}

/// A trial on a lane.
struct Runner {
    trial: u32,
    resource: u32,
    until: Option<u32>,
}

/// Trials of very different quality, four at a time, in an order mixed by their speed; every seventh fails halfway.
/// The verdicts, as (trial, reason): of those that were stopped, and of those that stay set aside at the end.
fn race(stopper: &mut dyn Stopper, value: impl Fn(u32, u32) -> f64) -> Vec<(u32, StopReason)> {
    let mut verdicts = Vec::new();
    let mut running: Vec<Runner> = Vec::new();
    let mut set_aside: BTreeMap<u32, u32> = BTreeMap::new();
    let mut next = 0;
    for turn in 0..10_000_usize {
        if running.len() < 4 {
            let chances = Chances {
                is_free: &|trial| set_aside.contains_key(&trial.0),
                is_last: next == 60 && running.is_empty(),
                next: (next < 60).then_some(TrialId(next)),
            };
            if let Some(TrialId(trial)) = stopper.promotion(chances) {
                let resource = set_aside.remove(&trial).expect("only what is set aside is promoted");
                let params = Params::from([("x".to_owned(), ParamValue::Float(0.5))]);
                let checkpoint = |other: TrialId| {
                    let behind = running.iter().find(|runner| runner.trial == other.0).map(|runner| runner.resource);
                    checkpoint(behind.or_else(|| set_aside.get(&other.0).copied())?)
                };
                let kept: BTreeMap<TrialId, Checkpoint> =
                    (0..next).map(TrialId).filter_map(|other| Some((other, checkpoint(other)?))).collect();
                let parent = |other| Some(Parent { params: &params, checkpoint: kept.get(&other)? });
                let heir = if next < 60 { stopper.heir(TrialId(trial), TrialId(next), &parent) } else { None };
                if let Some(heir) = heir {
                    stopper.ended(TrialId(trial), Outcome::Stopped);
                    stopper.begun(TrialId(next), heir.until);
                    verdicts.push((trial, heir.reason));
                    let resource = heir.checkpoint.resource;
                    running.push(Runner { trial: next, resource, until: heir.until });
                    next += 1;
                } else {
                    stopper.promoted(TrialId(trial));
                    running.push(Runner { trial, resource, until: stopper.until(TrialId(trial)) });
                }
            } else if next < 60 && (running.is_empty() || stopper.admits(TrialId(next))) {
                let until = stopper.until(TrialId(next));
                stopper.begun(TrialId(next), until);
                running.push(Runner { trial: next, resource: 0, until });
                next += 1;
            }
        }
        if running.is_empty() {
            break;
        }
        let lane = (turn * 7 + turn / 3) % running.len();
        let runner = &mut running[lane];
        runner.resource += 1;
        let (trial, resource) = (runner.trial, runner.resource);
        let id = TrialId(trial);
        if trial % 7 == 6 && resource == 4 {
            stopper.ended(id, Outcome::Failed);
        } else if let Some(reason) = measure(stopper, trial, resource, value(trial, resource)) {
            stopper.ended(id, Outcome::Stopped);
            verdicts.push((trial, reason));
        } else if resource == RESOURCE {
            stopper.ended(id, Outcome::Finished);
        } else if runner.until.is_some_and(|until| resource >= until) {
            stopper.paused(id, resource);
            set_aside.insert(trial, resource);
        } else {
            continue;
        }
        running.swap_remove(lane);
    }
    assert!(running.is_empty());
    verdicts.extend(set_aside.keys().filter_map(|trial| Some((*trial, stopper.outranked(TrialId(*trial))?))));
    verdicts
}

/// One of a trial with so many epochs done.
fn checkpoint(resource: u32) -> Option<Checkpoint> {
    let (object, step) = (String::new(), resource.into());
    (resource > 0).then_some(Checkpoint { object, bytes: 1, step, resource, elapsed_ms: 0 })
}

fn quality(trial: u32, resource: u32) -> f64 {
    let final_value = f64::from(trial * 37 % 60) / 60.0;
    final_value * (1.0 - 1.0 / f64::from(resource + 1))
}

/// Resource, value, threshold and competitors of a stopper's reason; who has no competitors, competes with itself.
pub fn figures(reason: &StopReason, goal: &str) -> (u32, f64, f64, u32) {
    match reason {
        StopReason::Rung { resource, value, threshold, competitors }
        | StopReason::Median { resource, value, threshold, competitors }
        | StopReason::Percentile { resource, value, threshold, competitors, .. } => {
            (*resource, *value, *threshold, *competitors)
        }
        StopReason::Threshold { resource, value, threshold } => (*resource, *value, *threshold, 1),
        StopReason::Curve { resource, predicted, best, .. } => (*resource, *predicted, *best, 1),
        StopReason::Plateau { resource, value, min_delta, .. } => {
            let delta = if goal == "maximize" { *min_delta } else { -min_delta };
            (*resource, *value, value + delta, 1)
        }
        other => panic!("{other:?} is no stopper's reason"),
    }
}

#[test]
fn every_stopper_judges_both_directions_alike() {
    for choice in every_stopper() {
        let up = race(&mut *stopper(&choice, "maximize"), quality);
        let down = race(&mut *stopper(&mirrored(&choice), "minimize"), |trial, resource| -quality(trial, resource));
        let mirrored: Vec<_> = down.iter().map(|(trial, reason)| (*trial, figures(reason, "minimize"))).collect();
        let expected: Vec<_> = up
            .iter()
            .map(|(trial, reason)| (*trial, figures(reason, "maximize")))
            .map(|(trial, (resource, value, threshold, competitors))| {
                (trial, (resource, -value, -threshold, competitors))
            })
            .collect();
        assert_eq!(mirrored, expected, "{choice}");
    }
}

#[test]
fn every_stopper_stops_some_of_the_poor_and_never_the_best() {
    for choice in every_stopper() {
        let verdicts = race(&mut *stopper(&choice, "maximize"), quality);
        assert_eq!(verdicts.is_empty(), stops_nobody(&choice), "{choice}");
        let best = (0..60).max_by(|a, b| quality(*a, RESOURCE).total_cmp(&quality(*b, RESOURCE))).unwrap();
        assert!(verdicts.iter().all(|(trial, _)| *trial != best), "{choice}");
        for (_, reason) in &verdicts {
            let (_, value, threshold, competitors) = figures(reason, "maximize");
            assert!(value < threshold && threshold.is_finite() && competitors > 0, "{choice}: {reason:?}");
        }
    }
}

#[test]
fn every_stopper_gives_the_same_answers_in_a_replay() {
    for choice in every_stopper() {
        let (mut live, mut replayed) = (stopper(&choice, "maximize"), stopper(&choice, "maximize"));
        assert_eq!(race(&mut *live, quality), race(&mut *replayed, quality), "{choice}");
        assert_eq!(format!("{live:?}"), format!("{replayed:?}"), "{choice}");
    }
}

#[test]
fn every_stopper_keeps_equals() {
    for choice in every_stopper() {
        assert_eq!(race(&mut *stopper(&choice, "maximize"), |_, resource| quality(47, resource)), [], "{choice}");
    }
}

#[test]
fn every_stopper_survives_ends_of_trials_that_it_never_saw() {
    for choice in every_stopper() {
        let mut stopper = stopper(&choice, "maximize");
        for trial in 0..20 {
            for outcome in [Outcome::Failed, Outcome::Finished, Outcome::Stopped, Outcome::Unknown] {
                stopper.ended(TrialId(100 + trial), outcome);
            }
        }
        race(&mut *stopper, quality);
    }
}
