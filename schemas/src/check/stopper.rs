//! The study file's stopper, and when a study has converged.

use crate::limits::LIMITS;
use crate::study::{default_brackets, default_eta, first_rung};

use super::pbt;
use super::reader::{Fields, Node};
use super::study::{named, ranks_by_several, whole_in};

const STOPPERS: [&str; 12] = [
    "none",
    "median",
    "percentile",
    "threshold",
    "patience",
    "curve",
    "asha",
    "hyperband",
    "pasha",
    "halving",
    "stages",
    "pbt",
];
/// Those that can rank by several objectives.
const OF_SEVERAL: [&str; 2] = ["none", "asha"];
const ETA_MAX: u64 = 1_000;
const BRACKETS_MAX: u64 = 16;

/// `resource`: the epochs of a trial, if they are known.
pub fn check(fields: &Fields, resource: Option<u64>) {
    let Some((name, stopper)) = named(fields, "stopper", &STOPPERS) else { return };
    let Some(stopper) = stopper else {
        if name == "threshold" {
            fields.fault("stopper", "has no bound", "give one, for example {name: threshold, lower: 0.1}");
        }
        return;
    };
    match name {
        "median" => {
            stopper.only(&["name", "es_min", "grace"]);
            finished_before(&stopper);
        }
        "percentile" => {
            stopper.only(&["name", "percentile", "es_min", "grace"]);
            if let Some(node) = stopper.optional("percentile") {
                node.number(|percent| percent > 0.0 && percent < 100.0, "a number above 0, below 100");
            }
            finished_before(&stopper);
        }
        "threshold" => threshold(&stopper),
        "patience" => {
            stopper.only(&["name", "epochs", "min_delta"]);
            if let Some(node) = stopper.optional("epochs") {
                node.whole(1..=LIMITS.resource_max.into());
            }
            min_delta(&stopper);
        }
        "curve" => {
            stopper.only(&["name", "probability", "grace"]);
            if let Some(node) = stopper.optional("probability") {
                node.number(|probability| probability > 0.0 && probability < 1.0, "a number above 0, below 1");
            }
            whole_in(&stopper, "grace", LIMITS.resource_max.into());
        }
        "asha" => rungs(&stopper, &["name", "eta", "min_resource", "brackets", "mode"], resource),
        "hyperband" => rungs(&stopper, &["name", "eta", "min_resource", "mode"], resource),
        "pasha" | "halving" => rungs(&stopper, &["name", "eta", "min_resource"], resource),
        "stages" => {
            stopper.only(&["name", "size", "early_stopping"]);
            if let Some(node) = stopper.optional("size") {
                node.whole(1..=LIMITS.trials_max.into());
            }
            if let Some(node) = stopper.optional("early_stopping") {
                node.word(&["none", "agent", "global"]);
            }
        }
        "pbt" => pbt::settings(&stopper),
        _ => stopper.only(&["name"]),
    }
}

/// Only some rank by several objectives.
pub fn of_several(fields: &Fields) {
    ranks_by_several(fields, "stopper", &OF_SEVERAL);
}

/// `budget.converged`.
pub fn converged(node: &Node) {
    let Some(fields) = node.fields() else { return };
    fields.only(&["trials", "min_delta"]);
    if let Some(node) = fields.required("trials", "how many trials in a row improve nothing") {
        node.whole(1..=LIMITS.trials_max.into());
    }
    min_delta(&fields);
}

fn min_delta(fields: &Fields) {
    if let Some(node) = fields.optional("min_delta") {
        node.number(|delta| delta >= 0.0, "by how much a value must be better, 0 or above");
    }
}

fn finished_before(stopper: &Fields) {
    if let Some(node) = stopper.optional("es_min") {
        node.whole(1..=LIMITS.trials_max.into());
    }
    whole_in(stopper, "grace", LIMITS.resource_max.into());
}

fn threshold(stopper: &Fields) {
    stopper.only(&["name", "lower", "upper", "grace"]);
    let bound = |key| stopper.optional(key).map(|node| node.number(|_| true, "a value of the objective's metric"));
    let (lower, upper) = (bound("lower"), bound("upper"));
    whole_in(stopper, "grace", LIMITS.resource_max.into());
    match (lower, upper) {
        (None, None) => stopper.fault("lower", "is missing, and so is `upper`", "give one of them, or both"),
        (Some(Some(lower)), Some(Some(upper))) if lower > upper => {
            stopper.fault("lower", format!("is {lower}, above `upper` ({upper})"), "no value is within: swap them");
        }
        _ => {}
    }
}

fn rungs(stopper: &Fields, keys: &[&str], resource: Option<u64>) {
    stopper.only(keys);
    let whole = |key, range, default: u32| match stopper.optional(key).filter(|_| keys.contains(&key)) {
        Some(node) => node.whole(range),
        None => Some(default.into()),
    };
    if let Some(node) = stopper.optional("mode").filter(|_| keys.contains(&"mode")) {
        node.word(&["stop", "promote"]);
    }
    let eta = whole("eta", 2..=ETA_MAX, default_eta());
    let brackets = whole("brackets", 1..=BRACKETS_MAX, default_brackets());
    let left_out = resource.map_or(1, |all| first_rung(None, u32::try_from(all).unwrap_or(u32::MAX)));
    let first = whole("min_resource", 1..=LIMITS.resource_max.into(), left_out);
    let (Some(eta), Some(first), Some(brackets), Some(all)) = (eta, first, brackets, resource) else { return };
    if first > all {
        let problem = format!("is {first}, above `budget.resource` ({all})");
        return stopper.fault("min_resource", problem, format!("give 1 to {all}"));
    }
    let last = (1..brackets).try_fold(first, |rung, _| rung.checked_mul(eta)).unwrap_or(u64::MAX);
    if last > all {
        let problem =
            format!("is {brackets}, and the first rung of the last bracket is above `budget.resource` ({all})");
        stopper.fault("brackets", problem, "give fewer: each one begins `eta` times later than the one before");
    }
}
