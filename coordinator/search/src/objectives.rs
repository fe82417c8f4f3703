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
        let objectives = std::iter::once(&file.objective).chain(&file.further_objectives).cloned().collect();
        Self { objectives, constraints: file.constraints.clone() }
    }

    /// Whether there is more than one.
    pub fn are_several(&self) -> bool {
        self.objectives.len() > 1
    }

    /// None: an objective or a constrained metric was not measured.
    pub fn score(&self, metrics: &BTreeMap<String, f64>) -> Option<Score> {
        let loss = |objective: &Objective| Some(loss(objective.goal, *metrics.get(&objective.metric)?));
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

/// The value as one to be made small.
pub fn loss(goal: Goal, value: f64) -> f64 {
    match goal {
        Goal::Minimize => value,
        Goal::Maximize => -value,
    }
}

fn exceeded(constraint: &Constraint, value: f64) -> Option<f64> {
    let beyond = |excess: f64, bound: f64| excess.max(0.0) / if bound == 0.0 { 1.0 } else { bound.abs() };
    let above = constraint.max.map_or(0.0, |max| beyond(value - max, max));
    let below = constraint.min.map_or(0.0, |min| beyond(min - value, min));
    Some(above + below)
}

/// Gives what breaks a constraint a value that is worse than any seen: samplers and stoppers that compare one number
/// lead away from it, the further the more it breaks.
#[derive(Debug, Clone, PartialEq)]
pub struct Penalty {
    goal: Goal,
    /// The best and the worst value seen, constraints kept or not.
    seen: Option<(f64, f64)>,
}

impl Penalty {
    pub fn new(goal: Goal) -> Self {
        Self { goal, seen: None }
    }

    /// One that has seen what earlier trials measured, and what each of them counts as.
    pub fn after_earlier(file: &StudyFile) -> (Self, Vec<f64>) {
        let (objectives, mut penalty) = (Objectives::new(file), Self::new(file.objective.goal));
        let value = |metrics: &BTreeMap<String, f64>| {
            let value = metrics.get(&file.objective.metric).copied().unwrap_or(f64::NAN);
            penalty.apply(value, objectives.violation(metrics).unwrap_or(f64::INFINITY))
        };
        let values = file.earlier.iter().map(|earlier| &earlier.metrics).map(value).collect();
        (penalty, values)
    }

    /// What the value counts as, with its violation.
    pub fn apply(&mut self, value: f64, violation: f64) -> f64 {
        let (best, worst) = self.seen.unwrap_or((value, value));
        let better = |a: f64, b: f64| if self.goal.is_better(a, b) { a } else { b };
        let worse = |a: f64, b: f64| if self.goal.is_better(a, b) { b } else { a };
        let (best, worst) = (better(best, value), worse(worst, value));
        self.seen = Some((best, worst));
        if violation <= 0.0 {
            return value;
        }
        let extent = (worst - best).abs().max(f64::EPSILON);
        let step = extent * (1.0 + violation.min(1e6));
        let counted = match self.goal {
            Goal::Minimize => worst + step,
            Goal::Maximize => worst - step,
        };
        if counted.is_finite() { counted } else { worst }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_a_constraint_is_worse_than_all_seen_and_the_more_the_worse() {
        for (goal, sign) in [(Goal::Maximize, 1.0), (Goal::Minimize, -1.0)] {
            let mut penalty = Penalty::new(goal);
            let mut apply = |value: f64, violation| sign * penalty.apply(sign * value, violation);
            assert_eq!((apply(0.5, 0.0), apply(0.9, 0.0)), (0.5, 0.9));
            let (little, much) = (apply(0.95, 0.1), apply(0.95, 2.0));
            assert!(little < 0.5 && much < little, "{little} {much}");
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
