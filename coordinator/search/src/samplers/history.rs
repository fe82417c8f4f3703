//! What a model-based sampler remembers of the study's trials: where each lies in the space, and how its loss went.
//!
//! Losses are to be made small: a value that is to be made large is negated.

use std::collections::BTreeMap;

use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::Goal;
use regatta_schemas::{Params, TrialId};

use crate::news::{Measurement, News};
use crate::objectives::violation;
use crate::space::{Coordinate, Space, locate};

/// The study's trials, in the order of their numbers.
#[derive(Debug, Clone)]
pub struct History {
    space: Space,
    goal: Goal,
    trials: BTreeMap<TrialId, Observed>,
    /// Whether any of them broke a constraint.
    breaks_any: bool,
}

/// One trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    pub params: Params,
    /// In the order of the space's parameters; None: the parameter does not exist in this configuration, or lies
    /// outside of the space.
    pub point: Vec<Option<Coordinate>>,
    /// The loss by epochs done; of several at one resource, the last that came.
    pub losses: BTreeMap<u32, f64>,
    /// None: it has not ended. It may be running, waiting, or set aside at a rung.
    pub outcome: Option<Outcome>,
}

impl History {
    pub fn new(space: Space, goal: Goal) -> Self {
        Self { space, goal, trials: BTreeMap::new(), breaks_any: false }
    }

    pub fn observe(&mut self, news: News) {
        match news {
            News::Proposed { trial, params, .. } => {
                let point = self.point(params);
                let (params, losses) = (params.clone(), BTreeMap::new());
                self.trials.entry(trial).or_insert(Observed { params, point, losses, outcome: None });
            }
            News::Measured(Measurement { trial, resource, ranked, .. }) => {
                let loss = self.loss(ranked);
                if let Some(observed) = self.trials.get_mut(&trial) {
                    observed.losses.insert(resource, loss);
                    self.breaks_any |= violation(loss).is_some();
                }
            }
            News::Ended { trial, outcome } => {
                if let Some(observed) = self.trials.get_mut(&trial) {
                    observed.outcome = Some(outcome);
                }
            }
        }
    }

    /// Whether the news tell nothing that it was not told, or are of a trial that it does not know.
    pub fn knows(&self, news: News) -> bool {
        match news {
            News::Proposed { trial, .. } => self.trials.contains_key(&trial),
            News::Measured(Measurement { trial, resource, ranked, .. }) => {
                let loss = self.loss(ranked);
                self.get(trial).is_none_or(|observed| observed.losses.get(&resource) == Some(&loss))
            }
            News::Ended { trial, outcome } => self.get(trial).is_none_or(|observed| observed.outcome == Some(outcome)),
        }
    }

    /// Where a configuration lies; one entry for each of the space's parameters.
    pub fn point(&self, params: &Params) -> Vec<Option<Coordinate>> {
        let place = |(name, parameter): (&str, &regatta_schemas::study::Parameter)| {
            params.get(name).and_then(|value| locate(&parameter.domain, value))
        };
        self.space.parameters().map(place).collect()
    }

    pub fn loss(&self, value: f64) -> f64 {
        self.goal.loss(value)
    }

    /// How to draw in the losses of what breaks a constraint; None: nothing does.
    pub fn scale(&self) -> Option<Scale> {
        if !self.breaks_any {
            return None;
        }
        let losses = self.trials.values().flat_map(|observed| observed.losses.values());
        let kept = losses.filter(|loss| violation(**loss).is_none());
        let bounds = kept.fold(None, |bounds: Option<(f64, f64)>, loss| {
            let (best, worst) = bounds.unwrap_or((*loss, *loss));
            Some((best.min(*loss), worst.max(*loss)))
        });
        Some(bounds.map_or(Scale { worst: 0.0, extent: 1.0 }, |(best, worst)| Scale { worst, extent: worst - best }))
    }

    pub fn space(&self) -> &Space {
        &self.space
    }

    pub fn len(&self) -> usize {
        self.trials.len()
    }

    pub fn get(&self, trial: TrialId) -> Option<&Observed> {
        self.trials.get(&trial)
    }

    pub fn trials(&self) -> impl ExactSizeIterator<Item = (TrialId, &Observed)> {
        self.trials.iter().map(|(id, observed)| (*id, observed))
    }
}

/// What losses that keep the constraints are like.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    worst: f64,
    extent: f64,
}

impl Scale {
    /// The loss, or one that is further from all that keep the constraints the more it breaks them, for whoever models
    /// losses as numbers.
    pub fn draw_in(&self, loss: f64) -> f64 {
        let least = self.worst.abs().max(1.0) * 1e-9;
        violation(loss).map_or(loss, |violation| self.worst + self.extent.max(least) * (1.0 + violation))
    }
}

impl Observed {
    /// Its last loss, and with how many epochs done.
    pub fn last(&self) -> Option<(u32, f64)> {
        self.losses.last_key_value().map(|(resource, loss)| (*resource, *loss))
    }

    pub fn has_failed(&self) -> bool {
        self.outcome == Some(Outcome::Failed)
    }
}
