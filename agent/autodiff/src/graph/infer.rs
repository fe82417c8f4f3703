//! The type and shape of an operator's output from those of its operands, for the operators that graphs of
//! this crate use. Semantics are those of opset 18 to 20.

use super::{Dtype, Graph, GraphError, Node, Value};

type Inferred = (Dtype, Vec<usize>);

pub(super) fn infer(graph: &Graph, node: &Node) -> Result<Inferred, GraphError> {
    let operands = Operands { graph, node };
    match node.op.as_str() {
        "Neg" | "Relu" | "Tanh" | "Sigmoid" | "Gelu" | "Erf" | "Exp" | "Log" | "Sqrt" | "Identity" | "Softmax"
        | "LogSoftmax" | "ScatterND" => operands.like_first(),
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Min" | "Max" => operands.broadcast(),
        "Pow" => Ok((operands.dtype(0)?, operands.broadcast_shape()?)),
        "Less" | "Greater" | "Equal" => Ok((Dtype::Bool, operands.broadcast()?.1)),
        "Cast" => operands.cast(),
        "Gemm" => operands.gemm(),
        "MatMul" => operands.matmul(),
        "ReduceSum" | "ReduceMean" => operands.reduce(),
        "ArgMax" => operands.arg_max(),
        "Reshape" => operands.reshape(),
        "Expand" => operands.expand(),
        "Transpose" => operands.transpose(),
        "Gather" => operands.gather(),
        "OneHot" => operands.one_hot(),
        _ => Err(GraphError::UnknownShape { op: node.op.clone() }),
    }
}

/// The shape that two shapes broadcast to, by NumPy's rules.
pub fn broadcast_shapes(left: &[usize], right: &[usize]) -> Option<Vec<usize>> {
    let rank = left.len().max(right.len());
    let dimension = |shape: &[usize], axis: usize| {
        let missing = rank - shape.len();
        if axis < missing { 1 } else { shape[axis - missing] }
    };
    (0..rank)
        .map(|axis| match (dimension(left, axis), dimension(right, axis)) {
            (one, other) if one == other => Some(one),
            (1, other) => Some(other),
            (one, 1) => Some(one),
            _ => None,
        })
        .collect()
}

/// An axis counted from either end as a position.
pub fn axis_position(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let position = if axis < 0 { axis + rank } else { axis };
    if (0..rank).contains(&position) { usize::try_from(position).ok() } else { None }
}

struct Operands<'a> {
    graph: &'a Graph,
    node: &'a Node,
}

impl Operands<'_> {
    fn value(&self, position: usize) -> Result<Value, GraphError> {
        let value = self.node.inputs.get(position).copied().flatten();
        value.ok_or_else(|| self.invalid(format!("operand {position} is missing")))
    }

    fn dtype(&self, position: usize) -> Result<Dtype, GraphError> {
        Ok(self.graph.dtype(self.value(position)?))
    }

    fn shape(&self, position: usize) -> Result<&[usize], GraphError> {
        Ok(self.graph.shape(self.value(position)?))
    }

    fn ints(&self, position: usize) -> Result<&[i64], GraphError> {
        let ints = self.graph.constant_ints(self.value(position)?);
        ints.ok_or_else(|| self.invalid(format!("operand {position} must be a constant")))
    }

    fn invalid(&self, reason: String) -> GraphError {
        GraphError::InvalidOperands { op: self.node.op.clone(), reason }
    }

    fn shapes_differ(&self) -> GraphError {
        let shapes: Vec<_> =
            self.node.inputs.iter().flatten().map(|value| self.graph.info(*value).to_string()).collect();
        self.invalid(shapes.join(", "))
    }

    fn like_first(&self) -> Result<Inferred, GraphError> {
        Ok((self.dtype(0)?, self.shape(0)?.to_vec()))
    }

    fn broadcast_shape(&self) -> Result<Vec<usize>, GraphError> {
        broadcast_shapes(self.shape(0)?, self.shape(1)?).ok_or_else(|| self.shapes_differ())
    }

    fn broadcast(&self) -> Result<Inferred, GraphError> {
        if self.dtype(0)? != self.dtype(1)? {
            return Err(self.shapes_differ());
        }
        Ok((self.dtype(0)?, self.broadcast_shape()?))
    }

    fn cast(&self) -> Result<Inferred, GraphError> {
        let code = self.node.int("to", 0);
        let dtype = super::encode::dtype_of(code).ok_or_else(|| self.invalid(format!("type {code}")))?;
        Ok((dtype, self.shape(0)?.to_vec()))
    }

    fn gemm(&self) -> Result<Inferred, GraphError> {
        let oriented = |shape: &[usize], transposed: i64| match *shape {
            [rows, columns] if transposed == 0 => Some((rows, columns)),
            [rows, columns] => Some((columns, rows)),
            _ => None,
        };
        let left = oriented(self.shape(0)?, self.node.int("transA", 0)).ok_or_else(|| self.shapes_differ())?;
        let right = oriented(self.shape(1)?, self.node.int("transB", 0)).ok_or_else(|| self.shapes_differ())?;
        let output = vec![left.0, right.1];
        let addend_fits = match self.node.inputs.get(2).copied().flatten() {
            Some(addend) => broadcast_shapes(self.graph.shape(addend), &output).as_ref() == Some(&output),
            None => true,
        };
        if left.1 != right.0 || !addend_fits || self.dtype(0)? != self.dtype(1)? {
            return Err(self.shapes_differ());
        }
        Ok((self.dtype(0)?, output))
    }

    fn matmul(&self) -> Result<Inferred, GraphError> {
        let (left, right) = (self.shape(0)?, self.shape(1)?);
        if left.is_empty() || right.is_empty() || self.dtype(0)? != self.dtype(1)? {
            return Err(self.shapes_differ());
        }
        let (left_batch, left_matrix) = left.split_at(left.len().saturating_sub(2));
        let (right_batch, right_matrix) = right.split_at(right.len().saturating_sub(2));
        let mut output = broadcast_shapes(left_batch, right_batch).ok_or_else(|| self.shapes_differ())?;
        if left_matrix[left_matrix.len() - 1] != right_matrix[0] {
            return Err(self.shapes_differ());
        }
        output.extend(left_matrix.len().checked_sub(2).map(|_| left_matrix[0]));
        output.extend(right_matrix.get(1));
        Ok((self.dtype(0)?, output))
    }

    fn reduce(&self) -> Result<Inferred, GraphError> {
        let shape = self.shape(0)?;
        let axes = reduced_axes(self.graph, self.node).ok_or_else(|| self.shapes_differ())?;
        Ok((self.dtype(0)?, reduced_shape(shape, &axes, self.node.int("keepdims", 1) != 0)))
    }

    fn arg_max(&self) -> Result<Inferred, GraphError> {
        let shape = self.shape(0)?;
        let axis = axis_position(self.node.int("axis", 0), shape.len()).ok_or_else(|| self.shapes_differ())?;
        Ok((Dtype::I64, reduced_shape(shape, &[axis], self.node.int("keepdims", 1) != 0)))
    }

    fn reshape(&self) -> Result<Inferred, GraphError> {
        let shape = self.shape(0)?;
        let target = self.ints(1)?;
        let elements: usize = shape.iter().product();
        let mut output = Vec::with_capacity(target.len());
        for (axis, &dimension) in target.iter().enumerate() {
            output.push(match dimension {
                -1 => None,
                0 => Some(*shape.get(axis).ok_or_else(|| self.shapes_differ())?),
                _ => Some(usize::try_from(dimension).map_err(|_| self.shapes_differ())?),
            });
        }
        let known: usize = output.iter().flatten().product();
        let free = output.iter().filter(|dimension| dimension.is_none()).count();
        let rest = if free == 1 && known > 0 { elements / known } else { 1 };
        if free > 1 || known * rest != elements {
            return Err(self.shapes_differ());
        }
        Ok((self.dtype(0)?, output.into_iter().map(|dimension| dimension.unwrap_or(rest)).collect()))
    }

    fn expand(&self) -> Result<Inferred, GraphError> {
        let target: Option<Vec<_>> = self.ints(1)?.iter().map(|&dimension| usize::try_from(dimension).ok()).collect();
        let shape = target.and_then(|target| broadcast_shapes(self.shape(0).ok()?, &target));
        Ok((self.dtype(0)?, shape.ok_or_else(|| self.shapes_differ())?))
    }

    fn transpose(&self) -> Result<Inferred, GraphError> {
        let shape = self.shape(0)?;
        let permutation = permutation(self.node, shape.len()).ok_or_else(|| self.shapes_differ())?;
        Ok((self.dtype(0)?, permutation.into_iter().map(|axis| shape[axis]).collect()))
    }

    fn gather(&self) -> Result<Inferred, GraphError> {
        let shape = self.shape(0)?;
        let axis = axis_position(self.node.int("axis", 0), shape.len()).ok_or_else(|| self.shapes_differ())?;
        let output = [&shape[..axis], self.shape(1)?, &shape[axis + 1..]].concat();
        Ok((self.dtype(0)?, output))
    }

    fn one_hot(&self) -> Result<Inferred, GraphError> {
        let depth = match self.ints(1)? {
            [depth] => usize::try_from(*depth).map_err(|_| self.shapes_differ())?,
            _ => return Err(self.shapes_differ()),
        };
        if self.node.int("axis", -1) != -1 {
            return Err(self.invalid("only the last axis is supported".into()));
        }
        let mut shape = self.shape(0)?.to_vec();
        shape.push(depth);
        Ok((self.dtype(2)?, shape))
    }
}

/// The positions of the axes that a reduction removes; `None` where the node is not well formed.
pub(crate) fn reduced_axes(graph: &Graph, node: &Node) -> Option<Vec<usize>> {
    let rank = graph.shape(node.inputs.first().copied().flatten()?).len();
    let axes = match node.inputs.get(1).copied().flatten() {
        Some(axes) => graph.constant_ints(axes)?,
        None => &[],
    };
    if axes.is_empty() {
        let all = node.int("noop_with_empty_axes", 0) == 0;
        return Some(if all { (0..rank).collect() } else { Vec::new() });
    }
    axes.iter().map(|&axis| axis_position(axis, rank)).collect()
}

/// The permutation of a `Transpose`: reversed where none is given.
pub(crate) fn permutation(node: &Node, rank: usize) -> Option<Vec<usize>> {
    let Some(axes) = node.ints("perm") else {
        return Some((0..rank).rev().collect());
    };
    let permutation: Vec<usize> = axes.iter().map(|&axis| axis_position(axis, rank)).collect::<Option<_>>()?;
    let mut sorted = permutation.clone();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..rank).then_some(permutation)
}

fn reduced_shape(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let kept = shape.iter().enumerate().filter(|(axis, _)| keep || !axes.contains(axis));
    kept.map(|(axis, &dimension)| if axes.contains(&axis) { 1 } else { dimension }).collect()
}
