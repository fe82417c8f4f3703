//! The scale of the features, by figures of the training rows alone.

use regatta_checkpoint::Affine;
use regatta_schemas::recipe::Normalize;

use crate::training::{Feature, Values};

/// What is taken from a value, and what it is then divided by: for each equal part of a row.
#[derive(Debug)]
pub struct Figures(Vec<(f64, f64)>);

/// For each feature, from rows to train on; none for categories, and where nothing is to be done.
pub fn figures(how: Normalize, features: &[Feature]) -> Vec<Option<Figures>> {
    let figures = |feature: &Feature| match (how, &feature.values) {
        (Normalize::None, _) | (_, Values::I64(_)) => None,
        (Normalize::Standard, _) => Some(standard(feature, feature.width())),
        (Normalize::Channel, _) => Some(standard(feature, feature.shape.first().copied().unwrap_or(1))),
        (Normalize::Scale, _) => Some(scale(feature)),
    };
    features.iter().map(figures).collect()
}

/// Eight-bit values stay eight-bit, with what is to be done to them beside them, where few figures say it.
pub fn apply(figures: &[Option<Figures>], features: &mut [Feature]) {
    for (feature, figures) in features.iter_mut().zip(figures) {
        if let Some(figures) = figures {
            apply_to(feature, figures);
        }
    }
}

/// To mean 0 and standard deviation 1, each of `groups` equal parts of a row; one that is constant to 0.
fn standard(feature: &Feature, groups: usize) -> Figures {
    let (width, run) = (feature.width(), feature.width() / groups);
    let mut sums = vec![(0.0, f64::INFINITY, f64::NEG_INFINITY); groups];
    for (at, value) in numbers(feature) {
        let (sum, low, high) = &mut sums[at % width / run];
        (*sum, *low, *high) = (*sum + value, low.min(value), high.max(value));
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of numbers in memory")]
    let count = (feature.values.len() / groups) as f64;
    let mut squares = vec![0.0; groups];
    for (at, value) in numbers(feature) {
        let group = at % width / run;
        squares[group] += (value - sums[group].0 / count).powi(2);
    }
    let figures = |((sum, low, high), square): ((f64, f64, f64), f64)| {
        if low < high { (sum / count, (square / count).sqrt()) } else { (low, 0.0) }
    };
    Figures(sums.into_iter().zip(squares).map(figures).collect())
}

/// By one factor, so that all values lie between 0 and 1.
fn scale(feature: &Feature) -> Figures {
    let bounds = |(low, high): (f64, f64), (_, value): (usize, f64)| (low.min(value), high.max(value));
    let (low, high) = numbers(feature).fold((f64::INFINITY, f64::NEG_INFINITY), bounds);
    Figures(vec![(low, high - low)])
}

fn numbers(feature: &Feature) -> Box<dyn Iterator<Item = (usize, f64)> + '_> {
    match &feature.values {
        Values::F32(values) => Box::new(values.iter().map(|value| f64::from(*value)).enumerate()),
        Values::U8(values) => Box::new(values.iter().map(|value| f64::from(*value)).enumerate()),
        Values::I64(_) => Box::new(std::iter::empty()),
    }
}

fn apply_to(feature: &mut Feature, Figures(figures): &Figures) {
    let (width, run) = (feature.width(), feature.width() / figures.len());
    #[expect(clippy::cast_possible_truncation, reason = "training is in single precision")]
    let offset = figures.iter().map(|(offset, _)| *offset as f32).collect();
    let factor = figures.iter().map(|(_, by)| ratio(1.0, *by)).collect();
    feature.normalized = Some(Affine { offset, factor });
    match &mut feature.values {
        Values::U8(_) if figures.len() == 1 || feature.shape.len() > 1 && figures.len() == feature.shape[0] => {
            feature.affine = feature.normalized.clone();
        }
        Values::U8(values) => {
            let number = |(at, value): (usize, &u8)| {
                let (offset, by) = figures[at % width / run];
                ratio(f64::from(*value) - offset, by)
            };
            feature.values = Values::F32(values.iter().enumerate().map(number).collect());
        }
        Values::F32(values) => {
            for (at, value) in values.iter_mut().enumerate() {
                let (offset, by) = figures[at % width / run];
                *value = ratio(f64::from(*value) - offset, by);
            }
        }
        Values::I64(_) => {}
    }
}

/// 0 where there is nothing to divide by, or where the quotient is beyond single precision.
fn ratio(distance: f64, by: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "training is in single precision")]
    let ratio = (distance / by) as f32;
    if by > 0.0 && ratio.is_finite() { ratio } else { 0.0 }
}
