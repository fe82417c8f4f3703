//! An ablation of a data set: columns are taken out of it, or, where a model wants rows of one shape, put to their mean.

use std::collections::BTreeSet;

use regatta_checkpoint::Affine;
use regatta_schemas::recipe::FeatureName;

use super::DataError;
use crate::training::{Dataset, Feature, Values};

/// What becomes of the positions of a row that are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// They are gone: the model takes rows of any width.
    Gone,
    /// All rows have the mean of the rows to train on; of categories and tokens, the most frequent one.
    Mean,
}

/// The data set without these features, as the recipe writes them.
///
/// # Errors
/// There is no such feature, or none is left.
pub fn without(data: &Dataset, features: &[String], absence: Absence) -> Result<Dataset, DataError> {
    let known = &data.train.features;
    let mut left_out: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); known.len()];
    for text in features {
        let found = positions(known, text);
        if found.iter().all(BTreeSet::is_empty) {
            return Err(DataError::NoFeature { name: text.clone(), there: names(known) });
        }
        for (all, found) in left_out.iter_mut().zip(found) {
            all.extend(found);
        }
    }
    if known.iter().zip(&left_out).all(|(feature, left_out)| left_out.len() == feature.width()) {
        return Err(DataError::NoFeatureLeft);
    }
    let mut changed = data.clone();
    let mut kept = Vec::new();
    for (place, left_out) in left_out.iter().enumerate() {
        let is_gone = absence == Absence::Gone && can_lose(&known[place]);
        if !is_gone || left_out.len() < known[place].width() {
            kept.push(place);
        }
        if left_out.is_empty() {
            continue;
        }
        let figures = figures(&known[place], left_out);
        for split in [&mut changed.train, &mut changed.validation] {
            let feature = &mut split.features[place];
            if is_gone { take_out(feature, left_out) } else { put(feature, left_out, &figures) }
        }
    }
    for split in [&mut changed.train, &mut changed.validation] {
        let mut features: Vec<Option<Feature>> = std::mem::take(&mut split.features).into_iter().map(Some).collect();
        split.features = kept.iter().filter_map(|place| features[*place].take()).collect();
    }
    Ok(changed)
}

/// The positions of each feature's rows that the text names.
fn positions(known: &[Feature], text: &str) -> Vec<BTreeSet<usize>> {
    let name = FeatureName::read(text);
    let of = |feature: &Feature| -> BTreeSet<usize> {
        let columns = (0..feature.columns.len()).filter(|column| feature.columns[*column] == text);
        let columns: BTreeSet<usize> = columns.collect();
        match &name {
            Some(name) if columns.is_empty() && name.name == feature.name => {
                let is_named = |at: &usize| name.span.as_ref().is_none_or(|span| span.contains(*at));
                let is_inside = name.span.as_ref().is_none_or(|span| span.range.end <= feature.width());
                if is_inside { (0..feature.width()).filter(is_named).collect() } else { BTreeSet::new() }
            }
            _ => columns,
        }
    };
    known.iter().map(of).collect()
}

/// For people: what could have been named.
fn names(known: &[Feature]) -> String {
    let of = |feature: &Feature| match feature.columns.as_slice() {
        [] => vec![format!("`{}[0:{}]`", feature.name, feature.width())],
        columns => columns.iter().map(|column| format!("`{column}`")).collect(),
    };
    known.iter().flat_map(of).collect::<Vec<_>>().join(", ")
}

/// Whether what is done to its values yet does not depend on where they stand.
fn can_lose(feature: &Feature) -> bool {
    feature.affine.as_ref().is_none_or(|affine| affine.offset.len() == 1)
}

fn take_out(feature: &mut Feature, left_out: &BTreeSet<usize>) {
    let width = feature.width();
    let is_left = |at: usize| !left_out.contains(&(at % width));
    match &mut feature.values {
        Values::F32(values) => retain(values, is_left),
        Values::I64(values) => retain(values, is_left),
        Values::U8(values) => retain(values, is_left),
    }
    for each in [feature.columns.len(), feature.vocabulary.len()] {
        debug_assert!(each <= 1 || each == width, "one for each position");
    }
    if feature.columns.len() == width {
        retain(&mut feature.columns, is_left);
    }
    if feature.vocabulary.len() == width && width > 1 {
        retain(&mut feature.vocabulary, is_left);
    }
    if feature.texts.len() == width {
        retain(&mut feature.texts, is_left);
    }
    if let Some(Affine { offset, factor }) = &mut feature.normalized {
        for figures in [offset, factor].into_iter().filter(|figures| figures.len() > 1) {
            let run = width / figures.len();
            *figures = (0..width).filter(|at| is_left(*at)).map(|at| figures[at / run]).collect();
        }
    }
    feature.shape = vec![width - left_out.len()];
}

fn retain<T>(values: &mut Vec<T>, is_left: impl Fn(usize) -> bool) {
    let mut at = 0;
    values.retain(|_| {
        at += 1;
        is_left(at - 1)
    });
}

/// The value that stands for each position that is left out, in their order.
enum Figures {
    F32(Vec<f32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
}

fn figures(train: &Feature, left_out: &BTreeSet<usize>) -> Figures {
    let width = train.width();
    #[expect(clippy::cast_precision_loss, reason = "a count of rows in memory")]
    let rows = (train.values.len() / width).max(1) as f64;
    match &train.values {
        Values::F32(values) => Figures::F32(each(left_out, |at| {
            let sum: f64 = values.iter().skip(at).step_by(width).map(|value| f64::from(*value)).sum();
            #[expect(clippy::cast_possible_truncation, reason = "training is in single precision")]
            let mean = (sum / rows) as f32;
            mean
        })),
        Values::U8(values) => Figures::U8(each(left_out, |at| {
            let sum: f64 = values.iter().skip(at).step_by(width).map(|value| f64::from(*value)).sum();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of eight-bit values")]
            let mean = (sum / rows).round() as u8;
            mean
        })),
        Values::I64(values) => Figures::I64(each(left_out, |at| {
            let mut counts = std::collections::BTreeMap::<i64, usize>::new();
            for value in values.iter().skip(at).step_by(width) {
                *counts.entry(*value).or_default() += 1;
            }
            // Of equally frequent ones the first.
            counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(0, |(value, _)| value)
        })),
    }
}

fn each<T>(left_out: &BTreeSet<usize>, figure: impl Fn(usize) -> T) -> Vec<T> {
    left_out.iter().map(|at| figure(*at)).collect()
}

fn put(feature: &mut Feature, left_out: &BTreeSet<usize>, figures: &Figures) {
    let width = feature.width();
    match (&mut feature.values, figures) {
        (Values::F32(values), Figures::F32(figures)) => fill(values, width, left_out, figures),
        (Values::I64(values), Figures::I64(figures)) => fill(values, width, left_out, figures),
        (Values::U8(values), Figures::U8(figures)) => fill(values, width, left_out, figures),
        _ => unreachable!("rows to train and to validate on are of one kind"),
    }
}

fn fill<T: Copy>(values: &mut [T], width: usize, left_out: &BTreeSet<usize>, figures: &[T]) {
    for row in values.chunks_exact_mut(width) {
        for (at, figure) in left_out.iter().zip(figures) {
            row[*at] = *figure;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{Split, Target};

    /// Two rows to train on, one to validate on.
    fn dataset(features: &dyn Fn(usize) -> Vec<Feature>) -> Dataset {
        let split = |rows: usize| Split {
            features: features(rows),
            target: Target::Values { values: vec![0.0; rows], shape: vec![] },
        };
        Dataset { train: split(2), validation: split(1) }
    }

    fn numbers(rows: usize) -> Vec<Feature> {
        let values = [1.0, 2.0, 3.0, 5.0, 6.0, 7.0][..rows * 3].to_vec();
        vec![Feature { columns: ["a", "b", "b"].map(str::to_owned).to_vec(), ..Feature::numbers("x", vec![3], values) }]
    }

    fn values(dataset: &Dataset) -> (Values, Values) {
        (dataset.train.features[0].values.clone(), dataset.validation.features[0].values.clone())
    }

    #[test]
    fn columns_are_gone_or_put_to_their_mean_over_the_rows_to_train_on() {
        let data = dataset(&numbers);
        for (name, absence, train, validation) in [
            ("a", Absence::Gone, vec![2.0, 3.0, 6.0, 7.0], vec![2.0, 3.0]),
            ("b", Absence::Gone, vec![1.0, 5.0], vec![1.0]),
            ("x[2]", Absence::Gone, vec![1.0, 2.0, 5.0, 6.0], vec![1.0, 2.0]),
            ("x[0:3:2]", Absence::Gone, vec![2.0, 6.0], vec![2.0]),
            ("a", Absence::Mean, vec![3.0, 2.0, 3.0, 3.0, 6.0, 7.0], vec![3.0, 2.0, 3.0]),
        ] {
            let changed = without(&data, &[name.to_owned()], absence).unwrap();
            changed.check(None).unwrap();
            assert_eq!(values(&changed), (Values::F32(train), Values::F32(validation)), "{name} {absence:?}");
        }
    }

    #[test]
    fn what_is_not_there_or_all_there_is_cannot_be_left_out() {
        let data = dataset(&numbers);
        for name in ["c", "y[0]", "x[3]", "x[1:4]"] {
            let found = without(&data, &[name.to_owned()], Absence::Gone);
            assert!(matches!(found, Err(DataError::NoFeature { .. })), "{name}");
        }
        for absence in [Absence::Gone, Absence::Mean] {
            assert_eq!(without(&data, &["x".to_owned()], absence), Err(DataError::NoFeatureLeft));
        }
    }

    #[test]
    fn a_whole_feature_goes_and_categories_become_the_most_frequent() {
        let data = dataset(&|rows| {
            let categories = Feature {
                values: Values::I64([2, 0, 2, 1, 1, 0][..rows * 2].to_vec()),
                vocabulary: vec![3, 4],
                ..Feature::numbers("kinds", vec![2], Vec::new())
            };
            [numbers(rows), vec![categories]].concat()
        });
        let gone = without(&data, &["kinds".to_owned()], Absence::Gone).unwrap();
        assert_eq!(gone, dataset(&numbers));
        let half = without(&data, &["kinds[0]".to_owned()], Absence::Gone).unwrap();
        assert_eq!(half.train.features[1].values, Values::I64(vec![0, 1]));
        assert_eq!(half.train.features[1].vocabulary, [4]);
        let mean = without(&data, &["kinds".to_owned()], Absence::Mean).unwrap();
        assert_eq!(mean.train.features[1].values, Values::I64(vec![2, 0, 2, 0]));
        mean.check(None).unwrap();
    }
}
