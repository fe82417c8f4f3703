//! Operators that act on each element by itself, or on pairs of broadcast elements.

use super::{Operands, Outputs, Rule, like_first};
use crate::graph::Dtype;
use crate::graph::encode::dtype_of;

pub(super) const ROWS: &[(&str, Rule)] = &[
    ("Neg", like_first),
    ("Relu", like_first),
    ("Tanh", like_first),
    ("Sigmoid", like_first),
    ("Gelu", like_first),
    ("Erf", like_first),
    ("Exp", like_first),
    ("Log", like_first),
    ("Sqrt", like_first),
    ("Identity", like_first),
    ("Add", broadcast),
    ("Sub", broadcast),
    ("Mul", broadcast),
    ("Div", broadcast),
    ("Mod", broadcast),
    ("Min", broadcast),
    ("Max", broadcast),
    ("Pow", pow),
    ("Less", comparison),
    ("Greater", comparison),
    ("Equal", comparison),
    ("Cast", cast),
];

fn broadcast(operands: &Operands<'_>) -> Outputs {
    if operands.dtype(0)? != operands.dtype(1)? {
        return Err(operands.shapes_differ());
    }
    Ok(vec![(operands.dtype(0)?, operands.broadcast_shape()?)])
}

fn pow(operands: &Operands<'_>) -> Outputs {
    Ok(vec![(operands.dtype(0)?, operands.broadcast_shape()?)])
}

fn comparison(operands: &Operands<'_>) -> Outputs {
    let shape = broadcast(operands)?.remove(0).1;
    Ok(vec![(Dtype::Bool, shape)])
}

fn cast(operands: &Operands<'_>) -> Outputs {
    let code = operands.node.int("to", 0);
    let dtype = dtype_of(code).ok_or_else(|| operands.invalid(format!("type {code}")))?;
    Ok(vec![(dtype, operands.shape(0)?.to_vec())])
}
