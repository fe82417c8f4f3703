//! A second, simpler reading of the log, against which the machine is held: no incremental state, no views, only the
//! rules as the design states them.

use std::collections::{BTreeMap, BTreeSet};

use regatta_schemas::log::{Place, Record, ReportKey};
use regatta_schemas::reasons::{FailCause, Outcome};
use regatta_schemas::study::StudyFile;
use regatta_schemas::{AgentId, StudyId, Term, TrialId};
use regatta_search::Coordinator;
use regatta_search::simulator::Entry;
use regatta_search::study::{Phase, State};

#[derive(Debug, Default)]
pub struct Reference {
    file_by_study: BTreeMap<StudyId, StudyFile>,
    concluded: BTreeSet<StudyId>,
    trials: BTreeMap<(StudyId, TrialId), Followed>,
}

/// What the rules say of one trial.
#[derive(Debug, Default)]
pub struct Followed {
    pub attempt: u32,
    term: Term,
    holder: Option<AgentId>,
    is_attempt_over: bool,
    read: BTreeSet<u64>,
    steps: BTreeSet<u64>,
    diverged: bool,
    pub outcome: Option<Outcome>,
    /// Records that would have ended it, had it not ended; the first included.
    pub ends: u32,
}

impl Reference {
    pub fn read(&mut self, entry: &Entry) {
        let Place { study, trial } = &entry.place;
        let Some(trial) = *trial else {
            match &entry.record {
                Record::StudyCreated(created) => {
                    self.file_by_study.entry(study.clone()).or_insert_with(|| (*created.study).clone());
                }
                Record::StudyConcluded(_) => drop(self.concluded.insert(study.clone())),
                _ => {}
            }
            return;
        };
        let Some(file) = self.file_by_study.get(study) else { return };
        let is_concluded = self.concluded.contains(study);
        let key = (study.clone(), trial);
        if let Record::Proposed(_) = &entry.record {
            let count = self.trials.keys().filter(|(of, _)| of == study).count();
            if !is_concluded && count < file.budget.trials as usize {
                self.trials.entry(key).or_default();
            }
        } else if let Some(followed) = self.trials.get_mut(&key) {
            followed.read(&entry.record, file, is_concluded);
        }
    }

    /// Fails the test where the machine's state is not what the rules say.
    pub fn compare(&self, coordinator: &Coordinator) {
        for (id, study) in coordinator.studies() {
            let state: &State = study.state();
            assert_eq!(self.trials.keys().filter(|(of, _)| of == id).count(), state.trials.len(), "{id}: trials");
            assert!(state.trials.len() <= state.file.budget.trials as usize, "{id}: budget of trials");
        }
        for ((study, id), followed) in &self.trials {
            let trial = &coordinator.study(study).expect("the study is known").state().trials[id];
            let what = format!("{study} trial {id}");
            assert_eq!(trial.attempt.0, followed.attempt, "{what}: attempt");
            let holder = trial.tenure.as_ref().map(|tenure| &tenure.agent);
            assert_eq!(holder, followed.holder.as_ref(), "{what}: holder");
            assert_eq!(trial.points.len(), followed.steps.len(), "{what}: points that count");
            let outcome = match &trial.phase {
                Phase::Ended(outcome) => Some(*outcome),
                _ => None,
            };
            assert_eq!(outcome, followed.outcome, "{what}: outcome");
        }
    }

    pub fn trials(&self) -> impl Iterator<Item = (&(StudyId, TrialId), &Followed)> {
        self.trials.iter()
    }
}

impl Followed {
    fn read(&mut self, record: &Record, file: &StudyFile, is_concluded: bool) {
        match record {
            Record::Offered(offered) => {
                if self.outcome.is_none() && offered.attempt.0 > self.attempt {
                    self.attempt = offered.attempt.0;
                    self.term = offered.term;
                    self.holder = None;
                    self.is_attempt_over = false;
                    self.read.clear();
                }
                return;
            }
            Record::Stopped(_) => return self.end(Outcome::Stopped),
            Record::Concluded(concluded) => return self.end(concluded.outcome),
            _ => {}
        }
        let Some(ReportKey { attempt, term, sequence, agent }) = record.key() else { return };
        if attempt.0 != self.attempt || self.attempt == 0 || !term.may_be(self.term) {
            return;
        }
        let holder = self.holder.get_or_insert_with(|| agent.clone());
        if holder != agent || !self.read.insert(sequence.0) || self.is_attempt_over {
            return;
        }
        match record {
            Record::Measured(measured) if self.outcome.is_none() && !is_concluded => {
                for point in &measured.points {
                    self.diverged |= !point.metrics.values().all(|value| value.is_finite());
                    if !self.diverged {
                        self.steps.insert(point.step);
                    }
                }
            }
            Record::Finished(_) => {
                self.is_attempt_over = true;
                self.end(Outcome::Finished);
            }
            Record::Failed(failed) => {
                self.is_attempt_over = true;
                assert!(file.retries > 0 || failed.cause != FailCause::Unknown);
            }
            Record::Released(_) => self.is_attempt_over = true,
            _ => {}
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.ends += 1;
        self.outcome.get_or_insert(outcome);
    }
}
