//! The shape of a row as a model sees it: told by the recipe where the file does not know it, channels first.

use regatta_schemas::recipe::{Channels, Data};

use super::error::DataError;
use crate::training::{Feature, Values};

/// # Errors
/// When the recipe's shape does not hold as many numbers as a row, or there are several features that it could mean.
pub fn shape(data: &Data, features: &mut [Feature]) -> Result<(), DataError> {
    let mut numeric: Vec<&mut Feature> =
        features.iter_mut().filter(|feature| !matches!(feature.values, Values::I64(_))).collect();
    if let Some(shape) = &data.shape {
        let [feature] = numeric.as_mut_slice() else { return Err(DataError::ShapeOfWhich { features: numeric.len() }) };
        let told: Vec<usize> = shape.iter().map(|length| *length as usize).collect();
        let count = told.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
        if count != Some(feature.width()) {
            return Err(DataError::Shape { told, width: feature.width() });
        }
        feature.shape = told;
    }
    if data.channels == Channels::Last {
        numeric.into_iter().for_each(channels_first);
    }
    Ok(())
}

fn channels_first(feature: &mut Feature) {
    let Some((channels, places)) = feature.shape.split_last() else { return };
    let (channels, count) = (*channels, places.iter().product());
    feature.shape = [&[channels], places].concat();
    match &mut feature.values {
        Values::F32(values) => move_last_first(values, channels, count),
        Values::U8(values) => move_last_first(values, channels, count),
        Values::I64(values) => move_last_first(values, channels, count),
    }
}

/// Each row from places x channels to channels x places.
fn move_last_first<T: Copy>(values: &mut [T], channels: usize, places: usize) {
    if channels == 1 || places == 1 {
        return;
    }
    let mut moved = Vec::with_capacity(channels * places);
    for row in values.chunks_exact_mut(channels * places) {
        moved.clear();
        for channel in 0..channels {
            moved.extend(row.iter().skip(channel).step_by(channels));
        }
        row.copy_from_slice(&moved);
    }
}
