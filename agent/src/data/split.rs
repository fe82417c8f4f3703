//! Which rows train and which validate.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use regatta_schemas::recipe::Data;

use super::error::DataError;
use crate::training::{Dataset, Split};

pub fn split(data: &Data, rows: &Split) -> Result<Dataset, DataError> {
    let (validation, train) = parts(data, rows.rows())?;
    Ok(Dataset { train: pick(rows, &train), validation: pick(rows, &validation) })
}

/// The rows (or blocks of rows) to validate on and those to train on, at least one each.
pub fn parts(data: &Data, rows: usize) -> Result<(Vec<usize>, Vec<usize>), DataError> {
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
pub fn shuffled(rows: usize, seed: u64) -> Vec<usize> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..rows).collect();
    for last in (1..rows).rev() {
        let wide = u128::from(generator.next_u64()) * (last as u128 + 1);
        order.swap(last, usize::try_from(wide >> 64).expect("the product's high half is at most `last`"));
    }
    order
}

/// These rows, in this order.
fn pick(from: &Split, rows: &[usize]) -> Split {
    let mut picked = from.emptied();
    picked.append(from, rows);
    picked
}
