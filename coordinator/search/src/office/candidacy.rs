//! Standing for office: keep the one key, and see to it that the last `elected` of the log is one's own.
//!
//! A round is a few questions to the server, one after the other. Whoever drives the machine puts them and tells the
//! answers; where there is none, the round ends and the next begins anew.

use std::time::Duration;

use regatta_schemas::streams::LEADER_LEASE;

use crate::time::Time;

/// How often the key is written again, and how often another looks whether it is free.
pub const PACE: Duration = LEADER_LEASE.checked_div(6).expect("six is not zero");

/// How a coordinator stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The number of its last `elected`; there may be a later one of another.
    pub elected: Option<u64>,
    /// Until then nobody else can have been elected since.
    pub sure_until: Time,
}

impl Standing {
    /// Whether the `elected` of this number is the last for sure.
    pub fn is_sure_of(&self, fence: u64, now: Time) -> bool {
        self.elected == Some(fence) && now < self.sure_until
    }

    /// Whether there was an election of its own after that of this number: what was decided by that one is void.
    pub fn is_by_another_than(&self, fence: u64) -> bool {
        self.elected.is_some_and(|elected| elected != fence)
    }
}

/// What the server is to do; on a condition, but for [`Step::Look`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write the key if nobody has it. The answer is its revision.
    Take,
    /// Write the key again if this is still its revision. The answer is the next.
    Keep { revision: u64 },
    /// Find the last `elected` in the log. The answer is its number; 0 where there is none.
    Look,
    /// Append `elected` if this is still the number of the last. The answer is its number.
    Stand { last: u64 },
}

/// A coordinator that stands for office.
#[derive(Debug, Clone, Default)]
pub struct Candidacy {
    /// The key's revision, while it is ours.
    held: Option<u64>,
    /// The end of the lease that this round asks for, if the server grants it.
    lease_end: Time,
    standing: Standing,
}

impl Candidacy {
    /// Begins a round. `now` is by a clock that never goes back.
    pub fn begin(&mut self, now: Time) -> Step {
        // The server's lease begins later than this.
        self.lease_end = now + LEADER_LEASE;
        match self.held {
            Some(revision) => Step::Keep { revision },
            None => Step::Take,
        }
    }

    /// Takes in what the server says to a step, None where its condition does not hold; what to ask next.
    pub fn hear(&mut self, step: Step, answer: Option<u64>) -> Option<Step> {
        match step {
            Step::Take | Step::Keep { .. } => {
                self.held = answer;
                self.held?;
                // Each time: the log may have lost an election, and another that slept with the key may have been elected.
                Some(Step::Look)
            }
            Step::Look => {
                let last = answer.unwrap_or(0);
                if self.standing.elected != Some(last) {
                    return Some(Step::Stand { last });
                }
                self.standing.sure_until = self.lease_end;
                None
            }
            Step::Stand { .. } => {
                self.standing = Standing { elected: answer, sure_until: self.lease_end };
                None
            }
        }
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The revision of the key that is ours to give back.
    pub fn held(&self) -> Option<u64> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_000);

    /// A candidacy that holds the key and was elected with number 5.
    fn elected() -> Candidacy {
        let mut candidacy = Candidacy::default();
        assert_eq!(candidacy.begin(NOW), Step::Take);
        assert_eq!(candidacy.hear(Step::Take, Some(1)), Some(Step::Look));
        assert_eq!(candidacy.hear(Step::Look, Some(3)), Some(Step::Stand { last: 3 }));
        assert_eq!(candidacy.hear(Step::Stand { last: 3 }, Some(5)), None);
        candidacy
    }

    #[test]
    fn the_key_makes_sure_for_as_long_as_its_lease_was_asked_for() {
        let mut candidacy = elected();
        assert_eq!(candidacy.standing(), Standing { elected: Some(5), sure_until: NOW + LEADER_LEASE });
        let later = NOW + PACE;
        assert_eq!(candidacy.begin(later), Step::Keep { revision: 1 });
        assert_eq!(candidacy.hear(Step::Keep { revision: 1 }, Some(2)), Some(Step::Look));
        assert_eq!(candidacy.hear(Step::Look, Some(5)), None, "the last election is its own");
        assert!(candidacy.standing().is_sure_of(5, NOW + LEADER_LEASE));
        assert!(!candidacy.standing().is_sure_of(5, later + LEADER_LEASE));
    }

    #[test]
    fn who_is_elected_anew_is_not_sure_of_its_election_before() {
        let mut candidacy = elected();
        let step = candidacy.begin(NOW);
        assert_eq!(candidacy.hear(step, None), None, "it slept and lost the key to another, which died");
        candidacy.begin(NOW);
        candidacy.hear(Step::Take, Some(9));
        assert_eq!(candidacy.hear(Step::Look, Some(7)), Some(Step::Stand { last: 7 }));
        candidacy.hear(Step::Stand { last: 7 }, Some(8));
        assert!(candidacy.standing().is_sure_of(8, NOW));
        assert!(!candidacy.standing().is_sure_of(5, NOW), "what it decided before the other's election is void");
    }

    #[test]
    fn who_lost_the_key_waits_for_it_and_need_not_be_elected_again() {
        let mut candidacy = elected();
        assert_eq!(candidacy.hear(candidacy.clone().begin(NOW), None), None);
        assert_eq!(candidacy.held(), None);
        assert_eq!(candidacy.begin(NOW), Step::Take);
        candidacy.hear(Step::Take, Some(9));
        assert_eq!(candidacy.hear(Step::Look, Some(5)), None);
    }

    #[test]
    fn who_holds_the_key_and_got_no_answer_stands_in_the_next_round() {
        let mut candidacy = Candidacy::default();
        candidacy.begin(NOW);
        candidacy.hear(Step::Take, Some(1));
        let step = candidacy.begin(NOW + PACE);
        assert_eq!(candidacy.hear(step, Some(2)), Some(Step::Look));
        assert_eq!(candidacy.hear(Step::Look, Some(0)), Some(Step::Stand { last: 0 }));
    }

    #[test]
    fn who_holds_the_key_while_another_is_elected_stands_again() {
        let mut candidacy = Candidacy::default();
        candidacy.begin(NOW);
        candidacy.hear(Step::Take, Some(1));
        candidacy.hear(Step::Look, Some(3));
        assert_eq!(candidacy.hear(Step::Stand { last: 3 }, None), None, "one that slept was faster");
        let step = candidacy.begin(NOW + PACE);
        candidacy.hear(step, Some(2));
        assert_eq!(candidacy.hear(Step::Look, Some(4)), Some(Step::Stand { last: 4 }));
    }

    #[test]
    fn who_holds_the_key_when_the_log_has_lost_its_election_stands_again() {
        let mut candidacy = elected();
        let step = candidacy.begin(NOW + PACE);
        candidacy.hear(step, Some(2));
        assert_eq!(candidacy.hear(Step::Look, Some(3)), Some(Step::Stand { last: 3 }));
    }
}
