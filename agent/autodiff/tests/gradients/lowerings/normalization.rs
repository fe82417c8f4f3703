//! Normalisations.

use std::collections::BTreeMap;

use regatta_autodiff::gradient::{GradientError, gradients};
use regatta_autodiff::graph::{Attribute, Dtype, Graph, Provider, Value};
use regatta_autodiff::lower::{batch_norm, frozen_batch_norm};

use super::check_lowered;
use crate::check::{
    Draw::{Positive, Signed},
    check_output, check_with,
};
use crate::evaluator::{Tensor, evaluate};

const EPSILON: f64 = 1e-3;

/// Elements that have the same key are normalised together.
fn standardized(x: &Tensor, epsilon: f64, key: &dyn Fn(usize) -> usize) -> Vec<f64> {
    let floats = x.as_floats();
    let mut groups: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (at, number) in floats.iter().enumerate() {
        groups.entry(key(at)).or_default().push(*number);
    }
    let of_group = |at: usize| {
        let group = &groups[&key(at)];
        let mean = group.iter().sum::<f64>() / group.len() as f64;
        let variance = group.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / group.len() as f64;
        (floats[at] - mean) / (variance + epsilon).sqrt()
    };
    (0..floats.len()).map(of_group).collect()
}

/// `normalized * scale + bias` by the index into both that an element has.
fn affine(x: &[Tensor], normalized: Vec<f64>, index: &dyn Fn(usize) -> usize) -> Tensor {
    let (scale, bias) = (x[1].as_floats(), x[2].as_floats());
    let numbers = normalized.iter().enumerate().map(|(at, number)| number * scale[index(at)] + bias[index(at)]);
    Tensor::floats(&x[0].shape, numbers.collect())
}

#[test]
fn batch_normalization_over_all_ranks() {
    for (shape, spatial) in [(&[4, 3, 2, 2][..], 4), (&[4, 3], 1), (&[2, 3, 5], 5), (&[2, 3, 2, 1, 2], 4)] {
        let inputs = [(shape, Signed), (&[3][..], Signed), (&[3][..], Signed)];
        let build = |g: &mut Graph, x: &[Value]| Ok(batch_norm(g, x[0], (x[1], x[2]), EPSILON)?.y);
        let channel = |at: usize| at / spatial % 3;
        check_output("batch_norm", &inputs, &build, &|x| affine(x, standardized(&x[0], EPSILON, &channel), &channel));
        check_with("batch_norm", &inputs, &build);
    }
}

#[test]
fn batch_statistics_are_the_mean_and_the_unbiased_variance() {
    let mut graph = Graph::new(Provider::Cpu);
    let x = graph.input("x", Dtype::F64, &[3, 1]).unwrap();
    let one = graph.input("one", Dtype::F64, &[1]).unwrap();
    let normalized = batch_norm(&mut graph, x, (one, one), EPSILON).unwrap();
    graph.output(normalized.mean);
    graph.output(normalized.variance);
    let feeds = [
        ("x".to_owned(), Tensor::floats(&[3, 1], vec![1.0, 2.0, 6.0])),
        ("one".to_owned(), Tensor::floats(&[1], vec![1.0])),
    ];

    let outputs = evaluate(&graph, &feeds.into());

    assert!((outputs[graph.name(normalized.mean)].as_floats()[0] - 3.0).abs() < 1e-12);
    assert!((outputs[graph.name(normalized.variance)].as_floats()[0] - 7.0).abs() < 1e-12);
}

#[test]
fn gradient_through_batch_statistics_is_an_error() {
    let mut graph = Graph::new(Provider::Cpu);
    let x = graph.input("x", Dtype::F64, &[3, 1]).unwrap();
    let one = graph.input("one", Dtype::F64, &[1]).unwrap();
    let normalized = batch_norm(&mut graph, x, (one, one), EPSILON).unwrap();
    let total = graph.add(normalized.y, normalized.mean).unwrap();
    let seed = graph.scalar(Dtype::F64, 1.0);

    let error = gradients(&mut graph, &[(total, seed)], &[x]).unwrap_err();

    assert!(matches!(error, GradientError::Unsupported { .. }), "{error}");
}

#[test]
fn frozen_batch_normalization() {
    let vector = (&[3][..], Signed);
    let inputs = [(&[2, 3, 4][..], Signed), vector, vector, vector, (&[3][..], Positive)];
    let build = |g: &mut Graph, x: &[Value]| frozen_batch_norm(g, x[0], (x[1], x[2]), (x[3], x[4]), EPSILON);
    check_output("frozen_batch_norm", &inputs, &build, &|x| {
        let (mean, variance) = (x[3].as_floats(), x[4].as_floats());
        let number = |(at, number): (usize, &f64)| {
            let channel = at / 4 % 3;
            (number - mean[channel]) / (variance[channel] + EPSILON).sqrt()
        };
        let normalized = x[0].as_floats().iter().enumerate().map(number).collect();
        affine(x, normalized, &|at| at / 4 % 3)
    });
    check_with("frozen_batch_norm", &inputs, &build);
}

#[test]
fn instance_normalization() {
    let attributes = [("epsilon", Attribute::Float(EPSILON))];
    for (shape, spatial) in [(&[2, 3, 4][..], 4), (&[2, 3, 2, 3], 6)] {
        let inputs = [(shape, Signed), (&[3][..], Signed), (&[3][..], Signed)];
        check_lowered("InstanceNormalization", &inputs, &attributes, &|x| {
            affine(x, standardized(&x[0], EPSILON, &|at| at / spatial), &|at| at / spatial % 3)
        });
    }
}

#[test]
fn group_normalization_with_a_scale_for_each_channel_or_group() {
    for (groups, scales) in [(2, 4), (2, 2), (4, 4), (1, 4), (1, 1)] {
        let attributes = [("epsilon", Attribute::Float(EPSILON)), ("num_groups", Attribute::Int(groups as i64))];
        let vector: &[usize] = &[scales];
        let inputs = [(&[2, 4, 3][..], Signed), (vector, Signed), (vector, Signed)];
        check_lowered("GroupNormalization", &inputs, &attributes, &|x| {
            let normalized = standardized(&x[0], EPSILON, &|at| at / (12 / groups));
            affine(x, normalized, &|at| at / (12 / scales) % scales)
        });
    }
}

#[test]
fn root_mean_square_normalization() {
    for (axis, width, scale) in [(-1, 4, &[4][..]), (1, 12, &[3, 4]), (2, 4, &[])] {
        let attributes = [("epsilon", Attribute::Float(EPSILON)), ("axis", Attribute::Int(axis))];
        check_lowered("RMSNormalization", &[(&[2, 3, 4], Signed), (scale, Signed)], &attributes, &|x| {
            let scales = x[1].as_floats();
            let rows = x[0].as_floats().chunks(width).flat_map(|row| {
                let square = row.iter().map(|number| number * number).sum::<f64>() / width as f64;
                let scaled =
                    move |(at, number): (usize, &f64)| number / (square + EPSILON).sqrt() * scales[at % scales.len()];
                row.iter().enumerate().map(scaled)
            });
            Tensor::floats(&x[0].shape, rows.collect())
        });
    }
}

#[test]
fn mean_variance_normalization() {
    check_lowered("MeanVarianceNormalization", &[(&[2, 3, 2, 2], Signed)], &[], &|x| {
        Tensor::floats(&x[0].shape, standardized(&x[0], 0.0, &|at| at / 4 % 3))
    });
    let attributes = [("axes", Attribute::Ints(vec![-1]))];
    check_lowered("MeanVarianceNormalization", &[(&[2, 5], Signed)], &attributes, &|x| {
        Tensor::floats(&x[0].shape, standardized(&x[0], 0.0, &|at| at / 5))
    });
}

#[test]
fn lp_normalization() {
    for p in [1, 2] {
        let attributes = [("p", Attribute::Int(p)), ("axis", Attribute::Int(1))];
        check_lowered("LpNormalization", &[(&[3, 4], Signed)], &attributes, &|x| {
            let rows = x[0].as_floats().chunks(4).flat_map(|row| {
                let norm = match p {
                    1 => row.iter().map(|number| number.abs()).sum::<f64>(),
                    _ => row.iter().map(|number| number * number).sum::<f64>().sqrt(),
                };
                row.iter().map(move |number| number / norm)
            });
            Tensor::floats(&x[0].shape, rows.collect())
        });
    }
}

#[test]
fn local_response_normalization_with_even_and_odd_windows() {
    for size in [1, 2, 3, 7] {
        let attributes = [
            ("size", Attribute::Int(size)),
            ("alpha", Attribute::Float(0.3)),
            ("beta", Attribute::Float(0.6)),
            ("bias", Attribute::Float(1.5)),
        ];
        check_lowered("LRN", &[(&[2, 5, 2, 1], Signed)], &attributes, &|x| {
            let floats = x[0].as_floats();
            let number = |at: usize| {
                let channel = (at / 2 % 5) as i64;
                let (low, high) = (channel - (size - 1) / 2, channel + size / 2);
                let window = (low.max(0)..=high.min(4)).map(|other| (at as i64 + (other - channel) * 2) as usize);
                let sum: f64 = window.map(|other| floats[other] * floats[other]).sum();
                floats[at] / (1.5 + 0.3 / size as f64 * sum).powf(0.6)
            };
            Tensor::floats(&x[0].shape, (0..floats.len()).map(number).collect())
        });
    }
}
