//! Quantiles of the score at a point, their distance corrected on trials that they were not fitted to (Romano,
//! Patterson and Candes, "Conformalized quantile regression", 2019).

use super::trees::{Bins, Boosted, Table};
use crate::space::{Axis, Coordinate};

/// Quantiles that are estimated: this many, evenly spaced.
pub const LEVELS: usize = 5;
/// Trials from which on some are held out of the fit.
const HOLD_OUT_FROM: usize = 32;
/// One in so many is held out.
const HOLD_OUT: usize = 5;

#[derive(Debug, Clone)]
pub struct Model {
    bins: Bins,
    quantiles: Vec<Quantile>,
}

#[derive(Debug, Clone)]
struct Quantile {
    trees: Boosted,
    offset: f64,
}

impl Model {
    /// One score for each point; there are some. The order of the points must not depend on their scores.
    pub fn fit(axes: &[Axis], points: &[&[Option<Coordinate>]], scores: &[f64]) -> Self {
        let bins = Bins::new(axes, points.iter().copied());
        let holds_out = points.len() >= HOLD_OUT_FROM;
        let (mut rows, mut targets, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (point, score)) in points.iter().zip(scores).enumerate() {
            if holds_out && place % HOLD_OUT == HOLD_OUT - 1 {
                held.push((bins.row(point), *score));
            } else {
                rows.push(bins.row(point));
                targets.push(*score);
            }
        }
        let table = Table::new(&bins, &rows);
        let quantile = |place: usize| Quantile { trees: Boosted::fit(&table, &targets, level(place)), offset: 0.0 };
        let mut quantiles: Vec<Quantile> = (0..LEVELS).map(quantile).collect();
        if !held.is_empty() {
            for low in 0..LEVELS / 2 {
                let high = LEVELS - 1 - low;
                let width = level(high) - level(low);
                let offset = missing(&quantiles[low].trees, &quantiles[high].trees, &held, width);
                quantiles[low].offset = -offset;
                quantiles[high].offset = offset;
            }
        }
        Self { bins, quantiles }
    }

    pub fn row(&self, point: &[Option<Coordinate>]) -> Vec<u8> {
        self.bins.row(point)
    }

    /// The estimate number `place`, from below.
    pub fn quantile(&self, place: usize, row: &[u8]) -> f64 {
        let quantile = &self.quantiles[place];
        quantile.trees.at(row) + quantile.offset
    }
}

fn level(place: usize) -> f64 {
    (place + 1) as f64 / (LEVELS + 1) as f64
}

/// By how much the interval must grow at each end to cover such a share of what was held out.
fn missing(low: &Boosted, high: &Boosted, held: &[(Vec<u8>, f64)], share: f64) -> f64 {
    let outside = |(row, score): &(Vec<u8>, f64)| (low.at(row) - score).max(score - high.at(row));
    let mut outside: Vec<f64> = held.iter().map(outside).collect();
    outside.sort_by(f64::total_cmp);
    let place = (share * (outside.len() + 1) as f64).ceil() as usize;
    outside[place.clamp(1, outside.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    /// Noise grows along the first parameter.
    fn draw(seed: u64, count: usize) -> (Vec<Vec<Option<Coordinate>>>, Vec<f64>) {
        let mut stream = Stream::new(Purpose { study_seed: seed, name: "test", index: 0, redraw: 0 });
        (0..count)
            .map(|_| {
                let (x, y) = (stream.unit(), stream.unit());
                let score = (6.0 * y).sin() + (0.1 + x) * stream.normal();
                (vec![Some(Coordinate::Number(x)), Some(Coordinate::Number(y))], score)
            })
            .unzip()
    }

    #[test]
    fn intervals_cover_what_they_say_and_are_wider_where_there_is_noise() {
        let axes = [Axis::Number { levels: None }; 2];
        let (mut covered, mut quiet, mut noisy) = (0, 0.0, 0.0);
        for seed in 0..10 {
            let (points, scores) = draw(seed, 200);
            let model = Model::fit(&axes, &points.iter().map(Vec::as_slice).collect::<Vec<_>>(), &scores);
            let (fresh, fresh_scores) = draw(100 + seed, 200);
            for (point, score) in fresh.iter().zip(fresh_scores) {
                let row = model.row(point);
                let (low, high) = (model.quantile(0, &row), model.quantile(LEVELS - 1, &row));
                covered += u32::from(low <= score && score <= high);
                match point[0] {
                    Some(Coordinate::Number(x)) if x < 0.5 => quiet += high - low,
                    _ => noisy += high - low,
                }
            }
        }
        // From 1/6 to 5/6 is 2/3.
        assert!((f64::from(covered) / 2_000.0 - 2.0 / 3.0).abs() < 0.06, "{covered} of 2000");
        assert!(noisy > 1.5 * quiet, "{quiet} and {noisy}");
    }
}
