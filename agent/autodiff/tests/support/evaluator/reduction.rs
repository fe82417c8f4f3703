//! Reductions and functions that act along an axis.

use regatta_autodiff::graph::Node;

use super::{Tensor, axis_of, binary, source, unary};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let present: Vec<Tensor> = operands.iter().flatten().cloned().collect();
    let x = present.as_slice();
    let axis = |default: i64| axis_of(node.int("axis", default), x[0].shape.len());
    let output = match node.op.as_str() {
        "ReduceSum" => reduce(node, x, |a| a.iter().sum()),
        "ReduceMean" => reduce(node, x, |a| a.iter().sum::<f64>() / a.len() as f64),
        "ReduceMax" => reduce(node, x, |a| a.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        "ReduceMin" => reduce(node, x, |a| a.iter().copied().fold(f64::INFINITY, f64::min)),
        "ReduceProd" => reduce(node, x, |a| a.iter().product()),
        "ReduceL1" => reduce(node, x, |a| a.iter().map(|a| a.abs()).sum()),
        "ReduceL2" => reduce(node, x, |a| a.iter().map(|a| a * a).sum::<f64>().sqrt()),
        "ReduceSumSquare" => reduce(node, x, |a| a.iter().map(|a| a * a).sum()),
        "ReduceLogSum" => reduce(node, x, |a| a.iter().sum::<f64>().ln()),
        "ReduceLogSumExp" => reduce(node, x, |a| a.iter().map(|a| a.exp()).sum::<f64>().ln()),
        "Softmax" => softmax(&x[0], node.int("axis", -1), false),
        "LogSoftmax" => softmax(&x[0], node.int("axis", -1), true),
        "Hardmax" => rows_along(&x[0], axis(-1), |row| {
            let greatest = order(row, true)[0];
            (0..row.len()).map(|at| f64::from(u8::from(at == greatest))).collect()
        }),
        "ArgMax" => arg_extremum(node, &x[0], axis(0), true),
        "ArgMin" => arg_extremum(node, &x[0], axis(0), false),
        "TopK" => return Some(top_k(node, &x[0], axis(-1), x[1].as_ints()[0] as usize)),
        "CumSum" => {
            let axis = axis_of(x[1].as_ints()[0], x[0].shape.len());
            rows_along(&x[0], axis, |row| cum_sum(row, node.int("exclusive", 0) != 0, node.int("reverse", 0) != 0))
        }
        "LayerNormalization" => return Some(layer_normalization(node, operands)),
        _ => return None,
    };
    Some(vec![output])
}

fn reduce(node: &Node, x: &[Tensor], function: impl Fn(&[f64]) -> f64) -> Tensor {
    let rank = x[0].shape.len();
    let mut axes: Vec<usize> = match x.get(1) {
        Some(axes) => axes.as_ints().iter().map(|&axis| axis_of(axis, rank)).collect(),
        None => vec![],
    };
    if axes.is_empty() && node.int("noop_with_empty_axes", 0) == 0 {
        axes = (0..rank).collect();
    }
    let kept: Vec<usize> = (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { x[0].shape[axis] }).collect();
    let mut groups = vec![Vec::new(); kept.iter().product()];
    for (at, &number) in x[0].as_floats().iter().enumerate() {
        groups[source(at, &x[0].shape, &kept)].push(number);
    }
    let results = groups.iter().map(|group| function(group)).collect();
    let dropped = (0..rank).filter(|axis| node.int("keepdims", 1) != 0 || !axes.contains(axis));
    let shape: Vec<usize> = dropped.map(|axis| kept[axis]).collect();
    Tensor::floats(&shape, results)
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

/// The positions of a row's elements, extreme ones first, equal ones in order.
fn order(row: &[f64], greatest_first: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&i, &j| if greatest_first { row[j].total_cmp(&row[i]) } else { row[i].total_cmp(&row[j]) });
    order
}

/// Each row along an axis, replaced by a row of the length that the function gives.
fn rows_along(x: &Tensor, axis: usize, function: impl Fn(&[f64]) -> Vec<f64>) -> Tensor {
    let (size, inner) = (x.shape[axis], x.shape[axis + 1..].iter().product::<usize>());
    let outer = x.shape[..axis].iter().product::<usize>();
    let mut columns = Vec::new();
    for start in (0..outer).flat_map(|at| (0..inner).map(move |column| at * size * inner + column)) {
        let row: Vec<f64> = (0..size).map(|at| x.as_floats()[start + at * inner]).collect();
        columns.push(function(&row));
    }
    let length = columns.first().map_or(0, Vec::len);
    let mut shape = x.shape.clone();
    shape[axis] = length;
    let mut numbers = vec![0.0; outer * inner * length];
    for (position, column) in columns.iter().enumerate() {
        for (at, number) in column.iter().enumerate() {
            numbers[(position / inner * length + at) * inner + position % inner] = *number;
        }
    }
    Tensor::floats(&shape, numbers)
}

fn as_indices(x: &Tensor) -> Tensor {
    Tensor::ints(&x.shape, x.as_floats().iter().map(|&index| index as i64).collect())
}

fn arg_extremum(node: &Node, x: &Tensor, axis: usize, greatest: bool) -> Tensor {
    let mut result = as_indices(&rows_along(x, axis, |row| vec![order(row, greatest)[0] as f64]));
    if node.int("keepdims", 1) == 0 {
        result.shape.remove(axis);
    }
    result
}

fn top_k(node: &Node, x: &Tensor, axis: usize, count: usize) -> Vec<Tensor> {
    let largest = node.int("largest", 1) != 0;
    let chosen = |row: &[f64]| order(row, largest)[..count].to_vec();
    let values = rows_along(x, axis, |row| chosen(row).iter().map(|&at| row[at]).collect());
    let indices = rows_along(x, axis, |row| chosen(row).iter().map(|&at| at as f64).collect());
    vec![values, as_indices(&indices)]
}

fn cum_sum(row: &[f64], exclusive: bool, reverse: bool) -> Vec<f64> {
    let counts = |of: usize, at: usize| {
        let before = if reverse { of > at } else { of < at };
        before || (of == at && !exclusive)
    };
    (0..row.len()).map(|at| (0..row.len()).filter(|&of| counts(of, at)).map(|of| row[of]).sum()).collect()
}

fn layer_normalization(node: &Node, operands: &[Option<Tensor>]) -> Vec<Tensor> {
    let x = operands[0].as_ref().expect("an operand");
    let axis = axis_of(node.int("axis", -1), x.shape.len());
    let width: usize = x.shape[axis..].iter().product();
    let (mut means, mut inverses, mut normalized) = (Vec::new(), Vec::new(), Vec::new());
    for row in x.as_floats().chunks(width) {
        let mean = row.iter().sum::<f64>() / width as f64;
        let variance = row.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / width as f64;
        let inverse = 1.0 / (variance + node.float("epsilon", 1e-5)).sqrt();
        normalized.extend(row.iter().map(|a| (a - mean) * inverse));
        means.push(mean);
        inverses.push(inverse);
    }
    let mut y = Tensor::floats(&x.shape, normalized);
    y = binary(&y, operands[1].as_ref().expect("a scale"), |a, b| a * b, |_, _| unreachable!());
    if let Some(Some(bias)) = operands.get(2) {
        y = binary(&y, bias, |a, b| a + b, |_, _| unreachable!());
    }
    let mut kept = x.shape.clone();
    kept[axis..].fill(1);
    vec![y, Tensor::floats(&kept, means), Tensor::floats(&kept, inverses)]
}
