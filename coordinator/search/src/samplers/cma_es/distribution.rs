//! What CMA-ES draws from: one normal distribution of all numbers, and one of the choices of each parameter that has
//! some.

use super::gaussian::{Gaussian, weights};
use crate::random::{Stream, pick};
use crate::samplers::neighbour::mirrored;
use crate::space::{Axis, Belief, Coordinate};

/// The first standard deviation, of [0, 1].
const STEP: f64 = 0.3;

#[derive(Debug)]
pub struct Distribution {
    numbers: Gaussian,
    marginals: Vec<Marginal>,
}

/// Of one parameter.
#[derive(Debug)]
enum Marginal {
    /// Coordinate number `place` of the normal distribution.
    Number { place: usize, levels: Option<u64> },
    /// The chance of each choice.
    Choice(Vec<f64>),
}

impl Distribution {
    /// `mean`: where each number begins.
    pub fn new(axes: &[Axis], mut mean: impl FnMut() -> f64) -> Self {
        Self::beginning(axes, |_| (mean(), STEP), |_, count| vec![1.0 / count as f64; count])
    }

    /// As the priors of the parameters have it; from the middle where one has none.
    pub fn believed(axes: &[Axis], beliefs: &[Option<&Belief>]) -> Self {
        let moments = |parameter: usize| beliefs[parameter].map_or((0.5, STEP), Belief::moments);
        Self::beginning(axes, moments, |parameter, count| {
            beliefs[parameter].map_or_else(|| vec![1.0 / count as f64; count], |belief| belief.shares().to_vec())
        })
    }

    /// `moments`: the mean and standard deviation of each number; `chances`: those of the choices, by how many there are.
    fn beginning(
        axes: &[Axis],
        mut moments: impl FnMut(usize) -> (f64, f64),
        chances: impl Fn(usize, usize) -> Vec<f64>,
    ) -> Self {
        let (mut means, mut widths) = (Vec::new(), Vec::new());
        let marginals = axes.iter().enumerate().map(|(parameter, axis)| match *axis {
            Axis::Number { levels } => {
                let (mean, width) = moments(parameter);
                means.push(mean);
                widths.push(width / STEP);
                Marginal::Number { place: means.len() - 1, levels }
            }
            Axis::Choice { count } => Marginal::Choice(chances(parameter, count)),
        });
        let marginals = marginals.collect();
        Self { marginals, numbers: Gaussian::new(means, STEP, widths) }
    }

    /// A coordinate for each parameter, whether or not it exists. `margin`: the chance that one of the numbers leaves
    /// its level, at least.
    pub fn draw(&self, margin: f64, stream: &mut Stream) -> Vec<Coordinate> {
        let normals: Vec<f64> = self.numbers.mean.iter().map(|_| stream.normal()).collect();
        let margin = margin / normals.len().max(1) as f64;
        let deviation = self.numbers.deviation(&normals);
        let mut coordinate = |marginal: &Marginal| match marginal {
            Marginal::Choice(chances) => Coordinate::Choice(pick(chances, stream.unit())),
            Marginal::Number { place, levels } => {
                let (mean, width) = (self.numbers.mean[*place], self.numbers.width(*place));
                let least = levels.map_or(0.0, |levels| least_width(mean, levels, margin));
                let widened = if width < least { least * normals[*place] } else { deviation[*place] };
                Coordinate::Number(mirrored(mean + widened))
            }
        };
        self.marginals.iter().map(&mut coordinate).collect()
    }

    /// Moves towards the better half of these points, the best first.
    pub fn update(&mut self, ranked: &[&[Option<Coordinate>]]) {
        let numbers: Vec<Vec<f64>> = ranked.iter().map(|point| self.numbers_of(point)).collect();
        self.numbers.update(&numbers);
        let (weights, effective) = weights(ranked.len());
        // The more parameters, the less a generation says of each.
        let rate = effective / (effective + self.marginals.len() as f64);
        for (parameter, marginal) in self.marginals.iter_mut().enumerate() {
            let Marginal::Choice(chances) = marginal else { continue };
            let before = chances.clone();
            for (weight, point) in weights.iter().zip(ranked) {
                let Some(Coordinate::Choice(chosen)) = point[parameter] else { continue };
                for (choice, chance) in chances.iter_mut().enumerate() {
                    *chance += rate * weight * (f64::from(u8::from(choice == chosen)) - before[choice]);
                }
            }
            let least = 1.0 / (ranked.len() * chances.len()).max(1) as f64;
            chances.iter_mut().for_each(|chance| *chance = chance.max(least));
            let sum: f64 = chances.iter().sum();
            chances.iter_mut().for_each(|chance| *chance /= sum);
        }
    }

    pub fn is_spent(&self) -> bool {
        self.numbers.is_spent()
    }

    /// The mean where a parameter does not exist.
    fn numbers_of(&self, point: &[Option<Coordinate>]) -> Vec<f64> {
        let number = |(marginal, coordinate): (&Marginal, &Option<Coordinate>)| match (marginal, coordinate) {
            (Marginal::Choice(_), _) => None,
            (Marginal::Number { .. }, Some(Coordinate::Number(number))) => Some(*number),
            (Marginal::Number { place, .. }, _) => Some(self.numbers.mean[*place]),
        };
        self.marginals.iter().zip(point).filter_map(number).collect()
    }
}

/// The standard deviation with which a number is beyond the nearest border of its level with such a chance, or a
/// slightly smaller one (the tail beyond z has at most half of exp(-z^2 / 2)).
fn least_width(mean: f64, levels: u64, chance: f64) -> f64 {
    if levels < 2 {
        return 0.0;
    }
    let levels = levels as f64;
    let level = (mean * levels).floor().clamp(0.0, levels - 1.0);
    // The bounds of the whole range are no borders.
    let below = if level > 0.0 { mean - level / levels } else { f64::INFINITY };
    let above = if level < levels - 1.0 { (level + 1.0) / levels - mean } else { f64::INFINITY };
    below.min(above) / (-2.0 * (2.0 * chance.min(0.25)).ln()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    fn stream() -> Stream {
        Stream::new(Purpose { study_seed: 1, name: "test", index: 0, redraw: 0 })
    }

    #[test]
    fn the_better_choices_and_levels_win_and_the_others_are_never_given_up() {
        let axes = [Axis::Choice { count: 4 }, Axis::Number { levels: Some(5) }];
        let mut distribution = Distribution::new(&axes, || 0.5);
        let mut stream = stream();
        let middle = |coordinate| match coordinate {
            Coordinate::Number(number) => Coordinate::Number(((number * 5.0).floor().min(4.0) + 0.5) / 5.0),
            choice => choice,
        };
        let (choice, number) = (Coordinate::Choice(2), Coordinate::Number(0.9));
        for _ in 0..100 {
            let mut points: Vec<Vec<Option<Coordinate>>> = (0..10)
                .map(|_| distribution.draw(0.1, &mut stream).into_iter().map(|c| Some(middle(c))).collect())
                .collect();
            points.sort_by_key(|point| (point[0] != Some(choice), point[1] != Some(number)));
            distribution.update(&points.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        let drawn: Vec<Vec<Coordinate>> = (0..1_000).map(|_| distribution.draw(0.1, &mut stream)).collect();
        let best = drawn.iter().filter(|point| point[0] == choice).count();
        assert!((850..1_000).contains(&best), "{best} of 1000 have the best choice");
        let best = drawn.iter().filter(|point| middle(point[1]) == number).count();
        assert!((850..1_000).contains(&best), "{best} of 1000 have the best level");
    }

    #[test]
    fn a_parameter_that_never_exists_stays_where_it_is() {
        let axes = [Axis::Number { levels: None }, Axis::Choice { count: 2 }];
        let mut distribution = Distribution::new(&axes, || 0.4);
        let nothing: &[Option<Coordinate>] = &[None, None];
        distribution.update(&[nothing; 6]);
        assert_eq!(distribution.numbers.mean, [0.4]);
        assert!(matches!(&distribution.marginals[1], Marginal::Choice(chances) if chances == &[0.5, 0.5]));
    }
}
