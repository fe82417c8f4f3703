//! How alike the losses of two configurations are taken to be: Matern 5/2 over a distance that weighs each parameter
//! by a length scale of its own, and, for each choice that is the same in both, what that choice adds wherever it is made
//! (a random effect, as of a linear mixed model). By distance alone, little of what was measured with one choice would
//! tell of another, and all of it would have to be found out again.
//!
//! Numbers lie on a line. Two different choices are at distance 1 (Hamming), whichever they are. A number that does
//! not always exist lies on an arc, and where it does not exist at the arc's centre: at distance 1 from all of its
//! values (Hutter and Osborne, 2013; Swersky et al., 2014). Each is a place in a Euclidean space, so any set of
//! configurations has a covariance matrix that is positive semidefinite.

use crate::space::{Axis, Coordinate, Space};

/// What a parameter adds to a site.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Line,
    Arc,
    Label,
}

/// The parameters of a space as what distances are measured along.
#[derive(Debug, Clone)]
pub struct Geometry {
    /// In the order of the space's parameters.
    shapes: Vec<Shape>,
    /// Which parameter each of a site's numbers belongs to: first those of lines and arcs, then the labels.
    columns: Vec<usize>,
    /// How many of the columns are labels.
    labels: usize,
}

/// Where a configuration lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Site(Vec<f64>);

/// The label of a choice that does not exist.
const ABSENT: f64 = -1.0;

impl Geometry {
    pub fn new(space: &Space) -> Self {
        let shape = |parameter: &regatta_schemas::study::Parameter| match Axis::of(&parameter.domain) {
            Axis::Choice { .. } => Shape::Label,
            Axis::Number { .. } if parameter.when.is_empty() => Shape::Line,
            Axis::Number { .. } => Shape::Arc,
        };
        let shapes: Vec<Shape> = space.parameters().map(|(_, parameter)| shape(parameter)).collect();
        let mut columns = Vec::new();
        for (parameter, shape) in shapes.iter().enumerate() {
            match shape {
                Shape::Line => columns.push(parameter),
                Shape::Arc => columns.extend([parameter; 2]),
                Shape::Label => {}
            }
        }
        let labels = (0..shapes.len()).filter(|parameter| shapes[*parameter] == Shape::Label);
        let before = columns.len();
        columns.extend(labels);
        Self { shapes, labels: columns.len() - before, columns }
    }

    /// Those of the parameters that are choices.
    pub fn choices(&self) -> &[usize] {
        &self.columns[self.columns.len() - self.labels..]
    }

    /// How many parameters there are.
    pub fn parameters(&self) -> usize {
        self.shapes.len()
    }

    /// A point has an entry for each parameter.
    pub fn site(&self, point: &[Option<Coordinate>]) -> Site {
        let (mut numbers, mut labels) = (Vec::with_capacity(self.columns.len()), Vec::with_capacity(self.labels));
        for (shape, coordinate) in self.shapes.iter().zip(point) {
            match (shape, coordinate) {
                (Shape::Line, Some(Coordinate::Number(number))) => numbers.push(*number),
                (Shape::Line, _) => numbers.push(0.5),
                (Shape::Arc, Some(Coordinate::Number(number))) => numbers.extend([number.cos(), number.sin()]),
                (Shape::Arc, _) => numbers.extend([0.0, 0.0]),
                (Shape::Label, Some(Coordinate::Choice(place))) => labels.push(*place as f64),
                (Shape::Label, _) => labels.push(ABSENT),
            }
        }
        numbers.append(&mut labels);
        Site(numbers)
    }

    /// The squared distance along each parameter, with all length scales 1.
    pub fn separations(&self, a: &Site, b: &Site) -> Vec<f64> {
        let mut separations = vec![0.0; self.shapes.len()];
        let numbers = self.columns.len() - self.labels;
        for (column, parameter) in self.columns.iter().enumerate() {
            let (a, b) = (a.0[column], b.0[column]);
            separations[*parameter] += if column < numbers { (a - b) * (a - b) } else { f64::from(a != b) };
        }
        separations
    }
}

/// The numbers that a fit finds, as logarithms.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyper {
    /// In the order of the space's parameters.
    pub lengths: Vec<f64>,
    /// The variance of what each choice adds wherever it is made, in the order of the parameters that are choices.
    pub effects: Vec<f64>,
    /// The variance of the losses.
    pub signal: f64,
    /// The variance of what one configuration measures when it is tried again.
    pub noise: f64,
}

/// The covariance with given length scales.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Of each of a site's numbers, by what it is divided; of each label, what a difference weighs.
    scales: Vec<f64>,
    /// Of each label, what a choice that is the same adds.
    effects: Vec<f64>,
    numbers: usize,
    signal: f64,
}

/// A site with its lengths measured in length scales.
#[derive(Debug, Clone)]
pub struct Scaled(Vec<f64>);

impl Kernel {
    pub fn new(geometry: &Geometry, hyper: &Hyper) -> Self {
        let numbers = geometry.columns.len() - geometry.labels;
        let scale = |(column, parameter): (usize, &usize)| {
            let length = hyper.lengths[*parameter];
            if column < numbers { (-length).exp() } else { (-2.0 * length).exp() }
        };
        let scales = geometry.columns.iter().enumerate().map(scale).collect();
        let effects = hyper.effects.iter().map(|effect| effect.exp()).collect();
        Self { scales, effects, numbers, signal: hyper.signal.exp() }
    }

    pub fn scaled(&self, site: &Site) -> Scaled {
        let (numbers, labels) = site.0.split_at(self.numbers);
        let numbers = numbers.iter().zip(&self.scales).map(|(number, scale)| number * scale);
        Scaled(numbers.chain(labels.iter().copied()).collect())
    }

    pub fn covariance(&self, a: &Scaled, b: &Scaled) -> f64 {
        let ((a, a_labels), (b, b_labels)) = (a.0.split_at(self.numbers), b.0.split_at(self.numbers));
        let mut squared: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
        let mut shared = 0.0;
        let weights = self.scales[self.numbers..].iter().zip(&self.effects);
        for ((a, b), (weight, effect)) in a_labels.iter().zip(b_labels).zip(weights) {
            if a == b {
                shared += effect;
            } else {
                squared += weight;
            }
        }
        shared + self.signal * matern(squared)
    }

    /// Of a configuration with itself.
    pub fn variance(&self) -> f64 {
        self.signal + self.effects.iter().sum::<f64>()
    }
}

/// Matern 5/2 at a squared distance.
pub fn matern(squared: f64) -> f64 {
    let s = (5.0 * squared).sqrt();
    (1.0 + s + s * s / 3.0) * (-s).exp()
}

/// The derivative of [`matern`].
pub fn matern_slope(squared: f64) -> f64 {
    let s = (5.0 * squared).sqrt();
    -5.0 / 6.0 * (1.0 + s) * (-s).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn distances_are_of_lines_arcs_and_choices() {
        let space = Space::new(
            &serde_json::from_value(json!({
                "c": {"type": "categorical", "choices": ["x", "y", "z"]},
                "v": {"type": "float", "low": 0.0, "high": 2.0, "when": {"c": "x"}},
                "u": {"type": "float", "low": 0.0, "high": 4.0},
            }))
            .unwrap(),
        );
        let geometry = Geometry::new(&space);
        let site = |c: usize, u: f64, n: Option<f64>| {
            geometry.site(&[Some(Coordinate::Choice(c)), Some(Coordinate::Number(u)), n.map(Coordinate::Number)])
        };
        assert_eq!(space.parameters().map(|(name, _)| name).collect::<Vec<_>>(), ["c", "u", "v"]);
        let between = |a, b| geometry.separations(&a, &b);
        for n in [0.0, 0.3, 1.0] {
            let apart = between(site(0, 0.5, Some(n)), site(1, 0.25, None));
            assert_eq!(apart[..2], [1.0, 0.0625]);
            assert!((apart[2] - 1.0).abs() < 1e-15, "the same from any value");
        }
        assert_eq!(between(site(1, 0.5, None), site(2, 0.5, None)), [1.0, 0.0, 0.0]);
        let apart = between(site(0, 0.5, Some(0.2)), site(0, 0.5, Some(0.5)))[2];
        assert!((apart.sqrt() - 2.0 * 0.15_f64.sin()).abs() < 1e-12);

        let hyper = Hyper { lengths: vec![0.7, -0.3, 0.1], effects: vec![-0.5], signal: 0.4, noise: 0.0 };
        let (kernel, a, b) = (Kernel::new(&geometry, &hyper), site(0, 0.1, Some(0.9)), site(2, 0.8, None));
        let squared: f64 =
            geometry.separations(&a, &b).iter().zip(&hyper.lengths).map(|(d, length)| d * (-2.0 * length).exp()).sum();
        let covariance = kernel.covariance(&kernel.scaled(&a), &kernel.scaled(&b));
        assert!((covariance - 0.4_f64.exp() * matern(squared)).abs() < 1e-12);
        let variance = kernel.covariance(&kernel.scaled(&a), &kernel.scaled(&a));
        assert!((variance - kernel.variance()).abs() < 1e-12);
        assert!((variance - 0.4_f64.exp() - (-0.5_f64).exp()).abs() < 1e-12, "of the signal and of the choice");
    }

    #[test]
    fn the_slope_is_that_of_the_function() {
        for squared in [1e-3, 0.1, 1.0, 7.0] {
            let difference = (matern(squared + 1e-6) - matern(squared - 1e-6)) / 2e-6;
            assert!((matern_slope(squared) - difference).abs() < 1e-7, "{squared}");
        }
    }
}
