//! Studies that are over, as a snapshot knows them: shown at once, read again from the log only when asked for more.
//!
//! Of a study that is over nothing runs: what agents may still send of it changes nothing.

use regatta_schemas::StudyId;
use regatta_schemas::TrialId;
use regatta_schemas::api::Request;
use regatta_schemas::log::Record;
use regatta_schemas::snapshot::{LogPosition, OverStudy, SNAPSHOT_VERSION, Snapshot};

use super::Coordinator;
use crate::study::{self, Study};
use crate::time::Time;

/// A record of one study: its trial, if it is one's, and the log's time.
pub type Recorded = (Option<TrialId>, Record, Time);

impl Coordinator {
    /// All that is needed beside the logs of studies that go on; `position` is that of the last record read.
    pub fn snapshot(&self, position: LogPosition) -> Snapshot {
        let going_on = self.studies.iter().filter(|(_, study)| !study.is_over());
        Snapshot {
            version: SNAPSHOT_VERSION,
            position,
            going_on: going_on.map(|(id, _)| id.clone()).collect(),
            over: self.archive.values().cloned().chain(self.over()).collect(),
        }
    }

    /// What is over and not in the archive.
    fn over(&self) -> impl Iterator<Item = OverStudy> {
        let over = self.studies.iter().filter(|(_, study)| study.is_over());
        over.map(|(id, study)| OverStudy {
            summary: self.summary(id, study),
            checkpoints: study.checkpoints().cloned().collect(),
        })
    }

    /// Keeps of the studies that are over only what a snapshot has of them, so that memory holds what goes on.
    pub fn archive_over(&mut self) {
        for over in self.over().collect::<Vec<_>>() {
            self.studies.remove(&over.summary.study);
            self.archive.insert(over.summary.study.clone(), over);
        }
    }

    /// Takes in the studies of a snapshot that are over. Before any record is read.
    pub fn restore(&mut self, over: Vec<OverStudy>) {
        for study in over {
            for object in &study.checkpoints {
                *self.uses_by_checkpoint.entry(object.clone()).or_default() += 1;
            }
            self.archive.insert(study.summary.study.clone(), study);
        }
    }

    /// The study whose log must be read again before the request can be answered: hand it to [`Self::recall`].
    pub fn to_recall(&self, request: &Request) -> Option<StudyId> {
        let id = match request {
            Request::StudyShow(request)
            | Request::StudyStop(request)
            | Request::StudyPause(request)
            | Request::StudyResume(request)
            | Request::StudyDelete(request)
            | Request::TrialList(request) => &request.study,
            Request::TrialShow(request) | Request::TrialStop(request) => &request.study,
            Request::TrialSuggest(request) => &request.study,
            Request::TrialObserve(request) => &request.study,
            Request::TrialSubmit(request) => request.study.as_ref()?,
            Request::StudyCreate(_) | Request::StudyList | Request::FleetShow => return None,
        };
        self.archive.contains_key(id).then(|| id.clone())
    }

    /// Takes a study that is over out of the archive, by its whole log. Without a log it is forgotten.
    pub fn recall(&mut self, now: Time, id: &StudyId, records: Vec<Recorded>) {
        if self.archive.remove(id).is_none() {
            return;
        }
        let mut recalled: Option<Study> = None;
        for (trial, record, at) in records {
            match (&mut recalled, record) {
                (None, Record::StudyCreated(created)) => {
                    recalled = Some(Study::new(id.clone(), *created.study, at, None));
                }
                (None, _) => {}
                (Some(study), record) => study.handle(now, study::Event::Logged { trial, record, at }),
            }
        }
        if let Some(mut study) = recalled {
            study.handle(now, study::Event::CaughtUp { term: self.settings.term });
            self.studies.insert(id.clone(), study);
            self.collect(id);
        }
    }
}
