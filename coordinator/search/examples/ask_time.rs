//! How long a sampler thinks: `cargo run --release -p regatta-search --example ask_time [-- --sampler NAME]` prints one
//! JSON line for each sampler here, or the one named, and each size of study.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "what it measures is time")]

use std::collections::BTreeMap;
use std::time::Instant;

use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, TrialId, check};
use regatta_search::Time;
use regatta_search::news::{Measurement, News};
use regatta_search::samplers::{Sampler, sampler_for};
use serde_json::{Map, Value, json};

/// Each with how many trials it is asked after at most.
const SAMPLERS: [(&str, u32); 8] = [
    ("random", 10_000),
    ("sobol", 10_000),
    ("tpe", 10_000),
    ("gp", 10_000),
    ("cqr", 10_000),
    ("cma_es", 10_000),
    ("evolution", 10_000),
    ("nsga2", 10_000),
];
const PENDING: usize = 32;
const ASKS: u64 = 101;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = arguments.iter().position(|argument| argument == "--sampler").and_then(|at| arguments.get(at + 1));
    for (sampler, trials_max) in SAMPLERS.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name)) {
        for parameters in [6, 20] {
            for trials in [1_000, 10_000].into_iter().filter(|trials| trials <= trials_max) {
                println!("{}", ask_time(sampler, parameters, trials));
            }
        }
    }
}

fn ask_time(name: &str, parameters: usize, trials: u32) -> Value {
    let file = file(name, parameters);
    let mut sampler = sampler_for(&file);
    // What was tried is random: proposals of the sampler itself would take an ask each.
    let design = sampler_for(&StudyFile { sampler: regatta_schemas::study::Sampler::Random, ..file.clone() });
    let params = |index: u64| design.propose(index, &[]).expect("the space is not finite");
    // A model is fitted when news come, not when it is asked: what a trial's news take is measured over the last tenth.
    let mut told: Vec<f64> = Vec::new();
    for trial in 0..trials {
        let params = params(trial.into());
        let began = Instant::now();
        train(&mut *sampler, TrialId(trial), &params);
        if trial >= trials - trials / 10 {
            told.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    let pending: Vec<Params> = (0..PENDING as u64).map(|offset| params(u64::from(trials) + offset)).collect();
    let pending: Vec<&Params> = pending.iter().collect();
    let first = u64::from(trials) + PENDING as u64;
    let mut times: Vec<f64> = (first..first + ASKS)
        .map(|index| {
            let began = Instant::now();
            let proposal = sampler.propose(index, &pending);
            let took = began.elapsed().as_secs_f64() * 1e3;
            assert!(proposal.is_some(), "the space is not finite");
            took
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let rounded = |millis: f64| (millis * 1e4).round() / 1e4;
    let at = |share: f64| rounded(times[(share * (times.len() - 1) as f64) as usize]);
    let told_mean = told.iter().sum::<f64>() / told.len() as f64;
    let told_max = told.iter().copied().fold(0.0, f64::max);
    json!({
        "sampler": name, "parameters": parameters, "trials": trials, "pending": PENDING,
        "median_ms": at(0.5), "p90_ms": at(0.9), "told_mean_ms": rounded(told_mean), "told_max_ms": rounded(told_max),
    })
}

fn train(sampler: &mut dyn Sampler, trial: TrialId, params: &Params) {
    let value: f64 = params.values().map(|value| value.as_f64().map_or(1.0, |number| (number - 0.3).powi(2))).sum();
    // The second is there for the one sampler that seeks two.
    let other: f64 = params.values().map(|value| value.as_f64().map_or(0.0, |number| (number + 0.3).powi(2))).sum();
    let metrics = BTreeMap::from([("validation_loss".to_owned(), value), ("train_loss".to_owned(), other)]);
    sampler.observe(News::Proposed { trial, index: Some(trial.0.into()), params, at: Time::default() });
    sampler.observe(News::Measured(Measurement { trial, resource: 1, value, ranked: value, metrics: &metrics }));
    sampler.observe(News::Ended { trial, outcome: Outcome::Finished });
}

/// Of six parameters, three are floats, one of them logarithmic; then a whole number, a choice of four, a switch.
fn file(sampler: &str, parameters: usize) -> StudyFile {
    let pattern = [
        json!({"type": "float", "low": 0.0, "high": 1.0}),
        json!({"type": "float", "low": -1.0, "high": 1.0}),
        json!({"type": "float", "low": 1e-5, "high": 1.0, "log": true}),
        json!({"type": "int", "low": 1, "high": 20}),
        json!({"type": "categorical", "choices": ["a", "b", "c", "d"]}),
        json!({"type": "bool"}),
    ];
    let space: Map<String, Value> = pattern
        .iter()
        .cycle()
        .take(parameters)
        .cloned()
        .enumerate()
        .map(|(n, domain)| (format!("p{n:02}"), domain))
        .collect();
    let further = if sampler == "nsga2" { json!([{"metric": "train_loss", "goal": "minimize"}]) } else { json!([]) };
    let mut file = check::study_file(&json!({
        "name": "ask time",
        "objective": {"metric": "validation_loss", "goal": "minimize"},
        "further_objectives": further,
        "space": {"x": {"type": "float", "low": 0.1, "high": 1.0}},
        "sampler": sampler,
        "budget": {"trials": 20_000, "resource": 1},
        "recipe": {
            "data": {"file": "digits.npz", "format": "npz", "task": "classification", "target": "y"},
            "model": {"family": "mlp", "hidden": [8]},
            "loss": "cross_entropy",
            "optimizer": {"name": "sgd", "learning_rate": "$x"},
            "batch_size": 32,
        },
    }))
    .expect("the file is sound, and the sampler one that there is");
    file.space = serde_json::from_value(space.into()).expect("the domains are sound");
    file
}
