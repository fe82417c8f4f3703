//! Operators that move elements.

use regatta_autodiff::graph::Node;

use super::{Tensor, broadcast, permuted, source};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let present: Vec<Tensor> = operands.iter().flatten().cloned().collect();
    let x = present.as_slice();
    let output = match node.op.as_str() {
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
