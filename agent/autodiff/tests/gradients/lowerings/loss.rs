//! Losses, against the mean of `-log p` written out.

use regatta_autodiff::graph::{Attribute, Constant, Dtype, Elements, Graph, Value};

use super::{Attributes, lowered};
use crate::check::{
    Draw::{Positive, Signed},
    check_output, check_with,
};
use crate::evaluator::Tensor;

/// Labels for scores of shape `[2, 3, 4]`; the class 7 is there to be ignored.
const LABELS: [i64; 8] = [0, 2, 1, 7, 2, 7, 0, 0];

fn labels(graph: &mut Graph) -> Value {
    graph.constant(Constant { dtype: Dtype::I64, shape: vec![2, 4], elements: Elements::Int(LABELS.to_vec()) })
}

fn by_definition(x: &[Tensor], is_softmax: bool, reduction: &str) -> Tensor {
    let scores = x[0].as_floats();
    let weight = |class: usize| x.get(1).map_or(1.0, |weights| weights.as_floats()[class]);
    let (mut losses, mut weights) = (Vec::new(), 0.0);
    for (position, &label) in LABELS.iter().enumerate() {
        let score = |class: usize| scores[(position / 4 * 3 + class) * 4 + position % 4];
        let norm = if is_softmax { (0..3).map(|class| score(class).exp()).sum::<f64>().ln() } else { 0.0 };
        losses.push(match label {
            7 => 0.0,
            class => {
                weights += weight(class as usize);
                -weight(class as usize) * (score(class as usize) - norm)
            }
        });
    }
    match reduction {
        "none" => Tensor::floats(&[2, 4], losses),
        "sum" => Tensor::floats(&[], vec![losses.iter().sum()]),
        _ => Tensor::floats(&[], vec![losses.iter().sum::<f64>() / weights]),
    }
}

#[test]
fn losses_with_weights_ignored_labels_and_every_reduction() {
    let ignored = ("ignore_index", Attribute::Int(7));
    for (op, is_softmax) in [("SoftmaxCrossEntropyLoss", true), ("NegativeLogLikelihoodLoss", false)] {
        for reduction in ["none", "sum", "mean"] {
            let attributes = [("reduction", Attribute::Text(reduction.into())), ignored.clone()];
            for inputs in [&[(&[2, 3, 4][..], Signed), (&[3][..], Positive)][..], &[(&[2, 3, 4][..], Signed)]] {
                let build = |g: &mut Graph, x: &[Value]| {
                    let labels = labels(g);
                    lowered(g, op, &[Some(x[0]), Some(labels), x.get(1).copied()], &attributes, 0)
                };
                check_output(op, inputs, &build, &|x| by_definition(x, is_softmax, reduction));
                check_with(op, inputs, &build);
            }
        }
    }
}

#[test]
fn plain_mean_over_rows() {
    let none: Attributes<'_> = &[];
    let build = |g: &mut Graph, x: &[Value]| {
        let labels = g.int_vector(vec![1, 0]);
        lowered(g, "SoftmaxCrossEntropyLoss", &[Some(x[0]), Some(labels)], none, 0)
    };
    check_output("SoftmaxCrossEntropyLoss", &[(&[2, 2], Signed)], &build, &|x| {
        let a = x[0].as_floats();
        let rows = [(a[0], a[1], a[1]), (a[2], a[3], a[2])];
        let losses = rows.map(|(first, second, own)| (first.exp() + second.exp()).ln() - own);
        Tensor::floats(&[], vec![(losses[0] + losses[1]) / 2.0])
    });
    check_with("SoftmaxCrossEntropyLoss", &[(&[2, 2], Signed)], &build);
}
