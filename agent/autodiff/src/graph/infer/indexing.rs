//! Operators that pick or place elements by index.

use super::{Operands, Outputs, Rule, axis_position, like_first};

pub(super) const ROWS: &[(&str, Rule)] =
    &[("Gather", gather), ("OneHot", one_hot), ("ScatterElements", like_first), ("ScatterND", like_first)];

fn gather(operands: &Operands<'_>) -> Outputs {
    let shape = operands.shape(0)?;
    let axis = axis_position(operands.node.int("axis", 0), shape.len()).ok_or_else(|| operands.shapes_differ())?;
    let output = [&shape[..axis], operands.shape(1)?, &shape[axis + 1..]].concat();
    Ok(vec![(operands.dtype(0)?, output)])
}

fn one_hot(operands: &Operands<'_>) -> Outputs {
    let depth = match operands.ints(1)? {
        [depth] => usize::try_from(*depth).map_err(|_| operands.shapes_differ())?,
        _ => return Err(operands.shapes_differ()),
    };
    if operands.node.int("axis", -1) != -1 {
        return Err(operands.invalid("only the last axis is supported".into()));
    }
    let mut shape = operands.shape(0)?.to_vec();
    shape.push(depth);
    Ok(vec![(operands.dtype(2)?, shape)])
}
