//! A density over some of the space's parameters: a mixture of product kernels, one around each point, and the prior.
//!
//! Kernels of numbers are normal, truncated to [0, 1] and, where the domain has few levels, integrated over each level's
//! share (Bergstra et al., 2011; "multivariate": one mixture over all parameters, Falkner et al., 2018). Kernels of
//! choices are those of Aitchison and Aitken (1976). All are relative to the prior, which is uniform.

use super::normal::Normal;
use crate::random::{Stream, pick};
use crate::space::Coordinate;

/// What coordinates a parameter has, for a kernel.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// In [0, 1].
    Share,
    /// One of few levels in order. Where each one's share of [0, 1] begins, and 1.
    Levels(Vec<f64>),
    /// One of so many.
    Choice(usize),
}

/// Points of the same parameters, the centers of kernels.
#[derive(Debug, Clone)]
pub struct Points {
    /// By parameter.
    pub columns: Vec<Vec<f64>>,
    /// One for each point, then the prior's.
    pub weights: Vec<f64>,
}

#[derive(Debug)]
pub struct Density<'a> {
    points: &'a Points,
    axes: Vec<Axis>,
    /// ln of each kernel's weight and of what makes it integrate to 1; then the prior's.
    offsets: Vec<f64>,
}

#[derive(Debug)]
enum Axis {
    Share {
        width: f64,
    },
    /// ln of the probability of each value under a kernel around each, relative to the prior: `[around][value]`.
    Table {
        log_ratios: Vec<Vec<f64>>,
        prior: Vec<f64>,
    },
}

/// No value is impossible.
const RATIO_MIN: f64 = 1e-9;

/// Kernels that are so far behind the first in ln count nothing.
const NEGLIGIBLE: f64 = -36.0;

impl Scale {
    pub fn number(&self, coordinate: Coordinate) -> f64 {
        match (self, coordinate) {
            (Self::Levels(begins), Coordinate::Number(share)) => {
                (begins.partition_point(|begin| *begin <= share).clamp(1, begins.len() - 1) - 1) as f64
            }
            (_, Coordinate::Number(share)) => share,
            (_, Coordinate::Choice(place)) => place as f64,
        }
    }

    pub fn coordinate(&self, number: f64) -> Coordinate {
        match self {
            Self::Share => Coordinate::Number(number),
            Self::Levels(begins) => Coordinate::Number(middle(begins, number as usize)),
            Self::Choice(_) => Coordinate::Choice(number as usize),
        }
    }
}

fn middle(begins: &[f64], level: usize) -> f64 {
    (begins[level] + begins[level + 1]) / 2.0
}

impl<'a> Density<'a> {
    pub fn new(points: &'a Points, scales: &[&Scale], normal: &Normal) -> Self {
        let all: f64 = points.weights.iter().sum();
        let mut offsets: Vec<f64> = points.weights.iter().map(|weight| (weight / all).ln()).collect();
        let mut axes = Vec::with_capacity(scales.len());
        for (scale, column) in scales.iter().zip(&points.columns) {
            let width = super::bandwidth(scale, column, scales.len());
            axes.push(match scale {
                Scale::Share => {
                    for (offset, center) in offsets.iter_mut().zip(column) {
                        let inside = normal.below((1.0 - center) / width) - normal.below(-center / width);
                        *offset -= (inside * width * std::f64::consts::TAU.sqrt()).ln();
                    }
                    Axis::Share { width }
                }
                Scale::Levels(begins) => levels_table(begins, width, normal),
                Scale::Choice(count) => choice_table(*count, width),
            });
        }
        Self { points, axes, offsets }
    }

    /// ln of the density at a point, relative to the prior's.
    pub fn log_ratio(&self, point: &[f64]) -> f64 {
        let mut logs = self.offsets.clone();
        for ((axis, column), x) in self.axes.iter().zip(&self.points.columns).zip(point) {
            match axis {
                Axis::Share { width } => {
                    let scale = (0.5_f64).sqrt() / width;
                    for (log, center) in logs.iter_mut().zip(column) {
                        let distance = (x - center) * scale;
                        *log -= distance * distance;
                    }
                }
                Axis::Table { log_ratios, .. } => {
                    let at: Vec<f64> = log_ratios.iter().map(|around| around[*x as usize]).collect();
                    for (log, center) in logs.iter_mut().zip(column) {
                        *log += at[*center as usize];
                    }
                }
            }
        }
        let first = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logs.iter().map(|log| log - first).filter(|log| *log > NEGLIGIBLE).map(f64::exp).sum();
        first + sum.ln()
    }

    /// A point drawn from the density.
    pub fn draw(&self, stream: &mut Stream) -> Vec<f64> {
        let kernel = pick(&self.points.weights, stream.unit());
        let columns = self.axes.iter().zip(&self.points.columns);
        columns.map(|(axis, column)| axis.draw(column.get(kernel).copied(), stream)).collect()
    }
}

impl Axis {
    /// Around a center; None: from the prior.
    fn draw(&self, center: Option<f64>, stream: &mut Stream) -> f64 {
        match (self, center) {
            (Self::Share { .. }, None) => stream.unit(),
            (Self::Share { width }, Some(center)) => {
                let mut draws = (0..DRAWS_MAX).map(|_| center + width * stream.normal());
                draws.find(|share| (0.0..=1.0).contains(share)).unwrap_or(center)
            }
            (Self::Table { prior, .. }, None) => pick(prior, stream.unit()) as f64,
            (Self::Table { log_ratios, prior }, Some(center)) => {
                let ratios = &log_ratios[center as usize];
                let shares: Vec<f64> = ratios.iter().zip(prior).map(|(ratio, share)| ratio.exp() * share).collect();
                pick(&shares, stream.unit()) as f64
            }
        }
    }
}

/// Draws until one is inside the bounds: at worst one in three is, as no kernel is wider than the domain.
const DRAWS_MAX: usize = 64;

fn levels_table(begins: &[f64], width: f64, normal: &Normal) -> Axis {
    let prior: Vec<f64> = begins.windows(2).map(|ends| ends[1] - ends[0]).collect();
    let around = |level: usize| {
        let center = middle(begins, level);
        let below: Vec<f64> = begins.iter().map(|begin| normal.below((begin - center) / width)).collect();
        let inside = below[below.len() - 1] - below[0];
        let shares = below.windows(2).map(|ends| (ends[1] - ends[0]) / inside);
        shares.zip(&prior).map(|(share, prior)| (share / prior).max(RATIO_MIN).ln()).collect()
    };
    Axis::Table { log_ratios: (0..prior.len()).map(around).collect(), prior }
}

/// `elsewhere`: the probability of all the other choices together.
fn choice_table(count: usize, elsewhere: f64) -> Axis {
    let prior = 1.0 / count as f64;
    let other = (elsewhere / (count.max(2) - 1) as f64 / prior).max(RATIO_MIN).ln();
    let same = if count == 1 { 0.0 } else { ((1.0 - elsewhere) / prior).ln() };
    let around = |center| (0..count).map(|value| if value == center { same } else { other }).collect();
    Axis::Table { log_ratios: (0..count).map(around).collect(), prior: vec![prior; count] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    fn three_kinds() -> (Points, [Scale; 3]) {
        let columns = vec![vec![0.0, 0.4, 0.95], vec![0.0, 1.0, 1.0], vec![2.0, 2.0, 0.0]];
        let scales = [Scale::Share, Scale::Levels(vec![0.0, 0.2, 0.5, 1.0]), Scale::Choice(4)];
        (Points { columns, weights: vec![1.5, 1.0, 0.5, 1.0] }, scales)
    }

    /// Every level and choice with how probable it is in the prior, at many shares.
    fn for_each_cell(mut body: impl FnMut(&[f64], f64)) {
        const SHARES: usize = 400;
        for share in (0..SHARES).map(|step| (step as f64 + 0.5) / SHARES as f64) {
            for (level, width) in [0.2, 0.3, 0.5].iter().enumerate() {
                for choice in 0..4 {
                    body(&[share, level as f64, f64::from(choice)], width / 4.0 / SHARES as f64);
                }
            }
        }
    }

    #[test]
    fn a_density_integrates_to_one() {
        let (points, scales) = three_kinds();
        let density = Density::new(&points, &scales.iter().collect::<Vec<_>>(), &Normal::new());
        let mut all = 0.0;
        for_each_cell(|point, prior| all += density.log_ratio(point).exp() * prior);
        assert!((all - 1.0).abs() < 1e-3, "{all}");
    }

    #[test]
    fn draws_fall_where_the_density_says() {
        let (points, scales) = three_kinds();
        let density = Density::new(&points, &scales.iter().collect::<Vec<_>>(), &Normal::new());
        let is_inside = |point: &[f64]| point[0] < 0.3 && point[1] < 2.0 && point[2] == 2.0;
        let mut expected = 0.0;
        for_each_cell(|point, prior| {
            if is_inside(point) {
                expected += density.log_ratio(point).exp() * prior;
            }
        });
        let mut stream = Stream::new(Purpose { study_seed: 1, name: "draws", index: 0, redraw: 0 });
        let inside = (0..10_000).filter(|_| is_inside(&density.draw(&mut stream))).count();
        // Five standard deviations are at most 0.025.
        assert!((inside as f64 / 1e4 - expected).abs() < 0.025, "{inside} of 10000, expected {expected}");
    }

    #[test]
    fn without_points_the_prior_is_left() {
        let points = Points { columns: vec![Vec::new(); 3], weights: vec![1.0] };
        let (_, scales) = three_kinds();
        let density = Density::new(&points, &scales.iter().collect::<Vec<_>>(), &Normal::new());
        for_each_cell(|point, _| assert_eq!(density.log_ratio(point), 0.0));
    }
}
