//! Who leads in a played world: the candidates' rounds, and how long nobody leads.

use std::collections::BTreeMap;
use std::time::Duration;

use regatta_search::office::{PACE, Step};
use regatta_search::{Coordinator, Time};

use crate::desk::{Desk, News};
use crate::world::World;

/// Within this time another leads, if only one is there that can.
const TAKEOVER_WITHIN: Duration = Duration::from_secs(10);

/// How one leader followed another.
#[derive(Default)]
pub struct Succession {
    /// The fence of the last that led.
    fence: Option<u64>,
    leaderless_since: Option<Time>,
    /// The desk that holds the key and is about to lead.
    heir: Option<usize>,
    /// Since when each desk could lead, of those that can.
    able_since: BTreeMap<usize, Time>,
    /// From the moment when the one that led, or was about to, fell, or from when another could lead, until that one did.
    pub takeovers: Vec<Duration>,
}

impl World {
    /// Stands for office, round after round.
    pub fn campaign(&mut self, desk: usize) {
        let step = self.desks[desk].candidacy.begin(self.now);
        self.put(desk, self.now, step);
    }

    fn put(&mut self, desk: usize, begun: Time, step: Step) {
        let name = self.desks[desk].to_string();
        // A server that has just come back says at once that it cannot, and so does one of a cluster without a leader.
        let at_broker = move |world: &mut World| (!world.is_lost()).then(|| world.obey_candidate(step, name));
        self.ask_broker(desk, at_broker, move |world, answer| {
            let next = answer.flatten().and_then(|answer| world.desks[desk].candidacy.hear(step, answer));
            if let Some(step) = next {
                world.put(desk, begun, step);
            } else {
                let rest = (begun + PACE).since(world.now);
                world.in_term(desk, rest, move |world| world.campaign(desk));
            }
            // At last: it may be the end of this term.
            if world.hears_of_another_election(desk) {
                world.count("leaders that heard of another election while they sent");
                return world.begin_anew(desk);
            }
            world.tell(desk, News::Stood);
        });
    }

    /// Whether it waits for answers to what it decided by an election that is not the last that it knows of.
    fn hears_of_another_election(&self, desk: usize) -> bool {
        let Desk { office, candidacy, outbox, .. } = &self.desks[desk];
        outbox.is_busy() && office.fence().is_some_and(|fence| candidacy.standing().is_by_another_than(fence))
    }

    /// Whether it could lead: it runs, and the broker can be reached.
    fn is_able(&self, desk: usize) -> bool {
        self.desks[desk].is_well(self.now) && self.is_desk_connected(desk)
    }

    pub fn leads(&self, desk: usize) -> bool {
        self.desks[desk].office.fence() == Some(self.broker.last_elected)
    }

    /// The desk that leads and is able to.
    fn leading_desk(&self) -> Option<&Desk> {
        (0..self.desks.len()).find(|desk| self.is_able(*desk) && self.leads(*desk)).map(|desk| &self.desks[desk])
    }

    /// The machine of the coordinator that leads and is able to.
    pub fn leader(&self) -> Option<&Coordinator> {
        self.leading_desk().and_then(|desk| desk.machine.as_ref())
    }

    fn heir(&self) -> Option<usize> {
        let holder = self.broker.key_holder(self.now)?;
        (0..self.desks.len()).find(|desk| self.is_able(*desk) && self.desks[*desk].to_string() == holder)
    }

    pub fn look_who_leads(&mut self) {
        let now = self.now;
        for desk in 0..self.desks.len() {
            if self.is_able(desk) {
                self.succession.able_since.entry(desk).or_insert(now);
            } else {
                self.succession.able_since.remove(&desk);
            }
        }
        let led_with = self.leading_desk().and_then(|desk| desk.office.fence());
        let heir = if led_with.is_none() { self.heir() } else { None };
        let has_heir_fallen = self.succession.heir.is_some_and(|heir| !self.is_able(heir));
        let succession = &mut self.succession;
        succession.heir = heir;
        if has_heir_fallen {
            succession.leaderless_since = None;
        }
        let since = *succession.leaderless_since.get_or_insert(now);
        let Some(able_since) = succession.able_since.values().min() else { return };
        let took = now - since.max(*able_since);
        if led_with.is_some() {
            if succession.fence != led_with {
                succession.takeovers.push(took);
            }
            succession.fence = led_with;
            succession.leaderless_since = None;
        } else {
            assert!(took <= TAKEOVER_WITHIN, "nobody leads, and one could for {took:?}");
        }
    }
}
