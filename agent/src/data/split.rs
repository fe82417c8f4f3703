//! Which rows train and which validate.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use regatta_schemas::recipe::Data;

use super::error::DataError;
use crate::training::{Dataset, Feature, Split, Target, Values};

pub fn split(data: &Data, rows: &Split) -> Result<Dataset, DataError> {
    let (validation, train) = parts(data, rows.rows())?;
    Ok(Dataset { train: pick(rows, &train), validation: pick(rows, &validation) })
}

/// The rows to validate on and those to train on, at least one each.
fn parts(data: &Data, rows: usize) -> Result<(Vec<usize>, Vec<usize>), DataError> {
    if rows < 2 {
        return Err(DataError::TooFewRows { rows });
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
    let kept = (rows as f64 * data.validation).round() as usize;
    let mut validation = shuffled(rows, data.split_seed);
    let train = validation.split_off(kept.clamp(1, rows - 1));
    Ok((validation, train))
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

/// These rows, in this order.
fn pick(from: &Split, order: &[usize]) -> Split {
    let feature =
        |feature: &Feature| Feature { values: pick_values(&feature.values, feature.width(), order), ..bare(feature) };
    let width = from.target.width();
    let target = match &from.target {
        Target::Classes { labels, shape, classes } => {
            Target::Classes { labels: chosen(labels, width, order), shape: shape.clone(), classes: *classes }
        }
        Target::Values { values, shape } => {
            Target::Values { values: chosen(values, width, order), shape: shape.clone() }
        }
    };
    Split { features: from.features.iter().map(feature).collect(), target }
}

/// The feature without its values.
fn bare(feature: &Feature) -> Feature {
    Feature {
        name: feature.name.clone(),
        shape: feature.shape.clone(),
        values: Values::U8(Vec::new()),
        affine: feature.affine.clone(),
        vocabulary: feature.vocabulary.clone(),
    }
}

fn pick_values(values: &Values, width: usize, order: &[usize]) -> Values {
    match values {
        Values::F32(values) => Values::F32(chosen(values, width, order)),
        Values::I64(values) => Values::I64(chosen(values, width, order)),
        Values::U8(values) => Values::U8(chosen(values, width, order)),
    }
}

fn chosen<T: Copy>(values: &[T], width: usize, order: &[usize]) -> Vec<T> {
    let mut picked = Vec::with_capacity(order.len() * width);
    for row in order {
        picked.extend_from_slice(&values[row * width..(row + 1) * width]);
    }
    picked
}
