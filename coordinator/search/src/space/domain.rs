//! One parameter's domain: a value from 64 uniform bits, and its values in order.

use regatta_schemas::ParamValue;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::study::Domain;

use crate::random::{below, unit};

/// The value that these bits select; uniform over the domain, or over its logarithm.
pub fn sample(domain: &Domain, word: u64) -> ParamValue {
    match domain {
        Domain::Float { low, high, step: Some(step), .. } => {
            ParamValue::Float(float_step(*low, *high, *step, below(word, float_steps(*low, *high, *step))))
        }
        Domain::Float { low, high, log, step: None } => ParamValue::Float(between(*low, *high, *log, unit(word))),
        Domain::Int { low, high, log: true, .. } => sample_int_log(*low, *high, unit(word)),
        Domain::Int { low, high, log: false, step } => {
            let step = step.unwrap_or(1).max(1);
            ParamValue::Int(low + step * below(word, int_steps(*low, *high, step)) as i64)
        }
        Domain::Categorical { choices } | Domain::Ordinal { choices } => {
            choices[below(word, choices.len() as u64) as usize].clone()
        }
        Domain::Bool => ParamValue::Bool(below(word, 2) == 1),
    }
}

/// Every value, ascending; None: infinitely many, or more than a study may try.
pub fn all_values(domain: &Domain) -> Option<Vec<ParamValue>> {
    let is_few = |count: u64| count <= u64::from(LIMITS.trials_max);
    match domain {
        Domain::Float { low, high, .. } if low == high => Some(vec![ParamValue::Float(*low)]),
        Domain::Float { step: None, .. } => None,
        Domain::Float { low, high, step: Some(step), .. } => {
            let count = float_steps(*low, *high, *step);
            is_few(count).then(|| (0..count).map(|n| ParamValue::Float(float_step(*low, *high, *step, n))).collect())
        }
        Domain::Int { low, high, step, .. } => {
            let step = step.unwrap_or(1).max(1);
            let count = int_steps(*low, *high, step);
            is_few(count).then(|| (0..count).map(|n| ParamValue::Int(low + step * n as i64)).collect())
        }
        Domain::Categorical { choices } | Domain::Ordinal { choices } => Some(choices.clone()),
        Domain::Bool => Some(vec![ParamValue::Bool(false), ParamValue::Bool(true)]),
    }
}

/// The values that a grid takes: all of a domain with steps or choices; of a range without a step, `points`
/// values evenly spaced from bound to bound (in the logarithm, where the domain says so).
pub fn values_for_grid(domain: &Domain, points: u32) -> Vec<ParamValue> {
    let points = points.max(1);
    let spaced = |low: f64, high: f64, log: bool| {
        (0..points).map(move |n| match points {
            1 => between(low, high, log, 0.5),
            _ => between(low, high, log, f64::from(n) / f64::from(points - 1)),
        })
    };
    match domain {
        Domain::Float { low, high, log, step: None } if low < high => {
            spaced(*low, *high, *log).map(ParamValue::Float).collect()
        }
        Domain::Int { low, high, log, step: None } if int_steps(*low, *high, 1) > u64::from(points) => {
            let mut whole: Vec<i64> = spaced(*low as f64, *high as f64, *log)
                .map(|value| (value.round() as i64).clamp(*low, *high))
                .collect();
            whole.dedup();
            whole.into_iter().map(ParamValue::Int).collect()
        }
        Domain::Float { low, .. } => all_values(domain).unwrap_or_else(|| vec![ParamValue::Float(*low)]),
        Domain::Int { low, .. } => all_values(domain).unwrap_or_else(|| vec![ParamValue::Int(*low)]),
        Domain::Categorical { choices } | Domain::Ordinal { choices } => choices.clone(),
        Domain::Bool => vec![ParamValue::Bool(false), ParamValue::Bool(true)],
    }
}

/// The whole number at `share` of the way in the logarithm; each owns the half unit on both sides of it.
pub(super) fn sample_int_log(low: i64, high: i64, share: f64) -> ParamValue {
    let value = between(low as f64 - 0.5, high as f64 + 0.5, true, share);
    ParamValue::Int((value.round() as i64).clamp(low, high))
}

/// The point at `share` of the way, its bounds exact.
pub(super) fn between(low: f64, high: f64, log: bool, share: f64) -> f64 {
    let value = if share <= 0.0 {
        low
    } else if share >= 1.0 {
        high
    } else if log {
        (low.ln() + share * (high.ln() - low.ln())).exp()
    } else {
        low + share * (high - low)
    };
    value.clamp(low, high)
}

/// Steps are counted with this share of a step as tolerance, since 0.3 / 0.1 is a little less than 3.
const STEP_TOLERANCE: f64 = 1e-6;

pub(super) fn float_steps(low: f64, high: f64, step: f64) -> u64 {
    ((high - low) / step + STEP_TOLERANCE).floor().max(0.0) as u64 + 1
}

pub(super) fn float_step(low: f64, high: f64, step: f64, n: u64) -> f64 {
    (low + step * n as f64).clamp(low, high)
}

pub(super) fn int_steps(low: i64, high: i64, step: i64) -> u64 {
    high.saturating_sub(low).max(0) as u64 / step as u64 + 1
}
