//! What every stopper must keep, and hand-computed tables for each.

use std::collections::BTreeMap;

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_search::news::Measurement;
use regatta_search::stoppers::{Chances, Stopper, stopper_for};
use serde_json::{Value, json};

use crate::files::{METRIC, study};

/// The row of each stopper in the conformance suite.
fn every_stopper() -> Vec<Value> {
    vec![
        json!("none"),
        json!({"name": "median", "es_min": 3, "grace": 1}),
        json!({"name": "asha", "eta": 3, "min_resource": 1}),
        json!({"name": "asha", "eta": 2, "min_resource": 2, "brackets": 2}),
        json!({"name": "asha", "eta": 3, "min_resource": 1, "mode": "promote"}),
        json!({"name": "asha", "eta": 2, "min_resource": 1, "brackets": 2, "mode": "promote"}),
    ]
}

const RESOURCE: u32 = 9;

fn stopper(choice: &Value, goal: &str) -> Box<dyn Stopper> {
    let objective = json!({"metric": METRIC, "goal": goal});
    let budget = json!({"trials": 100, "resource": RESOURCE});
    stopper_for(&study(json!({"stopper": choice, "objective": objective, "budget": budget})))
}

/// Tells of a value measured.
fn measure(stopper: &mut dyn Stopper, trial: u32, resource: u32, value: f64) -> Option<StopReason> {
    let metrics = BTreeMap::from([(METRIC.to_owned(), value)]);
    stopper.measured(Measurement { trial: TrialId(trial), resource, value, metrics: &metrics })
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
            };
            if let Some(TrialId(trial)) = stopper.promotion(chances) {
                stopper.promoted(TrialId(trial));
                let resource = set_aside.remove(&trial).expect("only what is set aside is promoted");
                running.push(Runner { trial, resource, until: stopper.until(TrialId(trial)) });
            } else if next < 60 && stopper.admits() {
                running.push(Runner { trial: next, resource: 0, until: stopper.until(TrialId(next)) });
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

fn quality(trial: u32, resource: u32) -> f64 {
    let final_value = f64::from(trial * 37 % 60) / 60.0;
    final_value * (1.0 - 1.0 / f64::from(resource + 1))
}

/// The threshold's two numbers, where the reason is a stopper's.
fn figures(reason: &StopReason) -> (u32, f64, f64, u32) {
    match reason {
        StopReason::Rung { resource, value, threshold, competitors }
        | StopReason::Median { resource, value, threshold, competitors } => {
            (*resource, *value, *threshold, *competitors)
        }
        other => panic!("{other:?} is no stopper's reason"),
    }
}

#[test]
fn every_stopper_judges_both_directions_alike() {
    for choice in every_stopper() {
        let up = race(&mut *stopper(&choice, "maximize"), quality);
        let down = race(&mut *stopper(&choice, "minimize"), |trial, resource| -quality(trial, resource));
        let mirrored: Vec<_> = down.iter().map(|(trial, reason)| (*trial, figures(reason))).collect();
        let expected: Vec<_> = up
            .iter()
            .map(|(trial, reason)| (*trial, figures(reason)))
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
        assert_eq!(verdicts.is_empty(), choice == json!("none"), "{choice}");
        let best = (0..60).max_by(|a, b| quality(*a, RESOURCE).total_cmp(&quality(*b, RESOURCE))).unwrap();
        assert!(verdicts.iter().all(|(trial, _)| *trial != best), "{choice}");
        for (_, reason) in &verdicts {
            let (_, value, threshold, competitors) = figures(reason);
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
        assert_eq!(race(&mut *stopper(&choice, "maximize"), |_, _| 0.5), [], "{choice}");
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

/// What happens to a stopper, and the (threshold, competitors) of the stop that must follow, if one must.
enum Row {
    Measured(u32, u32, f64, Option<(f64, u32)>),
    Ended(u32, Outcome),
}

fn check(choice: Value, goal: &str, rows: &[Row]) {
    let mut stopper = stopper(&choice, goal);
    for (number, row) in rows.iter().enumerate() {
        match row {
            Row::Ended(trial, outcome) => stopper.ended(TrialId(*trial), *outcome),
            Row::Measured(trial, resource, value, expected) => {
                let verdict = measure(&mut *stopper, *trial, *resource, *value);
                let figures = verdict.as_ref().map(figures);
                let threshold = figures.map(|(at, _, threshold, competitors)| {
                    assert_eq!(at, *resource, "{choice} row {number}: resource");
                    (threshold, competitors)
                });
                assert_eq!(threshold, *expected, "{choice} row {number}");
            }
        }
    }
}

#[test]
fn the_median_rule_is_as_computed_by_hand() {
    use Row::{Ended, Measured};
    let choice = json!({"name": "median", "es_min": 2, "grace": 1});
    check(
        choice.clone(),
        "maximize",
        &[
            Measured(0, 1, 0.125, None),
            Measured(0, 2, 0.375, None),
            Ended(0, Outcome::Finished), // averages 0.125, 0.25
            Measured(1, 1, 0.5, None),
            Measured(2, 1, 0.0, None), // only one has finished
            Measured(1, 2, 0.75, None),
            Ended(1, Outcome::Finished),             // averages 0.5, 0.625
            Measured(3, 0, 0.0, None),               // within its grace
            Measured(3, 1, 0.25, Some((0.3125, 2))), // median of 0.125 and 0.5
            Measured(4, 1, 0.3125, None),            // equal is not worse
            Measured(4, 2, 0.1, Some((0.4375, 2))),  // its best, 0.3125, against the median of 0.25 and 0.625
            Ended(4, Outcome::Stopped),              // is not in the median
            Measured(5, 1, 1.0, None),
            Measured(5, 2, 0.0, None),   // its best counts
            Ended(5, Outcome::Finished), // averages 1.0, 0.5
            Measured(6, 1, 0.4, Some((0.5, 3))),
            Measured(7, 2, 0.4, Some((0.5, 3))),
            Measured(8, 7, 0.4, Some((0.5, 3))), // beyond the others' ends: their whole averages
            Ended(9, Outcome::Failed),           // counts as worst
            Measured(10, 1, 0.25, Some((0.3125, 4))), // median of -inf, 0.125, 0.5, 1.0
        ],
    );
    check(
        choice,
        "minimize",
        &[
            Measured(0, 1, 1.0, None),
            Ended(0, Outcome::Finished),
            Measured(1, 1, 3.0, None),
            Ended(1, Outcome::Finished),
            Measured(2, 1, 2.5, Some((2.0, 2))),
            Ended(3, Outcome::Failed),
            Ended(4, Outcome::Failed),
            Ended(5, Outcome::Failed),
            Measured(6, 1, 9.0, None), // the median is a failed one
        ],
    );
}

#[test]
fn asha_is_as_computed_by_hand() {
    use Row::{Ended, Measured};
    check(
        json!({"name": "asha", "eta": 2, "min_resource": 1}),
        "maximize",
        &[
            Measured(0, 1, 0.5, None),             // the first goes on
            Measured(1, 1, 0.4, Some((0.5, 2))),   // the best 1 of 2
            Measured(2, 1, 0.6, None),             // the best 1 of 3
            Measured(3, 1, 0.55, None),            // the best 2 of 4
            Measured(4, 1, 0.45, Some((0.55, 5))), // the best 2 of 5
            Measured(0, 2, 0.55, None),            // the next rung
            Measured(2, 2, 0.5, Some((0.55, 2))),
            Measured(3, 3, 0.7, None), // it skipped the rung's resource, and is compared there all the same
            Ended(3, Outcome::Failed), // it is worst from now on, at the rung 4 as well
            Measured(5, 1, 0.48, None), // the best 3 of 6: 0.6, 0.5, 0.48
            Measured(6, 1, 0.47, Some((0.48, 7))),
            Measured(7, 1, 0.48, None), // the best 4 of 8: equal to the third
            Measured(0, 4, 0.1, None),  // the best 1 of 2, the other one failed
            Measured(0, 8, 0.0, None),  // 8 is a rung below 9
        ],
    );
    check(
        json!({"name": "asha", "eta": 3, "min_resource": 1}),
        "minimize",
        &[
            Measured(0, 1, 3.0, None),
            Measured(1, 1, 4.0, Some((3.0, 2))),
            Measured(2, 1, 3.0, None),
            Measured(3, 1, 2.0, None),
            Measured(0, 2, 9.0, None),           // 2 is no rung
            Measured(4, 1, 3.0, Some((2.0, 5))), // the best 1 of 5
            Measured(5, 1, 3.0, None),           // the best 2 of 6: 2.0, 3.0
            Measured(0, 9, 9.0, None),           // rung 3; 9 is the whole resource
        ],
    );
}
