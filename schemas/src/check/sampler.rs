//! The study file's sampler.

use crate::ids::SamplerId;
use crate::limits::LIMITS;

use super::reader::Fields;
use super::study::{named, ranks_by_several};

const EXTERNAL: &str = "external";
/// The last is not one of ours.
const SAMPLERS: [&str; 11] =
    ["auto", "random", "sobol", "grid", "tpe", "gp", "cqr", "cma_es", "evolution", "nsga2", EXTERNAL];
/// Those that can seek several objectives at once.
const OF_SEVERAL: [&str; 6] = ["auto", "random", "sobol", "grid", "nsga2", EXTERNAL];
const GRID_POINTS_MAX: u64 = 10_000;

pub fn check(fields: &Fields) {
    let Some((name, sampler)) = named(fields, "sampler", &SAMPLERS) else { return };
    match (name, sampler) {
        (EXTERNAL, Some(sampler)) => external(&sampler),
        (EXTERNAL, None) => {
            fields.fault("sampler", "does not say which", "name it: {name: external, service: my-sampler}");
        }
        (name, Some(sampler)) => own(name, &sampler),
        (_, None) => {}
    }
}

fn own(name: &str, sampler: &Fields) {
    if name != "grid" {
        return sampler.only(&["name"]);
    }
    sampler.only(&["name", "points"]);
    if let Some(node) = sampler.optional("points") {
        node.whole(1..=GRID_POINTS_MAX);
    }
}

fn external(sampler: &Fields) {
    sampler.only(&["name", "service", "timeout_s", "fallback"]);
    if let Some(node) = sampler.required("service", "the name that your sampler serves under")
        && let Some(text) = node.text()
        && let Err(error) = SamplerId::new(text)
    {
        node.fault(error.to_string(), "give the last word of the subject on which your sampler answers");
    }
    if let Some(node) = sampler.optional("timeout_s") {
        node.whole(1..=LIMITS.suggestion_s_max.into());
    }
    let ours = &SAMPLERS[..SAMPLERS.len() - 1];
    if let Some((name, Some(fallback))) = named(sampler, "fallback", ours) {
        own(name, &fallback);
    }
}

/// Only some rank by several objectives.
pub fn of_several(fields: &Fields) {
    ranks_by_several(fields, "sampler", &OF_SEVERAL);
    if let Some((EXTERNAL, Some(external))) = named(fields, "sampler", &SAMPLERS) {
        ranks_by_several(&external, "fallback", &OF_SEVERAL);
    }
}
