//! That the Gaussian process finds what it looks for, and sooner than chance does.

use std::collections::{BTreeMap, VecDeque};
use std::f64::consts::PI;

use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::{Goal, StudyFile};
use regatta_schemas::{ParamValue, Params, TrialId};
use regatta_search::Time;
use regatta_search::news::{Measurement, News};
use regatta_search::samplers::{Sampler, sampler_for};
use serde_json::{Value, json};

use crate::files::study;

/// Trials under way at a time.
const LANES: usize = 8;

fn file(sampler: &str, space: &Value, seed: u64, resource: u32) -> StudyFile {
    let mut file = study(json!({"sampler": sampler, "seed": seed}));
    file.space = serde_json::from_value(space.clone()).unwrap();
    file.objective.goal = Goal::Minimize;
    file.budget.resource = resource;
    file
}

fn number(params: &Params, name: &str) -> f64 {
    params[name].as_f64().unwrap()
}

/// The configurations of a search, each measured as `measure` says when seven more were proposed.
fn search(file: &StudyFile, count: u32, mut measure: impl FnMut(&mut dyn Sampler, TrialId, &Params)) -> Vec<Params> {
    let mut sampler = sampler_for(file);
    let (mut under_way, mut found) = (VecDeque::new(), Vec::new());
    for index in 0..count {
        if under_way.len() == LANES {
            let (trial, params) = under_way.pop_front().unwrap();
            measure(&mut *sampler, trial, &params);
        }
        let Some(params) = sampler.propose(index.into(), &[]) else { break };
        let trial = TrialId(index);
        sampler.observe(News::Proposed { trial, index: Some(index.into()), params: &params, at: Time::default() });
        under_way.push_back((trial, params.clone()));
        found.push(params);
    }
    found
}

fn tell(sampler: &mut dyn Sampler, trial: TrialId, resource: u32, value: f64) {
    let metrics = BTreeMap::new();
    sampler.observe(News::Measured(Measurement { trial, resource, value, ranked: value, metrics: &metrics }));
}

fn end(sampler: &mut dyn Sampler, trial: TrialId, outcome: Outcome) {
    sampler.observe(News::Ended { trial, outcome });
}

/// The least value found.
fn least(sampler: &str, space: &Value, seed: u64, count: u32, loss: impl Fn(&Params) -> f64) -> f64 {
    let found = search(&file(sampler, space, seed, 1), count, |sampler, trial, params| {
        tell(sampler, trial, 1, loss(params));
        end(sampler, trial, Outcome::Finished);
    });
    found.iter().map(loss).fold(f64::INFINITY, f64::min)
}

/// In how many of so many seeds the model's least value is below that of random search.
fn wins(space: &Value, seeds: u64, count: u32, loss: impl Fn(&Params) -> f64 + Copy) -> u64 {
    let of = |sampler, seed| least(sampler, space, seed, count, loss);
    (0..seeds).filter(|seed| of("gp", *seed) < of("random", *seed)).count() as u64
}

fn branin(params: &Params) -> f64 {
    let (x, y) = (number(params, "x"), number(params, "y"));
    let bent = y - 5.1 / (4.0 * PI * PI) * x * x + 5.0 / PI * x - 6.0;
    bent * bent + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos() + 10.0
}

const HARTMANN_A: [[f64; 6]; 4] = [
    [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
    [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
    [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
    [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
];
const HARTMANN_P: [[f64; 6]; 4] = [
    [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
    [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
    [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
    [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
];

fn hartmann(params: &Params) -> f64 {
    let x: Vec<f64> = params.values().map(|value| value.as_f64().unwrap()).collect();
    let hill = |row: usize| {
        let far: f64 = (0..6).map(|k| HARTMANN_A[row][k] * (x[k] - HARTMANN_P[row][k]).powi(2)).sum();
        [1.0, 1.2, 3.0, 3.2][row] * (-far).exp()
    };
    -(0..4).map(hill).sum::<f64>()
}

fn mixed(params: &Params) -> f64 {
    let of_optimizer = match &params["optimizer"] {
        ParamValue::Text(name) if name == "sgd" => 0.1 + (number(params, "momentum") - 0.8).powi(2),
        ParamValue::Text(name) if name == "adam" => 0.4,
        _ => 0.7,
    };
    let of_rate = ((number(params, "rate").log10() + 2.5) / 2.0).powi(2);
    of_optimizer + of_rate + ((number(params, "width") / 90.0).ln() / 4.0).powi(2)
}

fn branin_space() -> Value {
    json!({
        "x": {"type": "float", "low": -5.0, "high": 10.0},
        "y": {"type": "float", "low": 0.0, "high": 15.0},
    })
}

fn cube(names: &str) -> Value {
    names.chars().map(|name| (name.to_string(), json!({"type": "float", "low": 0.0, "high": 1.0}))).collect()
}

fn mixed_space() -> Value {
    json!({
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "rmsprop"]},
        "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": "sgd"}},
        "rate": {"type": "float", "low": 1e-5, "high": 1.0, "log": true},
        "width": {"type": "int", "low": 8, "high": 512, "log": true},
    })
}

#[test]
fn it_comes_close_to_the_least_of_branins_function() {
    let mut found: Vec<f64> = (0..9).map(|seed| least("gp", &branin_space(), seed, 45, branin)).collect();
    found.sort_by(f64::total_cmp);
    assert!(found[4] < 0.397_887 + 0.05, "{found:?}");
}

#[test]
fn it_finds_better_than_random_search_does() {
    assert!(wins(&branin_space(), 15, 32, branin) >= 12);
    assert!(wins(&cube("abcdef"), 9, 48, hartmann) >= 8);
    assert!(wins(&mixed_space(), 9, 40, mixed) >= 8);
}

/// A trial of [`hartmann`] that begins high and is stopped at a rung where it is not among the best third of those
/// that came before it.
fn train(sampler: &mut dyn Sampler, rungs: &mut BTreeMap<u32, Vec<f64>>, trial: TrialId, params: &Params) -> u32 {
    let speed = 0.4 + 0.4 * number(params, "f");
    for resource in 1..=27_u32 {
        let value = hartmann(params) + 3.0 * f64::from(resource).powf(-speed);
        tell(sampler, trial, resource, value);
        if [1, 3, 9].contains(&resource) {
            let seen = rungs.entry(resource).or_default();
            seen.push(value);
            if seen.iter().filter(|other| **other < value).count() * 3 >= seen.len() {
                end(sampler, trial, Outcome::Stopped);
                return resource;
            }
        }
    }
    end(sampler, trial, Outcome::Finished);
    27
}

/// The least final loss of those that were not stopped.
fn least_trained(sampler: &str, seed: u64, count: u32) -> f64 {
    let (mut rungs, mut least) = (BTreeMap::new(), f64::INFINITY);
    search(&file(sampler, &cube("abcdef"), seed, 27), count, |sampler, trial, params| {
        if train(sampler, &mut rungs, trial, params) == 27 {
            least = least.min(hartmann(params));
        }
    });
    least
}

#[test]
fn it_learns_from_trials_that_were_stopped() {
    let better = (0..9).filter(|seed| least_trained("gp", *seed, 60) < least_trained("random", *seed, 60)).count();
    assert!(better >= 8, "{better}");
}

#[test]
fn thirty_two_pending_proposals_spread() {
    let file = file("gp", &cube("abcdef"), 3, 1);
    let mut sampler = sampler_for(&file);
    let mut pending: Vec<Params> = Vec::new();
    for index in 0..52_u64 {
        let params = sampler.propose(index, &pending.iter().collect::<Vec<_>>()).unwrap();
        if index >= 20 {
            pending.push(params);
            continue;
        }
        let trial = TrialId(index as u32);
        sampler.observe(News::Proposed { trial, index: Some(index), params: &params, at: Time::default() });
        tell(&mut *sampler, trial, 1, hartmann(&params));
        end(&mut *sampler, trial, Outcome::Finished);
    }
    let apart = |a: &Params, b: &Params| {
        let along = a.keys().map(|name| (number(a, name) - number(b, name)).abs());
        along.fold(0.0, f64::max)
    };
    let nearest = |of: usize| {
        let others = (0..pending.len()).filter(|other| *other != of);
        others.map(|other| apart(&pending[of], &pending[other])).fold(f64::INFINITY, f64::min)
    };
    let mut nearest: Vec<f64> = (0..pending.len()).map(nearest).collect();
    nearest.sort_by(f64::total_cmp);
    assert!(nearest[0] > 0.01 && nearest[16] > 0.1, "{nearest:?}");
}

#[test]
fn it_shows_and_proposes_the_same_after_a_replay_and_survives_failures() {
    let space = mixed_space();
    let file = file("gp", &space, 5, 27);
    let feed = |sampler: &mut dyn Sampler, index: u32, params: &Params| {
        let trial = TrialId(index);
        sampler.observe(News::Proposed { trial, index: Some(index.into()), params, at: Time::default() });
        for resource in 1..=index % 28 {
            tell(sampler, trial, resource, mixed(params) + 1.0 / f64::from(resource));
        }
        if !index.is_multiple_of(4) {
            let outcome = [Outcome::Finished, Outcome::Failed, Outcome::Stopped][index as usize % 3];
            end(sampler, trial, outcome);
        }
    };
    let mut live = sampler_for(&file);
    let mut all = Vec::new();
    for index in 0..40 {
        let params = live.propose(index.into(), &[]).unwrap();
        feed(&mut *live, index, &params);
        let mut replayed = sampler_for(&file);
        all.push(params);
        if index % 13 == 0 {
            all.iter().enumerate().for_each(|(index, params)| feed(&mut *replayed, index as u32, params));
            assert_eq!(format!("{live:?}"), format!("{replayed:?}"));
            assert_eq!(live.propose(index as u64 + 1, &[]), replayed.propose(index as u64 + 1, &[]));
        }
    }
    (0..40).for_each(|trial| end(&mut *live, TrialId(trial), Outcome::Failed));
    assert!(live.propose(40, &[]).is_some());
}
