//! The coordinator: every study and the fleet they share, as one machine.
//!
//! It must not know NATS, a clock, or how a record gets into the log. State is a fold of the log: it changes
//! only when a record is read back ([`Event::Logged`]), also for the coordinator's own decisions. Whoever
//! drives it calls [`Coordinator::handle`] or [`Coordinator::request`], then drains
//! [`Coordinator::next_command`], and sends [`Event::TimePassed`] at [`Coordinator::next_deadline`].

mod archive;
mod calls;
mod request;
mod summary;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use regatta_schemas::ask::{Ask, Suggestion};
use regatta_schemas::beat::{Beat, Held};
use regatta_schemas::log::{Place, Record};
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::AskFailure;
use regatta_schemas::snapshot::OverStudy;
use regatta_schemas::stop::Stop;
use regatta_schemas::{AgentId, Attempt, PoolId, SamplerId, StudyId, Term, TrialId};

use crate::fleet::{Expired, Fleet};
use crate::study::{self, Study};
use crate::time::Time;

pub use archive::Recorded;
pub use request::Answer;

/// What the coordinator is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A record was read from the log, in the log's order; `at` is the log's time.
    Logged { place: Place, record: Record, at: Time },
    /// An agent gave a sign of life.
    BeatHeard { pool: PoolId, agent: AgentId, beat: Beat },
    /// What came of [`Command::Ask`].
    Answered { study: StudyId, index: u64, answer: Result<Suggestion, AskFailure> },
    /// All that the log held at start was read; from here on decisions are taken.
    CaughtUp,
    /// The way to the fleet was cut and is whole again: silence until now was nobody's fault, and what waited in a
    /// queue may be lost.
    ConnectionRestored,
    /// The deadline is reached.
    TimePassed,
}

/// What the coordinator wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Write a record into the log. It must arrive, or the coordinator be started anew: the decision is
    /// remembered as taken until its record is read back.
    Append { place: Place, record: Record },
    /// Put an offer into a pool's queue. The same attempt may be offered again after a restart.
    Offer { pool: PoolId, offer: Box<Offer> },
    /// Tell agents to stop; a trial of None means every trial of the study.
    Stop { study: StudyId, trial: Option<TrialId>, stop: Stop },
    /// Ask an external sampler, which may take so long, and tell what comes of it by [`Event::Answered`]: once.
    Ask { service: SamplerId, timeout: Duration, ask: Box<Ask> },
    /// Nothing refers to this checkpoint any more.
    DeleteCheckpoint { object: String },
    /// Remove the study's output and stops, and its log up to its `study_deleted`.
    DeleteStudy { study: StudyId },
}

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// An agent that is silent for so long loses its leases.
    pub lease_timeout: Duration,
    /// Offers kept waiting in each pool beyond its free lanes, so that an autoscaler sees demand.
    pub backlog: u32,
    /// Marks the offers that this coordinator makes.
    pub term: Term,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lease_timeout: Duration::from_secs(5), backlog: 0, term: Term::default() }
    }
}

/// All studies and their fleet.
#[derive(Debug)]
pub struct Coordinator {
    settings: Settings,
    studies: BTreeMap<StudyId, Study>,
    /// Studies that are over, of which a snapshot told; none of them is among `studies`.
    archive: BTreeMap<StudyId, OverStudy>,
    /// Those of which something may still run or be decided.
    active: BTreeSet<StudyId>,
    /// Studies whose `study_created` is on its way to the log, and the trial that comes along.
    creating: BTreeMap<StudyId, Option<TrialId>>,
    fleet: Fleet,
    /// How many trials would go on from each checkpoint. Equal trials of two studies can share one, since an object
    /// is named by its content.
    uses_by_checkpoint: BTreeMap<String, u32>,
    /// Studies that were forgotten while the log was read, of which there may still be traces.
    to_delete: BTreeSet<StudyId>,
    commands: VecDeque<Command>,
    is_live: bool,
}

impl Coordinator {
    /// One that has read nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            fleet: Fleet::new(settings.lease_timeout),
            settings,
            studies: BTreeMap::new(),
            archive: BTreeMap::new(),
            active: BTreeSet::new(),
            creating: BTreeMap::new(),
            uses_by_checkpoint: BTreeMap::new(),
            to_delete: BTreeSet::new(),
            commands: VecDeque::new(),
            is_live: false,
        }
    }

    /// Takes in one event. Afterwards, drain [`Self::next_command`].
    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Logged { place, record, at } => self.read(now, place, record, at),
            Event::BeatHeard { pool, agent, beat } => self.hear(now, pool, agent, beat),
            Event::Answered { study, index, answer } => {
                self.tell(now, &study, study::Event::Answered { index, answer })
            }
            Event::CaughtUp => self.catch_up(now),
            Event::ConnectionRestored => self.reconnect(now),
            Event::TimePassed => self.look_at_clock(now),
        }
        self.grant_lanes(now);
    }

    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to send [`Event::TimePassed`], if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        if !self.is_live {
            return None;
        }
        let studies = self.active.iter().filter_map(|id| self.studies[id].next_deadline());
        studies.chain(self.fleet.next_deadline()).min()
    }

    /// The term to decide in, once the log is read.
    fn office(&self) -> Option<Term> {
        self.is_live.then_some(self.settings.term)
    }

    /// Whether the log is read and decisions are taken.
    pub fn is_caught_up(&self) -> bool {
        self.is_live
    }

    pub fn study(&self, id: &StudyId) -> Option<&Study> {
        self.studies.get(id)
    }

    pub fn studies(&self) -> impl Iterator<Item = (&StudyId, &Study)> {
        self.studies.iter()
    }

    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Whether a trial would go on, or be exported, from this checkpoint; one that is on its way to the log too.
    pub fn needs_checkpoint(&self, object: &str) -> bool {
        let is_about_to = || self.active.iter().any(|id| self.studies[id].is_about_to_need(object));
        self.uses_by_checkpoint.contains_key(object) || is_about_to()
    }

    /// Lanes of the pool that nothing is meant for; below zero while agents are away or offers wait.
    pub fn free_lanes(&self, pool: &PoolId) -> i64 {
        let in_pool = self.active.iter().map(|id| &self.studies[id]).filter(|study| study.pool() == pool);
        let taken: usize = in_pool.map(Study::lanes_taken).sum();
        self.fleet.lanes(pool) as i64 + i64::from(self.settings.backlog) - taken as i64
    }

    fn read(&mut self, now: Time, place: Place, record: Record, at: Time) {
        let Place { study: id, trial } = place;
        if let (Record::StudyCreated(created), None) = (&record, trial) {
            let coming = self.creating.remove(&id).flatten();
            let office = self.office();
            let new = || Study::new(id.clone(), (*created.study).clone(), at, office);
            let study = self.studies.entry(id.clone()).or_insert_with(new);
            if let Some(trial) = coming {
                study.expect(trial);
            }
        }
        if matches!(record, Record::StudyDeleted(_)) {
            return self.forget(&id);
        }
        let Some(study) = self.studies.get_mut(&id) else { return self.answer_orphan(id, trial, &record) };
        let checkpoint = match &record {
            Record::Checkpointed(record) => Some(record.checkpoint.object.clone()),
            _ => None,
        };
        let kept_before = trial.and_then(|trial| checkpoint_of(study, trial));
        study.handle(now, study::Event::Logged { trial, record, at });
        if let Some(trial) = trial {
            self.fleet.set_lease(now, &id, trial, study.leaseholder(trial));
            let (kept, surplus) = (checkpoint_of(study, trial), study.state().surplus.clone());
            self.keep_checkpoint(checkpoint, kept_before, kept);
            if let Some(object) = surplus {
                self.drop_checkpoint(object);
            }
        }
        self.collect(&id);
    }

    /// Forgets a study, with all that only it needed.
    fn forget(&mut self, id: &StudyId) {
        let checkpoints = match (self.studies.remove(id), self.archive.remove(id)) {
            (Some(study), _) => study.checkpoints().cloned().collect(),
            (None, Some(study)) => study.checkpoints,
            (None, None) => return,
        };
        self.active.remove(id);
        self.fleet.forget_study(id);
        for object in checkpoints {
            self.drop_checkpoint(object);
        }
        if self.is_live {
            self.commands.push_back(Command::DeleteStudy { study: id.clone() });
        } else {
            self.to_delete.insert(id.clone());
        }
    }

    /// An agent that trains for a study which was deleted.
    fn answer_orphan(&mut self, study: StudyId, trial: Option<TrialId>, record: &Record) {
        let is_at_work = matches!(record, Record::Accepted(_) | Record::Measured(_) | Record::Checkpointed(_));
        if let (true, true, Some(trial), Some(key)) = (self.is_live, is_at_work, trial, record.key()) {
            self.turn_away(study, trial, key.attempt, key.agent.clone());
        }
    }

    fn turn_away(&mut self, study: StudyId, trial: TrialId, attempt: Attempt, agent: AgentId) {
        let stop = Stop::superseded(agent, attempt, Term::default());
        self.commands.push_back(Command::Stop { study, trial: Some(trial), stop });
    }

    /// Counts who needs which checkpoint, and deletes what nobody needs any more: the one that was superseded, or the
    /// announced one itself, if it came too late to count.
    fn keep_checkpoint(&mut self, announced: Option<String>, before: Option<String>, kept: Option<String>) {
        if before != kept {
            if let Some(object) = kept {
                *self.uses_by_checkpoint.entry(object).or_default() += 1;
            }
            if let Some(object) = before {
                self.drop_checkpoint(object);
            }
        } else if let Some(object) = announced.filter(|object| self.is_live && !self.needs_checkpoint(object)) {
            self.commands.push_back(Command::DeleteCheckpoint { object });
        }
    }

    fn drop_checkpoint(&mut self, object: String) {
        let uses = self.uses_by_checkpoint.get(&object).copied().unwrap_or(0);
        if uses > 1 {
            self.uses_by_checkpoint.insert(object, uses - 1);
            return;
        }
        self.uses_by_checkpoint.remove(&object);
        if self.is_live && !self.needs_checkpoint(&object) {
            self.commands.push_back(Command::DeleteCheckpoint { object });
        }
    }

    fn hear(&mut self, now: Time, pool: PoolId, agent: AgentId, beat: Beat) {
        for Held { study: id, trial, attempt } in beat.leases.clone() {
            match self.studies.get_mut(&id) {
                Some(study) => {
                    study.handle(now, study::Event::Listed { trial, attempt, agent: agent.clone() });
                    self.fleet.set_lease(now, &id, trial, study.leaseholder(trial));
                    self.collect(&id);
                }
                None if self.is_live => self.turn_away(id, trial, attempt, agent.clone()),
                None => {}
            }
        }
        self.fleet.beat(now, pool, agent, beat);
    }

    fn catch_up(&mut self, now: Time) {
        self.is_live = true;
        self.fleet.give_grace(now);
        let to_delete = std::mem::take(&mut self.to_delete);
        self.commands.extend(to_delete.into_iter().map(|study| Command::DeleteStudy { study }));
        for id in self.active.clone() {
            self.tell(now, &id, study::Event::CaughtUp { term: self.settings.term });
        }
        for (id, study) in &mut self.studies {
            if !self.active.contains(id) {
                study.handle(now, study::Event::CaughtUp { term: self.settings.term });
            }
        }
    }

    fn reconnect(&mut self, now: Time) {
        self.fleet.give_grace(now);
        if self.is_live {
            for id in self.active.clone() {
                self.tell(now, &id, study::Event::QueueDoubted);
            }
        }
    }

    fn look_at_clock(&mut self, now: Time) {
        if !self.is_live {
            return;
        }
        for Expired { study, trial, agent, silent } in self.fleet.expire(now) {
            self.tell(now, &study, study::Event::LeaseEnded { trial, agent, silent });
        }
        for id in self.active.clone() {
            if self.studies[&id].next_deadline().is_some_and(|deadline| deadline <= now) {
                self.tell(now, &id, study::Event::TimePassed);
            }
        }
    }

    fn tell(&mut self, now: Time, id: &StudyId, event: study::Event) {
        if let Some(study) = self.studies.get_mut(id) {
            study.handle(now, event);
            self.collect(id);
        }
    }

    /// Makes the study's commands the coordinator's.
    fn collect(&mut self, id: &StudyId) {
        let Some(study) = self.studies.get_mut(id) else { return };
        while let Some(command) = study.next_command() {
            self.commands.push_back(match command {
                study::Command::Append { trial, record } => {
                    Command::Append { place: Place { study: id.clone(), trial }, record }
                }
                study::Command::Offer(offer) => Command::Offer { pool: study.pool().clone(), offer },
                study::Command::Ask { service, timeout, ask } => Command::Ask { service, timeout, ask },
                study::Command::Stop { trial, stop } => Command::Stop { study: id.clone(), trial, stop },
            });
        }
        if study.is_over() {
            self.active.remove(id);
        } else if !self.active.contains(id) {
            self.active.insert(id.clone());
        }
    }

    /// Gives each free lane of each pool to the study, among those that want one, that has the smallest share.
    fn grant_lanes(&mut self, now: Time) {
        if !self.is_live {
            return;
        }
        let pools: BTreeSet<PoolId> = self.active.iter().map(|id| self.studies[id].pool().clone()).collect();
        for pool in pools {
            while self.free_lanes(&pool) > 0
                && let Some(id) = self.next_in_line(&pool)
            {
                self.tell(now, &id, study::Event::LaneGranted);
            }
        }
    }

    /// Smallest lanes per weight first; of equals, the first by id. Granting a lane to it either takes the lane or
    /// shows that the study wants none.
    fn next_in_line(&self, pool: &PoolId) -> Option<StudyId> {
        let share = |study: &Study| study.lanes_taken() as f64 / study.weight();
        let in_line = self.active.iter().map(|id| (id, &self.studies[id]));
        in_line
            .filter(|(_, study)| study.pool() == pool && study.wants_lane())
            .min_by(|(_, a), (_, b)| share(a).total_cmp(&share(b)))
            .map(|(id, _)| id.clone())
    }
}

fn checkpoint_of(study: &Study, trial: TrialId) -> Option<String> {
    let checkpoint = study.state().trials.get(&trial)?.checkpoint.as_ref()?;
    Some(checkpoint.object.clone())
}
