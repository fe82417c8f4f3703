//! Sobol's sequence, scrambled: configurations that cover the space evenly from the first on, whatever was measured.
//!
//! Direction numbers of Joe and Kuo (2008); a random linear scramble and a digital shift (Matousek, 1998, "On the
//! L2-discrepancy for anchored boxes") make each seed another sequence of the same evenness. Configuration k depends on
//! (seed, k) alone, but for duplicates, which are drawn again at random. Where parameters have priors, the configurations
//! by these and the others are each a sequence of their own.

mod directions;

use regatta_schemas::Params;

use super::Sampler;
use super::random::{Draws, is_by_prior};
use super::tried::Tried;
use crate::news::News;
use crate::random::{Purpose, Stream};
use crate::space::{Coordinate, Space, value_at};
use directions::{BITS, DIMENSIONS, directions};

/// What scrambles a dimension. The name is none that a parameter can have.
const SCRAMBLE: &str = "scramble of a dimension";

/// The configurations that a search begins with.
#[derive(Debug)]
pub struct Design {
    draws: Draws,
    /// Of the first parameters, in the space's order; those beyond are random.
    dimensions: Vec<Dimension>,
}

#[derive(Debug)]
struct Dimension {
    directions: [u32; BITS],
    shift: u32,
}

impl Design {
    pub fn new(space: Space, seed: u64) -> Self {
        let count = space.parameters().len().min(DIMENSIONS);
        let dimensions = (0..count).map(|place| Dimension::scrambled(place, seed)).collect();
        Self { draws: Draws::new(space, seed), dimensions }
    }

    /// Configuration number `index`.
    pub fn params(&self, index: u64) -> Params {
        let space = self.draws.space();
        let number = if space.has_priors() { index / 2 } else { index };
        let belief = |name: &str| if is_by_prior(space, index) { space.belief(name) } else { None };
        let mut parameters = space.parameters().enumerate();
        space.configure(|name, domain| {
            let place = parameters.find(|(_, (other, _))| *other == name).map(|(place, _)| place);
            match place.and_then(|place| self.dimensions.get(place)) {
                Some(dimension) => {
                    let share = dimension.share(number);
                    let at = belief(name).map_or(Coordinate::Number(share), |belief| belief.coordinate(share));
                    value_at(domain, at)
                }
                None => self.draws.value(name, domain, index, 0),
            }
        })
    }

    /// Configuration number `index`, and for each redraw another one, at random.
    pub fn redrawn(&self, index: u64, redraw: u64) -> Params {
        match redraw {
            0 => self.params(index),
            _ => self.draws.params(index, redraw),
        }
    }
}

impl Dimension {
    fn scrambled(place: usize, seed: u64) -> Self {
        let purpose = Purpose { study_seed: seed, name: SCRAMBLE, index: place as u64, redraw: 0 };
        let mut stream = Stream::new(purpose);
        // Each bit of the scrambled number is the parity of itself and a random choice of the bits above it.
        let masks: [u32; BITS] = std::array::from_fn(|bit| {
            let own = 1 << (BITS - 1 - bit);
            let above = !(own | (own - 1));
            own | (stream.word() as u32 & above)
        });
        let scramble =
            |number: u32| masks.iter().fold(0, |scrambled, mask| (scrambled << 1) | ((number & mask).count_ones() & 1));
        Self { directions: directions(place).map(scramble), shift: stream.word() as u32 }
    }

    /// In (0, 1).
    fn share(&self, index: u64) -> f64 {
        let set = self.directions.iter().enumerate().filter(|(bit, _)| index >> bit & 1 == 1);
        let number = set.fold(self.shift, |number, (_, direction)| number ^ direction);
        (f64::from(number) + 0.5) / (1_u64 << BITS) as f64
    }
}

#[derive(Debug)]
pub struct Sobol {
    design: Design,
    tried: Tried,
}

impl Sobol {
    pub fn new(space: Space, seed: u64) -> Self {
        Self { tried: Tried::new(space.clone(), seed), design: Design::new(space, seed) }
    }
}

impl Sampler for Sobol {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        self.tried.first_new(index, pending, |redraw| self.design.redrawn(index, redraw))
    }

    fn observe(&mut self, news: News) {
        self.tried.observe(news);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dimension_puts_one_point_in_each_of_equal_shares() {
        for seed in [0, 7] {
            for place in 0..DIMENSIONS {
                let dimension = Dimension::scrambled(place, seed);
                let mut counts = [0; 256];
                (0..256).for_each(|index| counts[(dimension.share(index) * 256.0) as usize] += 1);
                assert_eq!(counts, [1; 256], "dimension {place}");
            }
        }
    }

    #[test]
    fn pairs_of_neighbours_fill_every_square() {
        // The first pair is a (0, 2)-net: 16 x 16 squares hold one of 256 points each.
        let (a, b) = (Dimension::scrambled(0, 3), Dimension::scrambled(1, 3));
        let mut counts = [0; 256];
        for index in 0..256 {
            counts[(a.share(index) * 16.0) as usize * 16 + (b.share(index) * 16.0) as usize] += 1;
        }
        assert_eq!(counts, [1; 256]);
    }
}
