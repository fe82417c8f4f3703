//! What an ablation showed: of each component, the mean difference that leaving it out makes, with an interval.
//!
//! Trials of one repeat have one seed, so differences are taken within a repeat and the repeats are the sample
//! (a paired design; Montgomery, Design and Analysis of Experiments, chapters 2 and 6). A difference is the objective
//! without the component, less the objective with it: below zero, leaving it out made the objective smaller.

mod estimate;

use std::collections::{BTreeMap, BTreeSet};

use regatta_schemas::ablation::{Ablation, Design};
use regatta_schemas::study::Goal;

pub use crate::student::quantile as student_quantile;
pub use estimate::{CONFIDENCE, Estimate, estimate};

/// What one trial of an ablation gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The components left out, in the order of their names.
    pub without: Vec<String>,
    pub repeat: u32,
    /// The objective at the end of the training; None: the trial gave none.
    pub value: Option<f64>,
    /// Why there is no value.
    pub failure: Option<String>,
}

/// What leaving out components makes of the objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// One component, or two whose interaction this is.
    pub of: Vec<String>,
    /// None: no repeat has all the trials that it takes.
    pub estimate: Option<Estimate>,
    /// Of a single component: the mean objective without it and nothing else.
    pub mean_without: Option<f64>,
    /// Why trials that it takes gave no value.
    pub failures: BTreeSet<String>,
}

/// The findings of an ablation.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// The mean objective with nothing left out.
    pub mean_whole: Option<f64>,
    /// Of each component: the worst to be without first, those without an estimate last.
    pub effects: Vec<Effect>,
    /// Of each pair, where the design has them: how much more leaving out both changes than each alone together.
    pub interactions: Vec<Effect>,
}

/// The findings, by trials in any order. `seed` draws the samples of the bootstrap.
pub fn findings(ablation: &Ablation, goal: Goal, outcomes: &[Outcome], seed: u64) -> Findings {
    let table = Table::new(outcomes);
    let names: Vec<&str> = ablation.components.keys().map(String::as_str).collect();
    let is_factorial = ablation.design == Design::Factorial;
    let effect = |of: &[&str]| {
        let others: Vec<&str> = names.iter().copied().filter(|name| is_factorial && !of.contains(name)).collect();
        table.effect(of, &subsets(&others), ablation.repeats, seed)
    };
    let mut effects: Vec<Effect> = names.iter().map(|name| effect(&[*name])).collect();
    let mut interactions = Vec::new();
    if ablation.design != Design::LeaveOneOut {
        for (place, one) in names.iter().enumerate() {
            interactions.extend(names[place + 1..].iter().map(|other| effect(&[*one, *other])));
        }
    }
    sort_by_loss(&mut effects, goal);
    interactions.sort_by(|a, b| size(b).total_cmp(&size(a)).then_with(|| a.of.cmp(&b.of)));
    Findings { mean_whole: table.mean(&[]), effects, interactions }
}

fn sort_by_loss(effects: &mut [Effect], goal: Goal) {
    let gain = |effect: &Effect| match (&effect.estimate, goal) {
        (None, _) => f64::INFINITY,
        (Some(estimate), Goal::Maximize) => estimate.mean,
        (Some(estimate), Goal::Minimize) => -estimate.mean,
    };
    effects.sort_by(|a, b| gain(a).total_cmp(&gain(b)).then_with(|| a.of.cmp(&b.of)));
}

/// Those without an estimate are last.
fn size(effect: &Effect) -> f64 {
    effect.estimate.as_ref().map_or(-1.0, |estimate| estimate.mean.abs())
}

/// Every subset, the empty one first; each in the order given.
fn subsets<'n>(names: &[&'n str]) -> Vec<Vec<&'n str>> {
    names.iter().fold(vec![Vec::new()], |sets, name| {
        let with = sets.iter().map(|set| [set.as_slice(), &[*name]].concat()).collect::<Vec<_>>();
        [sets, with].concat()
    })
}

/// Outcomes by what was left out and by repeat.
struct Table<'o> {
    outcome_by_cell: BTreeMap<(BTreeSet<&'o str>, u32), &'o Outcome>,
}

impl<'o> Table<'o> {
    fn new(outcomes: &'o [Outcome]) -> Self {
        let cell = |outcome: &'o Outcome| (outcome.without.iter().map(String::as_str).collect(), outcome.repeat);
        Self { outcome_by_cell: outcomes.iter().map(|outcome| (cell(outcome), outcome)).collect() }
    }

    fn value(&self, without: &[&str], repeat: u32) -> Option<f64> {
        let outcome = self.outcome_by_cell.get(&(without.iter().copied().collect(), repeat))?;
        outcome.value.filter(|value| value.is_finite())
    }

    fn mean(&self, without: &[&str]) -> Option<f64> {
        let of: BTreeSet<&str> = without.iter().copied().collect();
        let cells = self.outcome_by_cell.iter().filter(|((left_out, _), _)| *left_out == of);
        let values: Vec<f64> = cells.filter_map(|(_, outcome)| outcome.value.filter(|v| v.is_finite())).collect();
        (!values.is_empty()).then(|| estimate::mean(&values))
    }

    /// The contrast of one component or two, averaged over what else is left out.
    fn effect(&self, of: &[&str], besides: &[Vec<&str>], repeats: u32, seed: u64) -> Effect {
        // Each subset of `of` with its sign: minus where an odd number of its components stays in.
        let terms: Vec<(f64, Vec<&str>)> = subsets(of)
            .into_iter()
            .map(|left_out| (if (of.len() - left_out.len()).is_multiple_of(2) { 1.0 } else { -1.0 }, left_out))
            .collect();
        let in_repeat = |repeat: u32| {
            let mut sum = 0.0;
            for besides in besides {
                for (sign, left_out) in &terms {
                    sum += sign * self.value(&[left_out.as_slice(), besides].concat(), repeat)?;
                }
            }
            Some(sum / besides.len() as f64)
        };
        let differences: Vec<f64> = (0..repeats).filter_map(in_repeat).collect();
        let name = of.join(" x ");
        let is_part = |left_out: &BTreeSet<&str>| {
            besides.iter().any(|besides| {
                let rest: BTreeSet<&str> = left_out.iter().copied().filter(|name| !of.contains(name)).collect();
                rest == besides.iter().copied().collect()
            })
        };
        let failed = self.outcome_by_cell.iter().filter(|((left_out, _), _)| is_part(left_out));
        Effect {
            of: of.iter().map(|name| (*name).to_owned()).collect(),
            estimate: estimate(&differences, seed, &name),
            mean_without: (of.len() == 1).then(|| self.mean(of)).flatten(),
            failures: failed.filter_map(|(_, outcome)| outcome.failure.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ablation(names: &[&str], repeats: u32, design: &str) -> Ablation {
        let components: serde_json::Map<String, serde_json::Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({"layers": [name]}))).collect();
        serde_json::from_value(json!({"components": components, "repeats": repeats, "design": design})).unwrap()
    }

    /// Every trial of the ablation, by a formula.
    fn outcomes(ablation: &Ablation, value: impl Fn(&[String], f64) -> Option<f64>) -> Vec<Outcome> {
        let trials = (0..ablation.trials()).filter_map(|index| ablation.trial(index));
        let outcome = |(without, repeat): (Vec<String>, u32)| {
            let value = value(&without, f64::from(repeat));
            let failure = value.is_none().then(|| "refused".to_owned());
            Outcome { without, repeat, value, failure }
        };
        trials.map(outcome).collect()
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    fn has(without: &[String], name: &str) -> f64 {
        f64::from(u8::from(without.iter().any(|left_out| left_out == name)))
    }

    #[test]
    fn a_difference_is_taken_within_a_repeat() {
        let ablation = ablation(&["vital", "useless"], 4, "leave_one_out");
        // Repeats differ by a whole 10 each; the differences by 1, 2, 3, 4 hundredths and by -1, 1, -1, 1.
        let found = outcomes(&ablation, |without, repeat| {
            let (vital, useless) = (has(without, "vital"), has(without, "useless"));
            Some(10.0 * repeat - vital * 0.01 * (repeat + 1.0) + useless * (2.0 * (repeat % 2.0) - 1.0))
        });
        let findings = findings(&ablation, Goal::Maximize, &found, 0);
        close(findings.mean_whole.unwrap(), 15.0);
        let [vital, useless] = findings.effects.as_slice() else { panic!("two components") };
        assert_eq!((vital.of.join(""), useless.of.join("")), ("vital".into(), "useless".into()));
        let estimate = vital.estimate.as_ref().unwrap();
        // Mean 0.025, deviation sqrt(5/3) / 100, t(0.975; 3) = 3.182446.
        close(estimate.mean, -0.025);
        close(estimate.deviation, 0.012_909_944);
        close(estimate.interval.unwrap().0, -0.025 - 3.182_446 * 0.012_909_944 / 2.0);
        close(estimate.interval.unwrap().1, -0.025 + 3.182_446 * 0.012_909_944 / 2.0);
        close(estimate.effect_size.unwrap(), -0.025 / 0.012_909_944);
        close(vital.mean_without.unwrap(), 14.975);
        let estimate = useless.estimate.as_ref().unwrap();
        close(estimate.mean, 0.0);
        assert!(estimate.holds_zero());
    }

    #[test]
    fn the_worst_to_be_without_is_first_whatever_the_goal() {
        let ablation = ablation(&["a", "b", "c"], 2, "leave_one_out");
        let found =
            outcomes(&ablation, |without, _| (has(without, "b") == 0.0).then(|| has(without, "a") - has(without, "c")));
        for (goal, expected) in [(Goal::Maximize, ["c", "a", "b"]), (Goal::Minimize, ["a", "c", "b"])] {
            let findings = findings(&ablation, goal, &found, 0);
            let order: Vec<String> = findings.effects.iter().map(|effect| effect.of.join("")).collect();
            assert_eq!(order, expected, "{goal:?}");
            assert_eq!(findings.effects[2].estimate, None);
            assert_eq!(findings.effects[2].failures, BTreeSet::from(["refused".to_owned()]));
        }
    }

    #[test]
    fn a_repeat_without_all_its_trials_does_not_count() {
        let ablation = ablation(&["a"], 3, "leave_one_out");
        let found = outcomes(&ablation, |without, repeat| (repeat != 1.0).then(|| has(without, "a") * repeat));
        let estimate = findings(&ablation, Goal::Maximize, &found, 0).effects[0].estimate.clone().unwrap();
        assert_eq!(estimate.repeats, 2);
        close(estimate.mean, 1.0);
    }

    #[test]
    fn an_interaction_is_what_both_change_beyond_each() {
        let ablation = ablation(&["a", "b", "c"], 3, "pairs");
        let found = outcomes(&ablation, |without, _| {
            let [a, b, c] = ["a", "b", "c"].map(|name| has(without, name));
            Some(1.0 - 2.0 * a - 3.0 * b - c - 5.0 * a * b + 0.5 * b * c)
        });
        let findings = findings(&ablation, Goal::Maximize, &found, 0);
        let of = |effects: &[Effect], names: &str| {
            effects.iter().find(|effect| effect.of.join("") == names).unwrap().estimate.as_ref().unwrap().mean
        };
        for (name, expected) in [("a", -2.0), ("b", -3.0), ("c", -1.0)] {
            close(of(&findings.effects, name), expected);
        }
        for (names, expected) in [("ab", -5.0), ("ac", 0.0), ("bc", 0.5)] {
            close(of(&findings.interactions, names), expected);
        }
        assert_eq!(findings.interactions[0].of, ["a", "b"], "the greatest first");
    }

    #[test]
    fn a_factorial_effect_is_the_mean_over_all_that_else_is_left_out() {
        let ablation = ablation(&["a", "b"], 2, "factorial");
        let found = outcomes(&ablation, |without, _| {
            let (a, b) = (has(without, "a"), has(without, "b"));
            Some(-2.0 * a - 3.0 * b - 4.0 * a * b)
        });
        let findings = findings(&ablation, Goal::Maximize, &found, 0);
        let means: Vec<f64> = findings.effects.iter().map(|effect| effect.estimate.as_ref().unwrap().mean).collect();
        close(means[0], -5.0); // b: the mean of -3 and -7
        close(means[1], -4.0); // a: the mean of -2 and -6
        close(findings.interactions[0].estimate.as_ref().unwrap().mean, -4.0);
    }
}
