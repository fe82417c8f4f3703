//! A loss that costs nothing to measure, what its user may believe of its space, and what a search finds there.
//!
//! Shared with `examples/priors.rs`, so that it knows nothing of the other tests.

use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, TrialId, check};
use regatta_search::Time;
use regatta_search::news::{Measurement, News};
use regatta_search::samplers::sampler_for;
use serde_json::{Value, json};

const LANES: usize = 8;

/// What its user believes of the space.
#[derive(Debug, Clone, Copy)]
pub enum Beliefs {
    None,
    /// Sure, and not far from the truth.
    Good,
    /// Of some parameters, unsure, and off by more.
    Vague,
    /// Sure of the other end of each range.
    Wrong,
}

/// Numbers on both scales, choices and a condition.
pub fn mixed_space() -> Value {
    json!({
        "rate": {"type": "float", "low": 1e-5, "high": 1.0, "log": true},
        "decay": {"type": "float", "low": 0.0, "high": 1.0},
        "kind": {"type": "categorical", "choices": ["a", "b", "c"]},
        "momentum": {"type": "float", "low": 0.0, "high": 1.0, "when": {"kind": "b"}},
        "width": {"type": "int", "low": 8, "high": 512, "log": true},
        "layers": {"type": "int", "low": 1, "high": 8},
    })
}

/// 0 at its least: a rate of 0.0032, a decay of 0.2, kind b with a momentum of 0.8, 3 layers of 128.
pub fn mixed_loss(params: &Params) -> f64 {
    let number = |name: &str| params.get(name).and_then(|value| value.as_f64());
    let of = |name| number(name).unwrap_or(f64::NAN);
    let momentum = number("momentum").map_or(0.3, |momentum| 0.5 * (momentum - 0.8).powi(2));
    0.1 * (of("rate").log10() + 2.5).powi(2)
        + (of("decay") - 0.2).powi(2)
        + 0.05 * (of("width").log2() - 7.0).powi(2)
        + 0.01 * (of("layers") - 3.0).powi(2)
        + momentum
}

/// The same space with priors.
pub fn believed_space(beliefs: Beliefs) -> Value {
    let priors = match beliefs {
        Beliefs::None => json!({}),
        Beliefs::Good => json!({
            "rate": {"value": 0.008, "confidence": "high"},
            "decay": {"value": 0.25, "confidence": "high"},
            "kind": {"value": "b", "confidence": "medium"},
            "width": {"value": 100, "confidence": "high"},
            "layers": {"value": 3, "confidence": "medium"},
        }),
        Beliefs::Vague => json!({
            "rate": {"value": 0.02, "confidence": "low"},
            "kind": {"value": "b", "confidence": "low"},
            "width": {"value": 64, "confidence": "low"},
        }),
        Beliefs::Wrong => json!({
            "rate": {"value": 0.5, "confidence": "high"},
            "decay": {"value": 0.95, "confidence": "high"},
            "kind": {"value": "a", "confidence": "high"},
            "width": {"value": 10, "confidence": "high"},
            "layers": {"value": 8, "confidence": "high"},
        }),
    };
    let mut space = mixed_space();
    for (name, prior) in priors.as_object().into_iter().flatten() {
        space[name]["prior"] = prior.clone();
    }
    space
}

/// The least loss after each trial of a search of one epoch a trial, on eight lanes, trials ending in the order of their
/// start.
pub fn descent(sampler: &str, beliefs: Beliefs, trials: u32, seed: u64) -> Vec<f64> {
    let mut sampler = sampler_for(&file(sampler, believed_space(beliefs), trials, seed));
    let mut running: Vec<(TrialId, Params)> = Vec::new();
    let mut least = Vec::new();
    for index in 0..trials + LANES as u32 {
        if index < trials {
            let params = sampler.propose(index.into(), &[]).expect("the space is infinite");
            let (trial, index) = (TrialId(index), Some(index.into()));
            sampler.observe(News::Proposed { trial, index, params: &params, at: Time::default() });
            running.push((trial, params));
        }
        if running.len() == LANES || index >= trials {
            let (trial, params) = running.remove(0);
            let (value, metrics) = (mixed_loss(&params), &Default::default());
            least.push(value.min(least.last().copied().unwrap_or(f64::INFINITY)));
            sampler.observe(News::Measured(Measurement { trial, resource: 1, value, ranked: value, metrics }));
            sampler.observe(News::Ended { trial, outcome: Outcome::Finished });
        }
        if least.len() == trials as usize {
            break;
        }
    }
    least
}

fn file(sampler: &str, space: Value, trials: u32, seed: u64) -> StudyFile {
    let file = json!({
        "name": "toy",
        "objective": {"metric": "loss", "goal": "minimize"},
        "space": space,
        "sampler": sampler,
        "budget": {"trials": trials, "resource": 1},
        "seed": seed,
    });
    check::simulated_study_file(&file).expect("the file is sound")
}

/// The middle of what so many seeds found after some of the trials.
pub fn medians(sampler: &str, beliefs: Beliefs, after: &[usize], seeds: u64) -> Vec<f64> {
    let trials = after.iter().copied().max().unwrap_or(1) as u32;
    let descents: Vec<Vec<f64>> = (0..seeds).map(|seed| descent(sampler, beliefs, trials, seed)).collect();
    let median = |after: &usize| {
        let mut found: Vec<f64> = descents.iter().map(|descent| descent[after - 1]).collect();
        found.sort_by(f64::total_cmp);
        found[found.len() / 2]
    };
    after.iter().map(median).collect()
}
