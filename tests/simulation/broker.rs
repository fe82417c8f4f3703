//! The played nats-server: the log, the queue of offers, the kept stops, the leader's key, and its disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use regatta_schemas::log::{Place, Record};
use regatta_schemas::offer::Offer;
use regatta_schemas::stop::Stop;
use regatta_schemas::streams::{LEADER_LEASE, OFFER_ACK_WAIT};
use regatta_schemas::{StudyId, TrialId, decode, subjects};
use regatta_search::Time;
use regatta_search::office::Step;
use regatta_search::simulator::Entry;

use crate::mail::{Contents, Letter};
use crate::world::World;

/// Between two times that the broker brings to the disk what it stored.
const SYNC_INTERVAL: Duration = Duration::from_secs(4);

/// What lies in the log; its number is its place, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// `by`: which coordinator decided it, if one did.
    Record {
        entry: Box<Entry>,
        id: Option<String>,
        by: Option<Mandate>,
    },
    Elected {
        coordinator: String,
        at: Time,
    },
}

/// By what right a coordinator decides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mandate {
    pub coordinator: String,
    /// The number of its `elected`.
    pub fence: u64,
}

impl Message {
    pub fn at(&self) -> Time {
        match self {
            Self::Record { entry, .. } => entry.at,
            Self::Elected { at, .. } => *at,
        }
    }
}

/// What a coordinator is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// In the log under this number; 0 in another stream.
    As(u64),
    /// Another message was being replicated.
    Busy,
    /// Another coordinator has been elected since.
    Fenced,
}

#[derive(Default)]
pub struct Broker {
    pub is_up: bool,
    pub log: Vec<Message>,
    /// The number of the last `elected`; 0 where there is none.
    pub last_elected: u64,
    /// What was stored under which `Nats-Msg-Id`: its number in the log, or 0.
    ids: BTreeMap<String, u64>,
    queue: VecDeque<Box<Offer>>,
    /// Pulls that wait: the agent and the number of its pull.
    pulls: VecDeque<(usize, u64)>,
    unacknowledged: BTreeMap<u64, Box<Offer>>,
    /// The last stop of each subject.
    pub stops: BTreeMap<(StudyId, Option<TrialId>), Stop>,
    /// The object store's checkpoints.
    pub checkpoints: BTreeSet<String>,
    leader: Leader,
    disk: Disk,
    /// How often it forgot what was not on its disk.
    pub losses: u64,
    /// Elections that it forgot.
    pub forgotten: BTreeSet<Mandate>,
}

/// The bucket with the leader's key.
#[derive(Debug, Clone, Default)]
struct Leader {
    key: Option<Key>,
    last_revision: u64,
}

#[derive(Debug, Clone)]
struct Key {
    holder: String,
    revision: u64,
    dies_at: Time,
}

/// What the broker still has after a power cut.
#[derive(Default)]
struct Disk {
    records: usize,
    ids: BTreeMap<String, u64>,
    queue: VecDeque<Box<Offer>>,
    stops: BTreeMap<(StudyId, Option<TrialId>), Stop>,
    checkpoints: BTreeSet<String>,
    leader: Leader,
}

impl Broker {
    pub fn started() -> Self {
        Self { is_up: true, ..Self::default() }
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.log.iter().filter_map(|message| match message {
            Message::Record { entry, .. } => Some(entry.as_ref()),
            Message::Elected { .. } => None,
        })
    }

    /// Whether a message of this id is stored.
    pub fn has(&self, id: &str) -> bool {
        match self.ids.get(id) {
            Some(0) => true,
            Some(number) => match self.log.get(*number as usize - 1) {
                Some(Message::Record { id: Some(stored), .. }) => stored == id,
                Some(_) | None => false,
            },
            None => false,
        }
    }

    /// Who holds the leader's key.
    pub fn key_holder(&self, now: Time) -> Option<&str> {
        self.leader.key.as_ref().filter(|key| now < key.dies_at).map(|key| key.holder.as_str())
    }

    /// Gives back the leader's key, if it is still this coordinator's.
    pub fn release(&mut self, holder: &str) {
        self.leader.key.take_if(|key| key.holder == holder);
    }

    fn write_key(&mut self, holder: String, now: Time) -> u64 {
        self.leader.last_revision += 1;
        let revision = self.leader.last_revision;
        self.leader.key = Some(Key { holder, revision, dies_at: now + LEADER_LEASE });
        revision
    }
}

impl World {
    /// Does what a candidate asks for; None where the condition does not hold.
    pub fn obey_candidate(&mut self, step: Step, coordinator: String) -> Option<u64> {
        let now = self.now;
        let broker = &mut self.broker;
        let key = broker.leader.key.as_ref().filter(|key| now < key.dies_at);
        match step {
            Step::Take => key.is_none().then(|| broker.write_key(coordinator, now)),
            Step::Keep { revision } => {
                key.is_some_and(|key| key.revision == revision).then(|| broker.write_key(coordinator, now))
            }
            Step::Look => Some(broker.last_elected),
            Step::Stand { last } if last == broker.last_elected => {
                Some(self.append(Message::Elected { coordinator, at: now }))
            }
            Step::Stand { .. } => {
                self.count("elections that came too late");
                None
            }
        }
    }

    /// A message of an agent arrives at the log; whether it is stored, or was before.
    pub fn store(&mut self, subject: &str, payload: &[u8], id: Option<String>) -> bool {
        if !self.broker.is_up {
            return false;
        }
        let is_known = id.as_ref().is_some_and(|id| self.broker.ids.contains_key(id));
        if !is_known || self.chance(self.faults.forgotten_ids) {
            let place = subjects::read_log(subject).expect("agents write to the log");
            self.append_record(place, decode(payload).expect("agents write records"), id, None);
        }
        true
    }

    /// A coordinator's message arrives.
    pub fn store_letter(&mut self, letter: Letter, mandate: Mandate) -> Stored {
        // It is sent again within seconds, and so within the window of duplicates.
        if let Some(number) = self.broker.ids.get(&letter.id) {
            return Stored::As(*number);
        }
        let is_deposed = mandate.fence != self.broker.last_elected;
        if self.is_lost() {
            self.count("decisions put off by the broker");
            return Stored::Busy;
        }
        match letter.contents {
            Contents::Decision { place, record } => {
                if is_deposed && self.faults.has_fence {
                    self.count("decisions refused by the fence");
                    return Stored::Fenced;
                }
                return Stored::As(self.append_record(place, record, Some(letter.id), Some(mandate)));
            }
            Contents::Stop { study, trial, stop } => {
                self.broker.stops.insert((study.clone(), trial), stop.clone());
                self.spread_stop(&study, trial, &stop);
            }
            Contents::Offer(offer) => self.enqueue(offer),
        }
        if is_deposed {
            self.count("stops and offers of a deposed leader");
        }
        self.broker.ids.insert(letter.id, 0);
        Stored::As(0)
    }

    pub fn append_record(&mut self, place: Place, record: Record, id: Option<String>, by: Option<Mandate>) -> u64 {
        let entry = Box::new(Entry { place, record, at: self.now });
        let number = self.append(Message::Record { entry, id: id.clone(), by });
        self.broker.ids.extend(id.map(|id| (id, number)));
        number
    }

    fn append(&mut self, message: Message) -> u64 {
        let number = self.broker.log.len() as u64 + 1;
        if let Message::Elected { .. } = message {
            self.broker.last_elected = number;
        }
        self.broker.log.push(message);
        self.announce_record();
        number
    }

    /// An agent's pull arrives; it ends by itself after `expires`.
    pub fn wait_for_offer(&mut self, agent: usize, pull: u64, expires: Duration) {
        self.broker.pulls.push_back((agent, pull));
        self.plan(expires, move |world| world.broker.pulls.retain(|waiting| *waiting != (agent, pull)));
        self.hand_out();
    }

    fn enqueue(&mut self, offer: Box<Offer>) {
        self.broker.queue.push_back(offer);
        self.hand_out();
    }

    pub fn acknowledge(&mut self, delivery: u64) {
        self.broker.unacknowledged.remove(&delivery);
    }

    /// The offer goes back to the queue, unless it was acknowledged.
    pub fn redeliver(&mut self, delivery: u64) {
        if let Some(offer) = self.broker.unacknowledged.remove(&delivery) {
            self.enqueue(offer);
        }
    }

    fn hand_out(&mut self) {
        while self.broker.is_up && !self.broker.queue.is_empty() && !self.broker.pulls.is_empty() {
            let (agent, pull) = self.broker.pulls.pop_front().expect("one waits");
            let offer = self.broker.queue.pop_front().expect("one waits");
            let delivery = self.next_number();
            self.broker.unacknowledged.insert(delivery, offer.clone());
            self.plan(OFFER_ACK_WAIT, move |world| world.redeliver(delivery));
            if !self.is_lost() {
                let delay = self.delay();
                self.at_agent(agent, delay, move |world| world.receive_offer(agent, pull, delivery, offer));
            }
        }
    }

    /// Brings all that is stored to the disk, and does so again after a while.
    pub fn sync(&mut self) {
        if self.faults.power_cut_every.is_none() {
            return;
        }
        let broker = &mut self.broker;
        broker.disk = Disk {
            records: broker.log.len(),
            ids: broker.ids.clone(),
            queue: broker.queue.iter().chain(broker.unacknowledged.values()).cloned().collect(),
            stops: broker.stops.clone(),
            checkpoints: broker.checkpoints.clone(),
            leader: broker.leader.clone(),
        };
        let interval = self.around(SYNC_INTERVAL);
        self.plan(interval, World::sync);
    }

    pub fn cut_power(&mut self) {
        // Each stream is brought to the disk on its own: the key may outlive what the log has lost.
        let keeps_leader = self.chance(0.5);
        let broker = &mut self.broker;
        let mut forgotten = 0;
        for (index, message) in broker.log.drain(broker.disk.records..).enumerate() {
            forgotten += 1;
            if let Message::Elected { coordinator, .. } = message {
                let fence = (broker.disk.records + index) as u64 + 1;
                broker.forgotten.insert(Mandate { coordinator, fence });
            }
        }
        let is_elected = |message: &Message| matches!(message, Message::Elected { .. });
        broker.last_elected = broker.log.iter().rposition(is_elected).map_or(0, |index| index as u64 + 1);
        broker.ids.clone_from(&broker.disk.ids);
        broker.queue.clone_from(&broker.disk.queue);
        broker.unacknowledged.clear();
        broker.stops.clone_from(&broker.disk.stops);
        broker.checkpoints.clone_from(&broker.disk.checkpoints);
        if !keeps_leader {
            broker.leader = broker.disk.leader.clone();
        }
        broker.losses += 1;
        self.acknowledged.retain(|id| self.broker.ids.contains_key(id));
        *self.happened.entry("records forgotten in a power cut").or_default() += forgotten;
        self.restart_broker();
    }

    pub fn restart_broker(&mut self) {
        self.broker.is_up = false;
        self.broker.pulls.clear();
        (0..self.desks.len()).for_each(|desk| self.break_link(desk));
        let down = self.absence();
        self.plan(down, |world| {
            world.broker.is_up = true;
            world.hand_out();
            (0..world.desks.len()).for_each(|desk| world.reconnect_desk(desk));
            (0..world.stations.len()).for_each(|agent| world.reconnect(agent));
        });
    }
}
