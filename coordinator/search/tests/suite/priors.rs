//! What priors do to a search: good ones help at once, wrong ones cost a while.
//!
//! `examples/priors.rs` prints the same for more of them.

use regatta_schemas::TrialId;
use regatta_search::Time;
use regatta_search::news::News;
use regatta_search::samplers::sampler_for;
use serde_json::json;

use crate::samplers::{every_sampler, file};
use crate::toys::{Beliefs, medians};

/// How long a search goes on, and over how many seeds the median is taken.
struct Length {
    trials: usize,
    seeds: u64,
}

const LONG: Length = Length { trials: 100, seeds: 20 };
/// A Gaussian process thinks for long.
const SHORT: Length = Length { trials: 50, seeds: 11 };

/// `slack`: what may be left of wrong priors in the end, in shares of what is found without any after 10 trials.
fn check(sampler: &str, length: &Length, slack: f64) {
    let of = |beliefs| medians(sampler, beliefs, &[10, 25, length.trials], length.seeds);
    let (none, good, wrong) = (of(Beliefs::None), of(Beliefs::Good), of(Beliefs::Wrong));
    assert!(good[0] < 0.5 * none[0], "{sampler}: after 10, {} with good priors and {} without", good[0], none[0]);
    assert!(good[1] < 0.5 * none[1], "{sampler}: after 25, {} with good priors and {} without", good[1], none[1]);
    assert!(wrong[2] < slack * none[0], "{sampler}: {wrong:?} with wrong priors and {none:?} without");
}

#[test]
fn good_priors_help_and_wrong_ones_leave_a_search_without_a_model_half_of_its_trials() {
    for sampler in ["random", "sobol"] {
        check(sampler, &LONG, 1.0);
        let after = |beliefs| medians(sampler, beliefs, &[LONG.trials], LONG.seeds)[0];
        let (none, vague) = (after(Beliefs::None), after(Beliefs::Vague));
        assert!(vague < 1.2 * none, "{sampler}: {vague} with vague priors and {none} without");
    }
}

#[test]
fn good_priors_help_and_a_search_with_a_model_recovers_from_wrong_ones() {
    for sampler in ["tpe", "cqr", "evolution", "cma_es"] {
        check(sampler, &LONG, 0.5);
    }
}

#[test]
fn good_priors_help_and_a_gaussian_process_recovers_from_wrong_ones() {
    check("gp", &SHORT, 0.5);
}

#[test]
fn every_sampler_but_a_grid_begins_near_a_prior_and_not_there_alone() {
    let prior = json!({"value": 0.9, "confidence": "high"});
    let space = json!({"x": {"type": "float", "low": 0.0, "high": 1.0, "prior": prior}});
    for name in every_sampler().into_iter().filter(|sampler| sampler["name"] != json!("grid")) {
        let mut sampler = sampler_for(&file(&name, &space, 5));
        let mut near = 0;
        for index in 0..100 {
            let params = sampler.propose(index, &[]).unwrap();
            near += u32::from(params["x"].as_f64().unwrap() > 0.8);
            let (trial, index) = (TrialId(index as u32), Some(index));
            sampler.observe(News::Proposed { trial, index, params: &params, at: Time::default() });
        }
        // Twenty would be if nothing were believed; one of five of those drawn by the prior lie elsewhere.
        assert!((35..90).contains(&near), "{name}: {near} of 100");
    }
}
