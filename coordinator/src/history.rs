//! One study's log, folded by the same machine that the coordinator runs, for whoever wants to look.

use std::collections::{BTreeMap, BTreeSet};

use regatta_broker::{BrokerError, Link};
use regatta_schemas::api::{StudyShown, StudySummary, TrialShown, TrialStatus, TrialSummary};
use regatta_schemas::log::{Point, Record, Stopped};
use regatta_schemas::recipe::Recipe;
use regatta_schemas::study::Goal;
use regatta_schemas::{Params, StudyId, TrialId};
use regatta_search::{Coordinator, Event, Settings, Time};

use crate::clock;
use crate::nats::{Entry, LogReader, Read, Until};

/// A study as its log tells it.
pub struct History {
    machine: Coordinator,
    study: StudyId,
    /// When the trials were stopped that were to make another checkpoint.
    stopped_at: BTreeMap<TrialId, Time>,
}

impl History {
    pub fn new(study: StudyId) -> Self {
        Self { machine: Coordinator::new(Settings::default()), study, stopped_at: BTreeMap::new() }
    }

    /// Reads all that the log holds of the study now. None where it holds nothing.
    ///
    /// # Errors
    /// `Away` when the server is, or was never set up.
    pub async fn read(link: &Link, study: &StudyId) -> Result<Option<Self>, BrokerError> {
        let mut history = Self::new(study.clone());
        let mut log = LogReader::open(link, Some(study), Until::Now).await?;
        loop {
            match log.next().await? {
                Read::Record(entry) => history.take(*entry),
                Read::Elected { .. } | Read::Foreign => {}
                Read::End => break,
            }
        }
        Ok(history.shown().is_some().then_some(history))
    }

    /// Takes in the next record.
    pub fn take(&mut self, entry: Entry) {
        let at = Time::from_micros(entry.at_us);
        let Entry { place, record, .. } = entry;
        if let (Some(trial), Record::Stopped(Stopped { keep: true, .. })) = (place.trial, &record) {
            self.stopped_at.insert(trial, at);
        }
        self.machine.handle(clock::now(), Event::Logged { place, record, at });
    }

    /// The study; None before its first record. What it waits for is not in its log.
    pub fn shown(&self) -> Option<StudyShown> {
        let study = self.machine.study(&self.study)?;
        let summary = StudySummary { waiting_for: None, trouble: None, ..self.machine.summary(&self.study, study) };
        Some(StudyShown { summary, file: Box::new(study.state().file.clone()) })
    }

    /// All trials, by number.
    pub fn trials(&self) -> Vec<TrialSummary> {
        self.machine.study(&self.study).map_or_else(Vec::new, |study| study.trial_list().trials)
    }

    /// One trial with its curve.
    pub fn trial(&self, trial: TrialId) -> Option<TrialShown> {
        self.machine.study(&self.study)?.trial_shown(trial)
    }

    /// The parameters of the best trial, where there is one.
    pub fn best_params(&self) -> Option<Params> {
        let best = self.shown()?.summary.best?;
        Some(self.trial(best.trial)?.summary.params)
    }

    /// Every metric that a trial reported.
    pub fn metrics(&self) -> BTreeSet<String> {
        self.points().flat_map(|(_, point)| point.metrics.into_keys()).collect()
    }

    /// Of the points with the objective and every constrained metric, the one that is least beyond the constraints.
    pub fn nearest_to_constraints(&self) -> Option<(TrialId, Point)> {
        let objectives = &self.machine.study(&self.study)?.state().objectives;
        let score = |point: &Point| Some(objectives.score(&point.metrics)?.violation);
        let scored = self.points().filter_map(|(trial, point)| Some((score(&point)?, trial, point)));
        let nearest = scored.min_by(|(one, ..), (other, ..)| one.total_cmp(other))?;
        Some((nearest.1, nearest.2))
    }

    fn points(&self) -> impl Iterator<Item = (TrialId, Point)> {
        let trials = self.machine.study(&self.study).into_iter().flat_map(|study| &study.state().trials);
        trials.flat_map(|(id, trial)| trial.points.iter().map(|point| (*id, point)))
    }

    /// When a trial was stopped whose agent is still to store a last checkpoint of it.
    pub fn owes_checkpoint_since(&self, trial: TrialId) -> Option<Time> {
        let known = self.machine.study(&self.study)?.state().trials.get(&trial)?;
        let is_held = known.open_tenure().is_some() && !known.is_called();
        self.stopped_at.get(&trial).copied().filter(|_| is_held)
    }

    /// What a trial trains; `None` where there is no such trial, or its parameters make no recipe.
    pub fn recipe(&self, trial: TrialId) -> Option<Recipe> {
        let study = self.machine.study(&self.study)?;
        let proposed = &study.state().trials.get(&trial)?.proposed;
        study.recipe(&proposed.params, &proposed.lineage).ok()
    }

    /// All trials, the best first; those without a value last.
    pub fn leaderboard(&self) -> Vec<TrialSummary> {
        let goal = self.shown().map_or(Goal::Maximize, |shown| shown.summary.objective.goal);
        let mut trials = self.trials();
        trials.sort_by(|a, b| {
            let value = |trial: &TrialSummary| match (trial.status, trial.best) {
                (TrialStatus::Failed, _) | (_, None) => f64::NAN,
                (_, Some(value)) => value,
            };
            let (a_value, b_value) = (value(a), value(b));
            if goal.is_better(a_value, b_value) {
                std::cmp::Ordering::Less
            } else if goal.is_better(b_value, a_value) {
                std::cmp::Ordering::Greater
            } else {
                a.trial.cmp(&b.trial)
            }
        });
        trials
    }
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

    use regatta_schemas::log::Place;
    use serde_json::{Value, json};

    use super::*;

    /// A study that sought `score` in `rate`, with these changes to its file, and what its trials measured in an epoch each.
    pub fn played(changes: Value, trials: &[Value]) -> History {
        let id: StudyId = "played".parse().unwrap();
        let mut file = json!({
            "name": "played", "objective": {"metric": "score", "goal": "maximize"},
            "space": {"rate": {"type": "float", "low": 0.0, "high": 1.0}},
            "budget": {"trials": trials.len(), "resource": 1},
            "recipe": {"command": {"program": "train", "arguments": ["$rate"]}},
        });
        file.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let mut log = vec![(None, json!({"type": "study_created", "study": file}))];
        for (number, metrics) in trials.iter().enumerate() {
            let said = json!({"attempt": 1, "agent": "a"});
            let of = |kind: &str, sequence: u32, mut record: Value| {
                record["type"] = kind.into();
                record["sequence"] = sequence.into();
                record.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
                (Some(TrialId(number as u32)), record)
            };
            let lineage = json!({"from": "sampled", "index": number});
            let point = json!({"step": 1, "resource": 1, "elapsed_s": 1.0, "metrics": metrics});
            log.extend([
                of("proposed", 0, json!({"params": {"rate": 0.25}, "lineage": lineage, "seed": 1})),
                of("offered", 0, json!({"pool": "default", "reason": {"cause": "first"}})),
                of("accepted", 0, json!({"lane": 0})),
                of("measured", 1, json!({"points": [point]})),
                of("finished", 2, json!({"resource": 1, "elapsed_s": 1.0})),
            ]);
        }
        let mut history = History::new(id.clone());
        let take = |history: &mut History, trial, record| {
            let record = serde_json::from_value(record).unwrap();
            history.take(Entry { place: Place { study: id.clone(), trial }, record, at_us: 1, sequence: 1 });
        };
        for (trial, record) in log {
            take(&mut history, trial, record);
        }
        let best = history.shown().unwrap().summary.best;
        let end = json!({"cause": "budget_spent", "trials": trials.len()});
        take(&mut history, None, json!({"type": "study_concluded", "reason": end, "best": best}));
        history
    }
}
