//! What a study seeks: its objectives and the constraints it keeps, as one score for what a trial measured.

use std::collections::BTreeMap;

use regatta_schemas::study::{Constraint, Goal, Objective, StudyFile};

use crate::pareto::Score;

#[derive(Debug, Clone, PartialEq)]
pub struct Objectives {
    /// The study's objective, and those beside it.
    objectives: Vec<Objective>,
    constraints: Vec<Constraint>,
}

impl Objectives {
    pub fn new(file: &StudyFile) -> Self {
        Self { objectives: file.objectives().cloned().collect(), constraints: file.constraints.clone() }
    }

    /// Whether there is more than one.
    pub fn are_several(&self) -> bool {
        self.objectives.len() > 1
    }

    /// None: an objective or a constrained metric was not measured.
    pub fn score(&self, metrics: &BTreeMap<String, f64>) -> Option<Score> {
        let loss = |objective: &Objective| Some(objective.goal.loss(*metrics.get(&objective.metric)?));
        let losses = self.objectives.iter().map(loss).collect::<Option<Vec<f64>>>()?;
        Some(Score { losses, violation: self.violation(metrics)? })
    }

    /// The objectives' values, of those that were measured.
    pub fn values(&self, metrics: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
        let value = |objective: &Objective| Some((objective.metric.clone(), *metrics.get(&objective.metric)?));
        self.objectives.iter().filter_map(value).collect()
    }

    /// The sum of what each bound is exceeded by, relative to the bound; None: a constrained metric was not measured.
    pub fn violation(&self, metrics: &BTreeMap<String, f64>) -> Option<f64> {
        self.constraints.iter().map(|constraint| exceeded(constraint, *metrics.get(&constraint.metric)?)).sum()
    }
}

fn exceeded(constraint: &Constraint, value: f64) -> Option<f64> {
    let beyond = |excess: f64, bound: f64| excess.max(0.0) / if bound == 0.0 { 1.0 } else { bound.abs() };
    let above = constraint.max.map_or(0.0, |max| beyond(value - max, max));
    let below = constraint.min.map_or(0.0, |min| beyond(min - value, min));
    Some(above + below)
}

/// Losses from here on are of what breaks a constraint. No metric comes near it.
const BROKEN: f64 = 1e200;
/// The most that a violation counts.
const VIOLATION_MAX: f64 = 1e6;

/// What ranks a value, with what its constraints are exceeded by: whoever compares one number has all that keep them
/// before all that break them, and of those the ones that break them less; it does not depend on what else was seen.
/// `violation` is None where a constrained metric was not measured: it is not known to be kept, and among such the better
/// value is before the others.
pub fn ranked(goal: Goal, value: f64, violation: Option<f64>) -> f64 {
    match violation {
        Some(violation) if violation <= 0.0 => value,
        Some(violation) => goal.loss(BROKEN * (1.0 + violation.min(VIOLATION_MAX))),
        // Between 1 and 2 more than the most; one number cannot tell values apart that differ by less than some 1e-10.
        None => goal.loss(BROKEN * (2.5 + VIOLATION_MAX + goal.loss(value).atan() / std::f64::consts::PI)),
    }
}

/// By how much the constraints are broken by what has this loss, of a [`ranked`] value; None: they are kept.
pub fn violation(loss: f64) -> Option<f64> {
    (loss >= BROKEN).then(|| loss / BROKEN - 1.0)
}

/// Whether a [`ranked`] value is of what keeps the constraints.
pub fn keeps_constraints(goal: Goal, ranked: f64) -> bool {
    violation(goal.loss(ranked)).is_none()
}

/// A [`violation`] as it was measured; None: a constrained metric was not.
pub fn measured(violation: f64) -> Option<f64> {
    Some(violation).filter(|violation| *violation < VIOLATION_MAX + 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_a_constraint_is_worse_than_what_keeps_it_whichever_came_first() {
        for (goal, sign) in [(Goal::Maximize, 1.0), (Goal::Minimize, -1.0)] {
            let ranked = |value: f64, violation| sign * ranked(goal, sign * value, violation);
            let (little, much, unknown) = (ranked(0.95, Some(0.1)), ranked(0.99, Some(2.0)), ranked(0.97, None));
            assert_eq!((ranked(0.5, Some(0.0)), ranked(-1e9, Some(0.0))), (0.5, -1e9));
            assert!(little < -1e9 && much < little && unknown < much, "{little} {much} {unknown}");
            assert!(unknown.is_finite() && unknown > ranked(0.96, None), "the better one is before the other");
            let of = |ranked: f64| violation(goal.loss(sign * ranked));
            assert_eq!(of(0.5), None);
            assert!(of(much).is_some_and(|violation| (violation - 2.0).abs() < 1e-9));
        }
    }

    #[test]
    fn violations_are_relative_to_their_bounds() {
        let constraint = |max, min| Constraint { metric: "m".to_owned(), max, min };
        for (constraint, value, expected) in [
            (constraint(Some(20.0), None), 30.0, 0.5),
            (constraint(Some(20.0), None), 20.0, 0.0),
            (constraint(None, Some(0.5)), 0.25, 0.5),
            (constraint(Some(0.0), None), 0.25, 0.25),
            (constraint(Some(2.0), Some(1.0)), 1.5, 0.0),
        ] {
            assert_eq!(exceeded(&constraint, value), Some(expected), "{constraint:?} {value}");
        }
    }
}
