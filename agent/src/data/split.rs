//! Which rows train and which validate, and the scale of the features.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use regatta_schemas::recipe::{Data, Normalize};

use super::error::DataError;
use crate::training::{Dataset, Split, Target, Tensor2};

pub fn split(data: &Data, features: &Tensor2, target: &Target) -> Result<Dataset, DataError> {
    let rows = features.rows;
    if rows < 2 {
        return Err(DataError::TooFewRows { rows });
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
    let kept = (rows as f64 * data.validation).round() as usize;
    let order = shuffled(rows, data.split_seed);
    let (validation, train) = order.split_at(kept.clamp(1, rows - 1));
    let mut dataset = Dataset { train: part(features, target, train), validation: part(features, target, validation) };
    match data.normalize {
        Normalize::None | Normalize::Channel => {}
        Normalize::Standard => standardize(&mut dataset),
        Normalize::Scale => scale(&mut dataset),
    }
    Ok(dataset)
}

/// The rows in an order that follows from the seed alone (Fisher and Yates).
fn shuffled(rows: usize, seed: u64) -> Vec<usize> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..rows).collect();
    for last in (1..rows).rev() {
        let wide = u128::from(generator.next_u64()) * (last as u128 + 1);
        order.swap(last, usize::try_from(wide >> 64).expect("the product's high half is at most `last`"));
    }
    order
}

fn part(features: &Tensor2, target: &Target, order: &[usize]) -> Split {
    let target = match target {
        Target::Classes { labels, classes } => {
            Target::Classes { labels: order.iter().map(|row| labels[*row]).collect(), classes: *classes }
        }
        Target::Values(values) => Target::Values(pick(values, order)),
    };
    Split { features: pick(features, order), target }
}

fn pick(from: &Tensor2, order: &[usize]) -> Tensor2 {
    let mut values = Vec::with_capacity(order.len() * from.width);
    for row in order {
        values.extend_from_slice(&from.values[row * from.width..(row + 1) * from.width]);
    }
    Tensor2 { rows: order.len(), width: from.width, values }
}

/// Each feature to mean 0 and standard deviation 1, by the training rows; one that is constant there to 0.
fn standardize(dataset: &mut Dataset) {
    let train = &dataset.train.features;
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    let count = train.rows as f64;
    let figures: Vec<(f64, f64)> = (0..train.width)
        .map(|at| {
            let column = || train.values.iter().skip(at).step_by(train.width).map(|value| f64::from(*value));
            let is_constant = column().all(|value| value.to_bits() == f64::from(train.values[at]).to_bits());
            let mean = column().sum::<f64>() / count;
            let variance = column().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            if is_constant { (mean, 0.0) } else { (mean, variance.sqrt()) }
        })
        .collect();
    for split in [&mut dataset.train, &mut dataset.validation] {
        for (at, value) in split.features.values.iter_mut().enumerate() {
            let (mean, deviation) = figures[at % figures.len()];
            *value = ratio(f64::from(*value) - mean, deviation);
        }
    }
}

/// All features by one factor, so that those of the training rows lie between 0 and 1.
fn scale(dataset: &mut Dataset) {
    let bounds = |(low, high): (f64, f64), value: &f32| (low.min(f64::from(*value)), high.max(f64::from(*value)));
    let (low, high) = dataset.train.features.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), bounds);
    for split in [&mut dataset.train, &mut dataset.validation] {
        for value in &mut split.features.values {
            *value = ratio(f64::from(*value) - low, high - low);
        }
    }
}

/// 0 where there is nothing to divide by, or where the quotient is beyond single precision.
fn ratio(distance: f64, by: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "training is in single precision")]
    let ratio = (distance / by) as f32;
    if by > 0.0 && ratio.is_finite() { ratio } else { 0.0 }
}
