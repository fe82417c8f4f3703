//! A coordinator's connection: what is sent arrives in its order or, when the connection breaks, not at all; and what the
//! process does in its own time, which stands still while it is paused.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use regatta_search::Time;

use crate::desk::News;
use crate::world::{Action, World};

/// How long an answer is waited for.
const ACK_TIMEOUT: Duration = Duration::from_secs(3);
/// How many times longer a slow connection takes.
const SLOWNESS: u32 = 8;

#[derive(Default)]
pub struct Link {
    pub is_cut: bool,
    pub is_slow: bool,
    /// Connections that broke.
    pub broken: u64,
    /// When the last of what is under way arrives.
    last_arrival: Time,
    /// What the client keeps while there is no connection.
    kept: VecDeque<Action>,
}

impl Link {
    /// The process is gone; what it has sent arrives.
    pub fn forget_what_was_kept(&mut self) {
        self.kept.clear();
    }
}

impl World {
    pub fn is_desk_connected(&self, desk: usize) -> bool {
        self.broker.is_up && !self.desks[desk].link.is_cut
    }

    pub fn break_link(&mut self, desk: usize) {
        let link = &mut self.desks[desk].link;
        link.broken += 1;
        link.last_arrival = Time::default();
    }

    pub fn cut_desk(&mut self, desk: usize) {
        self.desks[desk].link.is_cut = true;
        self.break_link(desk);
        let away = self.absence();
        self.plan(away, move |world| {
            world.desks[desk].link.is_cut = false;
            world.reconnect_desk(desk);
        });
    }

    pub fn slow_desk_down(&mut self, desk: usize) {
        self.desks[desk].link.is_slow = true;
        let slow = self.absence();
        self.plan(slow, move |world| world.desks[desk].link.is_slow = false);
    }

    /// What was kept goes out. What was read is looked for, and that takes time: until then what was decided before may
    /// still go out.
    pub fn reconnect_desk(&mut self, desk: usize) {
        self.at_desk(desk, Duration::ZERO, move |world| {
            if !world.is_desk_connected(desk) {
                return;
            }
            for action in std::mem::take(&mut world.desks[desk].link.kept) {
                world.send_to_broker(desk, action);
            }
            world.tell(desk, News::Reconnected);
            world.hear_from_broker(desk, move |world| world.read_log(desk));
        });
    }

    fn desk_delay(&mut self, desk: usize) -> Duration {
        let delay = self.delay();
        if self.desks[desk].link.is_slow { delay * SLOWNESS } else { delay }
    }

    /// Lets the broker do something, once this has arrived there.
    pub fn send_to_broker(&mut self, desk: usize, action: impl FnOnce(&mut World) + 'static) {
        if !self.is_desk_connected(desk) {
            return self.desks[desk].link.kept.push_back(Box::new(action));
        }
        let soonest = self.now + self.desk_delay(desk);
        let link = &mut self.desks[desk].link;
        link.last_arrival = link.last_arrival.max(soonest);
        let (delay, broken) = (link.last_arrival.since(self.now), link.broken);
        self.plan(delay, move |world| {
            if world.desks[desk].link.broken == broken {
                action(world);
            }
        });
    }

    /// What the broker sends arrives, unless the connection breaks.
    pub fn hear_from_broker(&mut self, desk: usize, action: impl FnOnce(&mut World) + 'static) {
        let (delay, broken) = (self.desk_delay(desk), self.desks[desk].link.broken);
        self.in_term(desk, delay, move |world| {
            if world.desks[desk].link.broken == broken {
                action(world);
            }
        });
    }

    /// Has the broker do something, and is told the answer; None: there was none in time.
    pub fn ask_broker<A: 'static>(
        &mut self,
        desk: usize,
        at_broker: impl FnOnce(&mut World) -> A + 'static,
        then: impl FnOnce(&mut World, Option<A>) + 'static,
    ) {
        let then = Rc::new(Cell::new(Some(then)));
        let too_late = then.clone();
        let term = self.desks[desk].term;
        self.send_to_broker(desk, move |world| {
            let answer = at_broker(world);
            if world.desks[desk].term == term {
                world.hear_from_broker(desk, move |world| {
                    if let Some(then) = then.take() {
                        then(world, Some(answer));
                    }
                });
            }
        });
        self.in_term(desk, ACK_TIMEOUT, move |world| {
            if let Some(then) = too_late.take() {
                then(world, None);
            }
        });
    }

    /// Plans what the process does in this term; in the next it is forgotten.
    pub fn in_term(&mut self, desk: usize, delay: Duration, action: impl FnOnce(&mut World) + 'static) {
        let term = self.desks[desk].term;
        self.at_desk(desk, delay, move |world| {
            if world.desks[desk].term == term {
                action(world);
            }
        });
    }

    /// Plans what the process does; a paused one does it when it goes on.
    fn at_desk(&mut self, desk: usize, delay: Duration, action: impl FnOnce(&mut World) + 'static) {
        self.plan(delay, move |world| match world.desks[desk].pause_left(world.now) {
            Some(left) => world.at_desk(desk, left, action),
            None => action(world),
        });
    }
}
