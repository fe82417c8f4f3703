//! Operators that act on each element by itself, or on broadcast elements.

use super::{Operands, Outputs, Rule, broadcast_shapes, like_first};
use crate::graph::Dtype;
use crate::graph::encode::dtype_of;

pub(super) const ROWS: &[(&str, Rule)] = &[
    ("Neg", like_first),
    ("Abs", like_first),
    ("Sign", like_first),
    ("Ceil", like_first),
    ("Floor", like_first),
    ("Round", like_first),
    ("Reciprocal", like_first),
    ("Exp", like_first),
    ("Log", like_first),
    ("Sqrt", like_first),
    ("Erf", like_first),
    ("Sin", like_first),
    ("Cos", like_first),
    ("Tan", like_first),
    ("Asin", like_first),
    ("Acos", like_first),
    ("Atan", like_first),
    ("Sinh", like_first),
    ("Cosh", like_first),
    ("Asinh", like_first),
    ("Acosh", like_first),
    ("Atanh", like_first),
    ("Relu", like_first),
    ("Tanh", like_first),
    ("Sigmoid", like_first),
    ("Gelu", like_first),
    ("Softplus", like_first),
    ("Softsign", like_first),
    ("Elu", like_first),
    ("Selu", like_first),
    ("LeakyRelu", like_first),
    ("ThresholdedRelu", like_first),
    ("HardSigmoid", like_first),
    ("Identity", like_first),
    ("PRelu", into_first),
    ("Clip", clip),
    ("Add", broadcast),
    ("Sub", broadcast),
    ("Mul", broadcast),
    ("Div", broadcast),
    ("Mod", broadcast),
    ("Min", variadic),
    ("Max", variadic),
    ("Sum", variadic),
    ("Pow", pow),
    ("Less", comparison),
    ("LessOrEqual", comparison),
    ("Greater", comparison),
    ("GreaterOrEqual", comparison),
    ("Equal", comparison),
    ("And", logic),
    ("Or", logic),
    ("Xor", logic),
    ("Not", not),
    ("IsNaN", test),
    ("IsInf", test),
    ("Where", choice),
    ("Cast", cast),
];

fn broadcast(operands: &Operands<'_>) -> Outputs {
    if operands.dtype(0)? != operands.dtype(1)? {
        return Err(operands.shapes_differ());
    }
    Ok(vec![(operands.dtype(0)?, operands.broadcast_shape()?)])
}

/// The second operand must broadcast to the first.
fn into_first(operands: &Operands<'_>) -> Outputs {
    let (dtype, shape) = broadcast(operands)?.remove(0);
    if shape != operands.shape(0)? {
        return Err(operands.shapes_differ());
    }
    Ok(vec![(dtype, shape)])
}

fn clip(operands: &Operands<'_>) -> Outputs {
    let dtype = operands.dtype(0)?;
    for &bound in operands.node.inputs.iter().skip(1).flatten() {
        if operands.graph.dtype(bound) != dtype || operands.graph.shape(bound).iter().any(|&size| size != 1) {
            return Err(operands.shapes_differ());
        }
    }
    like_first(operands)
}

fn variadic(operands: &Operands<'_>) -> Outputs {
    let dtype = operands.dtype(0)?;
    let mut shape = operands.shape(0)?.to_vec();
    for position in 1..operands.node.inputs.len() {
        let joined = broadcast_shapes(&shape, operands.shape(position)?);
        shape = joined.filter(|_| operands.dtype(position) == Ok(dtype)).ok_or_else(|| operands.shapes_differ())?;
    }
    Ok(vec![(dtype, shape)])
}

fn pow(operands: &Operands<'_>) -> Outputs {
    Ok(vec![(operands.dtype(0)?, operands.broadcast_shape()?)])
}

fn comparison(operands: &Operands<'_>) -> Outputs {
    let shape = broadcast(operands)?.remove(0).1;
    Ok(vec![(Dtype::Bool, shape)])
}

fn logic(operands: &Operands<'_>) -> Outputs {
    if operands.dtype(0)? != Dtype::Bool {
        return Err(operands.shapes_differ());
    }
    broadcast(operands)
}

fn not(operands: &Operands<'_>) -> Outputs {
    if operands.dtype(0)? != Dtype::Bool {
        return Err(operands.shapes_differ());
    }
    like_first(operands)
}

fn test(operands: &Operands<'_>) -> Outputs {
    Ok(vec![(Dtype::Bool, operands.shape(0)?.to_vec())])
}

fn choice(operands: &Operands<'_>) -> Outputs {
    let dtype = operands.dtype(1)?;
    if operands.dtype(0)? != Dtype::Bool || operands.dtype(2)? != dtype {
        return Err(operands.shapes_differ());
    }
    let branches = broadcast_shapes(operands.shape(1)?, operands.shape(2)?);
    let shape = branches.and_then(|shape| broadcast_shapes(operands.shape(0).ok()?, &shape));
    Ok(vec![(dtype, shape.ok_or_else(|| operands.shapes_differ())?)])
}

fn cast(operands: &Operands<'_>) -> Outputs {
    let code = operands.node.int("to", 0);
    let dtype = dtype_of(code).ok_or_else(|| operands.invalid(format!("type {code}")))?;
    Ok(vec![(dtype, operands.shape(0)?.to_vec())])
}
