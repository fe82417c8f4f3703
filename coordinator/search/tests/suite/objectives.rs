//! Studies with several objectives, and with constraints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regatta_schemas::log::Record;
use regatta_schemas::reasons::StopReason;
use regatta_schemas::{Params, PoolId, TrialId};
use regatta_search::Settings;
use regatta_search::pareto::hypervolume;
use regatta_search::simulator::{AgentPlan, Epoch, Faults, Plan, Simulator, study_id};
use regatta_search::study::{State, Trial};
use serde_json::{Value, json};

use crate::files::{METRIC, recipe_json, study};
use crate::stage::Stage;

const SECOND: &str = "validation_loss";
const STEPS_MAX: u64 = 10_000_000;

/// The problem ZDT1 with five parameters (Zitzler, Deb and Thiele, 2000): its front is second = 1 - sqrt(first), where
/// all but the first parameter are 0. A trial comes near its end values as it trains.
fn zdt1(params: &Params, epoch: u32) -> Epoch {
    let of = |name: &str| params[name].as_f64().unwrap();
    let rest: f64 = ["b", "c", "d", "e"].iter().map(|name| of(name)).sum();
    let (first, g) = (of("a"), 1.0 + 9.0 * rest / 4.0);
    let second = g * (1.0 - (first / g).sqrt()) + 1.0 / f64::from(epoch);
    Epoch { metrics: BTreeMap::from([(METRIC.to_owned(), first), (SECOND.to_owned(), second)]), seconds: 1.0 }
}

fn simulated<T>(changes: Value, faults: Faults, look: impl Fn(&Simulator, &State) -> T) -> T {
    let mut file = json!({
        "objective": {"metric": METRIC, "goal": "minimize"},
    });
    for (key, value) in changes.as_object().unwrap() {
        file[key] = value.clone();
    }
    // Which parameters there are matters here, not whether a recipe uses them.
    let mut file = study(file);
    let domain = || serde_json::from_value(json!({"type": "float", "low": 0.0, "high": 1.0})).unwrap();
    file.space = ["a", "b", "c", "d", "e"].map(|name| (name.to_owned(), domain())).into();
    file.recipe = recipe_json(0.1.into()).as_object().unwrap().clone();
    let plan = Plan {
        seed: 5,
        studies: vec![file],
        agents: vec![AgentPlan { pool: PoolId::default(), lanes: 4, slowness: 1.0 }; 2],
        faults,
        settings: Settings::default(),
        checkpoint_every: 1,
        beat_every: Duration::from_secs(1),
    };
    let mut simulator = Simulator::new(plan, &zdt1);
    assert!(simulator.run(STEPS_MAX), "it comes to an end");
    look(&simulator, simulator.coordinator().unwrap().study(&study_id(0)).unwrap().state())
}

fn several(sampler: &str, stopper: Value, seed: u64) -> Value {
    json!({
        "further_objectives": [{"metric": SECOND, "goal": "minimize"}],
        "sampler": sampler, "stopper": stopper, "seed": seed, "budget": {"trials": 200, "resource": 9},
    })
}

fn volume(state: &State) -> f64 {
    let point = |trial| {
        let metrics = &state.trials[&trial].points.last_metrics().unwrap();
        [metrics[METRIC], metrics[SECOND]]
    };
    let front: Vec<[f64; 2]> = state.front().into_iter().map(point).collect();
    hypervolume(&front.iter().map(<[f64; 2]>::as_slice).collect::<Vec<_>>(), &[1.1, 10.0])
}

#[test]
fn the_checkpoints_that_are_kept_are_those_of_the_front() {
    let mut changes = several("nsga2", json!({"name": "asha", "eta": 3, "min_resource": 1}), 3);
    changes["keep_checkpoints"] = json!(60);
    simulated(changes, Faults::none(), |_, state| {
        let kept: BTreeSet<TrialId> =
            state.trials.iter().filter(|(_, trial)| trial.checkpoint.is_some()).map(|(id, _)| *id).collect();
        assert_eq!(kept.len(), 60);
        let front = state.front();
        assert!((2..60).contains(&front.len()), "{}", front.len());
        assert!(front.iter().all(|trial| kept.contains(trial)), "{front:?} of {kept:?}");
    });
}

#[test]
fn nsga2_finds_more_of_a_front_than_random_search() {
    // Set aside at a rung, most trials end only with their study.
    let promoting = json!({"name": "asha", "min_resource": 1, "mode": "promote"});
    for stopper in [json!("none"), promoting] {
        for seed in 0..5 {
            let of =
                |sampler| simulated(several(sampler, stopper.clone(), seed), Faults::none(), |_, state| volume(state));
            let (ours, random) = (of("nsga2"), of("random"));
            assert!(ours > random, "{stopper}, seed {seed}: {ours} against {random}");
        }
    }
}

#[test]
fn fronts_stop_trials_and_keep_what_nobody_dominates() {
    let changes = several("nsga2", json!({"name": "asha", "eta": 3, "min_resource": 1}), 3);
    simulated(changes, Faults::none(), |simulator, state| {
        let stopped = |record: &Record| matches!(record, Record::Stopped(stop) if matches!(stop.reason, StopReason::Front { .. }));
        let count = simulator.log().iter().filter(|entry| stopped(&entry.record)).count();
        assert!(count > 60, "{count} of 200 trials");
        let spent: u32 = state.trials.values().map(|trial| trial.resource).sum();
        assert!(spent < 200 * 9 * 2 / 3, "{spent} epochs");
        let summary = simulator
            .coordinator()
            .unwrap()
            .summary(&study_id(0), simulator.coordinator().unwrap().study(&study_id(0)).unwrap());
        assert!(summary.front.len() > 3 && summary.front.iter().all(|member| member.values.len() == 2));
    });
}

#[test]
fn several_objectives_survive_every_fault_and_a_replay_decides_alike() {
    for (mode, sampler) in [("stop", "nsga2"), ("promote", "nsga2"), ("stop", "sobol"), ("promote", "auto")] {
        let changes = several(sampler, json!({"name": "asha", "eta": 2, "min_resource": 1, "mode": mode}), 4);
        let log = |faults| simulated(changes.clone(), faults, |simulator, _| simulator.log().to_vec());
        assert_eq!(log(Faults::all()), log(Faults::all()));
    }
}

#[test]
fn fronts_promote_trials_that_were_set_aside() {
    let changes = several("nsga2", json!({"name": "asha", "eta": 3, "min_resource": 1, "mode": "promote"}), 3);
    simulated(changes, Faults::none(), |_, state| {
        let finished: Vec<&Trial> = state.trials.values().filter(|trial| trial.resource == 9).collect();
        assert!((5..60).contains(&finished.len()), "{} of 200 trials", finished.len());
        assert!(finished.iter().all(|trial| trial.promotions == 2), "from the rungs 1 and 3");
        let spent: u32 = state.trials.values().map(|trial| trial.resource).sum();
        assert!(spent < 200 * 9 / 2, "{spent} epochs");
        // Whoever goes on is dominated by few: the trials that went on are better in both than most that did not.
        let last = |trial: &Trial| trial.points.last_metrics().map(|metrics| [metrics[METRIC], metrics[SECOND]]);
        let left: Vec<[f64; 2]> = state.trials.values().filter(|trial| trial.resource == 1).filter_map(last).collect();
        let dominated = |of: &[f64; 2]| {
            let by = |trial: &&&Trial| last(trial).is_some_and(|by| by[0] < of[0] && by[1] < of[1]);
            finished.iter().any(|trial| by(&trial))
        };
        let share = left.iter().filter(|of| dominated(of)).count() as f64 / left.len() as f64;
        assert!(share > 0.8, "{share} of {} that were left", left.len());
    });
}

#[test]
fn only_what_keeps_the_constraints_is_best() {
    let constraint = |seed| {
        json!({
            "objective": {"metric": SECOND, "goal": "minimize"},
            "constraints": [{"metric": METRIC, "max": 0.5, "min": 0.25}],
            "seed": seed, "budget": {"trials": 60, "resource": 3},
        })
    };
    for seed in 0..5 {
        simulated(constraint(seed), Faults::none(), |_, state| {
            let best = state.best.as_ref().unwrap();
            let first = |trial| state.trials[&trial].proposed.params["a"].as_f64().unwrap();
            assert!((0.25..=0.5).contains(&first(best.trial)));
            let kept = state.trials.iter().filter(|(id, _)| (0.25..=0.5).contains(&first(**id)));
            let expected = kept.filter_map(|(_, trial)| trial.best).fold(f64::INFINITY, f64::min);
            assert_eq!(best.value, expected);
            assert!(state.trials.iter().all(|(id, trial)| trial.best.is_none() || (0.25..=0.5).contains(&first(*id))));
        });
    }
}

/// Four held trials of a study that bounds a loss by 10.
fn bounded(stopper: &Value) -> Stage {
    let constraints = json!([{"metric": SECOND, "max": 10.0}]);
    let changes = json!({"stopper": stopper, "constraints": constraints, "budget": {"trials": 4, "resource": 4}});
    let mut stage = Stage::new(vec![study(changes)]);
    stage.beat("a", 4, &[]);
    (0..4).for_each(|trial| stage.accept("a", trial, 1));
    stage
}

fn measure(stage: &mut Stage, trial: u32, resource: u32, accuracy: f64, loss: f64) {
    stage.measure_all("a", trial, 1, resource, &[(METRIC, accuracy), (SECOND, loss)]);
}

#[test]
fn what_keeps_the_constraints_goes_on_past_what_breaks_them_whichever_came_first() {
    let mut stage = bounded(&json!({"name": "asha", "eta": 2, "min_resource": 1}));
    for (trial, accuracy, loss) in [(0, 0.95, 20.0), (1, 0.6, 5.0), (2, 0.7, 5.0), (3, 0.99, 15.0)] {
        measure(&mut stage, trial, 1, accuracy, loss);
    }
    let stop = |trial| stage.trial(trial).stop.clone();
    assert_eq!([0, 1, 2].map(stop), [None, None, None], "each was the best of its time");
    assert_eq!(stop(3), Some(StopReason::Constraint { resource: 1, violation: Some(0.5), competitors: 4 }));
}

#[test]
fn the_median_of_trials_that_broke_the_constraints_stops_none_that_keeps_them() {
    let mut stage = bounded(&json!({"name": "median", "es_min": 1, "grace": 1}));
    for resource in 1..=4 {
        measure(&mut stage, 0, resource, 0.95, 30.0);
    }
    stage.finish("a", 0, 1);
    measure(&mut stage, 1, 1, 0.5, 5.0);
    assert_eq!(stage.trial(1).stop, None);
    measure(&mut stage, 2, 1, 0.99, 40.0);
    let broken = StopReason::Constraint { resource: 1, violation: Some(3.0), competitors: 1 };
    assert_eq!(stage.trial(2).stop, Some(broken));
}

#[test]
fn what_broke_a_constraint_for_a_while_still_sets_a_median() {
    let mut stage = bounded(&json!({"name": "median", "es_min": 1, "grace": 1}));
    for (resource, loss) in [(1, 30.0), (2, 5.0), (3, 5.0), (4, 5.0)] {
        measure(&mut stage, 0, resource, 0.9, loss);
    }
    stage.finish("a", 0, 1);
    for resource in 1..=2 {
        measure(&mut stage, 1, resource, 0.5, 5.0);
    }
    let stop = StopReason::Median { resource: 2, value: 0.5, threshold: 0.9, competitors: 1 };
    assert_eq!(stage.trial(1).stop, Some(stop));
}

#[test]
fn bounds_and_patience_look_at_what_was_measured_and_not_at_its_rank() {
    let mut stage = bounded(&json!({"name": "threshold", "lower": 0.5}));
    measure(&mut stage, 0, 1, 0.6, 30.0);
    assert_eq!(stage.trial(0).stop, None, "0.6 is within the bounds");
    let mut stage = bounded(&json!({"name": "patience", "epochs": 2}));
    for (resource, accuracy) in [(1, 0.5), (2, 0.6), (3, 0.7)] {
        measure(&mut stage, 0, resource, accuracy, 30.0);
    }
    assert_eq!(stage.trial(0).stop, None, "it gets better");
}

#[test]
fn samplers_that_learn_go_where_the_constraints_are_kept() {
    for (sampler, least) in [("gp", 0.5), ("tpe", 0.3), ("cqr", 0.3), ("cma_es", 0.2), ("evolution", 0.2)] {
        let shares = (0..6).map(|seed| {
            let changes = json!({
                "objective": {"metric": SECOND, "goal": "minimize"},
                // One configuration of ten keeps it, and the more it does, the worse it is.
                "constraints": [{"metric": METRIC, "max": 0.1}],
                "sampler": sampler, "seed": seed, "budget": {"trials": 100, "resource": 3},
            });
            simulated(changes, Faults::none(), |_, state| {
                let later = state.trials.values().skip(50);
                let kept = later.filter(|trial| trial.proposed.params["a"].as_f64().unwrap() <= 0.1);
                kept.count() as f64 / 50.0
            })
        });
        let mean = shares.sum::<f64>() / 6.0;
        assert!(mean >= least, "{sampler}: {mean}");
    }
}
