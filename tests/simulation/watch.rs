//! Three witnesses beside a world, asked after every event: a replay of its log, the reference, and the minutes of who decided.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use regatta_schemas::log::Record;
use regatta_schemas::reasons::Outcome;
use regatta_schemas::{Attempt, StudyId, TrialId};
use regatta_search::simulator::Entry;
use regatta_search::{Coordinator, Event, Settings, Time};

use crate::broker::{Mandate, Message};
use crate::reference::Reference;
use crate::station::value_of;
use crate::world::World;

/// One in so many events is followed by a comparison of whole states.
const THOROUGH_EVERY: u64 = 5;

pub struct Watch {
    replayed: Coordinator,
    reference: Reference,
    minutes: Minutes,
    read: usize,
    losses: u64,
    outcomes: BTreeMap<(StudyId, TrialId), Outcome>,
    /// The term of each coordinator, and how far it had read, when it was last compared.
    compared: BTreeMap<usize, (u64, usize)>,
    pub seen: Seen,
}

/// How much happened and was checked.
#[derive(Default)]
pub struct Seen {
    events: u64,
    records: usize,
    replays: u64,
    comparisons: u64,
    takeovers: Vec<Duration>,
    happened: BTreeMap<&'static str, u64>,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.records += other.records;
        self.replays += other.replays;
        self.comparisons += other.comparisons;
        self.takeovers.extend(&other.takeovers);
        for (name, count) in &other.happened {
            *self.happened.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, records, replays, comparisons, takeovers, happened } = self;
        write!(f, "{events} events, {records} records, {replays} replays and {comparisons} references equal")?;
        let mut takeovers = takeovers.clone();
        takeovers.sort_unstable();
        if let Some(longest) = takeovers.last() {
            let [p50, p99] = [50, 99].map(|percent| takeovers[(takeovers.len() - 1) * percent / 100]);
            write!(f, "\n{} takeovers: p50 {p50:.2?}, p99 {p99:.2?}, longest {longest:.2?}", takeovers.len())?;
        }
        happened.iter().try_for_each(|(name, count)| write!(f, "\n{count:>8} times {name}"))
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            replayed: Coordinator::new(Settings::default()),
            reference: Reference::default(),
            minutes: Minutes::default(),
            read: 0,
            losses: 0,
            outcomes: BTreeMap::new(),
            compared: BTreeMap::new(),
            seen: Seen::default(),
        }
    }
}

impl Watch {
    pub fn look(&mut self, world: &World, steps: u64) {
        self.seen.events += 1;
        if self.losses != world.broker.losses {
            // What was forgotten never was.
            *self = Self { losses: world.broker.losses, seen: std::mem::take(&mut self.seen), ..Self::default() };
        }
        let log = &world.broker.log;
        if let Some(fault) = self.minutes.read(log, &world.broker.forgotten) {
            panic!("{fault}");
        }
        for (number, desk) in world.desks.iter().enumerate() {
            let Some(coordinator) = desk.machine.as_ref().filter(|_| desk.read_what_is_in(log)) else { continue };
            // One that reads later than others is compared when it has read as far.
            let known = (desk.term, desk.read());
            if desk.read() < self.read || self.compared.insert(number, known) == Some(known) {
                continue;
            }
            self.read_up_to(desk.read(), log);
            self.reference.compare(coordinator);
            self.seen.comparisons += 1;
            if steps.is_multiple_of(THOROUGH_EVERY) {
                self.check_replay(coordinator);
            }
        }
    }

    fn read_up_to(&mut self, read: usize, log: &[Message]) {
        for message in &log[self.read..read] {
            let Message::Record { entry, .. } = message else { continue };
            let (place, record, at) = (entry.place.clone(), entry.record.clone(), entry.at);
            self.replayed.handle(Time::default(), Event::Logged { place, record, at });
            self.reference.read(entry);
        }
        self.read = read;
        assert_eq!(self.replayed.next_command(), None, "a replay does nothing");
        for (key, followed) in self.reference.trials() {
            if let Some(outcome) = followed.outcome {
                let first = *self.outcomes.entry(key.clone()).or_insert(outcome);
                assert_eq!(first, outcome, "{key:?} ends once");
            }
        }
    }

    fn check_replay(&mut self, coordinator: &Coordinator) {
        for (id, study) in coordinator.studies() {
            let replayed = self.replayed.study(id).expect("the replay knows the study");
            assert!(study.state() == replayed.state(), "{id}: live and replayed state differ");
        }
        self.seen.replays += 1;
    }

    pub fn check_the_end(&mut self, world: &World) {
        self.seen.records = world.broker.log.len();
        self.seen.takeovers.clone_from(&world.succession.takeovers);
        self.seen.happened.clone_from(&world.happened);
        for machine in world.desks.iter().filter_map(|desk| desk.machine.as_ref()) {
            self.check_replay(machine);
        }
        let leader = world.leader().expect("somebody leads when all is over");
        for (id, study) in leader.studies() {
            assert_eq!(study.lanes_taken(), 0, "{id}: a lane is left behind");
            for (trial, followed) in &study.state().trials {
                for point in followed.points.iter() {
                    let value = value_of(&followed.proposed.params, point.resource);
                    assert_eq!(point.metrics["validation_accuracy"], value, "{id} trial {trial}: a foreign value");
                }
            }
        }
        for id in &world.acknowledged {
            assert!(world.broker.has(id), "{id} was acknowledged and is not in the log");
        }
        let finished = world.broker.entries().filter(|entry| matches!(entry.record, Record::StudyConcluded(_)));
        assert!(finished.count() >= leader.studies().count());
    }
}

/// Reads the log as a protocol of who decided what.
#[derive(Debug, Default)]
pub struct Minutes {
    read: usize,
    last_elected: Option<Mandate>,
    proposed: BTreeSet<(StudyId, TrialId)>,
    offered: BTreeSet<(StudyId, TrialId, Attempt)>,
}

impl Minutes {
    /// What in the rest of the log nobody had the right to decide, or was decided twice. `forgotten`: elections that were
    /// lost in a power cut; their numbers may have been given to others since.
    pub fn read(&mut self, log: &[Message], forgotten: &BTreeSet<Mandate>) -> Option<String> {
        for (index, message) in log.iter().enumerate().skip(self.read) {
            self.read = index + 1;
            match message {
                Message::Elected { coordinator, .. } => {
                    self.last_elected = Some(Mandate { coordinator: coordinator.clone(), fence: index as u64 + 1 });
                }
                Message::Record { by: None, .. } => {}
                Message::Record { entry, by: Some(mandate), .. } => {
                    if self.last_elected.as_ref() != Some(mandate) && !forgotten.contains(mandate) {
                        return Some(format!("{entry:?} of {mandate:?}, where {:?} was elected", self.last_elected));
                    }
                    if forgotten.is_empty() && self.is_second(entry) {
                        return Some(format!("a second {entry:?}"));
                    }
                }
            }
        }
        None
    }

    /// Whether the attempt was offered before. What is offered of a trial that was not proposed yet counts for nothing.
    fn is_second(&mut self, entry: &Entry) -> bool {
        let (study, Some(trial)) = (entry.place.study.clone(), entry.place.trial) else { return false };
        match &entry.record {
            Record::Proposed(_) => !self.proposed.insert((study, trial)),
            Record::Offered(offered) if self.proposed.contains(&(study.clone(), trial)) => {
                !self.offered.insert((study, trial, offered.attempt))
            }
            _ => false,
        }
    }
}
