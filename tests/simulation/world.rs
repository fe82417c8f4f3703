//! The played world: time, chance, the broker with its log and its queue, and the ways to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use regatta_schemas::log::{Place, Record, StudyCreated};
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::Outcome;
use regatta_schemas::stop::Stop;
use regatta_schemas::streams::OFFER_ACK_WAIT;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{StudyId, TrialId, decode, subjects};
use regatta_search::Time;
use regatta_search::simulator::{Entry, study_id};
use regatta_search::study::Phase;

use crate::desk::Desk;
use crate::faults::Faults;
use crate::station::Station;

/// Between two times that the broker brings to the disk what it stored.
const SYNC_INTERVAL: Duration = Duration::from_secs(4);
const START: Time = Time::from_millis(1_000_000_000);

type Action = Box<dyn FnOnce(&mut World)>;

pub struct World {
    pub now: Time,
    pub faults: Faults,
    random: ChaCha8Rng,
    /// What is to happen, by time; of equals, what was planned first.
    agenda: BTreeMap<(Time, u64), Action>,
    planned: u64,
    pub log: Vec<Entry>,
    stored_ids: BTreeSet<String>,
    pub is_broker_up: bool,
    queue: VecDeque<Box<Offer>>,
    /// Pulls that wait at the broker: the agent and the number of its pull.
    pulls: VecDeque<(usize, u64)>,
    unacknowledged: BTreeMap<u64, Box<Offer>>,
    /// The last stop of each subject.
    pub stops: BTreeMap<(StudyId, Option<TrialId>), Stop>,
    /// The object store's checkpoints.
    pub checkpoints: BTreeSet<String>,
    disk: Disk,
    /// How often the broker forgot what was not on its disk.
    pub losses: u64,
    pub desk: Desk,
    pub stations: Vec<Station>,
    /// Ids of records that agents were told are stored.
    pub acknowledged: BTreeSet<String>,
    /// Faults that happened, by their name.
    pub happened: BTreeMap<&'static str, u64>,
}

/// What the broker still has after a power cut.
#[derive(Default)]
struct Disk {
    records: usize,
    stored_ids: BTreeSet<String>,
    queue: VecDeque<Box<Offer>>,
    stops: BTreeMap<(StudyId, Option<TrialId>), Stop>,
    checkpoints: BTreeSet<String>,
}

impl World {
    pub fn new(seed: u64, studies: Vec<StudyFile>, lanes: &[u32], faults: Faults) -> Self {
        let mut world = Self {
            now: START,
            faults,
            random: ChaCha8Rng::seed_from_u64(seed),
            agenda: BTreeMap::new(),
            planned: 0,
            log: Vec::new(),
            stored_ids: BTreeSet::new(),
            is_broker_up: true,
            queue: VecDeque::new(),
            pulls: VecDeque::new(),
            unacknowledged: BTreeMap::new(),
            stops: BTreeMap::new(),
            checkpoints: BTreeSet::new(),
            disk: Disk::default(),
            losses: 0,
            desk: Desk::default(),
            stations: Vec::new(),
            acknowledged: BTreeSet::new(),
            happened: BTreeMap::new(),
        };
        for (number, study) in studies.into_iter().enumerate() {
            let record = Record::StudyCreated(StudyCreated { study: Box::new(study) });
            world.append(Place::study(study_id(number)), record);
        }
        world.sync();
        world.plan(Duration::ZERO, World::start_coordinator);
        for lanes in lanes.iter().copied() {
            let delay = world.delay();
            world.plan(delay, move |world| world.join(lanes));
        }
        world.repeat(world.faults.broker_restart_every, "broker restarted", World::restart_broker);
        world.repeat(world.faults.power_cut_every, "power cut", World::cut_power);
        world.repeat(world.faults.coordinator_crash_every, "coordinator killed", World::crash_coordinator);
        world.repeat(world.faults.coordinator_cut_every, "coordinator cut off", World::cut_coordinator);
        world
    }

    /// Lets the next thing happen. False: nothing ever will.
    pub fn step(&mut self) -> bool {
        let Some(((at, _), action)) = self.agenda.pop_first() else { return false };
        self.now = at;
        action(self);
        true
    }

    pub fn is_over(&self) -> bool {
        self.why_not_over().is_empty()
    }

    pub fn why_not_over(&self) -> String {
        let Some(machine) = &self.desk.machine else { return "the coordinator is down".to_owned() };
        if self.desk.losses != self.losses {
            return "the coordinator has not noticed a power cut".to_owned();
        }
        let running: Vec<_> = machine.studies().filter(|(_, study)| !study.is_over()).map(|(id, _)| id).collect();
        if !running.is_empty() || machine.studies().next().is_none() || self.desk.read < self.log.len() {
            return format!("studies {running:?} run, {} of {} records are read", self.desk.read, self.log.len());
        }
        let busy = self.stations.iter().filter(|station| !station.is_gone && !station.is_idle());
        busy.map(Station::to_string).collect::<Vec<_>>().join(", ")
    }

    pub fn elapsed(&self) -> Duration {
        self.now - START
    }

    pub fn plan(&mut self, delay: Duration, action: impl FnOnce(&mut World) + 'static) {
        self.agenda.insert((self.now + delay, self.planned), Box::new(action));
        self.planned += 1;
    }

    /// Plans a fault again and again for as long as there are faults.
    fn repeat(&mut self, every: Option<Duration>, name: &'static str, fault: fn(&mut World)) {
        let Some(mean) = every else { return };
        let delay = self.around(mean);
        self.plan(delay, move |world| {
            if world.faults_go_on() {
                *world.happened.entry(name).or_default() += 1;
                fault(world);
                world.repeat(every, name, fault);
            }
        });
    }

    pub fn faults_go_on(&self) -> bool {
        self.elapsed() < self.faults.lasting
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Whether a message is lost on its way; never once the faults are over.
    pub fn is_lost(&mut self) -> bool {
        let loss = if self.faults_go_on() { self.faults.loss } else { 0.0 };
        self.chance(loss)
    }

    pub fn delay(&mut self) -> Duration {
        Duration::from_micros(100) + self.faults.delay_max.mul_f64(self.unit())
    }

    pub fn absence(&mut self) -> Duration {
        Duration::from_millis(10) + self.faults.away_max.mul_f64(self.unit())
    }

    /// Half to one and a half times this long.
    pub fn around(&mut self, span: Duration) -> Duration {
        span.mul_f64(0.5 + self.unit())
    }

    fn unit(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A message arrives at the log; whether it is stored, or was before.
    pub fn store(&mut self, subject: &str, payload: &[u8], id: Option<&str>) -> bool {
        if !self.is_broker_up {
            return false;
        }
        let forgotten = self.faults.forgotten_ids;
        let is_known = id.is_some_and(|id| !self.stored_ids.insert(id.to_owned()));
        if !is_known || self.chance(forgotten) {
            let place = subjects::read_log(subject).expect("agents write to the log");
            self.append(place, decode(payload).expect("agents write records"));
        }
        true
    }

    pub fn append(&mut self, place: Place, record: Record) {
        self.log.push(Entry { place, record, at: self.now });
        let delay = self.delay();
        self.plan(delay, World::read_log);
    }

    /// An agent's pull arrives; it ends by itself after `expires`.
    pub fn wait_for_offer(&mut self, agent: usize, pull: u64, expires: Duration) {
        self.pulls.push_back((agent, pull));
        self.plan(expires, move |world| world.pulls.retain(|waiting| *waiting != (agent, pull)));
        self.hand_out();
    }

    pub fn enqueue(&mut self, offer: Box<Offer>) {
        self.queue.push_back(offer);
        self.hand_out();
    }

    pub fn acknowledge(&mut self, delivery: u64) {
        self.unacknowledged.remove(&delivery);
    }

    /// The offer goes back to the queue, unless it was acknowledged.
    pub fn redeliver(&mut self, delivery: u64) {
        if let Some(offer) = self.unacknowledged.remove(&delivery) {
            self.enqueue(offer);
        }
    }

    fn hand_out(&mut self) {
        while self.is_broker_up && !self.queue.is_empty() && !self.pulls.is_empty() {
            let (agent, pull) = self.pulls.pop_front().expect("one waits");
            let offer = self.queue.pop_front().expect("one waits");
            let delivery = self.planned;
            self.unacknowledged.insert(delivery, offer.clone());
            self.plan(OFFER_ACK_WAIT, move |world| world.redeliver(delivery));
            if !self.is_lost() {
                let delay = self.delay();
                self.at_agent(agent, delay, move |world| world.receive_offer(agent, pull, delivery, offer));
            }
        }
    }

    /// Brings all that is stored to the disk, and does so again after a while.
    fn sync(&mut self) {
        if self.faults.power_cut_every.is_none() {
            return;
        }
        self.disk = Disk {
            records: self.log.len(),
            stored_ids: self.stored_ids.clone(),
            queue: self.queue.iter().chain(self.unacknowledged.values()).cloned().collect(),
            stops: self.stops.clone(),
            checkpoints: self.checkpoints.clone(),
        };
        let interval = self.around(SYNC_INTERVAL);
        self.plan(interval, World::sync);
    }

    fn cut_power(&mut self) {
        let forgotten = self.log.len() - self.disk.records;
        *self.happened.entry("records forgotten in a power cut").or_default() += forgotten as u64;
        self.log.truncate(self.disk.records);
        self.stored_ids.clone_from(&self.disk.stored_ids);
        self.queue.clone_from(&self.disk.queue);
        self.unacknowledged.clear();
        self.stops.clone_from(&self.disk.stops);
        self.checkpoints.clone_from(&self.disk.checkpoints);
        self.acknowledged.retain(|id| self.stored_ids.contains(id));
        self.losses += 1;
        self.restart_broker();
    }

    fn restart_broker(&mut self) {
        self.is_broker_up = false;
        self.pulls.clear();
        let down = self.absence();
        self.plan(down, |world| {
            world.is_broker_up = true;
            world.hand_out();
            world.reconnect_coordinator();
            for agent in 0..world.stations.len() {
                world.reconnect(agent);
            }
        });
    }

    pub fn trials(&self, study: usize) -> usize {
        self.outcomes(study).len()
    }

    pub fn outcomes(&self, study: usize) -> Vec<Outcome> {
        let state = self.desk.machine.as_ref().unwrap().study(&study_id(study)).unwrap().state();
        let outcome = |phase: &Phase| match phase {
            Phase::Ended(outcome) => *outcome,
            other => panic!("a trial has no end: {other:?}"),
        };
        state.trials.values().map(|trial| outcome(&trial.phase)).collect()
    }

    pub fn best(&self, study: usize) -> (TrialId, f64) {
        let state = self.desk.machine.as_ref().unwrap().study(&study_id(study)).unwrap().state();
        let best = state.best.as_ref().expect("something was measured");
        (best.trial, best.value)
    }
}
