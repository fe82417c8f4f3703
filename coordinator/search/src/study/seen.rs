//! Which sequence numbers of an attempt were read: all below a mark, and some above it.

use std::collections::BTreeSet;

use regatta_schemas::Sequence;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    below: u64,
    above: BTreeSet<u64>,
}

impl Seen {
    /// Above all that were read.
    pub fn next(&self) -> Sequence {
        Sequence(self.above.last().map_or(self.below, |last| last + 1))
    }

    /// Whether it is new; from now on it is not.
    pub fn insert(&mut self, sequence: Sequence) -> bool {
        if sequence.0 < self.below || !self.above.insert(sequence.0) {
            return false;
        }
        while self.above.remove(&self.below) {
            self.below += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_new_once_in_whatever_order() {
        let mut seen = Seen::default();
        let news: Vec<bool> = [0, 2, 2, 1, 0, 1, 4, 3, 3].map(|n| seen.insert(Sequence(n))).into();
        assert_eq!(news, [true, true, false, true, false, false, true, true, false]);
        assert_eq!(seen, Seen { below: 5, above: BTreeSet::new() }, "nothing is kept of a run without gaps");
    }
}
