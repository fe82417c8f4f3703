//! One study's log, folded by the same machine that the coordinator runs, for whoever wants to look.

use regatta_broker::{BrokerError, Link};
use regatta_schemas::api::{StudyShown, StudySummary, TrialShown, TrialStatus, TrialSummary};
use regatta_schemas::recipe::Recipe;
use regatta_schemas::study::Goal;
use regatta_schemas::{StudyId, TrialId};
use regatta_search::{Coordinator, Event, Settings, Time};

use crate::clock;
use crate::nats::{Entry, LogReader, Read, Until};

/// A study as its log tells it.
pub struct History {
    machine: Coordinator,
    study: StudyId,
}

impl History {
    pub fn new(study: StudyId) -> Self {
        Self { machine: Coordinator::new(Settings::default()), study }
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
