//! Samplers: who proposes configurations.
//!
//! A new one is its file, its line in [`sampler_for`], and its row in the conformance suite.

mod ablated;
mod arrivals;
mod cma_es;
mod cqr;
mod earlier;
mod evolution;
mod gp;
mod grid;
mod history;
mod initial;
mod neighbour;
mod nsga2;
mod paced;
mod random;
mod sobol;
mod standing;
mod tpe;
mod tried;

use std::fmt::Debug;

use regatta_schemas::Params;
use regatta_schemas::study::{Sampler as Choice, StudyFile};

use crate::news::News;
use crate::space::{Lattice, Space};

/// Proposes the configurations of a study, one after the other.
///
/// Its state is a fold of what it observed. Two samplers that observed the same propose the same.
pub trait Sampler: Debug + Send {
    /// Configuration number `index`. `pending` are those that were proposed and not yet observed, in order; they and
    /// the observed ones are all of the sampler's configurations before this one. None: there is none left.
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params>;

    /// What became known of the study's trials, in the order of the log; of each trial `Proposed` first, once.
    fn observe(&mut self, news: News);
}

/// The table of samplers.
pub fn sampler_for(study: &StudyFile) -> Box<dyn Sampler> {
    if let Some(ablation) = &study.ablation {
        return Box::new(ablated::Ablated::new(ablation.trials()));
    }
    let sampler = named(&study.sampler, study);
    let sampler =
        if study.earlier.is_empty() { sampler } else { Box::new(earlier::Earlier::new(study, sampler)) as Box<_> };
    if study.initial.is_empty() { sampler } else { Box::new(initial::Initial::new(study.initial.clone(), sampler)) }
}

/// The combinations that a study's grid has; None: it has no grid.
pub fn grid_of(study: &StudyFile) -> Option<Lattice> {
    match study.sampler {
        Choice::Grid { points } if study.ablation.is_none() => Some(grid::lattice(Space::new(&study.space), points)),
        _ => None,
    }
}

fn named(choice: &Choice, study: &StudyFile) -> Box<dyn Sampler> {
    let space = Space::new(&study.space);
    match choice {
        Choice::Auto => automatic(study),
        Choice::Random => Box::new(random::Random::new(space, study.seed)),
        Choice::Nsga2 => Box::new(nsga2::Nsga2::new(study)),
        Choice::Sobol => Box::new(sobol::Sobol::new(space, study.seed)),
        Choice::Tpe => Box::new(tpe::Tpe::new(space, study.objective.goal, study.seed)),
        Choice::Grid { points } => Box::new(grid::Grid::new(space, *points)),
        Choice::Cqr => Box::new(cqr::Cqr::new(study)),
        Choice::Gp => Box::new(gp::Gp::new(study)),
        Choice::CmaEs => Box::new(cma_es::CmaEs::new(study)),
        // Whom the study asks is its own matter; here is who proposes in the other's place.
        Choice::External { fallback, .. } => named(fallback, study),
        Choice::Evolution => Box::new(evolution::Evolution::new(study)),
    }
}

/// What suits a study (docs/adr/0010): a Gaussian process where it can see a good part of the trials and of the space, a
/// tree-structured Parzen estimator beyond and for as long as a fleet asks too fast, NSGA-II for several objectives.
fn automatic(study: &StudyFile) -> Box<dyn Sampler> {
    let sampler = |choice| named(&choice, study);
    if !study.further_objectives.is_empty() {
        sampler(Choice::Nsga2)
    } else if study.space.is_empty() {
        sampler(Choice::Random)
    } else if study.budget.trials > GP_TRIALS_MAX || study.space.len() > GP_PARAMETERS_MAX {
        sampler(Choice::Tpe)
    } else if study.budget.trials as usize <= paced::LATEST {
        sampler(Choice::Gp)
    } else {
        Box::new(paced::Paced::new(sampler(Choice::Gp), sampler(Choice::Tpe)))
    }
}

/// Trials up to which a Gaussian process is asked: it looks at some hundred of them.
const GP_TRIALS_MAX: u32 = 20_000;
const GP_PARAMETERS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use regatta_schemas::check;
    use serde_json::{Value, json};

    /// A study that makes its loss small over this space.
    pub fn study(space: Value, seed: u64) -> StudyFile {
        let file = json!({
            "name": "test",
            "objective": {"metric": "validation_loss", "goal": "minimize"},
            "space": {},
            "budget": {"trials": 1, "resource": 1},
            "seed": seed,
            "recipe": {
                "data": {"file": "digits.npz", "format": "npz", "task": "classification", "target": "y"},
                "model": {"family": "mlp", "hidden": [8]},
                "loss": "cross_entropy",
                "optimizer": {"name": "sgd", "learning_rate": 0.1},
                "batch_size": 32,
            },
        });
        let mut study = check::study_file(&file).unwrap();
        study.space = serde_json::from_value(space).unwrap();
        study
    }
}
