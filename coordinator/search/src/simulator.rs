//! The simulator: whole searches in virtual time, from a seed, with everything that can go wrong.
//!
//! It runs the very [`Coordinator`] that runs under NATS. The rest of the world is played: a log that assigns order and
//! time, a queue for each pool, agents that train along a given curve ([`agent`]), and faults ([`Faults`]). The same
//! [`Plan`] gives the same search, to the last event.

mod agent;
mod faults;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use regatta_schemas::api::{Rejection, Request};
use regatta_schemas::ask::{Ask, Suggestion};
use regatta_schemas::beat::Beat;
use regatta_schemas::log::{Lineage, Place, Record, StudyCreated};
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::AskFailure;
use regatta_schemas::stop::Stop;
use regatta_schemas::streams::OFFER_ACK_WAIT;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, PoolId, StudyId, TrialId};

use crate::coordinator::{Answer, Command, Coordinator, Event, Settings};
use crate::random::unit;
use crate::time::Time;
use agent::{Lane, VirtualAgent};
pub use faults::Faults;

/// When every simulation begins.
const START: Time = Time::from_millis(1_000_000_000);
/// From a record's arrival in the log to its reading by the coordinator.
const READ_DELAY: Duration = Duration::from_micros(200);
/// From the coordinator's decision to its record's arrival in the log.
const APPEND_DELAY: Duration = Duration::from_micros(300);

/// A search to simulate.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// Begun at once, as `study-0`, `study-1`...
    pub studies: Vec<StudyFile>,
    pub agents: Vec<AgentPlan>,
    pub faults: Faults,
    pub settings: Settings,
    /// Epochs between two checkpoints of a trial; 0: none are taken.
    pub checkpoint_every: u32,
    /// Between two beats of an agent.
    pub beat_every: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AgentPlan {
    pub pool: PoolId,
    pub lanes: u32,
    /// How many times longer it takes for an epoch than the curve says.
    pub slowness: f64,
}

/// What training one epoch gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Epoch {
    pub metrics: BTreeMap<String, f64>,
    pub seconds: f64,
}

/// The metrics of an epoch, counted from 1, of a trial with these parameters.
pub type Curve<'a> = &'a dyn Fn(&Params, u32) -> Epoch;

/// What a trial was trained with from so many epochs on. A trial has one, and before it those of its parents.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    pub after: u32,
    pub params: Params,
}

/// The metrics of an epoch, counted from 1, of a trial that came this way, first stretch first.
pub type Course<'a> = &'a dyn Fn(&[Stretch], u32) -> Epoch;

type OwnCourse<'a> = Box<dyn Fn(&[Stretch], u32) -> Epoch + 'a>;

/// What an external sampler answers.
pub type Suggest<'a> = &'a dyn Fn(&Ask) -> Result<Suggestion, AskFailure>;

/// A record in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub place: Place,
    pub record: Record,
    pub at: Time,
}

/// A search under way.
pub struct Simulator<'a> {
    plan: Plan,
    course: OwnCourse<'a>,
    suggest: Suggest<'a>,
    /// How each trial came to where it is.
    stretches: BTreeMap<(StudyId, TrialId), Vec<Stretch>>,
    now: Time,
    random: ChaCha8Rng,
    /// What is to happen, by time; of equals, what was planned first.
    agenda: BTreeMap<(Time, u64), Happening>,
    planned: u64,
    log: Vec<Entry>,
    /// Entries that the coordinator has read.
    read: usize,
    /// None while it is down.
    coordinator: Option<Coordinator>,
    /// Commands that the coordinator still carries out before it dies.
    commands_to_live: Option<u32>,
    /// How many coordinators there were.
    coordinators: u32,
    wake_at: Option<Time>,
    queue_by_pool: BTreeMap<PoolId, VecDeque<Box<Offer>>>,
    /// The last stop of each subject.
    stops: BTreeMap<(StudyId, Option<TrialId>), Stop>,
    agents: Vec<VirtualAgent>,
}

/// Something that happens in the played world.
#[derive(Debug)]
enum Happening {
    Written {
        place: Place,
        record: Record,
    },
    Read,
    Wake,
    CoordinatorDies,
    CoordinatorStarts,
    AgentJoins {
        plan: AgentPlan,
    },
    Agent {
        agent: usize,
        what: agent::Happening,
    },
    BeatArrives {
        agent: usize,
        beat: Beat,
    },
    /// An answer to what this coordinator asked.
    AnswerArrives {
        coordinator: u32,
        study: StudyId,
        index: u64,
        answer: Result<Suggestion, AskFailure>,
    },
    StopArrives {
        study: StudyId,
        trial: Option<TrialId>,
        stop: Stop,
    },
    OfferReturns {
        pool: PoolId,
        offer: Box<Offer>,
    },
}

impl<'a> Simulator<'a> {
    /// One in which nobody serves as an external sampler.
    pub fn new(plan: Plan, curve: Curve<'a>) -> Self {
        Self::with_sampler(plan, curve, &|_| Err(AskFailure::Simulated))
    }

    pub fn with_sampler(plan: Plan, curve: Curve<'a>, suggest: Suggest<'a>) -> Self {
        let now = |stretches: &[Stretch], epoch: u32| {
            let last = stretches.last().expect("a trial has a configuration");
            curve(&last.params, epoch)
        };
        Self::with_course(plan, Box::new(now), suggest)
    }

    /// One in which what a trial measures depends on all that it, and its parents, were trained with.
    pub fn along(plan: Plan, course: Course<'a>) -> Self {
        Self::with_course(plan, Box::new(course), &|_| Err(AskFailure::Simulated))
    }

    fn with_course(plan: Plan, course: OwnCourse<'a>, suggest: Suggest<'a>) -> Self {
        let mut simulator = Self {
            now: START,
            random: ChaCha8Rng::seed_from_u64(plan.seed),
            agenda: BTreeMap::new(),
            planned: 0,
            log: Vec::new(),
            read: 0,
            coordinator: None,
            commands_to_live: None,
            coordinators: 0,
            wake_at: None,
            queue_by_pool: BTreeMap::new(),
            stops: BTreeMap::new(),
            agents: Vec::new(),
            plan,
            course,
            suggest,
            stretches: BTreeMap::new(),
        };
        simulator.begin();
        simulator
    }

    fn begin(&mut self) {
        self.plan_at(self.now, Happening::CoordinatorStarts);
        for (number, study) in self.plan.studies.clone().into_iter().enumerate() {
            let place = Place::study(study_id(number));
            self.plan_after(
                APPEND_DELAY,
                Happening::Written { place, record: Record::StudyCreated(StudyCreated { study: Box::new(study) }) },
            );
        }
        for plan in self.plan.agents.clone() {
            let delay = self.delay();
            self.plan_after(delay, Happening::AgentJoins { plan });
        }
        if let Some(every) = self.plan.faults.restart_every {
            let first = self.around(every);
            self.plan_after(first, Happening::CoordinatorDies);
        }
    }

    /// Lets the next thing happen. False: nothing ever will.
    pub fn step(&mut self) -> bool {
        let Some(((at, _), happening)) = self.agenda.pop_first() else { return false };
        self.now = at;
        match happening {
            Happening::Written { place, record } => {
                self.note_stretches(&place, &record);
                self.log.push(Entry { place, record, at });
                self.plan_after(READ_DELAY, Happening::Read);
            }
            Happening::Read => self.read_log(),
            Happening::Wake => {
                self.wake_at = None;
                self.tell(Event::TimePassed);
            }
            Happening::CoordinatorDies => self.commands_to_live = Some(self.random.next_u32() % 4),
            Happening::CoordinatorStarts => self.start_coordinator(),
            Happening::AgentJoins { plan } => self.join(plan),
            Happening::Agent { agent, what } => self.act(agent, what),
            Happening::BeatArrives { agent, beat } => {
                let (pool, id) = (self.agents[agent].pool.clone(), self.agents[agent].id.clone());
                self.tell(Event::BeatHeard { pool, agent: id, beat });
            }
            Happening::AnswerArrives { coordinator, study, index, answer } => {
                if coordinator == self.coordinators {
                    self.tell(Event::Answered { study, index, answer });
                }
            }
            Happening::StopArrives { study, trial, stop } => self.stop_lanes(&study, trial, &stop),
            Happening::OfferReturns { pool, offer } => self.enqueue(pool, offer),
        }
        true
    }

    /// Steps until every study is over and no lane is busy, for at most so many steps. Whether that came about.
    pub fn run(&mut self, steps_max: u64) -> bool {
        (0..steps_max).any(|_| self.is_over() || !self.step())
    }

    /// Whether all studies are concluded and all lanes free.
    pub fn is_over(&self) -> bool {
        let Some(coordinator) = &self.coordinator else { return false };
        let mut studies = coordinator.studies().peekable();
        studies.peek().is_some()
            && studies.all(|(_, study)| study.is_over())
            && self.agents.iter().all(|agent| agent.is_idle())
    }

    /// Asks the coordinator, if it is up.
    ///
    /// # Errors
    /// Its rejection.
    pub fn request(&mut self, request: &Request, new_id: StudyId) -> Option<Result<Answer, Rejection>> {
        let answer = self.coordinator.as_mut()?.request(self.now, request, new_id);
        self.carry_out_commands();
        Some(answer)
    }

    pub fn now(&self) -> Time {
        self.now
    }

    /// Virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now - START
    }

    pub fn log(&self) -> &[Entry] {
        &self.log
    }

    /// How many of the log's entries the coordinator has read.
    pub fn read_position(&self) -> usize {
        self.read
    }

    /// None while it is down.
    pub fn coordinator(&self) -> Option<&Coordinator> {
        self.coordinator.as_ref()
    }

    /// The trials that agents train at this moment, as far as the agents know.
    pub fn training(&self) -> impl Iterator<Item = (&StudyId, TrialId)> {
        self.agents.iter().flat_map(VirtualAgent::offers).map(|offer| (&offer.study, offer.trial))
    }

    /// Offers that no agent has taken yet.
    pub fn offers_waiting(&self) -> usize {
        self.queue_by_pool.values().map(VecDeque::len).sum()
    }

    fn start_coordinator(&mut self) {
        let mut coordinator = Coordinator::new(self.plan.settings.clone());
        for Entry { place, record, at } in self.log.clone() {
            coordinator.handle(self.now, Event::Logged { place, record, at });
        }
        self.read = self.log.len();
        self.coordinators += 1;
        self.coordinator = Some(coordinator);
        self.tell(Event::CaughtUp);
        if let Some(every) = self.plan.faults.restart_every
            && self.faults_go_on()
        {
            let next = self.around(every);
            self.plan_after(next, Happening::CoordinatorDies);
        }
    }

    fn note_stretches(&mut self, place: &Place, record: &Record) {
        let (Some(trial), Record::Proposed(proposed)) = (place.trial, record) else { return };
        let (mut stretches, mut after) = (Vec::new(), 0);
        if let Lineage::Inherited { parent, checkpoint, .. } = &proposed.lineage {
            after = checkpoint.resource;
            let before = self.stretches.get(&(place.study.clone(), *parent)).into_iter().flatten();
            stretches.extend(before.filter(|stretch| stretch.after < after).cloned());
        }
        stretches.push(Stretch { after, params: proposed.params.clone() });
        self.stretches.entry((place.study.clone(), trial)).or_insert(stretches);
    }

    fn read_log(&mut self) {
        while self.coordinator.is_some() && self.read < self.log.len() {
            let Entry { place, record, at } = self.log[self.read].clone();
            self.read += 1;
            self.tell(Event::Logged { place, record, at });
        }
    }

    fn tell(&mut self, event: Event) {
        let Some(coordinator) = &mut self.coordinator else { return };
        coordinator.handle(self.now, event);
        self.carry_out_commands();
    }

    fn carry_out_commands(&mut self) {
        while let Some(command) = self.coordinator.as_mut().and_then(Coordinator::next_command) {
            if let Some(left) = &mut self.commands_to_live {
                if *left == 0 {
                    self.lose_coordinator();
                    return;
                }
                *left -= 1;
            }
            self.carry_out(command);
        }
        let Some(deadline) = self.coordinator.as_ref().and_then(Coordinator::next_deadline) else { return };
        if self.wake_at.is_none_or(|planned| deadline < planned) {
            let wake_at = deadline.max(self.now);
            self.wake_at = Some(wake_at);
            self.plan_at(wake_at, Happening::Wake);
        }
    }

    /// It dies between two commands; what it had not sent is lost with it.
    fn lose_coordinator(&mut self) {
        self.coordinator = None;
        self.commands_to_live = None;
        let down = self.below(self.plan.faults.down_max);
        self.plan_after(down, Happening::CoordinatorStarts);
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Append { place, record } => self.plan_after(APPEND_DELAY, Happening::Written { place, record }),
            Command::Offer { pool, offer } => self.enqueue(pool, offer),
            Command::Stop { study, trial, stop } => {
                self.stops.insert((study.clone(), trial), stop.clone());
                let delay = self.delay();
                self.plan_after(delay, Happening::StopArrives { study, trial, stop });
            }
            Command::Ask { ask, .. } => {
                let (coordinator, answer, delay) = (self.coordinators, (self.suggest)(&ask), self.delay());
                let Ask { study, index, .. } = *ask;
                self.plan_after(delay, Happening::AnswerArrives { coordinator, study, index, answer });
            }
            Command::DeleteCheckpoint { .. } => {}
            Command::DeleteStudy { study } => {
                let stays = |record: &Record| matches!(record, Record::StudyDeleted(_));
                self.log.retain(|entry| entry.place.study != study || stays(&entry.record));
            }
        }
    }

    fn enqueue(&mut self, pool: PoolId, offer: Box<Offer>) {
        self.queue_by_pool.entry(pool.clone()).or_default().push_back(offer);
        self.hand_out(&pool);
    }

    /// Offers go to the pool's agents that ask, in the order in which the agents joined.
    fn hand_out(&mut self, pool: &PoolId) {
        for agent in 0..self.agents.len() {
            while let Some(lane) = self.agents[agent].free_lane(pool)
                && let Some(offer) = self.queue_by_pool.get_mut(pool).and_then(VecDeque::pop_front)
            {
                let run = self.planned;
                self.agents[agent].lanes[lane] = Lane::Taking { run, offer };
                let delay = self.delay();
                self.plan_agent(agent, delay, agent::Happening::Accepts { lane, run });
            }
        }
    }

    /// An offer that was not accepted comes again, as NATS sees to it.
    fn return_offer(&mut self, pool: PoolId, offer: Box<Offer>) {
        self.plan_after(OFFER_ACK_WAIT, Happening::OfferReturns { pool, offer });
    }

    fn plan_at(&mut self, at: Time, happening: Happening) {
        self.agenda.insert((at, self.planned), happening);
        self.planned += 1;
    }

    fn plan_after(&mut self, delay: Duration, happening: Happening) {
        self.plan_at(self.now + delay, happening);
    }

    fn plan_agent(&mut self, agent: usize, delay: Duration, what: agent::Happening) {
        self.plan_after(delay, Happening::Agent { agent, what });
    }

    fn faults_go_on(&self) -> bool {
        self.elapsed() < self.plan.faults.lasting
    }

    /// Whether something with this probability happens.
    fn chance(&mut self, probability: f64) -> bool {
        unit(self.random.next_u64()) < probability
    }

    fn below(&mut self, span: Duration) -> Duration {
        span.mul_f64(unit(self.random.next_u64()))
    }

    /// Half to one and a half times this long.
    fn around(&mut self, span: Duration) -> Duration {
        span / 2 + self.below(span)
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(100) + self.below(self.plan.faults.delay_max)
    }
}

/// The id of the plan's study of this number.
pub fn study_id(number: usize) -> StudyId {
    StudyId::new(format!("study-{number}")).expect("letters, a dash and a number are an id")
}
