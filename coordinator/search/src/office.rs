//! Who leads, as one coordinator of several knows it: by the log, and by the key that it stands for office with.
//!
//! It knows no NATS and no clock. What counts is the last `elected` of the log; see [`regatta_schemas::leader`].

mod candidacy;
mod receipts;

use crate::time::Time;

pub use candidacy::{Candidacy, PACE, Standing, Step};
pub use receipts::{Receipt, Receipts};

/// What the log says of who leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Office {
    /// The number of the last `elected` that was read; 0 before the first.
    last: u64,
    /// When the log took that.
    since: Time,
    /// The number of this coordinator's `elected`, while it leads.
    fence: Option<u64>,
}

impl Office {
    /// An `elected` of this number was read, of whomever.
    pub fn read(&mut self, number: u64, at: Time) {
        (self.last, self.since) = (number, at);
    }

    /// Takes office if this coordinator leads from now on: its election is the last, and all before it is read. The
    /// answer, once, is what its decisions are fenced with.
    pub fn enter(&mut self, elected: Option<u64>) -> Option<u64> {
        if self.fence.is_some() || self.last == 0 || elected != Some(self.last) {
            return None;
        }
        self.fence = elected;
        elected
    }

    /// Whether another was elected since this coordinator took office: all that it decided and not read back is void.
    pub fn is_lost(&self) -> bool {
        self.fence.is_some_and(|fence| fence != self.last)
    }

    /// What this coordinator's decisions are fenced with, once it has taken office.
    pub fn fence(&self) -> Option<u64> {
        self.fence
    }

    /// When the last coordinator was elected.
    pub fn since(&self) -> Time {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn office_is_taken_once_the_own_election_is_read_and_lost_with_the_next() {
        let mut office = Office::default();
        assert_eq!(office.enter(None), None);
        assert_eq!(office.enter(Some(7)), None, "what lies before it is not read yet");
        office.read(7, Time::from_millis(1));
        assert_eq!(office.enter(Some(7)), Some(7));
        assert_eq!(office.enter(Some(7)), None, "it is taken once");
        assert!(!office.is_lost());
        office.read(9, Time::from_millis(2));
        assert!(office.is_lost());
    }

    #[test]
    fn who_was_overtaken_before_it_read_its_election_takes_no_office() {
        let mut office = Office::default();
        office.read(7, Time::from_millis(1));
        office.read(9, Time::from_millis(2));
        assert_eq!(office.enter(Some(7)), None);
        assert!(!office.is_lost(), "it had none");
    }
}
