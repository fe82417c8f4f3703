//! How well the lanes were used: lane-seconds busy and idle between a study's first offer and its last.
//!
//! A lane counts from the first trial that it accepts until its agent is lost or drains. It is busy from `accepted`
//! until the attempt's last record.

use std::collections::BTreeMap;

use regatta_schemas::AgentId;
use regatta_schemas::api::LaneUse;

use crate::time::Time;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaneClock {
    lanes: BTreeMap<(AgentId, u32), Lane>,
    present: Span,
    busy: Span,
    /// As it stood at the last offer.
    used: Option<LaneUse>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lane {
    is_present: bool,
    is_busy: bool,
}

/// The summed length of intervals, of which some are still open: the sum of all ends, less the sum of all starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Span {
    starts_micros: i128,
    ends_micros: i128,
    open: u32,
}

impl LaneClock {
    pub fn taken(&mut self, agent: &AgentId, number: u32, at: Time) {
        let lane = self.lanes.entry((agent.clone(), number)).or_default();
        if !std::mem::replace(&mut lane.is_present, true) {
            self.present.open(at);
        }
        if !std::mem::replace(&mut lane.is_busy, true) {
            self.busy.open(at);
        }
    }

    /// The lane is free again; or gone, with its agent.
    pub fn freed(&mut self, agent: &AgentId, number: u32, is_gone: bool, at: Time) {
        let Some(lane) = self.lanes.get_mut(&(agent.clone(), number)) else { return };
        if std::mem::replace(&mut lane.is_busy, false) {
            self.busy.close(at);
        }
        if is_gone && std::mem::replace(&mut lane.is_present, false) {
            self.present.close(at);
        }
    }

    pub fn offered(&mut self, at: Time) {
        let (busy_s, present_s) = (self.busy.seconds(at), self.present.seconds(at));
        let lanes = self.lanes.len() as u32;
        self.used = (lanes > 0).then_some(LaneUse { lanes, busy_s, idle_s: (present_s - busy_s).max(0.0) });
    }

    pub fn used(&self) -> Option<LaneUse> {
        self.used
    }
}

impl Span {
    fn open(&mut self, at: Time) {
        self.open += 1;
        self.starts_micros += i128::from(at.as_micros());
    }

    fn close(&mut self, at: Time) {
        self.open -= 1;
        self.ends_micros += i128::from(at.as_micros());
    }

    /// As if all open intervals ended now.
    fn seconds(&self, now: Time) -> f64 {
        let ends_to_come = i128::from(self.open) * i128::from(now.as_micros());
        (self.ends_micros + ends_to_come - self.starts_micros) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_counted_between_trials_and_not_after_the_agent_is_gone() {
        let (mut clock, agent) = (LaneClock::default(), AgentId::new("a").unwrap());
        let at = |seconds: u64| Time::from_millis(1_000 * seconds);
        clock.taken(&agent, 0, at(10));
        clock.taken(&agent, 1, at(10));
        clock.freed(&agent, 0, false, at(20));
        clock.taken(&agent, 0, at(23));
        clock.freed(&agent, 1, true, at(30));
        clock.offered(at(40));
        let used = clock.used().unwrap();
        assert_eq!((used.lanes, used.busy_s, used.idle_s), (2, 10.0 + 17.0 + 20.0, 3.0));
    }
}
