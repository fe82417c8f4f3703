//! What every sampler must keep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{ParamValue, Params, TrialId, check};
use regatta_search::Time;
use regatta_search::news::{Measurement, News};
use regatta_search::samplers::{Sampler, sampler_for};
use serde_json::{Value, json};

use crate::files::study;

/// Rows of the conformance suite: samplers that propose the same whatever was measured...
fn those_that_measure_nothing() -> Vec<Value> {
    vec![json!("random"), json!("sobol"), json!({"name": "grid", "points": 4})]
}

/// ... and those that learn from it.
pub fn those_that_learn() -> Vec<Value> {
    ["auto", "tpe", "gp", "cqr", "cma_es", "evolution", "nsga2"].map(|name| json!(name)).into()
}

pub fn every_sampler() -> Vec<Value> {
    those_that_measure_nothing().into_iter().chain(those_that_learn()).collect()
}

/// Spaces of each kind, and how many configurations they hold, where that is finite.
pub fn every_space() -> Vec<(Value, Option<u64>)> {
    let mixed = json!({
        "rate": {"type": "float", "low": 1e-5, "high": 1.0, "log": true},
        "momentum": {"type": "float", "low": 0.0, "high": 0.9, "step": 0.3, "when": {"optimizer": "sgd"}},
        "nesterov": {"type": "bool", "when": {"momentum": [0.6, 0.9]}},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw"]},
        "width": {"type": "int", "low": 8, "high": 512, "log": true},
        "layers": {"type": "int", "low": 1, "high": 9, "step": 2},
        "batch": {"type": "ordinal", "choices": [16, 32, 64]},
    });
    let chain = json!({
        "a": {"type": "bool"},
        "b": {"type": "int", "low": 0, "high": 2, "when": {"a": true}},
        "c": {"type": "categorical", "choices": ["x", "y", "z"], "when": {"b": [1, 2]}},
        "d": {"type": "float", "low": 0.1, "high": 0.7, "step": 0.2, "when": {"c": "z"}},
    });
    let steps = json!({
        "f": {"type": "float", "low": -0.1, "high": 0.3, "step": 0.1},
        "i": {"type": "int", "low": -3, "high": 9, "step": 4},
    });
    // Beliefs of each kind of parameter, of conditional ones and of only some.
    let believed = json!({
        "rate": {"type": "float", "low": 1e-5, "high": 1.0, "log": true, "prior": {"value": 1e-5, "confidence": "high"}},
        "momentum": {"type": "float", "low": 0.0, "high": 0.9, "step": 0.3, "when": {"optimizer": "sgd"},
            "prior": {"value": 0.9, "confidence": "low"}},
        "nesterov": {"type": "bool", "when": {"momentum": [0.6, 0.9]}, "prior": {"value": true}},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw"], "prior": {"value": "sgd"}},
        "width": {"type": "int", "low": 8, "high": 512, "log": true, "prior": {"value": 512, "confidence": "high"}},
        "layers": {"type": "int", "low": 1, "high": 9, "step": 2},
        "batch": {"type": "ordinal", "choices": [16, 32, 64], "prior": {"value": 32, "confidence": "high"}},
    });
    let believed_chain = json!({
        "a": {"type": "bool", "prior": {"value": false, "confidence": "high"}},
        "b": {"type": "int", "low": 0, "high": 2, "when": {"a": true}, "prior": {"value": 1}},
        "c": {"type": "categorical", "choices": ["x", "y", "z"], "when": {"b": [1, 2]}, "prior": {"value": "x"}},
    });
    // a; a b=0; a b=1,2 with c x, y, or z with four values of d
    vec![
        (mixed, None),
        (chain, Some(1 + 1 + 2 * (2 + 4))),
        (steps, Some(5 * 4)),
        (json!({}), Some(1)),
        (believed, None),
        (believed_chain, Some(1 + 1 + 2 * 3)),
    ]
}

/// Only the space, the sampler and the seed matter here, not whether a recipe uses the parameters. Of so many trials, `auto`
/// is more than one sampler.
pub fn file(sampler: &Value, space: &Value, seed: u64) -> StudyFile {
    let trials = if sampler == "auto" { 1_000 } else { 8 };
    let mut file = study(json!({"sampler": sampler, "seed": seed, "budget": {"trials": trials, "resource": 4}}));
    file.space = serde_json::from_value(space.clone()).unwrap();
    file
}

fn for_each_pair(body: impl Fn(&Value, &Value, Option<u64>)) {
    for sampler in every_sampler() {
        for (space, count) in every_space() {
            body(&sampler, &space, count);
        }
    }
}

/// Configuration number `index` becomes the trial of that number.
fn propose(sampler: &mut dyn Sampler, index: u64, params: &Params) {
    sampler.observe(News::Proposed { trial: TrialId(index as u32), index: Some(index), params, at: Time::default() });
}

/// The first configurations, each observed before the next is proposed.
fn configurations(file: &StudyFile, count: u64) -> Vec<Params> {
    let mut sampler = sampler_for(file);
    let mut found = Vec::new();
    for index in 0..count {
        let Some(params) = sampler.propose(index, &[]) else { break };
        propose(&mut *sampler, index, &params);
        found.push(params);
    }
    found
}

#[test]
fn every_sampler_stays_in_bounds_and_respects_conditions() {
    for_each_pair(|sampler, space, _| {
        let file = file(sampler, space, 3);
        for params in configurations(&file, 300) {
            let json = serde_json::to_value(&params).unwrap();
            assert_eq!(check::params(&file.space, &json), Ok(params), "{sampler}");
        }
    });
}

#[test]
fn every_sampler_repeats_itself_and_tries_nothing_twice() {
    for_each_pair(|sampler, space, _| {
        let first = configurations(&file(sampler, space, 3), 300);
        assert_eq!(first, configurations(&file(sampler, space, 3), 300), "{sampler}");
        let distinct: BTreeSet<String> = first.iter().map(|params| format!("{params:?}")).collect();
        assert_eq!(distinct.len(), first.len(), "{sampler} {space}");
    });
}

#[test]
fn every_sampler_finds_all_of_a_finite_space_and_knows_its_end() {
    for_each_pair(|sampler, space, count| {
        let Some(count) = count else { return };
        let found = configurations(&file(sampler, space, 5), count + 10);
        assert_eq!(found.len() as u64, count, "{sampler} {space}");
    });
}

#[test]
fn what_measures_nothing_proposes_the_same_whatever_the_timing() {
    for_each_pair(|sampler, space, _| {
        if !those_that_measure_nothing().contains(sampler) {
            return;
        }
        let file = file(sampler, space, 11);
        let one_by_one = configurations(&file, 40);
        let mut sampler = sampler_for(&file);
        let mut ahead: Vec<Params> = Vec::new();
        for index in 0..one_by_one.len() as u64 {
            let observed = sampler.propose(index, &ahead.iter().collect::<Vec<_>>()).unwrap();
            assert_eq!(observed, one_by_one[index as usize]);
            ahead.push(observed);
            if index % 5 == 4 {
                for (offset, params) in ahead.drain(..).enumerate() {
                    propose(&mut *sampler, index - 4 + offset as u64, &params);
                }
            }
        }
    });
}

#[test]
fn every_sampler_goes_on_after_a_restart_and_is_not_hurt_by_repeats() {
    for_each_pair(|sampler, space, _| {
        let file = file(sampler, space, 11);
        let all = configurations(&file, 40);
        let half = all.len() / 2;
        let mut restarted = sampler_for(&file);
        for _ in 0..2 {
            for (index, params) in all[..half].iter().enumerate() {
                // What is read back went through JSON.
                let text = serde_json::to_string(params).unwrap();
                propose(&mut *restarted, index as u64, &serde_json::from_str(&text).unwrap());
            }
        }
        for (index, params) in all.iter().enumerate().skip(half) {
            assert_eq!(restarted.propose(index as u64, &[]).as_ref(), Some(params));
            propose(&mut *restarted, index as u64, params);
        }
    });
}

#[test]
fn a_random_configuration_does_not_depend_on_other_parameters() {
    let narrow = json!({"x": {"type": "float", "low": 0.0, "high": 1.0}});
    let wide = json!({"a": {"type": "bool"}, "x": {"type": "float", "low": 0.0, "high": 1.0}});
    let of =
        |space| configurations(&file(&json!("random"), space, 5), 20).into_iter().map(|params| params["x"].clone());
    assert!(of(&narrow).eq(of(&wide)));
}

#[test]
fn random_configurations_stay_what_they_were_in_earlier_versions() {
    let space = json!({"x": {"type": "float", "low": 0.0, "high": 1.0}, "n": {"type": "int", "low": 0, "high": 999}});
    let found = configurations(&file(&json!("random"), &space, 42), 2);
    let pinned: Vec<Params> = serde_json::from_value(json!(PINNED.map(|(n, x)| json!({"n": n, "x": x})))).unwrap();
    assert_eq!(found, pinned);
}

const PINNED: [(i64, f64); 2] = [(88, 0.0351248175954304), (542, 0.6118331665371523)];

#[test]
fn random_values_are_uniform_on_the_scale_that_the_space_names() {
    let space = json!({
        "log": {"type": "float", "low": 1e-4, "high": 1.0, "log": true},
        "linear": {"type": "float", "low": -2.0, "high": 2.0},
        "whole": {"type": "int", "low": 1, "high": 4},
        "octaves": {"type": "int", "low": 1, "high": 255, "log": true},
        "choice": {"type": "categorical", "choices": ["a", "b", "c", "d"]},
    });
    let found = configurations(&file(&json!("random"), &space, 1), 4_000);
    let share_of_quarters = |name: &str, quarter: &dyn Fn(f64) -> f64| {
        let mut counts = [0_u32; 4];
        for params in &found {
            let value = match &params[name] {
                ParamValue::Text(text) => f64::from(text.as_bytes()[0] - b'a'),
                number => number.as_f64().unwrap(),
            };
            counts[(quarter(value) as usize).min(3)] += 1;
        }
        counts
    };
    for (name, counts) in [
        ("log", share_of_quarters("log", &|value| value.log10() + 4.0)),
        ("linear", share_of_quarters("linear", &|value| value + 2.0)),
        ("whole", share_of_quarters("whole", &|value| value - 1.0)),
        ("octaves", share_of_quarters("octaves", &|value| ((value / 0.5).ln() / (255.5_f64 / 0.5).ln()) * 4.0)),
        ("choice", share_of_quarters("choice", &|value| value)),
    ] {
        // 1,000 each; five standard deviations are 137. Whole numbers share their borders unevenly.
        let tolerance = if name == "octaves" { 250 } else { 137 };
        assert!(counts.iter().all(|count| count.abs_diff(1_000) < tolerance), "{name}: {counts:?}");
    }
}

#[test]
fn a_grid_spaces_its_points_from_bound_to_bound() {
    let space = json!({
        "x": {"type": "float", "low": 1e-3, "high": 1.0, "log": true},
        "n": {"type": "int", "low": 0, "high": 9},
    });
    let found = configurations(&file(&json!({"name": "grid", "points": 4}), &space, 0), 100);
    assert_eq!(found.len(), 16);
    let column = |name: &str| found.iter().map(|params| params[name].as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(column("n")[..5], [0.0, 0.0, 0.0, 0.0, 3.0]);
    for (value, expected) in column("x").iter().zip([1e-3, 1e-2, 1e-1, 1.0]) {
        assert!((value / expected - 1.0).abs() < 1e-9, "{value}");
    }
}

#[test]
fn initial_configurations_come_first_and_the_sampler_after_them() {
    let space = json!({"x": {"type": "float", "low": 0.0, "high": 1.0}, "n": {"type": "int", "low": 0, "high": 2}});
    for sampler in every_sampler() {
        let plain = configurations(&file(&sampler, &space, 5), 6);
        let mut with_initial = file(&sampler, &space, 5);
        with_initial.initial = serde_json::from_value(json!([{"x": 0.5, "n": 1}, {"x": 0.25, "n": 2}])).unwrap();
        let found = configurations(&with_initial, 8);
        assert_eq!(found[..2], with_initial.initial);
        let is_sound = |params: &&Params| check::params(&with_initial.space, &json!(params)).is_ok();
        assert_eq!(found.iter().filter(is_sound).count(), 8, "{sampler}");
        if sampler == json!("random") {
            assert_eq!(found[2..], plain, "what was measured changes nothing for it");
        }
    }
}

#[test]
fn a_study_that_names_no_sampler_gets_a_quick_one_for_as_long_as_its_fleet_asks_too_fast() {
    let [mut auto, mut gp, mut tpe] = ["auto", "gp", "tpe"].map(|name| {
        let mut file = file(&json!(name), &every_space()[0].0, 5);
        file.budget.trials = 10_000;
        sampler_for(&file)
    });
    let mut at = Time::default();
    let mut next = 0;
    let mut ask = |count: u64, every: Duration| {
        let mut answers = [0; 2];
        for index in next..next + count {
            let proposed = auto.propose(index, &[]).unwrap();
            answers[0] += u64::from(Some(&proposed) == gp.propose(index, &[]).as_ref());
            answers[1] += u64::from(Some(&proposed) == tpe.propose(index, &[]).as_ref());
            at = at + every;
            let trial = TrialId(index as u32);
            let metrics = BTreeMap::from([("validation_loss".to_owned(), (index % 17) as f64)]);
            let value = metrics["validation_loss"];
            for sampler in [&mut auto, &mut gp, &mut tpe] {
                sampler.observe(News::Proposed { trial, index: Some(index), params: &proposed, at });
                if index % 8 == 0 {
                    sampler.observe(News::Measured(Measurement {
                        trial,
                        resource: 1,
                        value,
                        ranked: value,
                        metrics: &metrics,
                    }));
                    sampler.observe(News::Ended { trial, outcome: Outcome::Finished });
                }
            }
        }
        next += count;
        answers
    };
    assert_eq!(ask(40, Duration::from_secs(60))[0], 40, "in its own time");
    assert_eq!(ask(255, Duration::from_millis(10))[0], 255, "a burst is thought about");
    assert_eq!(ask(20, Duration::from_millis(10)), [0, 20], "a rush is not");
    assert_eq!(ask(5, Duration::from_secs(60)), [4, 1], "and the rush passes");
}
