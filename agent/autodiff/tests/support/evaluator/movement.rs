//! Operators that move elements.

use regatta_autodiff::graph::Node;

use super::{Tensor, axis_of, broadcast, permuted, source};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let present: Vec<Tensor> = operands.iter().flatten().cloned().collect();
    let x = present.as_slice();
    let output = match node.op.as_str() {
        "Concat" => concat(x, axis_of(node.int("axis", 0), x[0].shape.len())),
        "Split" => return Some(split(node, x)),
        "Reshape" => reshape(&x[0], x[1].as_ints()),
        "Expand" => expand(&x[0], x[1].as_ints()),
        "Transpose" => transpose(node, &x[0]),
        _ => return None,
    };
    Some(vec![output])
}

fn reshape(x: &Tensor, target: &[i64]) -> Tensor {
    let mut shape: Vec<usize> = target
        .iter()
        .enumerate()
        .map(|(axis, &size)| if size == 0 { x.shape[axis] } else { size.unsigned_abs() as usize })
        .collect();
    if let Some(free) = target.iter().position(|&size| size == -1) {
        shape[free] = x.len() / shape.iter().product::<usize>();
    }
    Tensor { shape, elements: x.elements.clone() }
}

fn expand(x: &Tensor, target: &[i64]) -> Tensor {
    let target: Vec<usize> = target.iter().map(|&size| size as usize).collect();
    let shape = broadcast(&x.shape, &target);
    let numbers = (0..shape.iter().product()).map(|at| x.as_floats()[source(at, &shape, &x.shape)]);
    Tensor::floats(&shape, numbers.collect())
}

fn transpose(node: &Node, x: &Tensor) -> Tensor {
    let reversed: Vec<i64> = (0..x.shape.len() as i64).rev().collect();
    let axes = node.ints("perm").unwrap_or(&reversed);
    permuted(x, &axes.iter().map(|&axis| axis as usize).collect::<Vec<_>>())
}

fn concat(x: &[Tensor], axis: usize) -> Tensor {
    let mut shape = x[0].shape.clone();
    shape[axis] = x.iter().map(|part| part.shape[axis]).sum();
    let chunk = |part: &Tensor| part.shape[axis..].iter().product::<usize>();
    let outer: usize = shape[..axis].iter().product();
    let rows = (0..outer).flat_map(|row| x.iter().map(move |part| (row, part)));
    let numbers = rows.flat_map(|(row, part)| part.as_floats()[row * chunk(part)..(row + 1) * chunk(part)].to_vec());
    Tensor::floats(&shape, numbers.collect())
}

fn split(node: &Node, x: &[Tensor]) -> Vec<Tensor> {
    let axis = axis_of(node.int("axis", 0), x[0].shape.len());
    let (outer, inner): (usize, usize) = (x[0].shape[..axis].iter().product(), x[0].shape[axis + 1..].iter().product());
    let (size, parts) = (x[0].shape[axis], node.outputs.len());
    let equal = size.div_ceil(parts);
    let lengths: Vec<usize> = match x.get(1) {
        Some(lengths) => lengths.as_ints().iter().map(|&length| length as usize).collect(),
        None => (0..parts).map(|at| (size - at * equal).min(equal)).collect(),
    };
    let mut start = 0;
    let part = |length: usize| {
        let rows = (0..outer).map(|row| (row * size + start) * inner);
        let numbers = rows.flat_map(|at| x[0].as_floats()[at..at + length * inner].to_vec()).collect();
        start += length;
        let mut shape = x[0].shape.clone();
        shape[axis] = length;
        Tensor::floats(&shape, numbers)
    };
    lengths.into_iter().map(part).collect()
}
