//! The played world: time and chance, who is in it, and when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use regatta_schemas::TrialId;
use regatta_schemas::api::Failure;
use regatta_schemas::log::{Place, Record, StudyCreated};
use regatta_schemas::reasons::{FailCause, Outcome};
use regatta_schemas::study::StudyFile;
use regatta_search::Time;
use regatta_search::simulator::study_id;
use regatta_search::study::{Phase, Study, Trial};

use crate::broker::Broker;
use crate::desk::Desk;
use crate::election::Succession;
use crate::faults::Faults;
use crate::station::Station;

const START: Time = Time::from_millis(1_000_000_000);

pub type Action = Box<dyn FnOnce(&mut World)>;

/// Who takes part: coordinators, and the lanes of each agent.
pub struct Crew<'a> {
    pub coordinators: usize,
    pub lanes: &'a [u32],
}

pub struct World {
    pub now: Time,
    pub faults: Faults,
    random: ChaCha8Rng,
    /// What is to happen, by time; of equals, what was planned first.
    agenda: BTreeMap<(Time, u64), Action>,
    numbers: u64,
    pub broker: Broker,
    pub desks: Vec<Desk>,
    pub succession: Succession,
    pub stations: Vec<Station>,
    /// Ids of messages of which agents and coordinators were told that they are stored.
    pub acknowledged: BTreeSet<String>,
    /// Faults that happened, by their name.
    pub happened: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(seed: u64, studies: Vec<StudyFile>, crew: &Crew, faults: Faults) -> Self {
        let mut world = Self {
            now: START,
            faults,
            random: ChaCha8Rng::seed_from_u64(seed),
            agenda: BTreeMap::new(),
            numbers: 0,
            broker: Broker::started(),
            desks: Vec::new(),
            succession: Succession::default(),
            stations: Vec::new(),
            acknowledged: BTreeSet::new(),
            happened: BTreeMap::new(),
        };
        for (number, study) in studies.into_iter().enumerate() {
            let record = Record::StudyCreated(StudyCreated { study: Box::new(study) });
            world.append_record(Place::study(study_id(number)), record, None, None);
        }
        world.sync();
        for _ in 0..crew.coordinators {
            world.open_desk();
        }
        for lanes in crew.lanes.iter().copied() {
            let delay = world.delay();
            world.plan(delay, move |world| world.join(lanes));
        }
        world.repeat(world.faults.broker_restart_every, |world| {
            world.count("broker restarted");
            world.restart_broker();
        });
        world.repeat(world.faults.power_cut_every, |world| {
            world.count("power cut");
            world.cut_power();
        });
        world
    }

    /// Lets the next thing happen. False: nothing ever will.
    pub fn step(&mut self) -> bool {
        let Some(((at, _), action)) = self.agenda.pop_first() else { return false };
        self.now = at;
        action(self);
        self.look_who_leads();
        true
    }

    pub fn is_over(&self) -> bool {
        self.why_not_over().is_empty()
    }

    pub fn why_not_over(&self) -> String {
        let Some(leader) = self.leader() else { return "nobody leads".to_owned() };
        for desk in &self.desks {
            if desk.machine.is_none() || desk.read() < self.broker.log.len() || !desk.read_what_is_in(&self.broker.log)
            {
                return format!("{desk} has read {} of {} messages", desk.read(), self.broker.log.len());
            }
        }
        let running: Vec<_> = leader.studies().filter(|(_, study)| !study.is_over()).map(|(id, _)| id).collect();
        if !running.is_empty() || leader.studies().next().is_none() {
            return format!("studies {running:?} run");
        }
        let busy = self.stations.iter().filter(|station| !station.is_gone && !station.is_idle());
        busy.map(Station::to_string).collect::<Vec<_>>().join(", ")
    }

    pub fn elapsed(&self) -> Duration {
        self.now - START
    }

    /// No other has it.
    pub fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn plan(&mut self, delay: Duration, action: impl FnOnce(&mut World) + 'static) {
        let number = self.next_number();
        self.agenda.insert((self.now + delay, number), Box::new(action));
    }

    /// Plans a fault again and again for as long as there are faults.
    pub fn repeat(&mut self, every: Option<Duration>, fault: impl Fn(&mut World) + 'static) {
        let Some(mean) = every else { return };
        let delay = self.around(mean);
        self.plan(delay, move |world| {
            if world.faults_go_on() {
                fault(world);
                world.repeat(every, fault);
            }
        });
    }

    pub fn count(&mut self, name: &'static str) {
        *self.happened.entry(name).or_default() += 1;
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

    fn study(&self, study: usize) -> &Study {
        let leader = self.leader().expect("somebody leads when all is over");
        leader.study(&study_id(study)).expect("the world has as many studies")
    }

    pub fn trials(&self, study: usize) -> usize {
        self.ends(study).len()
    }

    /// The end and the best value of each trial; None of one whose agents fell silent too often.
    pub fn ends(&self, study: usize) -> BTreeMap<TrialId, Option<(Outcome, Option<f64>)>> {
        let end = |trial: &Trial| match (&trial.phase, &trial.failure) {
            (Phase::Ended(Outcome::Failed), Some(Failure { cause: FailCause::AgentLost, .. })) => None,
            (Phase::Ended(outcome), _) => Some((*outcome, trial.best)),
            (other, _) => panic!("a trial has no end: {other:?}"),
        };
        self.study(study).state().trials.iter().map(|(id, trial)| (*id, end(trial))).collect()
    }
}
