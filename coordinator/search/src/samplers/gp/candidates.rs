//! Where to look for the configuration that promises the most: everywhere, near the best ones, and then uphill from the
//! most promising.

use regatta_schemas::Params;

use super::acquisition::log_expected_improvement;
use super::kernel::Geometry;
use super::posterior::Posterior;
use crate::random::Stream;
use crate::samplers::history::History;
use crate::samplers::neighbour::{Reach, anywhere, neighbour};

/// Drawn from the whole space.
const EVERYWHERE: usize = 256;
/// Drawn near each of the configurations to start from.
const NEAR_EACH: usize = 18;
/// How far those lie, in shares of a range.
const NEAR: [f64; 3] = [0.2, 0.05, 0.01];
/// So many of the most promising are climbed from.
const CLIMBS: usize = 3;
const CLIMB_STEPS: usize = 7;
const CLIMB_WIDTH: usize = 16;
/// How many parameters change from a configuration to its neighbour, besides the one that always does.
const CHANGES: f64 = 1.5;

/// Looks for configurations of high expected improvement.
pub struct Search<'a> {
    pub history: &'a History,
    pub geometry: &'a Geometry,
    pub posterior: &'a Posterior,
    /// How much the space's priors count beside the model.
    pub faith: f64,
}

/// A configuration, and the logarithm of what it promises.
#[derive(Debug, Clone)]
struct Candidate {
    params: Params,
    promise: f64,
}

impl Search<'_> {
    /// The most promising first, each once. `starts`: those to look near.
    pub fn ranked(&self, starts: &[&Params], stream: &mut Stream) -> Vec<Params> {
        let mut params: Vec<Params> = (0..EVERYWHERE).map(|_| anywhere(self.history.space(), stream)).collect();
        for start in starts {
            params.extend((0..NEAR_EACH).map(|turn| self.beside(start, NEAR[turn % NEAR.len()], stream)));
        }
        let mut found = self.weigh(params);
        found.sort_by(|a, b| b.promise.total_cmp(&a.promise));
        for start in found.iter().take(CLIMBS).cloned().collect::<Vec<_>>() {
            found.extend(self.climb(start, stream));
        }
        found.sort_by(|a, b| b.promise.total_cmp(&a.promise));
        let mut ranked: Vec<Params> = found.into_iter().map(|candidate| candidate.params).collect();
        ranked.dedup();
        ranked
    }

    /// All that a climb comes by. Its steps become half as wide where none leads up.
    fn climb(&self, mut top: Candidate, stream: &mut Stream) -> Vec<Candidate> {
        let (mut scale, mut visited) = (NEAR[0] / 2.0, Vec::with_capacity(CLIMB_STEPS * CLIMB_WIDTH));
        for _ in 0..CLIMB_STEPS {
            let around = self.weigh((0..CLIMB_WIDTH).map(|_| self.beside(&top.params, scale, stream)).collect());
            let best = around.iter().max_by(|a, b| a.promise.total_cmp(&b.promise)).cloned();
            visited.extend(around);
            match best {
                Some(best) if best.promise > top.promise => top = best,
                _ => scale /= 2.0,
            }
        }
        visited
    }

    fn weigh(&self, params: Vec<Params>) -> Vec<Candidate> {
        let points: Vec<_> = params.iter().map(|params| self.history.point(params)).collect();
        let sites: Vec<_> = points.iter().map(|point| self.geometry.site(point)).collect();
        let best = self.posterior.best();
        let expected = self.posterior.expect(&sites).into_iter();
        let beliefs = points.iter().map(|point| self.faith * self.history.space().log_belief(point));
        let promises =
            expected.zip(beliefs).map(|(expected, belief)| log_expected_improvement(expected, best) + belief);
        params.into_iter().zip(promises).map(|(params, promise)| Candidate { params, promise }).collect()
    }

    fn beside(&self, params: &Params, scale: f64, stream: &mut Stream) -> Params {
        let chance = CHANGES / self.geometry.parameters().max(1) as f64;
        neighbour(self.history.space(), params, Reach { scale, chance }, stream)
    }
}
