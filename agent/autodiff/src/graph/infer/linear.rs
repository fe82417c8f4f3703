//! Matrix products.

use super::{Operands, Outputs, Rule, broadcast_shapes};

pub(super) const ROWS: &[(&str, Rule)] = &[("Gemm", gemm), ("MatMul", matmul)];

fn gemm(operands: &Operands<'_>) -> Outputs {
    let oriented = |shape: &[usize], transposed: i64| match *shape {
        [rows, columns] if transposed == 0 => Some((rows, columns)),
        [rows, columns] => Some((columns, rows)),
        _ => None,
    };
    let left = oriented(operands.shape(0)?, operands.node.int("transA", 0)).ok_or_else(|| operands.shapes_differ())?;
    let right = oriented(operands.shape(1)?, operands.node.int("transB", 0)).ok_or_else(|| operands.shapes_differ())?;
    let output = vec![left.0, right.1];
    let addend_fits = match operands.node.inputs.get(2).copied().flatten() {
        Some(addend) => broadcast_shapes(operands.graph.shape(addend), &output).as_ref() == Some(&output),
        None => true,
    };
    if left.1 != right.0 || !addend_fits || operands.dtype(0)? != operands.dtype(1)? {
        return Err(operands.shapes_differ());
    }
    Ok(vec![(operands.dtype(0)?, output)])
}

fn matmul(operands: &Operands<'_>) -> Outputs {
    let (left, right) = (operands.shape(0)?, operands.shape(1)?);
    if left.is_empty() || right.is_empty() || operands.dtype(0)? != operands.dtype(1)? {
        return Err(operands.shapes_differ());
    }
    let (left_batch, left_matrix) = left.split_at(left.len().saturating_sub(2));
    let (right_batch, right_matrix) = right.split_at(right.len().saturating_sub(2));
    let mut output = broadcast_shapes(left_batch, right_batch).ok_or_else(|| operands.shapes_differ())?;
    if left_matrix[left_matrix.len() - 1] != right_matrix[0] {
        return Err(operands.shapes_differ());
    }
    output.extend(left_matrix.len().checked_sub(2).map(|_| left_matrix[0]));
    output.extend(right_matrix.get(1));
    Ok(vec![(operands.dtype(0)?, output)])
}
