//! Measures against scikit-learn's figures, which data/metrics.py prints, and against what they are by definition.

#![allow(clippy::unwrap_used, reason = "a test may")]

use regatta_agent::training::{ClassAxis, Metric, Metrics, Reading, Scores, Target, TrainingError};

/// No row is another one with a number added, which would be a tie but for rounding.
fn outputs(rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|place| ((place * 7919 + 13) * place % 10007) as f32 / 10007.0 * 4.0 - 2.0).collect()
}

fn labels(rows: usize, classes: usize) -> Vec<i64> {
    (0..rows).map(|row| ((row * row * 31 + row / 3) % classes) as i64).collect()
}

fn classes(labels: Vec<i64>, classes: usize) -> Target {
    Target::classes(labels, Vec::new(), classes)
}

fn values(values: Vec<f32>, width: usize) -> Target {
    Target::Values { values, shape: vec![width] }
}

/// Of a model that knows the target's classes, and has them last.
fn reading(target: &Target, ignored: Option<i64>) -> Reading {
    match target {
        Target::Classes { classes, .. } => Reading::Classes { classes: *classes, axis: ClassAxis::Last, ignored },
        Target::Values { .. } => Reading::Values,
    }
}

fn scores(metrics: &[Metric], outputs: &[f32], target: &Target, ignored: Option<i64>) -> Metrics {
    read(metrics, outputs, target, reading(target, ignored))
}

/// In batches of seven rows, so that the last one is smaller.
fn read(metrics: &[Metric], outputs: &[f32], target: &Target, reading: Reading) -> Metrics {
    let width = outputs.len() / target.rows();
    let mut scores = Scores::new(metrics, target, reading).unwrap();
    for (batch, outputs) in outputs.chunks(7 * width).enumerate() {
        scores.add(outputs, target, batch * 7).unwrap();
    }
    scores.finish(0.5)
}

fn check(found: &Metrics, expected: &[(&str, f64)]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (name, expected) in expected {
        assert!((found[name] - expected).abs() < 1e-9, "{name}: {} against {expected}", found[name]);
    }
}

#[test]
fn classes_agree_with_scikit_learn() {
    let target = classes(labels(120, 7), 7);
    let metrics = [Metric::Accuracy, Metric::Top5Accuracy, Metric::F1, Metric::Auroc];
    let expected = [
        ("validation_accuracy", 0.10833333333333334),
        ("validation_top5_accuracy", 0.6666666666666666),
        ("validation_f1", 0.11028518402489225),
        ("validation_auroc", 0.48894759662445336),
    ];
    check(&scores(&metrics, &outputs(120, 7), &target, None), &expected);
}

#[test]
fn classes_among_the_greatest_outputs_are_those_of_a_sorted_list() {
    let (labels, outputs) = (labels(120, 7), outputs(120, 7));
    let share = |most: usize| {
        let is_among = |(row, label): (&[f32], &i64)| {
            let mut order: Vec<usize> = (0..7).collect();
            order.sort_by(|one, other| row[*other].total_cmp(&row[*one]));
            order.iter().take(most).any(|class| *class as i64 == *label)
        };
        outputs.chunks(7).zip(&labels).filter(|row| is_among(*row)).count() as f64 / 120.0
    };
    let metrics = [Metric::Top3Accuracy, Metric::Top5Accuracy, Metric::Top10Accuracy];
    let expected = [
        ("validation_top3_accuracy", share(3)),
        ("validation_top5_accuracy", share(5)),
        ("validation_top10_accuracy", 1.0),
    ];
    assert!(share(3) > 0.0 && share(3) < share(5));
    check(&scores(&metrics, &outputs, &classes(labels.clone(), 7), None), &expected);
}

#[test]
fn two_classes_agree_with_scikit_learn() {
    let target = classes(labels(200, 2), 2);
    check(&scores(&[Metric::Auroc], &outputs(200, 2), &target, None), &[("validation_auroc", 0.4611154752553025)]);
}

#[test]
fn answers_to_several_questions_agree_with_scikit_learn() {
    let answers = labels(240, 5).into_iter().map(|label| (label % 2) as f32).collect();
    let target = values(answers, 4);
    let expected = [("validation_f1", 0.5211523842808238), ("validation_auroc", 0.5075334821428572)];
    check(&scores(&[Metric::F1, Metric::Auroc], &outputs(60, 4), &target, None), &expected);
    let rounded: Vec<f32> = outputs(60, 4).into_iter().map(f32::round).collect();
    check(&scores(&[Metric::Auroc], &rounded, &target, None), &[("validation_auroc", 0.5061383928571428)]);
}

#[test]
fn numbers_agree_with_scikit_learn() {
    let own = outputs(80, 3);
    let truth = outputs(160, 3)[240..].iter().zip(&own).map(|(other, own)| other * 0.5 + own * 0.75).collect();
    let expected = [("validation_mean_absolute_error", 0.5043540382136902), ("validation_r2", 0.6975484786076699)];
    check(&scores(&[Metric::MeanAbsoluteError, Metric::R2], &own, &values(truth, 3), None), &expected);
}

#[test]
fn perplexity_is_the_exponential_of_the_loss() {
    let found = scores(&[Metric::Perplexity], &outputs(4, 3), &classes(vec![0, 1, 2, 0], 3), None);
    check(&found, &[("validation_perplexity", 0.5_f64.exp())]);
}

#[test]
fn the_class_axis_is_the_last_for_tokens_the_first_for_pixels_and_either_for_places() {
    // Two rows of four positions; the right class has the greatest output at all but the last position.
    let labels = vec![0, 1, 2, 0, 2, 1, 0, 1];
    let is_best = |position: usize, class: usize| {
        let best = if position == 7 { 0 } else { labels[position] as usize };
        if best == class { 1.0_f32 } else { 0.0 }
    };
    let last: Vec<f32> =
        (0..8).flat_map(|at| (0..3).map(move |class| (at, class))).map(|(at, class)| is_best(at, class)).collect();
    let first: Vec<f32> = (0..2)
        .flat_map(|row| (0..3).flat_map(move |class| (0..4).map(move |at| (row * 4 + at, class))))
        .map(|(at, class)| is_best(at, class))
        .collect();
    let of = |shape: Vec<usize>| Target::classes(labels.clone(), shape, 3);
    let expected = [("validation_accuracy", 7.0 / 8.0)];
    check(&scores(&[Metric::Accuracy], &last, &of(vec![4]), None), &expected);
    check(&scores(&[Metric::Accuracy], &first, &of(vec![2, 2]), None), &expected);
    let reading = Reading::Classes { classes: 3, axis: ClassAxis::First, ignored: None };
    check(&read(&[Metric::Accuracy], &first, &of(vec![4]), reading), &expected);
    // Without the three positions of class one, two of which are met.
    check(&scores(&[Metric::Accuracy], &last, &of(vec![4]), Some(1)), &[("validation_accuracy", 1.0)]);
}

#[test]
fn a_model_may_tell_more_classes_apart_than_the_data_has() {
    let (own, target) = (outputs(60, 4), classes(labels(60, 4), 4));
    // A fifth class, which no row is of and no answer names.
    let more: Vec<f32> = own.chunks(4).flat_map(|row| [row, &[-1e4]].concat()).collect();
    let metrics = [Metric::Accuracy, Metric::F1, Metric::Auroc];
    let expected = scores(&metrics, &own, &target, None);
    let reading = Reading::Classes { classes: 5, axis: ClassAxis::Last, ignored: None };
    let expected: Vec<_> = expected.into_iter().collect();
    check(&read(&metrics, &more, &target, reading), &expected);
}

#[test]
fn labels_in_order_are_told_without_repeats_and_blanks() {
    const READING: Reading = Reading::Transcripts { frames: 5, classes: 4 };
    let target = Target::classes([[1, 2, 0], [3, 3, 0], [2, 1, 3], [0, 0, 0]].concat(), vec![3], 4);
    // As they are; a repeat without a blank; one inserted and one wrong; one that is not there.
    let frames = [[1, 1, 0, 2, 2], [0, 3, 3, 3, 0], [2, 1, 0, 1, 2], [0, 0, 1, 0, 0]].concat();
    let outputs: Vec<f32> =
        frames.iter().flat_map(|told| (0..4).map(move |class| if class == *told { 0.5 } else { -0.5 })).collect();
    let mut scores = Scores::new(&[Metric::Accuracy, Metric::LabelErrorRate], &target, READING).unwrap();
    scores.add(&outputs[..40], &target, 0).unwrap();
    scores.add(&outputs[40..], &target, 2).unwrap();

    let expected = [("validation_accuracy", 0.25), ("validation_label_error_rate", 4.0 / 7.0)];
    check(&scores.finish(0.5), &expected);
    assert!(Scores::new(&[Metric::F1], &target, READING).is_err());
}

#[test]
fn what_is_not_defined_is_left_out() {
    let one_kind = classes(vec![1; 6], 2);
    check(&scores(&[Metric::Auroc], &outputs(6, 2), &one_kind, None), &[]);
    check(&scores(&[Metric::Accuracy, Metric::F1], &outputs(6, 2), &one_kind, Some(1)), &[]);
    // All targets alike: met or not.
    let alike = values(vec![3.0; 4], 1);
    check(&scores(&[Metric::R2], &[3.0; 4], &alike, None), &[("validation_r2", 1.0)]);
    check(&scores(&[Metric::R2], &[3.0, 3.0, 3.0, 2.0], &alike, None), &[("validation_r2", 0.0)]);
}

#[test]
fn outputs_that_are_no_numbers_are_measured_without_a_panic() {
    let target = classes(labels(6, 3), 3);
    let metrics = [Metric::Accuracy, Metric::Top5Accuracy, Metric::F1, Metric::Auroc];
    let found = scores(&metrics, &[f32::NAN; 18], &target, None);
    assert!(found["validation_accuracy"] < 1.0);
}

#[test]
fn metrics_and_outputs_that_do_not_fit_are_refused() {
    let (of_classes, of_values) = (classes(labels(6, 3), 3), values(vec![0.0; 6], 1));
    let refused = |metric, target| {
        matches!(Scores::new(&[metric], target, reading(target, None)), Err(TrainingError::Configuration { .. }))
    };
    assert!(refused(Metric::R2, &of_classes) && refused(Metric::MeanAbsoluteError, &of_classes));
    assert!(refused(Metric::Top5Accuracy, &of_values) && refused(Metric::LabelErrorRate, &of_classes));
    let large = Target::classes(vec![0; 20_000], Vec::new(), 50_000);
    assert!(refused(Metric::Auroc, &large));
    let mut scores = Scores::new(&[Metric::Accuracy], &of_classes, reading(&of_classes, None)).unwrap();
    assert!(scores.add(&[0.0; 3], &of_values, 0).is_err());
    assert!(scores.add(&[0.0; 4], &of_classes, 0).is_err());
    assert!(scores.add(&[0.0; 9], &of_classes, 4).is_err());
    assert!(scores.add(&[0.0; 9], &of_classes, 3).is_ok());
}
