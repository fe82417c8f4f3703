//! A stage for short stories: a coordinator, a log that takes what it appends at once, and agents that are played by hand.

use regatta_schemas::api::{Rejection, Request, StudyRequest, TrialRequest};
use regatta_schemas::ask::Ask;
use regatta_schemas::beat::{Beat, Held};
use regatta_schemas::log::{
    Accepted, Checkpoint, Checkpointed, Failed, Finished, Measured, Place, Point, Record, Released, StudyCreated,
};
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::{FailCause, ReleaseReason};
use regatta_schemas::stop::Stop;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{AgentId, Attempt, PoolId, Sequence, StudyId, Term, TrialId};
use regatta_search::simulator::study_id;
use regatta_search::study::Trial;
use regatta_search::{Answer, Command, Coordinator, Event, Settings, Time};
use serde_json::json;

use crate::files::{METRIC, study};

pub struct Stage {
    pub coordinator: Coordinator,
    pub settings: Settings,
    pub now: Time,
    pub log: Vec<(Place, Record, Time)>,
    /// What was put out since the last look.
    pub offers: Vec<Offer>,
    pub stops: Vec<(Option<TrialId>, Stop)>,
    pub deleted: Vec<String>,
    pub deleted_studies: Vec<StudyId>,
    /// Questions to external samplers.
    pub asks: Vec<Ask>,
    sequence: u64,
    /// What agents say in their records.
    pub term: Term,
}

impl Stage {
    pub fn new(studies: Vec<StudyFile>) -> Self {
        Self::with(Settings::default(), studies)
    }

    pub fn with(settings: Settings, studies: Vec<StudyFile>) -> Self {
        let mut stage = Self {
            coordinator: Coordinator::new(settings.clone()),
            settings,
            now: Time::from_millis(1_000_000),
            log: Vec::new(),
            offers: Vec::new(),
            stops: Vec::new(),
            deleted: Vec::new(),
            deleted_studies: Vec::new(),
            asks: Vec::new(),
            sequence: 0,
            term: Term::default(),
        };
        stage.tell(Event::CaughtUp);
        for (number, study) in studies.into_iter().enumerate() {
            stage.write(Place::study(study_id(number)), Record::StudyCreated(StudyCreated { study: Box::new(study) }));
        }
        stage
    }

    pub fn tell(&mut self, event: Event) {
        self.coordinator.handle(self.now, event);
        self.carry_out();
    }

    pub fn request(&mut self, request: Request, new_id: &str) -> Result<Answer, Rejection> {
        let answer = self.coordinator.request(self.now, &request, StudyId::new(new_id).unwrap());
        self.carry_out();
        answer
    }

    fn carry_out(&mut self) {
        while let Some(command) = self.coordinator.next_command() {
            match command {
                Command::Append { place, record } => {
                    self.log.push((place.clone(), record.clone(), self.now));
                    self.coordinator.handle(self.now, Event::Logged { place, record, at: self.now });
                }
                Command::Offer { offer, .. } => self.offers.push(*offer),
                Command::Stop { trial, stop, .. } => self.stops.push((trial, stop)),
                Command::DeleteCheckpoint { object } => self.deleted.push(object),
                Command::Ask { ask, .. } => self.asks.push(*ask),
                Command::DeleteStudy { study } => self.deleted_studies.push(study),
            }
        }
    }

    pub fn write(&mut self, place: Place, record: Record) {
        self.log.push((place.clone(), record.clone(), self.now));
        let at = self.now;
        self.tell(Event::Logged { place, record, at });
    }

    /// Time passes, and all deadlines on the way are kept.
    pub fn wait_ms(&mut self, millis: u64) {
        let until = Time::from_micros(self.now.as_micros() + millis * 1_000);
        while let Some(deadline) = self.coordinator.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.tell(Event::TimePassed);
        }
        self.now = until;
    }

    /// The coordinator starts anew from the log.
    pub fn restart(&mut self) {
        self.coordinator = Coordinator::new(self.settings.clone());
        for (place, record, at) in self.log.clone() {
            self.tell(Event::Logged { place, record, at });
        }
        self.tell(Event::CaughtUp);
    }

    pub fn beat(&mut self, name: &str, lanes: u32, leases: &[(usize, u32, u32)]) {
        self.beat_in("default", name, lanes, leases);
    }

    pub fn beat_in(&mut self, pool: &str, name: &str, lanes: u32, leases: &[(usize, u32, u32)]) {
        let held = |(study, trial, attempt): &(usize, u32, u32)| Held {
            study: study_id(*study),
            trial: TrialId(*trial),
            attempt: Attempt(*attempt),
        };
        let beat = Beat {
            lanes,
            leases: leases.iter().map(held).collect(),
            device: "cpu".to_owned(),
            draining: lanes == 0,
            version: String::new(),
            load: None,
            trouble: None,
        };
        self.tell(Event::BeatHeard { pool: PoolId::new(pool).unwrap(), agent: agent(name), beat });
    }

    /// A record of an agent about study 0, with a sequence number of its own.
    fn send(&mut self, trial: u32, record: impl FnOnce(Sequence) -> Record) {
        self.sequence += 1;
        let record = record(Sequence(self.sequence));
        self.write(Place::trial(study_id(0), TrialId(trial)), record);
    }

    pub fn accept(&mut self, name: &str, trial: u32, attempt: u32) {
        let (attempt, term, agent) = (Attempt(attempt), self.term, agent(name));
        self.send(trial, |sequence| Record::Accepted(Accepted { attempt, term, sequence, agent, lane: 0 }));
    }

    pub fn measure(&mut self, name: &str, trial: u32, attempt: u32, resource: u32, value: f64) {
        self.measure_all(name, trial, attempt, resource, &[(METRIC, value)]);
    }

    pub fn measure_all(&mut self, name: &str, trial: u32, attempt: u32, resource: u32, metrics: &[(&str, f64)]) {
        let (attempt, term, agent) = (Attempt(attempt), self.term, agent(name));
        let metrics = metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let points = vec![Point { step: u64::from(resource) * 10, resource, elapsed_s: f64::from(resource), metrics }];
        self.send(trial, |sequence| Record::Measured(Measured { attempt, term, sequence, agent, points }));
    }

    pub fn checkpoint(&mut self, name: &str, trial: u32, attempt: u32, resource: u32, object: &str) {
        let (attempt, term, agent) = (Attempt(attempt), self.term, agent(name));
        let step = u64::from(resource) * 10;
        let checkpoint = Checkpoint { object: object.to_owned(), bytes: 1, step, resource, elapsed_ms: 0 };
        self.send(trial, |sequence| Record::Checkpointed(Checkpointed { attempt, term, sequence, agent, checkpoint }));
    }

    pub fn finish(&mut self, name: &str, trial: u32, attempt: u32) {
        let (attempt, term, agent) = (Attempt(attempt), self.term, agent(name));
        let finished =
            |sequence| Record::Finished(Finished { attempt, term, sequence, agent, resource: 4, elapsed_s: 4.0 });
        self.send(trial, finished);
    }

    pub fn fail(&mut self, name: &str, trial: u32, attempt: u32, cause: FailCause) {
        let (attempt, term, agent, detail) = (Attempt(attempt), self.term, agent(name), "played".to_owned());
        self.send(trial, |sequence| Record::Failed(Failed { attempt, term, sequence, agent, cause, detail }));
    }

    pub fn release(&mut self, name: &str, trial: u32, attempt: u32, reason: ReleaseReason) {
        let (attempt, term, agent) = (Attempt(attempt), self.term, agent(name));
        self.send(trial, |sequence| Record::Released(Released { attempt, term, sequence, agent, reason, resource: 1 }));
    }

    pub fn trial(&self, trial: u32) -> &Trial {
        &self.coordinator.study(&study_id(0)).expect("study 0 is there").state().trials[&TrialId(trial)]
    }

    /// (trial, attempt) of what was offered since the last look.
    pub fn take_offers(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.offers).iter().map(|offer| (offer.trial.0, offer.attempt.0)).collect()
    }

    /// The last record of this kind.
    pub fn last(&self, kind: &str) -> Option<&Record> {
        self.log.iter().map(|(_, record, _)| record).rfind(|record| record.kind() == kind)
    }

    pub fn count(&self, kind: &str) -> usize {
        self.log.iter().filter(|(_, record, _)| record.kind() == kind).count()
    }
}

pub fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

pub fn of_study(number: usize) -> StudyRequest {
    StudyRequest { study: study_id(number), by: "me".into() }
}

pub fn of_trial(trial: u32) -> TrialRequest {
    TrialRequest { study: study_id(0), trial: TrialId(trial), by: "me".into() }
}

/// One agent `a` with one lane, which holds trial 0.
pub fn one_held() -> Stage {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.beat("a", 1, &[]);
    assert_eq!(stage.take_offers(), [(0, 1)]);
    stage.accept("a", 0, 1);
    stage
}
