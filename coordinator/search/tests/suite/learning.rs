//! What every sampler that learns must keep, besides what every sampler must.

use std::collections::{BTreeMap, BTreeSet};

use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::{Earlier, Goal, Sampler as Choice, StudyFile};
use regatta_schemas::{ParamValue, Params, TrialId, check};
use regatta_search::Time;
use regatta_search::news::{Measurement, News};
use regatta_search::samplers::{Sampler, sampler_for};
use serde_json::{Value, json};

use crate::files::METRIC;
use crate::samplers::{every_space, file, those_that_learn};
use crate::stage::Stage;

/// One line of a study's log, as samplers hear of it.
#[derive(Debug, Clone)]
enum Line {
    Proposed { trial: TrialId, index: Option<u64>, params: Params },
    Measured { trial: TrialId, resource: u32, value: f64 },
    Ended { trial: TrialId, outcome: Outcome },
}

impl Line {
    fn tell(&self, sampler: &mut dyn Sampler) {
        match self {
            Self::Proposed { trial, index, params } => {
                sampler.observe(News::Proposed { trial: *trial, index: *index, params, at: Time::default() });
            }
            Self::Measured { trial, resource, value } => {
                let metrics = BTreeMap::from([(METRIC.to_owned(), *value)]);
                let (trial, resource, value) = (*trial, *resource, *value);
                sampler.observe(News::Measured(Measurement {
                    trial,
                    resource,
                    value,
                    ranked: value,
                    metrics: &metrics,
                }));
            }
            Self::Ended { trial, outcome } => sampler.observe(News::Ended { trial: *trial, outcome: *outcome }),
        }
    }
}

/// The values of a trial, of one epoch after the other, and how it ends.
type Train = dyn Fn(u32, &Params) -> (Vec<f64>, Outcome);

/// A study of a sampler's proposals that are measured `LANES` behind.
struct Search<'a> {
    sampler: Box<dyn Sampler>,
    log: Vec<Line>,
    /// What the sampler proposed.
    proposals: Vec<Params>,
    /// Its trials that have not ended.
    running: Vec<(TrialId, Params)>,
    next_trial: u32,
    train: &'a Train,
}

const LANES: usize = 8;

impl<'a> Search<'a> {
    fn new(file: &StudyFile, train: &'a Train) -> Self {
        let (log, proposals, running) = (Vec::new(), Vec::new(), Vec::new());
        Self { sampler: sampler_for(file), log, proposals, running, next_trial: 0, train }
    }

    fn tell(&mut self, line: Line) {
        line.tell(&mut *self.sampler);
        self.log.push(line);
    }

    fn begin(&mut self, index: Option<u64>, params: Params) {
        let trial = TrialId(self.next_trial);
        self.next_trial += 1;
        self.tell(Line::Proposed { trial, index, params: params.clone() });
        self.running.push((trial, params));
    }

    /// Measures all of the oldest running trial.
    fn end_oldest(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let (trial, params) = self.running.remove(0);
        let (values, outcome) = (self.train)(trial.0, &params);
        for (epoch, value) in values.into_iter().enumerate() {
            self.tell(Line::Measured { trial, resource: epoch as u32 + 1, value });
        }
        self.tell(Line::Ended { trial, outcome });
    }

    /// Until so many were proposed, or nothing is left to propose.
    fn go_on(&mut self, count: usize) {
        while self.proposals.len() < count {
            if self.running.len() == LANES {
                self.end_oldest();
            }
            let index = self.proposals.len() as u64;
            let Some(params) = self.sampler.propose(index, &[]) else { break };
            self.proposals.push(params.clone());
            self.begin(Some(index), params);
        }
    }
}

fn for_each_pair(body: impl Fn(&Value, &Value, Option<u64>)) {
    for sampler in those_that_learn() {
        for (space, count) in every_space() {
            body(&sampler, &space, count);
        }
    }
}

/// A number that depends on all of a configuration, in [0, 1).
fn scatter(params: &Params) -> f64 {
    let text = serde_json::to_string(params).unwrap();
    let hash = text.bytes().fold(7_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Trials finish, stop early, fail before and after they measured something.
fn every_end(trial: u32, params: &Params) -> (Vec<f64>, Outcome) {
    let value = scatter(params);
    match trial % 5 {
        0 => (vec![value + 0.5], Outcome::Stopped),
        1 => (Vec::new(), Outcome::Failed),
        2 => (vec![value * 1e300, value], Outcome::Failed),
        _ => (vec![value + 0.5, value + 0.2, value], Outcome::Finished),
    }
}

fn assert_sound(file: &StudyFile, proposals: &[Params], case: &str) {
    for params in proposals {
        let json = serde_json::to_value(params).unwrap();
        assert_eq!(check::params(&file.space, &json).as_ref(), Ok(params), "{case}");
    }
    let distinct: BTreeSet<String> = proposals.iter().map(|params| format!("{params:?}")).collect();
    assert_eq!(distinct.len(), proposals.len(), "{case}");
}

#[test]
fn whatever_is_measured_proposals_stay_in_bounds_and_differ() {
    let constant = |_: u32, _: &Params| (vec![0.25], Outcome::Finished);
    let huge = |_: u32, params: &Params| (vec![(scatter(params) - 0.5) * 3e307, 1e300], Outcome::Finished);
    let failing = |_: u32, _: &Params| (Vec::new(), Outcome::Failed);
    let two_values = |_: u32, params: &Params| (vec![scatter(params).round() * -1e300], Outcome::Stopped);
    let trainings: [(&str, &Train); 5] = [
        ("every end", &every_end),
        ("constant", &constant),
        ("huge", &huge),
        ("all fail", &failing),
        ("two values", &two_values),
    ];
    for_each_pair(|sampler, space, count| {
        for (name, train) in trainings {
            let file = file(sampler, space, 3);
            let mut search = Search::new(&file, train);
            search.go_on(90);
            assert_sound(&file, &search.proposals, &format!("{sampler} {name}"));
            assert_eq!(search.proposals.len() as u64, count.unwrap_or(90), "{sampler} {name}: all of a finite space");
        }
    });
}

#[test]
fn the_same_seed_and_log_give_the_same_proposals_after_a_restart_at_any_point() {
    for_each_pair(|sampler, space, _| {
        let file = file(sampler, space, 11);
        let mut search = Search::new(&file, &every_end);
        search.go_on(60);
        let mut replayed = sampler_for(&file);
        for line in &search.log {
            if let Line::Proposed { index: Some(index), params, .. } = line {
                assert_eq!(replayed.propose(*index, &[]).as_ref(), Some(params), "{sampler}");
            }
            // What is read back went through JSON.
            let line = match line.clone() {
                Line::Proposed { trial, index, params } => {
                    let text = serde_json::to_string(&params).unwrap();
                    Line::Proposed { trial, index, params: serde_json::from_str(&text).unwrap() }
                }
                other => other,
            };
            line.tell(&mut *replayed);
        }
        // One that was never asked before the restart goes on as the one that was asked every time.
        let mut restarted = sampler_for(&file);
        search.log.iter().for_each(|line| line.tell(&mut *restarted));
        let next = search.proposals.len() as u64;
        assert_eq!(restarted.propose(next, &[]), search.sampler.propose(next, &[]), "{sampler}");
    });
}

#[test]
fn news_that_come_again_do_no_harm() {
    for_each_pair(|sampler, space, count| {
        let file = file(sampler, space, 2);
        let mut search = Search::new(&file, &every_end);
        search.go_on(40);
        search.log.clone().iter().for_each(|line| line.tell(&mut *search.sampler));
        search.go_on(60);
        assert_sound(&file, &search.proposals, &sampler.to_string());
        assert_eq!(search.proposals.len() as u64, count.unwrap_or(60), "{sampler}");
    });
}

#[test]
fn another_seed_gives_other_proposals() {
    let (mixed, _) = &every_space()[0];
    for sampler in those_that_learn() {
        let of = |seed| {
            let mut search = Search::new(&file(&sampler, mixed, seed), &every_end);
            search.go_on(60);
            search.proposals
        };
        let (one, other) = (of(1), of(2));
        assert!(one.iter().zip(&other).all(|(a, b)| a != b), "{sampler}");
    }
}

#[test]
fn trials_from_outside_may_lie_anywhere() {
    let foreign = json!([
        {},
        {"nobody": 1, "rate": 5.0},
        {"rate": 0.01, "optimizer": "lion", "width": 9, "layers": 2, "batch": 48},
        {"rate": 0.5, "momentum": 0.3, "nesterov": true, "optimizer": "adam", "width": 100_000, "layers": 3, "batch": 16},
        {"a": 1, "b": true, "c": 2, "d": "x", "f": "x", "i": 1e300},
        {"a": false, "b": 1, "f": 0.05, "i": -100},
    ]);
    let foreign: Vec<Params> = serde_json::from_value(foreign).unwrap();
    for_each_pair(|sampler, space, count| {
        let file = file(sampler, space, 4);
        let mut search = Search::new(&file, &every_end);
        for rounds in 1..=8 {
            for params in &foreign {
                search.begin(None, params.clone());
                search.end_oldest();
            }
            search.go_on(rounds * 10);
        }
        assert_sound(&file, &search.proposals, &sampler.to_string());
        assert_eq!(search.proposals.len() as u64, count.unwrap_or(80), "{sampler}: its own count alone");
    });
}

#[test]
fn what_is_pending_is_not_proposed_again_whether_it_was_observed_or_not() {
    for_each_pair(|sampler, space, count| {
        let file = file(sampler, space, 6);
        let mut search = Search::new(&file, &every_end);
        search.go_on(count.unwrap_or(40).min(40) as usize / 2);
        let mut all = search.proposals.clone();
        let first = all.len();
        for index in first..(first + 16).min(count.unwrap_or(u64::MAX) as usize) {
            let pending: Vec<&Params> = all[first..].iter().collect();
            let params = search.sampler.propose(index as u64, &pending).unwrap();
            all.push(params);
        }
        assert_sound(&file, &all, &format!("{sampler} {space}"));
    });
}

#[test]
fn minimizing_mirrors_maximizing() {
    let mirrored = |trial: u32, params: &Params| {
        let (values, outcome) = every_end(trial, params);
        (values.into_iter().map(|value| -value).collect(), outcome)
    };
    for_each_pair(|sampler, space, _| {
        let mut file = file(sampler, space, 8);
        let mut proposals = Vec::new();
        let goals: [(Goal, &Train); 2] = [(Goal::Minimize, &every_end), (Goal::Maximize, &mirrored)];
        for (goal, train) in goals {
            file.objective.goal = goal;
            let mut search = Search::new(&file, train);
            search.go_on(50);
            proposals.push(search.proposals);
        }
        assert_eq!(proposals[0], proposals[1], "{sampler}");
    });
}

/// Least at a rate of 0.001, a share of 0.7 and 12 units with `b`; what is best for one depends on another.
fn valley(params: &Params) -> f64 {
    let number = |name: &str| params[name].as_f64().unwrap();
    let (rate, share, units) = (number("rate").log10() + 3.0, number("share") - 0.7, (number("units") - 12.0) / 20.0);
    let kind = if params["kind"] == ParamValue::Text("b".to_owned()) { 0.0 } else { 0.3 };
    rate * rate / 4.0 + 2.0 * share * share + units * units + (rate * share).abs() / 2.0 + kind
}

#[test]
fn what_was_measured_is_learned_from() {
    const SEEDS: u64 = 20;
    let space = json!({
        "rate": {"type": "float", "low": 1e-6, "high": 1.0, "log": true},
        "share": {"type": "float", "low": 0.0, "high": 1.0},
        "units": {"type": "int", "low": 1, "high": 20},
        "kind": {"type": "categorical", "choices": ["a", "b", "c", "d"]},
        "switch": {"type": "bool"},
    });
    let train = |_: u32, params: &Params| (vec![valley(params)], Outcome::Finished);
    let best = |sampler: &Value, seed: u64| {
        let mut file = file(sampler, &space, seed);
        file.objective.goal = Goal::Minimize;
        let mut search = Search::new(&file, &train);
        search.go_on(120);
        search.proposals.iter().map(valley).fold(f64::INFINITY, f64::min)
    };
    let random: Vec<f64> = (0..SEEDS).map(|seed| best(&json!("random"), seed)).collect();
    for sampler in those_that_learn() {
        let wins = (0..SEEDS).filter(|seed| best(&sampler, *seed) < random[*seed as usize]).count();
        assert!(wins >= 16, "{sampler}: better than random for {wins} of {SEEDS} seeds");
    }
}

#[test]
fn what_earlier_trials_measured_is_known_from_the_first_proposal_on() {
    const PROPOSALS: u32 = 8;
    let space =
        json!({"x": {"type": "float", "low": 0.0, "high": 1.0}, "y": {"type": "float", "low": 0.0, "high": 1.0}});
    let distance = |params: &Params| {
        let at = |name: &str| params[name].as_f64().unwrap();
        ((at("x") - 0.8).powi(2) + (at("y") - 0.3).powi(2)).sqrt()
    };
    let mean_distance = |sampler: &Value, has_earlier: bool| {
        let mut file = file(sampler, &space, 3);
        file.budget.trials = PROPOSALS;
        let known = sampler_for(&StudyFile { sampler: Choice::Sobol, ..file.clone() });
        let known = (0..64).filter_map(|index| known.propose(index, &[]));
        if has_earlier {
            let metrics = |params: &Params| BTreeMap::from([(METRIC.to_owned(), 1.0 - distance(params))]);
            file.earlier =
                known.map(|params| Earlier { metrics: metrics(&params), params, resource: Some(4) }).collect();
        }
        let mut stage = Stage::new(vec![file]);
        stage.beat("a", PROPOSALS, &[]);
        (0..PROPOSALS).map(|trial| distance(&stage.trial(trial).proposed.params)).sum::<f64>() / f64::from(PROPOSALS)
    };
    for sampler in those_that_learn() {
        let (with, without) = (mean_distance(&sampler, true), mean_distance(&sampler, false));
        assert!(with < 0.8 * without, "{sampler}: {with} with earlier results, {without} without");
    }
}
