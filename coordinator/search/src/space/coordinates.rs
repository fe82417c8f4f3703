//! Where a value lies in its domain: a number in [0, 1] for what has an order, the place among its choices for what has
//! none. Samplers that fit models think in these.

use regatta_schemas::ParamValue;
use regatta_schemas::study::Domain;

use super::domain::{between, float_step, float_steps, int_steps, sample_int_log};

/// The kind of a domain's coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// In [0, 1], uniform as the domain is (in the logarithm, where it says so). `levels`: how many values there are,
    /// where they are steps.
    Number { levels: Option<u64> },
    /// One of so many, in no order.
    Choice { count: usize },
}

/// A value's place in its domain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Coordinate {
    Number(f64),
    Choice(usize),
}

impl Axis {
    pub fn of(domain: &Domain) -> Self {
        match domain {
            Domain::Float { low, high, step: Some(step), .. } => {
                Self::Number { levels: Some(float_steps(*low, *high, *step)) }
            }
            Domain::Float { low, high, step: None, .. } => Self::Number { levels: (low == high).then_some(1) },
            Domain::Int { low, high, log, step } => {
                let step = if *log { 1 } else { step.unwrap_or(1).max(1) };
                Self::Number { levels: Some(int_steps(*low, *high, step)) }
            }
            Domain::Ordinal { choices } => Self::Number { levels: Some(choices.len() as u64) },
            Domain::Categorical { choices } => Self::Choice { count: choices.len() },
            Domain::Bool => Self::Choice { count: 2 },
        }
    }
}

/// The value's coordinate; None: the domain does not hold it. Of steps, the middle of the value's share.
pub fn locate(domain: &Domain, value: &ParamValue) -> Option<Coordinate> {
    let number = match (domain, value) {
        (Domain::Categorical { choices }, value) => {
            return choices.iter().position(|choice| choice == value).map(Coordinate::Choice);
        }
        (Domain::Bool, ParamValue::Bool(value)) => return Some(Coordinate::Choice(usize::from(*value))),
        (Domain::Ordinal { choices }, value) => {
            middle(choices.iter().position(|choice| choice == value)? as u64, choices.len() as u64)
        }
        (Domain::Float { low, high, step: Some(step), .. }, value) => {
            let levels = float_steps(*low, *high, *step);
            middle((((value.as_f64()? - low) / step).round().max(0.0) as u64).min(levels - 1), levels)
        }
        (Domain::Float { low, high, log, step: None }, value) => share(*low, *high, *log, value.as_f64()?),
        (Domain::Int { low, high, log: true, .. }, value) => {
            share(*low as f64 - 0.5, *high as f64 + 0.5, true, value.as_f64()?)
        }
        (Domain::Int { low, high, log: false, step }, ParamValue::Int(value)) => {
            let step = step.unwrap_or(1).max(1);
            let levels = int_steps(*low, *high, step);
            middle(((value.saturating_sub(*low)).max(0) as u64 / step as u64).min(levels - 1), levels)
        }
        (Domain::Bool | Domain::Int { .. }, _) => return None,
    };
    Some(Coordinate::Number(number))
}

/// The value at a coordinate; numbers outside of [0, 1] and choices beyond the last are taken as the nearest.
pub fn value_at(domain: &Domain, coordinate: Coordinate) -> ParamValue {
    match (domain, coordinate) {
        (Domain::Categorical { choices }, coordinate) => choices[choice(coordinate, choices.len())].clone(),
        (Domain::Bool, coordinate) => ParamValue::Bool(choice(coordinate, 2) == 1),
        (domain, Coordinate::Choice(place)) => value_at(domain, Coordinate::Number(place as f64)),
        (Domain::Ordinal { choices }, Coordinate::Number(share)) => {
            choices[level(share, choices.len() as u64) as usize].clone()
        }
        (Domain::Float { low, high, step: Some(step), .. }, Coordinate::Number(share)) => {
            ParamValue::Float(float_step(*low, *high, *step, level(share, float_steps(*low, *high, *step))))
        }
        (Domain::Float { low, high, log, step: None }, Coordinate::Number(share)) => {
            ParamValue::Float(between(*low, *high, *log, share))
        }
        (Domain::Int { low, high, log: true, .. }, Coordinate::Number(share)) => sample_int_log(*low, *high, share),
        (Domain::Int { low, high, log: false, step }, Coordinate::Number(share)) => {
            let step = step.unwrap_or(1).max(1);
            ParamValue::Int(low + step * level(share, int_steps(*low, *high, step)) as i64)
        }
    }
}

/// Where each level's share of [0, 1] begins, and 1; of a domain with so many levels.
pub fn edges(domain: &Domain, levels: u64) -> Vec<f64> {
    let edge = |level: u64| match domain {
        _ if level == 0 => 0.0,
        _ if level == levels => 1.0,
        Domain::Int { low, high, log: true, .. } => {
            share(*low as f64 - 0.5, *high as f64 + 0.5, true, *low as f64 + level as f64 - 0.5)
        }
        _ => level as f64 / levels as f64,
    };
    (0..=levels).map(edge).collect()
}

fn choice(coordinate: Coordinate, count: usize) -> usize {
    match coordinate {
        Coordinate::Choice(place) => place.min(count - 1),
        Coordinate::Number(share) => level(share, count as u64) as usize,
    }
}

/// Which of `levels` equal shares of [0, 1] a number lies in.
fn level(share: f64, levels: u64) -> u64 {
    ((share.clamp(0.0, 1.0) * levels as f64) as u64).min(levels - 1)
}

fn middle(level: u64, levels: u64) -> f64 {
    (level as f64 + 0.5) / levels as f64
}

fn share(low: f64, high: f64, log: bool, value: f64) -> f64 {
    let share = if log { (value.ln() - low.ln()) / (high.ln() - low.ln()) } else { (value - low) / (high - low) };
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_found_again_at_its_coordinate() {
        for (domain, values) in [
            (json!({"type": "float", "low": 1e-5, "high": 1.0, "log": true}), json!([1e-5, 3e-3, 1.0])),
            (json!({"type": "float", "low": -2.0, "high": 2.0}), json!([-2.0, 0.25, 2.0])),
            (json!({"type": "float", "low": 0.0, "high": 0.9, "step": 0.3}), json!([0.0, 0.3, 0.6, 0.9])),
            (json!({"type": "float", "low": 1.0, "high": 1.0}), json!([1.0])),
            (json!({"type": "int", "low": -3, "high": 9, "step": 4}), json!([-3, 1, 5, 9])),
            (json!({"type": "int", "low": 1, "high": 255, "log": true}), json!([1, 2, 17, 255])),
            (json!({"type": "ordinal", "choices": [16, 32, 64]}), json!([16, 32, 64])),
            (json!({"type": "categorical", "choices": ["a", 2, true]}), json!(["a", 2, true])),
            (json!({"type": "bool"}), json!([false, true])),
        ] {
            let domain: Domain = serde_json::from_value(domain).unwrap();
            for value in serde_json::from_value::<Vec<ParamValue>>(values).unwrap() {
                let found = value_at(&domain, locate(&domain, &value).unwrap());
                match (found.as_f64(), value.as_f64()) {
                    (Some(found), Some(value)) => assert!((found - value).abs() <= 1e-9 * value.abs(), "{domain:?}"),
                    _ => assert_eq!(found, value, "{domain:?}"),
                }
            }
        }
    }

    #[test]
    fn what_a_domain_does_not_hold_has_no_coordinate() {
        let domain: Domain = serde_json::from_value(json!({"type": "categorical", "choices": ["a"]})).unwrap();
        assert_eq!(locate(&domain, &ParamValue::Int(1)), None);
        assert_eq!(locate(&Domain::Bool, &ParamValue::Int(1)), None);
    }
}
