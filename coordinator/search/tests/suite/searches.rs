//! What samplers that learn find, beside random search.

use regatta_schemas::Params;
use regatta_schemas::TrialId;
use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::StudyFile;
use regatta_search::Time;
use regatta_search::news::{Measurement, News};
use regatta_search::samplers::{Sampler, sampler_for};
use serde_json::{Value, json};

use crate::files::study;
use crate::toys::{mixed_loss, mixed_space};

const LANES: usize = 8;
const RESOURCE: u32 = 9;

fn file(sampler: &str, space: &Value, seed: u64, trials: u32) -> StudyFile {
    let objective = json!({"metric": "validation_loss", "goal": "minimize"});
    let budget = json!({"trials": trials, "resource": RESOURCE});
    let mut file = study(json!({"sampler": sampler, "seed": seed, "objective": objective, "budget": budget}));
    file.space = serde_json::from_value(space.clone()).unwrap();
    file
}

/// A search on eight lanes, trials ending in the order of their start. `rungs`: a trial that is worse than the median at
/// a third of its epochs ends there. The least loss of any.
fn least_loss(file: &StudyFile, rungs: bool, loss: &dyn Fn(&Params) -> f64) -> f64 {
    let mut sampler = sampler_for(file);
    let (mut least, mut seen) = (f64::INFINITY, Vec::new());
    let mut running: Vec<(TrialId, Params)> = Vec::new();
    for index in 0..u64::from(file.budget.trials) {
        let trial = TrialId(index as u32);
        let params = sampler.propose(index, &[]).unwrap();
        sampler.observe(News::Proposed { trial, index: Some(index), params: &params, at: Time::default() });
        running.push((trial, params));
        if running.len() == LANES {
            let (trial, params) = running.remove(0);
            least = least.min(train(&mut *sampler, trial, loss(&params), rungs.then_some(&mut seen)));
        }
    }
    for (trial, params) in running {
        least = least.min(train(&mut *sampler, trial, loss(&params), None));
    }
    least
}

/// A curve that falls to its loss; the last of it.
fn train(sampler: &mut dyn Sampler, trial: TrialId, loss: f64, seen: Option<&mut Vec<f64>>) -> f64 {
    // Short runs mislead a little.
    let curve = |resource: u32| loss + (2.0 + 0.3 * (1e3 * loss).sin()) / f64::from(resource);
    let mut last = RESOURCE;
    if let Some(seen) = seen {
        let first = curve(RESOURCE / 3);
        seen.push(first);
        seen.sort_by(f64::total_cmp);
        if first > seen[seen.len() / 2] {
            last = RESOURCE / 3;
        }
    }
    for resource in 1..=last {
        let (value, metrics) = (curve(resource), &Default::default());
        sampler.observe(News::Measured(Measurement { trial, resource, value, ranked: value, metrics }));
    }
    let outcome = if last == RESOURCE { Outcome::Finished } else { Outcome::Stopped };
    sampler.observe(News::Ended { trial, outcome });
    curve(last)
}

/// Of 20 seeds, in how many the sampler found better than random search with as many trials, without rungs and with.
fn check(sampler: &str, trials: u32) {
    let space = mixed_space();
    for rungs in [false, true] {
        let found = |sampler: &str, seed| least_loss(&file(sampler, &space, seed, trials), rungs, &mixed_loss);
        let pairs: Vec<(f64, f64)> = (0..20).map(|seed| (found(sampler, seed), found("random", seed))).collect();
        let wins = pairs.iter().filter(|(found, random)| found < random).count();
        assert!(wins >= 15, "rungs {rungs}: better in {wins}: {pairs:.3?}");
    }
}

#[test]
fn conformal_quantile_regression_finds_better_than_random_search() {
    check("cqr", 60);
}

#[test]
fn tpe_finds_better_than_random_search() {
    check("tpe", 80);
}

#[test]
fn cma_es_finds_better_than_random_search() {
    check("cma_es", 100);
}

#[test]
fn evolution_finds_better_than_random_search() {
    check("evolution", 200);
}
