//! Matrix products.

use regatta_autodiff::graph::Node;

use super::{Tensor, binary, broadcast, permuted, source, unary};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let present: Vec<Tensor> = operands.iter().flatten().cloned().collect();
    let x = present.as_slice();
    let output = match node.op.as_str() {
        "Gemm" => gemm(node, x),
        "MatMul" => matmul(&x[0], &x[1]),
        _ => return None,
    };
    Some(vec![output])
}

fn gemm(node: &Node, x: &[Tensor]) -> Tensor {
    let oriented = |tensor: &Tensor, flag: &str| {
        if node.int(flag, 0) == 0 { tensor.clone() } else { permuted(tensor, &[1, 0]) }
    };
    let product = matmul(&oriented(&x[0], "transA"), &oriented(&x[1], "transB"));
    let scaled = unary(&product, |a| a * node.float("alpha", 1.0));
    match x.get(2) {
        Some(addend) => binary(&scaled, addend, |a, b| a + node.float("beta", 1.0) * b, |_, _| unreachable!()),
        None => scaled,
    }
}

fn matmul(x: &Tensor, y: &Tensor) -> Tensor {
    let left = if x.shape.len() == 1 { [&[1], x.shape.as_slice()].concat() } else { x.shape.clone() };
    let right = if y.shape.len() == 1 { [y.shape.as_slice(), &[1]].concat() } else { y.shape.clone() };
    let (left_batch, right_batch) = (&left[..left.len() - 2], &right[..right.len() - 2]);
    let (rows, inner, columns) = (left[left.len() - 2], left[left.len() - 1], right[right.len() - 1]);
    let batch = broadcast(left_batch, right_batch);
    let (a, b) = (x.as_floats(), y.as_floats());
    let mut output = Vec::new();
    for at in 0..batch.iter().product() {
        let a = &a[source(at, &batch, left_batch) * rows * inner..];
        let b = &b[source(at, &batch, right_batch) * inner * columns..];
        for row in 0..rows {
            for column in 0..columns {
                output.push((0..inner).map(|k| a[row * inner + k] * b[k * columns + column]).sum());
            }
        }
    }
    let mut shape = batch;
    shape.extend((x.shape.len() > 1).then_some(rows));
    shape.extend((y.shape.len() > 1).then_some(columns));
    Tensor::floats(&shape, output)
}
