//! Reductions and functions that normalise along an axis.

use regatta_autodiff::graph::Node;

use super::{Tensor, axis_of, binary, source, unary};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let present: Vec<Tensor> = operands.iter().flatten().cloned().collect();
    let x = present.as_slice();
    let output = match node.op.as_str() {
        "ReduceSum" => reduce(node, x, false),
        "ReduceMean" => reduce(node, x, true),
        "Softmax" => softmax(&x[0], node.int("axis", -1), false),
        "LogSoftmax" => softmax(&x[0], node.int("axis", -1), true),
        "ArgMax" => arg_max_last(&x[0]),
        _ => return None,
    };
    Some(vec![output])
}

fn reduce(node: &Node, x: &[Tensor], mean: bool) -> Tensor {
    let rank = x[0].shape.len();
    let mut axes: Vec<usize> = match x.get(1) {
        Some(axes) => axes.as_ints().iter().map(|&axis| axis_of(axis, rank)).collect(),
        None => vec![],
    };
    if axes.is_empty() && node.int("noop_with_empty_axes", 0) == 0 {
        axes = (0..rank).collect();
    }
    let kept: Vec<usize> = (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { x[0].shape[axis] }).collect();
    let mut sums = vec![0.0; kept.iter().product()];
    for (at, number) in x[0].as_floats().iter().enumerate() {
        sums[source(at, &x[0].shape, &kept)] += number;
    }
    if mean {
        let share = sums.len() as f64 / x[0].len() as f64;
        sums.iter_mut().for_each(|sum| *sum *= share);
    }
    let dropped = (0..rank).filter(|axis| node.int("keepdims", 1) != 0 || !axes.contains(axis));
    let shape: Vec<usize> = dropped.map(|axis| kept[axis]).collect();
    Tensor::floats(&shape, sums)
}

fn softmax(x: &Tensor, axis: i64, log: bool) -> Tensor {
    let mut kept = x.shape.clone();
    kept[axis_of(axis, x.shape.len())] = 1;
    let mut sums = vec![0.0; kept.iter().product()];
    for (at, number) in x.as_floats().iter().enumerate() {
        sums[source(at, &x.shape, &kept)] += number.exp();
    }
    let sums = Tensor::floats(&kept, sums);
    let result = binary(x, &sums, |a, sum| a - sum.ln(), |_, _| unreachable!());
    if log { result } else { unary(&result, f64::exp) }
}

fn arg_max_last(x: &Tensor) -> Tensor {
    let (&width, rows) = x.shape.split_last().unwrap();
    let greatest = |row: &[f64]| (0..width).rev().max_by(|&i, &j| row[i].total_cmp(&row[j])).unwrap() as i64;
    Tensor::ints(rows, x.as_floats().chunks(width).map(greatest).collect())
}
