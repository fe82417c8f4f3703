//! Two witnesses beside a world, asked after every event: a replay of its log, and the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use regatta_schemas::log::Record;
use regatta_schemas::reasons::Outcome;
use regatta_schemas::{StudyId, TrialId};
use regatta_search::{Coordinator, Event, Settings, Time};

use crate::reference::Reference;
use crate::station::value_of;
use crate::world::World;

/// One in so many events is followed by a comparison of whole states.
const THOROUGH_EVERY: u64 = 5;

pub struct Watch {
    replayed: Coordinator,
    reference: Reference,
    read: usize,
    losses: u64,
    outcomes: BTreeMap<(StudyId, TrialId), Outcome>,
    pub seen: Seen,
}

/// How much happened and was checked.
#[derive(Default)]
pub struct Seen {
    events: u64,
    records: usize,
    replays: u64,
    comparisons: u64,
    happened: BTreeMap<&'static str, u64>,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.records += other.records;
        self.replays += other.replays;
        self.comparisons += other.comparisons;
        for (name, count) in &other.happened {
            *self.happened.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, records, replays, comparisons, happened } = self;
        write!(f, "{events} events, {records} records, {replays} replays and {comparisons} references equal")?;
        happened.iter().try_for_each(|(name, count)| write!(f, "\n{count:>8} times {name}"))
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            replayed: Coordinator::new(Settings::default()),
            reference: Reference::default(),
            read: 0,
            losses: 0,
            outcomes: BTreeMap::new(),
            seen: Seen::default(),
        }
    }
}

impl Watch {
    pub fn look(&mut self, world: &World, steps: u64) {
        self.seen.events += 1;
        let Some(coordinator) = &world.desk.machine else { return };
        if world.desk.losses != world.losses {
            return;
        }
        if self.losses != world.losses {
            // What was forgotten never was.
            *self = Self { losses: world.losses, seen: std::mem::take(&mut self.seen), ..Self::default() };
        }
        if self.read == world.desk.read {
            return;
        }
        for entry in &world.log[self.read..world.desk.read] {
            let (place, record, at) = (entry.place.clone(), entry.record.clone(), entry.at);
            self.replayed.handle(Time::default(), Event::Logged { place, record, at });
            self.reference.read(entry);
        }
        self.read = world.desk.read;
        assert_eq!(self.replayed.next_command(), None, "a replay does nothing");
        self.reference.compare(coordinator);
        self.seen.comparisons += 1;
        for (key, followed) in self.reference.trials() {
            if let Some(outcome) = followed.outcome {
                let first = *self.outcomes.entry(key.clone()).or_insert(outcome);
                assert_eq!(first, outcome, "{key:?} ends once");
            }
        }
        if steps.is_multiple_of(THOROUGH_EVERY) {
            self.check_replay(coordinator);
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
        self.seen.records = world.log.len();
        self.seen.happened.clone_from(&world.happened);
        let coordinator = world.desk.machine.as_ref().expect("it is up when all is over");
        self.check_replay(coordinator);
        for (id, study) in coordinator.studies() {
            assert_eq!(study.lanes_taken(), 0, "{id}: a lane is left behind");
            for (trial, followed) in &study.state().trials {
                for point in followed.points.iter() {
                    let value = value_of(&followed.proposed.params, point.resource);
                    assert_eq!(point.metrics["validation_accuracy"], value, "{id} trial {trial}: a foreign value");
                }
            }
        }
        let logged: BTreeSet<String> =
            world.log.iter().filter_map(|entry| entry.record.message_id(&entry.place)).collect();
        for id in &world.acknowledged {
            assert!(logged.contains(id), "{id} was acknowledged and is not in the log");
        }
        let finished = world.log.iter().filter(|entry| matches!(entry.record, Record::StudyConcluded(_)));
        assert!(finished.count() >= coordinator.studies().count());
    }
}
