//! Which numbers of a run were read: all below a mark, and some above it.

use std::collections::BTreeSet;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    below: u64,
    above: BTreeSet<u64>,
}

impl Numbers {
    /// Above all that were read.
    pub fn next(&self) -> u64 {
        self.above.last().map_or(self.below, |last| last + 1)
    }

    /// The first that was not read and is not taken.
    pub fn first_free(&self, is_taken: impl Fn(u64) -> bool) -> u64 {
        let mut number = self.below;
        while self.contains(number) || is_taken(number) {
            number += 1;
        }
        number
    }

    pub fn contains(&self, number: u64) -> bool {
        number < self.below || self.above.contains(&number)
    }

    /// Whether it is new; from now on it is not.
    pub fn insert(&mut self, number: u64) -> bool {
        if number < self.below || !self.above.insert(number) {
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
        let mut numbers = Numbers::default();
        let news: Vec<bool> = [0, 2, 2, 1, 0, 1, 4, 3, 3].map(|number| numbers.insert(number)).into();
        assert_eq!(news, [true, true, false, true, false, false, true, true, false]);
        assert_eq!(numbers, Numbers { below: 5, above: BTreeSet::new() }, "nothing is kept of a run without gaps");
    }

    #[test]
    fn gaps_are_free() {
        let mut numbers = Numbers::default();
        for number in [0, 2, 5] {
            numbers.insert(number);
        }
        assert_eq!((numbers.first_free(|_| false), numbers.next()), (1, 6));
        assert_eq!(numbers.first_free(|number| number == 1 || number == 3), 4);
        assert_eq!([0, 1, 2, 3, 5, 6].map(|number| numbers.contains(number)), [true, false, true, false, true, false]);
    }
}
