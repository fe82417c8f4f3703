//! Operators that pick or place elements by index.

use super::{Operands, Outputs, Rule, axis_position, like_first};
use crate::graph::{Dtype, GraphError};

pub(super) const ROWS: &[(&str, Rule)] = &[
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("OneHot", one_hot),
    ("ScatterElements", scatter_elements),
    ("ScatterND", scatter_nd),
];

fn gather(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let axis = operands.axis("axis", 0, shape.len())?;
    check_indices(operands)?;
    let output = [&shape[..axis], operands.shape(1)?, &shape[axis + 1..]].concat();
    Ok(vec![(operands.dtype(0)?, output)])
}

fn check_indices(operands: &Operands<'_>) -> Result<(), GraphError> {
    match operands.dtype(1)? {
        Dtype::I32 | Dtype::I64 => Ok(()),
        other => Err(operands.invalid(format!("indices of type {other:?}"))),
    }
}

fn gather_elements(operands: &Operands<'_>) -> Outputs {
    let (data, indices) = (operands.shape(0)?, operands.shape(1)?);
    check_indices(operands)?;
    check_within(operands, data, indices)?;
    Ok(vec![(operands.dtype(0)?, indices.to_vec())])
}

/// Whether every axis but the one of the indices lies within the data.
fn check_within(operands: &Operands<'_>, data: &[usize], indices: &[usize]) -> Result<(), GraphError> {
    let axis = operands.axis("axis", 0, data.len())?;
    let fits = data.len() == indices.len() && (0..data.len()).all(|at| at == axis || indices[at] <= data[at]);
    if fits { Ok(()) } else { Err(operands.shapes_differ()) }
}

fn gather_nd(operands: &Operands<'_>) -> Outputs {
    let (data, indices) = (operands.shape(0)?, operands.shape(1)?);
    let batch = usize::try_from(operands.node.int("batch_dims", 0)).map_err(|_| operands.shapes_differ())?;
    let rest = rest_of_tuples(operands, data, indices, batch)?;
    if batch >= indices.len() || data[..batch] != indices[..batch] {
        return Err(operands.shapes_differ());
    }
    Ok(vec![(operands.dtype(0)?, [&indices[..indices.len() - 1], rest].concat())])
}

/// What is left of the data's shape after its leading `batch` axes and those that an index tuple names.
fn rest_of_tuples<'a>(
    operands: &Operands<'_>,
    data: &'a [usize],
    indices: &[usize],
    batch: usize,
) -> Result<&'a [usize], GraphError> {
    check_indices(operands)?;
    let named = indices.last().and_then(|&length| length.checked_add(batch));
    named.and_then(|named| data.get(named..)).ok_or_else(|| operands.shapes_differ())
}

fn scatter_elements(operands: &Operands<'_>) -> Outputs {
    let (data, indices) = (operands.shape(0)?, operands.shape(1)?);
    check_indices(operands)?;
    check_within(operands, data, indices)?;
    if operands.shape(2)? != indices || operands.dtype(2)? != operands.dtype(0)? {
        return Err(operands.shapes_differ());
    }
    like_first(operands)
}

fn scatter_nd(operands: &Operands<'_>) -> Outputs {
    let (data, indices) = (operands.shape(0)?, operands.shape(1)?);
    let rest = rest_of_tuples(operands, data, indices, 0)?;
    let updates = [&indices[..indices.len() - 1], rest].concat();
    if operands.shape(2)? != updates || operands.dtype(2)? != operands.dtype(0)? {
        return Err(operands.shapes_differ());
    }
    like_first(operands)
}

fn one_hot(operands: &Operands<'_>) -> Outputs {
    let mut shape = operands.shape(0)?.to_vec();
    let depth = match operands.ints(1)? {
        [depth] => usize::try_from(*depth).map_err(|_| operands.shapes_differ())?,
        _ => return Err(operands.shapes_differ()),
    };
    let axis = axis_position(operands.node.int("axis", -1), shape.len() + 1).ok_or_else(|| operands.shapes_differ())?;
    shape.insert(axis, depth);
    Ok(vec![(operands.dtype(2)?, shape)])
}
