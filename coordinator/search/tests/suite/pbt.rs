//! Population-based training: who is copied, what a copy begins with, and what that finds.

use std::collections::BTreeMap;
use std::time::Duration;

use regatta_schemas::log::{Checkpoint, Lineage, Place, Record, Released};
use regatta_schemas::reasons::{FailCause, Outcome, ReleaseReason, StopReason};
use regatta_schemas::{Attempt, Params, PoolId, Sequence, TrialId};
use regatta_search::news::{Measurement, News};
use regatta_search::samplers::sampler_for;
use regatta_search::simulator::{AgentPlan, Faults, Plan, Simulator, study_id};
use regatta_search::stoppers::{Chances, Heir, Parent, Stopper};
use regatta_search::study::Phase;
use regatta_search::{Command, Event, Settings};
use serde_json::{Value, json};

use crate::files::{METRIC, study, towards_x};
use crate::stage::{Stage, agent};
use crate::stoppers::{measure, stopper};

#[path = "../../examples/population/drift.rs"]
mod drift;

/// Four members that came to the first rung of four with 0.1, 0.2, 0.3 and 0.4, and are set aside there.
fn four() -> Box<dyn Stopper> {
    let mut stopper = stopper(&json!({"name": "pbt", "population": 4, "interval": 2}), "maximize");
    for trial in 0..4 {
        arrive(&mut *stopper, trial, 2, f64::from(trial + 1) / 10.0);
    }
    stopper
}

fn arrive(stopper: &mut dyn Stopper, trial: u32, rung: u32, value: f64) {
    let id = TrialId(trial);
    if rung == 2 {
        assert_eq!(stopper.until(id), Some(2));
        stopper.begun(id, Some(2));
    } else {
        stopper.promoted(id);
        assert_eq!(stopper.until(id), Some(rung));
    }
    measure(stopper, trial, rung, value);
    stopper.paused(id, rung);
}

/// Who takes the trial's place, as trial 4, where these have checkpoints of so many epochs.
fn heir(stopper: &dyn Stopper, trial: u32, checkpoints: &[(u32, u32)]) -> Option<Heir> {
    let params: Params = serde_json::from_value(json!({"x": 0.5})).unwrap();
    let checkpoint = |resource| Checkpoint { object: "o".into(), bytes: 1, step: 1, resource, elapsed_ms: 0 };
    let kept: BTreeMap<u32, Checkpoint> = checkpoints.iter().map(|(of, done)| (*of, checkpoint(*done))).collect();
    let parent = |of: TrialId| Some(Parent { params: &params, checkpoint: kept.get(&of.0)? });
    stopper.heir(TrialId(trial), TrialId(4), &parent)
}

#[test]
fn the_worst_of_four_makes_way_for_a_copy_of_the_best() {
    let mut stopper = four();
    let all = [(0, 2), (1, 2), (2, 2), (3, 2)];
    let copy = heir(&*stopper, 0, &all).unwrap();
    assert_eq!((copy.parent, copy.until), (TrialId(3), Some(4)));
    assert_eq!(copy.reason, StopReason::Rung { resource: 2, value: 0.1, threshold: 0.2, competitors: 4 });
    assert!([1, 2, 3].iter().all(|trial| heir(&*stopper, *trial, &all).is_none()));
    assert_eq!(heir(&*stopper, 0, &[(3, 5)]).unwrap().until, Some(6), "the best is ahead already");
    assert_eq!(heir(&*stopper, 0, &[(3, 8)]).unwrap().until, None, "it trains to its end");
    for useless in [&[][..], &[(2, 2)], &[(3, 1)], &[(3, 9)]] {
        assert_eq!(heir(&*stopper, 0, useless), None, "{useless:?}: no checkpoint of the best is of use");
    }
    stopper.ended(TrialId(3), Outcome::Stopped);
    assert_eq!(heir(&*stopper, 0, &all), None, "who has ended is no member");
}

#[test]
fn who_fails_counts_as_the_worst_and_is_no_parent() {
    let mut stopper = four();
    stopper.ended(TrialId(3), Outcome::Failed);
    let all = [(0, 2), (1, 2), (2, 2), (3, 2)];
    assert_eq!(heir(&*stopper, 0, &all), None, "the one that failed is the worst of four");
    let mut late = four();
    arrive(&mut *late, 3, 4, 0.9);
    arrive(&mut *late, 2, 4, 0.8);
    late.promoted(TrialId(1));
    late.ended(TrialId(1), Outcome::Failed);
    arrive(&mut *late, 0, 4, 0.1);
    assert_eq!(heir(&*late, 0, &[(3, 4)]), None, "the one that failed on its way there is the worst of four");
}

#[test]
fn a_member_that_has_fallen_behind_itself_is_no_parent() {
    let mut stopper = four();
    for (trial, value) in [(3, 0.0), (2, 0.8), (1, 0.7)] {
        arrive(&mut *stopper, trial, 4, value);
    }
    arrive(&mut *stopper, 4, 2, 0.5);
    arrive(&mut *stopper, 4, 4, 0.9);
    // The last four at 2 have 0.2, 0.3, 0.4 and 0.5, at 4 they have 0.0, 0.8, 0.7 and 0.9.
    assert_eq!(heir(&*stopper, 3, &[(4, 4)]).unwrap().parent, TrialId(4));
    assert_eq!(heir(&*stopper, 0, &[(3, 4), (4, 4)]), None, "it is not among the last four");
}

#[test]
fn a_newcomer_whose_best_predecessors_have_ended_makes_way_for_who_is_further_on() {
    let mut stopper = four();
    stopper.ended(TrialId(3), Outcome::Finished);
    arrive(&mut *stopper, 1, 4, 0.5);
    arrive(&mut *stopper, 5, 2, 0.05);
    assert_eq!(heir(&*stopper, 5, &[(2, 2), (3, 8)]), None, "nobody is further on");
    let copy = heir(&*stopper, 5, &[(1, 4), (2, 2), (3, 8)]).unwrap();
    assert_eq!((copy.parent, copy.until), (TrialId(1), Some(6)));
}

#[test]
fn the_population_is_complete_before_anybody_goes_on_and_the_last_goes_first() {
    let mut stopper = four();
    let next = |stopper: &dyn Stopper, next: Option<u32>| {
        stopper.promotion(Chances { is_free: &|_| true, is_last: false, next: next.map(TrialId) })
    };
    arrive(&mut *stopper, 0, 4, 0.5);
    assert_eq!(next(&*stopper, Some(4)), Some(TrialId(1)));
    assert!(!stopper.admits(TrialId(4)));
    stopper.ended(TrialId(3), Outcome::Failed);
    assert!(stopper.admits(TrialId(4)) && !stopper.admits(TrialId(5)));
    assert_eq!(next(&*stopper, Some(4)), None, "a newcomer takes the place that is free");
    assert_eq!(next(&*stopper, None), Some(TrialId(1)), "the budget is spent: members only go on");
}

fn population(trials: u32) -> Value {
    json!({
        "stopper": {"name": "pbt", "population": 2, "interval": 1, "quantile": 0.5},
        "budget": {"trials": trials, "resource": 4},
    })
}

/// Two members; the second has come to the first rung behind the first, which goes on already.
fn second_about_to_wait(trials: u32) -> Stage {
    let mut stage = Stage::new(vec![study(population(trials))]);
    stage.beat("a", 2, &[]);
    assert_eq!(stage.take_offers(), [(0, 1), (1, 1)]);
    stage.accept("a", 0, 1);
    stage.accept("a", 1, 1);
    stage.measure("a", 0, 1, 1, 0.9);
    stage.checkpoint("a", 0, 1, 1, "of 0");
    stage.release("a", 0, 1, ReleaseReason::Paused);
    assert_eq!(stage.take_offers(), [(0, 2)], "it was the first there");
    stage.measure("a", 1, 1, 1, 0.1);
    stage.checkpoint("a", 1, 1, 1, "of 1");
    stage
}

/// As before; now the second waits, and makes way.
fn two_at_the_first_rung(trials: u32) -> Stage {
    let mut stage = second_about_to_wait(trials);
    stage.release("a", 1, 1, ReleaseReason::Paused);
    stage
}

#[test]
fn a_copy_takes_the_place_and_goes_on_from_the_checkpoint() {
    let mut stage = two_at_the_first_rung(8);
    let (parent, offers) = (stage.trial(0).proposed.clone(), std::mem::take(&mut stage.offers));
    let [offer] = &offers[..] else { panic!("{offers:?}") };
    assert_eq!((offer.trial, offer.attempt.0, offer.until, offer.seed), (TrialId(2), 1, Some(2), parent.seed));
    assert_eq!(offer.resume.as_ref().map(|from| (from.object.as_str(), from.resource)), Some(("of 0", 1)));
    assert_ne!(offer.params, parent.params);
    let Lineage::Inherited { parent, replaced, reason, .. } = &stage.trial(2).proposed.lineage else { panic!() };
    assert_eq!((*parent, *replaced), (TrialId(0), TrialId(1)));
    assert_eq!(stage.trial(1).stop.as_ref(), Some(reason));
    assert_eq!(stage.trial(1).phase, Phase::Ended(Outcome::Stopped));
    assert_eq!((stage.trial(2).resource, stage.trial(2).epochs_trained()), (1, 0), "what it inherits it did not train");
}

#[test]
fn a_checkpoint_is_kept_as_long_as_a_copy_may_go_on_from_it() {
    let mut stage = two_at_the_first_rung(8);
    stage.accept("a", 0, 2);
    stage.checkpoint("a", 0, 2, 2, "of 0 again");
    assert!(stage.deleted.is_empty(), "{:?}", stage.deleted);
    stage.accept("a", 2, 1);
    stage.checkpoint("a", 2, 1, 2, "of 2");
    assert_eq!(stage.deleted, ["of 0"]);
}

#[test]
fn a_checkpoint_is_kept_while_the_copy_is_on_its_way_to_the_log() {
    let mut stage = second_about_to_wait(8);
    stage.accept("a", 0, 2);
    let (attempt, term, sequence, agent) = (Attempt(1), stage.term, Sequence(99), agent("a"));
    let released = Released { attempt, term, sequence, agent, reason: ReleaseReason::Paused, resource: 1 };
    let place = Place::trial(study_id(0), TrialId(1));
    stage.coordinator.handle(stage.now, Event::Logged { place, record: Record::Released(released), at: stage.now });
    let decided: Vec<Command> = std::iter::from_fn(|| stage.coordinator.next_command()).collect();
    let [Command::Append { place, record: record @ Record::Proposed(_) }, ..] = &decided[..] else {
        panic!("{decided:?}")
    };
    stage.checkpoint("a", 0, 2, 2, "of 0 again");
    assert!(stage.deleted.is_empty() && stage.coordinator.needs_checkpoint("of 0"), "{:?}", stage.deleted);
    stage.write(place.clone(), record.clone());
    assert!(stage.deleted.is_empty() && stage.coordinator.needs_checkpoint("of 0"), "{:?}", stage.deleted);
}

#[test]
fn a_copy_without_its_checkpoint_fails_for_good_and_a_newcomer_takes_its_place() {
    let mut stage = two_at_the_first_rung(8);
    stage.accept("a", 2, 1);
    stage.take_offers();
    stage.fail("a", 2, 1, FailCause::Checkpoint);
    assert_eq!(stage.trial(2).phase, Phase::Ended(Outcome::Failed));
    assert_eq!(stage.take_offers(), [(3, 1)]);
    assert!(matches!(stage.trial(3).proposed.lineage, Lineage::Sampled { index: 2, .. }));
}

#[test]
fn members_only_go_on_once_the_budget_is_spent() {
    let mut stage = two_at_the_first_rung(3);
    assert_eq!(stage.take_offers(), [(2, 1)]);
    stage.accept("a", 2, 1);
    stage.measure("a", 2, 1, 2, 0.2);
    stage.checkpoint("a", 2, 1, 2, "of 2");
    stage.accept("a", 0, 2);
    stage.measure("a", 0, 2, 2, 0.95);
    stage.checkpoint("a", 0, 2, 2, "of 0");
    stage.release("a", 0, 2, ReleaseReason::Paused);
    stage.release("a", 2, 1, ReleaseReason::Paused);
    assert_eq!(stage.take_offers(), [(0, 3), (2, 2)]);
}

#[test]
fn the_sampler_hears_nothing_of_copies() {
    let file = study(json!({"sampler": "tpe", "budget": {"trials": 40, "resource": 6},
        "stopper": {"name": "pbt", "population": 4, "interval": 1}}));
    let plan = Plan {
        seed: 3,
        studies: vec![file.clone()],
        agents: vec![AgentPlan { pool: PoolId::default(), lanes: 2, slowness: 1.0 }],
        faults: Faults::none(),
        settings: Settings::default(),
        checkpoint_every: 0,
        beat_every: Duration::from_secs(1),
    };
    let mut simulator = Simulator::new(plan, &towards_x);
    assert!(simulator.run(200_000));
    let state = simulator.coordinator().unwrap().study(&study_id(0)).unwrap().state();
    let copies = state.trials.values().filter(|trial| trial.is_heir()).count();
    assert!((5..36).contains(&copies), "{copies} copies");
    let mut told = sampler_for(&file);
    for entry in simulator.log() {
        let Place { trial: Some(trial), .. } = entry.place else { continue };
        if state.trials[&trial].is_heir() {
            continue;
        }
        match &entry.record {
            Record::Proposed(proposed) => {
                let Lineage::Sampled { index, .. } = proposed.lineage else { panic!("{proposed:?}") };
                let (index, params, at) = (Some(index), &proposed.params, entry.at);
                told.observe(News::Proposed { trial, index, params, at });
            }
            Record::Measured(measured) => {
                for point in &measured.points {
                    let (resource, value, metrics) = (point.resource, point.metrics[METRIC], &point.metrics);
                    let measurement = Measurement { trial, resource, value, ranked: value, metrics };
                    told.observe(News::Measured(measurement));
                }
            }
            Record::Finished(_) => told.observe(News::Ended { trial, outcome: Outcome::Finished }),
            Record::Stopped(_) => told.observe(News::Ended { trial, outcome: Outcome::Stopped }),
            _ => {}
        }
    }
    let expected = told.propose(state.indices.next(), &[]);
    assert_eq!(state.sampler.0.propose(state.indices.next(), &[]), expected);
}

#[test]
fn a_population_follows_what_changes_over_time_and_random_search_cannot() {
    let found: Vec<(f64, f64)> = (0..20).map(|seed| (drift::population(seed), drift::at_random(seed))).collect();
    let median = |of: fn(&(f64, f64)) -> f64| drift::median(found.iter().map(of).collect());
    assert!(median(|pair| pair.0) > 1.5 * median(|pair| pair.1), "{found:.3?}");
    assert!(found.iter().filter(|(population, random)| population > random).count() >= 18, "{found:.3?}");
}
