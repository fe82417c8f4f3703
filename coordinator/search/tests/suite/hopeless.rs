//! Trials set aside that can never be promoted: who they are, and that nobody else is among them.

use std::collections::{BTreeMap, BTreeSet};

use regatta_schemas::TrialId;
use regatta_schemas::log::Record;
use regatta_schemas::reasons::{Outcome, ReleaseReason, StopReason};
use regatta_search::stoppers::{Chances, Stopper, stopper_for};
use serde_json::{Value, json};

use crate::files::study;
use crate::stage::Stage;
use crate::stoppers::measure;

fn promoting(choice: &Value, trials: u32) -> Box<dyn Stopper> {
    stopper_for(&study(json!({"stopper": choice, "budget": {"trials": trials, "resource": 9}})))
}

fn set_aside(stopper: &mut dyn Stopper, trial: u32, resource: u32, value: f64) {
    let until = stopper.until(TrialId(trial));
    stopper.begun(TrialId(trial), until);
    assert_eq!(measure(stopper, trial, resource, value), None);
    stopper.paused(TrialId(trial), resource);
}

#[test]
fn who_is_hopeless_is_as_computed_by_hand() {
    let mut stopper = promoting(&json!({"name": "asha", "eta": 2, "min_resource": 1, "mode": "promote"}), 6);
    // Of six the best three go on from rung 1 at most.
    for (trial, value, expected) in
        [(0, 0.5, vec![]), (1, 0.4, vec![]), (2, 0.3, vec![]), (3, 0.2, vec![3]), (4, 0.45, vec![2, 3])]
    {
        set_aside(&mut *stopper, trial, 1, value);
        assert_eq!(stopper.hopeless(), expected.into_iter().map(TrialId).collect::<Vec<_>>(), "after trial {trial}");
    }
    stopper.ended(TrialId(2), Outcome::Stopped);
    stopper.ended(TrialId(3), Outcome::Stopped);
    assert_eq!(stopper.hopeless(), []);
    // Two of six have not come to rung 2, so that the best two of the four that may come there go on.
    for (trial, value) in [(0, 0.6), (4, 0.7)] {
        stopper.promoted(TrialId(trial));
        set_aside(&mut *stopper, trial, 2, value);
        assert_eq!(stopper.hopeless(), []);
    }
    // Trial 5 fails on its way to rung 1, so that three may come to rung 2, and the best one of them goes on.
    stopper.begun(TrialId(5), Some(1));
    stopper.ended(TrialId(5), Outcome::Failed);
    assert_eq!(stopper.hopeless(), [TrialId(0)]);
}

/// Plays a study of 60 trials, four at a time, in which those without hope are left alone: how many were named, and how
/// many of these a lane went on with after all.
fn named_and_promoted(choice: &Value, seed: u64) -> (usize, usize) {
    const TRIALS: u32 = 60;
    let mut stopper = promoting(choice, TRIALS);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut running, mut waiting, mut next) = (Vec::new(), BTreeSet::new(), 0);
    let (mut hopeless, mut promoted) = (BTreeSet::new(), 0);
    let quality: BTreeMap<u32, f64> = (0..TRIALS).map(|trial| (trial, random() as f64)).collect();
    loop {
        while running.len() < 4 {
            let is_free = |trial: TrialId| waiting.contains(&trial);
            let chances = Chances { is_free: &is_free, is_last: false, next: None };
            if let Some(trial) = stopper.promotion(chances) {
                promoted += usize::from(hopeless.contains(&trial));
                waiting.remove(&trial);
                stopper.promoted(trial);
                running.push(trial);
            } else if next < TRIALS {
                stopper.begun(TrialId(next), stopper.until(TrialId(next)));
                running.push(TrialId(next));
                next += 1;
            } else {
                break;
            }
        }
        if running.is_empty() {
            return (hopeless.len(), promoted);
        }
        let trial = running.swap_remove(random() as usize % running.len());
        let until = stopper.until(trial);
        // What is good early is often good later.
        let value = quality[&trial.0] + random() as f64 / 2.0;
        assert_eq!(measure(&mut *stopper, trial.0, until.unwrap_or(9), value), None);
        match until {
            Some(until) => {
                stopper.paused(trial, until);
                waiting.insert(trial);
            }
            None => stopper.ended(trial, Outcome::Finished),
        }
        hopeless.extend(stopper.hopeless());
    }
}

#[test]
fn nobody_without_hope_is_promoted() {
    let choices = [
        json!({"name": "asha", "eta": 3, "min_resource": 1, "mode": "promote"}),
        json!({"name": "asha", "eta": 2, "min_resource": 1, "brackets": 2, "mode": "promote"}),
        json!({"name": "hyperband", "eta": 2, "mode": "promote"}),
        json!({"name": "pasha", "eta": 3}),
    ];
    for choice in choices {
        for seed in 1..=50 {
            let (named, promoted) = named_and_promoted(&choice, seed);
            assert_eq!(promoted, 0, "{choice}, seed {seed}");
            let is_drawn = choice["name"] == "hyperband";
            assert!(named >= 20 || is_drawn, "{choice}, seed {seed}: only {named} of 60 were named");
        }
    }
}

#[test]
fn a_trial_without_hope_is_stopped_at_once() {
    let stopper = json!({"name": "asha", "eta": 2, "min_resource": 1, "mode": "promote"});
    let mut stage = Stage::new(vec![study(json!({"stopper": stopper, "budget": {"trials": 4, "resource": 4}}))]);
    stage.beat("a", 3, &[]);
    for (trial, value) in [(0, 0.3), (1, 0.9), (2, 0.8)] {
        stage.accept("a", trial, 1);
        stage.measure("a", trial, 1, 1, value);
        stage.release("a", trial, 1, ReleaseReason::Paused);
    }
    // Of four the best two go on at most.
    let Some(Record::Stopped(stopped)) = stage.last("stopped") else { panic!("nobody was stopped") };
    let rung = StopReason::Rung { resource: 1, value: 0.3, threshold: 0.9, competitors: 3 };
    assert_eq!((stage.count("stopped"), &stopped.reason), (1, &rung));
    assert_eq!(stage.trial(0).stop, Some(rung));
}
